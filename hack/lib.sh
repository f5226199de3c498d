# shellcheck shell=bash
# Some constants are read only by the scripts that source this.
# shellcheck disable=SC2034
# What the scripts in this folder share: saying things, and having what they need. Sourced, never run.
#
# Debian packages are installed by name, only those that are missing, and only where nothing has to be removed for it.
# Tools that Debian does not have are kept in one cache folder of ours; `rm -r` of it undoes them.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly top
readonly cache=${RPULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rpull-hack}

readonly containerd_2_version=2.4.2
readonly containerd_17_version=1.7.29
readonly registry_3_version=3.0.0
readonly cargo_deny_version=0.20.2
readonly cargo_fuzz_version=0.13.2
readonly cargo_zigbuild_version=0.24.1
readonly cargo_deb_version=3.8.0
readonly ziglang_version=0.15.2
readonly typos_version=1.52.0
readonly shellcheck_version=0.11.0.1
readonly check_jsonschema_version=0.39.0
readonly kubernetes_validate_version=1.37.0

# What a build of the workspace needs beside Rust: a C compiler for ring and zstd, protoc for containerd's messages.
readonly build_packages=(gcc libc6-dev protobuf-compiler)

# Our name in messages: hack/check, hack/test, …
me=${0#"$top"/}
readonly me

say() { printf '%s: %s\n' "$me" "$*"; }

die() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# is_at_least 1.26 1.26.8: is the second version the first one or newer?
is_at_least() { printf '%s\n%s\n' "$1" "$2" | sort --check=quiet --version-sort; }

# --- Debian packages ---------------------------------------------------------------------------------------------------

missing_packages() {
    local package
    for package; do
        # The third word of the state; the first is what the administrator wants (`install`, `hold`).
        [[ $(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null) == *' ok installed' ]] || echo "$package"
    done
}

# need_packages NAME…: returns with all of them installed, or does not return.
need_packages() {
    command -v apt-get >/dev/null || die "this is no Debian (no apt-get); it needs: $*"
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || die "Debian packages are missing: ${missing[*]}. As root: apt-get install --no-remove --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    mkdir -p "$cache"
    (
        flock 9
        install_packages "${missing[@]}"
    ) 9>"$cache/apt.lock"
}

# Runs in a subshell, so that its EXIT trap is its own.
install_packages() {
    local plan removed output services
    if ! plan=$(apt_get --simulate install "$@" 2>&1); then
        # No package lists yet, or lists that are too old to know the name.
        apt_get update >/dev/null || die "apt-get update does not work"
        plan=$(apt_get --simulate install "$@" 2>&1) || die "apt-get cannot install $*: $plan"
    fi
    removed=$(awk '$1 == "Remv" { print $2 }' <<<"$plan" | paste --serial --delimiters=' ')
    [[ -z $removed ]] || die "to install $*, apt-get would remove: $removed. Nothing was changed; settle that by hand"
    hold_services "$@"
    if ! output=$(apt_get install --no-remove "$@" 2>&1); then
        # Lists of last month name files that the mirror has replaced since.
        apt_get update >/dev/null || die "apt-get update does not work"
        output=$(apt_get install --no-remove "$@" 2>&1) || die "apt-get could not install $*: $output"
    fi
    services=$(awk '$1 == "Inst" { print $2 }' <<<"$plan" | xargs dpkg-query --listfiles |
        sed -n 's|^\(/usr\)\?/lib/systemd/system/\(.*\)\.service$|\2|p' | paste --serial --delimiters=' ')
    [[ -z $services ]] || say "not started, but Debian will at the next boot (systemctl disable NAME): $services"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# Keeps apt from starting services until this subshell ends: invoke-rc.d asks policy-rc.d, and 101 is "forbidden".
hold_services() {
    local policy=/usr/sbin/policy-rc.d answer=0
    if (set -o noclobber && printf '#!/bin/sh\nexit 101\n' >"$policy") 2>/dev/null; then
        # shellcheck disable=SC2064 # the name as it is now
        trap "rm -f '$policy'" EXIT
        chmod 0755 "$policy"
        return
    fi
    "$policy" containerd start >/dev/null 2>&1 9>&- || answer=$?
    ((answer == 101)) || die "$policy is there and would let apt start services; install by hand: $*"
}

# --- Rust and Go -------------------------------------------------------------------------------------------------------

need_cargo() {
    local wanted version
    if ! command -v cargo >/dev/null && [[ -r $HOME/.cargo/env ]]; then
        # shellcheck disable=SC1091
        source "$HOME/.cargo/env"
    fi
    command -v cargo >/dev/null || die "cargo is missing; install Rust (https://rustup.rs), with clippy and rustfmt"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
    version=$(rustc --version | cut -d' ' -f2)
    is_at_least "$wanted" "$version" || die "rustc is $version, needed is $wanted or newer"
}

need_go() {
    local version
    command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null || die "go is missing; install Go 1.26 or newer (https://go.dev/dl), for the newer containerds"
    version=$(go env GOVERSION)
    is_at_least 1.26 "${version#go}" || die "go is $version, needed is 1.26 or newer"
}

# --- tools in the cache folder -----------------------------------------------------------------------------------------

# once FILE FUNCTION: makes FILE by FUNCTION, which is given an empty folder to build in and leaves the result there under
# the same last name. A half-made tool never gets FILE's name, and two runs do not build it twice.
once() {
    local file=$1 make=$2
    [[ -x $file ]] && return
    mkdir -p "$(dirname "$file")"
    (
        flock 9
        [[ -x $file ]] && exit
        work=$(mktemp -d "$cache/building.XXXXXX")
        # Go's module cache is read-only, also when it is inside.
        trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
        say "building ${file#"$cache"/}, once"
        SECONDS=0
        # Not in a condition: `set -e` has to hold inside.
        "$make" "$work"
        mv "$work/$(basename "$file")" "$file"
        say "built ${file#"$cache"/} in $SECONDS s"
    ) 9>"$cache/tools.lock"
}

# The result is a plain static program: no btrfs or zfs headers asked for, none of those snapshotters in it.
go_build() { CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' go "$@" </dev/null; }

containerd_2() { GOBIN=$1 go_build install "github.com/containerd/containerd/v2/cmd/containerd@v$containerd_2_version"; }

ctr_2() { GOBIN=$1 go_build install "github.com/containerd/containerd/v2/cmd/ctr@v$containerd_2_version"; }

registry_3() { GOBIN=$1 go_build install "github.com/distribution/distribution/v3/cmd/registry@v$registry_3_version"; }

# `go install …@` refuses this one for its exclude directives; as a dependency of a module of ours it builds.
containerd_17() {
    local package=github.com/containerd/containerd/cmd/containerd
    (
        mkdir "$1/module"
        cd "$1/module" || exit
        go_build mod init scratch
        go_build get "$package@v$containerd_17_version"
        go_build build -o "$1/containerd" "$package"
    )
}

# cargo_install FOLDER NAME VERSION FLAG…: not optimised, since it works in seconds either way, and a full build takes three
# times as long.
cargo_install() {
    local work=$1 name=$2 version=$3
    shift 3
    CARGO_TARGET_DIR=$work/target CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install "$name" --locked --version "$version" --root "$work/root" "$@"
    mv "$work/root/bin/$name" "$work/$name"
}

cargo_deny() { cargo_install "$1" cargo-deny "$cargo_deny_version" --no-default-features; }

cargo_fuzz() { cargo_install "$1" cargo-fuzz "$cargo_fuzz_version"; }

cargo_zigbuild() { cargo_install "$1" cargo-zigbuild "$cargo_zigbuild_version"; }

# Without its own xz, which needs a library; dpkg can read what is left.
cargo_deb() { cargo_install "$1" cargo-deb "$cargo_deb_version" --no-default-features; }

# Debian's Python has `venv` in a package of its own.
need_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null || need_packages python3 python3-venv; }

# from_pypi NAME==VERSION PROGRAM: puts the program's path into `tool`.
from_pypi() {
    local folder=$cache/pypi/$1
    tool=$folder/bin/$2
    [[ -x $tool ]] && return
    need_venv
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$1"
}

# Exports the newer daemons under the names that testkit reads.
need_containerds() {
    export CONTAINERD_2=$cache/containerd-$containerd_2_version/containerd
    export CONTAINERD_17=$cache/containerd-$containerd_17_version/containerd
    local ctr=$cache/containerd-$containerd_2_version/ctr
    [[ -x $CONTAINERD_2 && -x $CONTAINERD_17 && -x $ctr ]] || need_go
    once "$CONTAINERD_2" containerd_2
    once "$ctr" ctr_2
    once "$CONTAINERD_17" containerd_17
}

# Exports the newer registry under the name that testkit reads.
need_registry_3() {
    export REGISTRY_3=$cache/registry-$registry_3_version/registry
    [[ -x $REGISTRY_3 ]] || need_go
    once "$REGISTRY_3" registry_3
}

# Exports the real snapshotter where there is one; empty means testkit's stand-in.
find_snapshotter() {
    export OVERLAYBD_SNAPSHOTTER=${OVERLAYBD_SNAPSHOTTER:-$(command -v overlaybd-snapshotter)}
    [[ -z $OVERLAYBD_SNAPSHOTTER || -x $OVERLAYBD_SNAPSHOTTER ]] ||
        die "OVERLAYBD_SNAPSHOTTER names $OVERLAYBD_SNAPSHOTTER, which is no program"
}
