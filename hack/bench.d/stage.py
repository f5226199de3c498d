"""The stage: images, the servers that have them, and nodes with a containerd and an overlaybd snapshotter each."""

import json
import os
import platform
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

from processes import Daemon, Failed, environment

REPOSITORY = "bench"


@dataclass(frozen=True)
class Image:
    """`count` overlaybd layers of `size` bytes each."""

    tag: str
    count: int
    size: int
    sparse: bool = False

    @property
    def bytes(self):
        return self.count * self.size


class Tree:
    """What the servers serve: files by the names that a registry has for them."""

    def __init__(self, root, program):
        self.root, self.program, self.made = root, program, {}

    def need(self, image):
        """The layers of an image as (digest, size); makes it at the first call."""
        if image.tag not in self.made:
            command = [self.program, self.root, image.tag, str(image.count), str(image.size)]
            subprocess.run(command + ["--sparse"] * image.sparse, check=True)
            manifest = json.loads((self.root / "manifests" / image.tag).read_text())
            self.made[image.tag] = [(layer["digest"], layer["size"]) for layer in manifest["layers"]]
        return self.made[image.tag]


class Nginx:
    """A registry of files at full speed."""

    def __init__(self, home, tree):
        home.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        (home / "nginx.conf").write_text(self.config(home, tree.root))
        self.daemon = Daemon("nginx", ["nginx", "-p", home, "-c", home / "nginx.conf"], home / "log")
        self.daemon.wait_until(lambda: answers(self.address))

    def config(self, home, tree):
        digests = {name: name for name in os.listdir(tree / "manifests") if name.startswith("sha256:")}
        known = {(tree / "manifests" / digest).read_bytes(): digest for digest in digests}
        names = {name: known[(tree / "manifests" / name).read_bytes()] for name in os.listdir(tree / "manifests")}
        lines = "".join(f'"{name}" "{digest}";' for name, digest in names.items())
        temporary = "".join(
            f"{kind}_temp_path {home}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off; user root; worker_processes 2; pid {home}/pid; error_log {home}/log;
events {{ worker_connections 1024; }}
http {{
  {temporary} access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000;
  map_hash_bucket_size 256; map_hash_max_size 4096;
  map $name $digest_of {{ {lines} }}
  server {{
    listen {self.address};
    location = /v2/ {{ return 200; }}
    location ~ ^/v2/{REPOSITORY}/manifests/(?<name>.+)$ {{
      types {{}} default_type application/vnd.oci.image.manifest.v1+json;
      add_header Docker-Content-Digest $digest_of;
      alias {tree}/manifests/$name;
    }}
    location ~ ^/v2/{REPOSITORY}/blobs/(?<name>.+)$ {{
      types {{}} default_type application/octet-stream;
      alias {tree}/blobs/$name;
    }}
  }}
}}
"""


class Paced:
    """testkit's server: a rate for every connection, across its requests, and a pause before every answer."""

    def __init__(self, home, tree, program, flags):
        home.mkdir()
        log = home / "log"
        self.daemon = Daemon("bench-registry", [program, tree.root, *flags], log, stdin=subprocess.PIPE)
        said = self.daemon.wait_until(lambda: "listening on " in log.read_text() and log.read_text())
        self.address = said.split()[-1]


def answers(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


class Node:
    """A containerd with multipart downloads switched on, and an overlaybd snapshotter."""

    def __init__(self, home, programs):
        self.home, self.programs = home, programs
        home.mkdir()
        (home / "overlaybd").mkdir(0o700)
        self.socket, self.snapshotter_socket = home / "c.sock", home / "s.sock"
        self.blobs = home / "root/io.containerd.content.v1.content/blobs/sha256"
        self.snapshots = home / "overlaybd/snapshots"
        self.snapshotter = Daemon("the snapshotter", self.snapshotter_command(), home / "snapshotter.log")
        self.snapshotter.wait_until(self.snapshotter_socket.exists)
        (home / "config.toml").write_text(self.config())
        self.containerd = None
        self.restart()

    def snapshotter_command(self):
        real = self.programs.snapshotter
        if not real:
            return [self.programs.stand_in, "--root", self.home / "overlaybd", "--socket", self.snapshotter_socket]
        config = {
            "root": str(self.home / "overlaybd"),
            "address": str(self.snapshotter_socket),
            "rwMode": "overlayfs",
            "asyncRemove": False,
        }
        (self.home / "overlaybd.json").write_text(json.dumps(config))
        return [real, self.home / "overlaybd.json"]

    def config(self):
        home = self.home
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return f"""
version = 3
root = "{home}/root"
state = "{home}/state"
imports = []
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing",
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox"]
[grpc]
address = "{self.socket}"
[ttrpc]
address = "{self.socket}.ttrpc"
[debug]
address = ""
[metrics]
address = ""
[proxy_plugins.overlaybd]
type = "snapshot"
address = "{self.snapshotter_socket}"
[plugins."io.containerd.transfer.v1.local"]
max_concurrent_downloads = 16
concurrent_layer_fetch_buffer = 8388608
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/{machine}"
snapshotter = "overlaybd"
"""

    def restart(self):
        if self.containerd:
            self.containerd.stop()
        command = [self.programs.containerd, "--config", self.home / "config.toml"]
        self.containerd = Daemon("containerd", command, self.home / "containerd.log")
        self.containerd.wait_until(lambda: self.ctr("version").returncode == 0)

    def ctr(self, *args):
        command = [self.programs.ctr, "--address", self.socket, *args]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)

    def empty(self):
        """Removes every image and what it held, and waits until it is gone from the disk."""
        images = self.ctr("images", "ls", "-q").stdout.split()
        for lease in self.ctr("leases", "ls", "-q").stdout.split():
            self.ctr("leases", "rm", lease)
        if images:
            self.ctr("images", "rm", "--sync", *images)
        end = time.monotonic() + 60
        while self.left():
            if time.monotonic() > end:
                raise SystemExit(f"{self.home.name} does not become empty: {self.left()} things are left")
            time.sleep(0.05)
            self.ctr("content", "rm", *self.ctr("content", "ls", "-q").stdout.split())

    def left(self):
        return sum(len(os.listdir(path)) for path in (self.blobs, self.snapshots) if path.exists())

    def check(self, layers, attached):
        """Is every layer there with its size, and a snapshot of each if it was to be attached?"""
        for digest, size in layers:
            path = self.blobs / digest.removeprefix("sha256:")
            if not path.exists() or path.stat().st_size != size:
                raise Failed(f"reported success, but {digest} is not there")
        commits = list(self.snapshots.glob("*/fs/overlaybd.commit")) if attached else layers
        if len(commits) != len(layers):
            raise Failed(f"reported success, but {len(commits)} of {len(layers)} layers are attached")


def clear(home):
    """Removes our folder, and before that whatever a stopped daemon left mounted in it."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounted = [line.split()[1] for line in file]
    for path in sorted(mounted, reverse=True):
        if path.startswith(f"{home}/"):
            subprocess.run(["umount", path], check=False)
    shutil.rmtree(home, ignore_errors=True)
