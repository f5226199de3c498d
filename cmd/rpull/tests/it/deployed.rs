//! rpull as hack/deploy has it run: with the command line and the rights of the systemd unit, and with those of the pod.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testkit::image::Image;

use crate::stage::{Stage, daemons, each, native, run, say};

const UNIT: &str = include_str!("../../../../hack/deploy/rpull-warm.service");
const DAEMON_SET: &str = include_str!("../../../../hack/deploy/daemonset.yaml");

/// What stands behind `key` on its line.
fn setting<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.trim().strip_prefix(key));
    found.unwrap_or_else(|| panic!("there is no {key}")).trim_matches(['[', ']'])
}

/// `+chown,+fowner` for `CAP_CHOWN CAP_FOWNER` or `CHOWN, FOWNER`.
fn capabilities(names: &str) -> String {
    let names = names.split([' ', ',']).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    format!("-all,{}", names.join(","))
}

/// A stage of its own, an image for it, and a list that names it.
struct Node {
    stage: Stage,
    image: Image,
    reference: String,
    list: PathBuf,
    receipt: PathBuf,
}

impl Node {
    fn new(seed: u64) -> Self {
        let stage = Stage::on(&daemons().pop().expect("there is a containerd")).moved_to("k8s.io");
        let image = native(&[seed, seed + 1]);
        let reference = image.push(stage.registry(), "deployed", "1");
        let scratch = stage.containerd().scratch();
        let (list, receipt) = (scratch.join("images"), scratch.join("receipt.json"));
        std::fs::write(&list, format!("# warm\n{reference}\n")).unwrap();
        Self { stage, image, reference, list, receipt }
    }

    /// The words of a command line in hack/deploy, with this node's files, and what a test has to add.
    fn arguments(&self, words: impl IntoIterator<Item = &'static str>) -> Vec<PathBuf> {
        let ours = words.into_iter().map(|word| match word {
            "/etc/rpull/images" => self.list.clone(),
            "/run/rpull/receipt.json" => self.receipt.clone(),
            other => other.into(),
        });
        let address = ["--address".into(), self.stage.containerd().address(), "--plain-http".into()];
        address.into_iter().chain(["--receipt".into(), self.receipt.clone()]).chain(ours).collect()
    }

    /// Runs a shell script in namespaces of its own. `None`, said aloud, where that is not permitted.
    fn confined(&self, flags: &[&str], script: &str, arguments: &[PathBuf]) -> Option<Value> {
        let unshare = |script: &str| {
            let mut command = Command::new("unshare");
            command
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .arg("--mount")
                .args(flags)
                .args(["sh", "-ec", script, "sh"]);
            command
        };
        if !unshare("mount --bind /tmp /tmp").output().expect("unshare runs").status.success() {
            say("NOT TESTED, mounts are not permitted");
            return None;
        }
        run(unshare(script).args(arguments)).succeeds();
        Some(serde_json::from_slice(&std::fs::read(&self.receipt).unwrap()).unwrap())
    }

    /// The folders of the tests' daemons are in there, as those of a node are in /var/lib/containerd.
    fn common() -> PathBuf {
        std::env::temp_dir()
    }

    #[track_caller]
    fn assert_linked(&self, receipt: &Value) {
        assert_eq!((&receipt[0]["store"]["mode"], each(&receipt[0], "file")), (&"direct".into(), vec!["linked", "linked"]));
        assert_eq!(receipt[0]["names"].as_array().map(Vec::len), Some(3));
        self.stage.assert_whole(&self.reference, &self.image);
    }
}

/// `ProtectSystem=strict`: nothing may be written, but for the one folder, which is a mount of its own.
#[test]
fn the_systemd_unit_may_link_layers_and_little_else() {
    let node = Node::new(1200);
    let program = setting(UNIT, "ExecStart=");
    let mut arguments: Vec<PathBuf> = vec![capabilities(setting(UNIT, "CapabilityBoundingSet=")).into(), Node::common()];
    assert_eq!(setting(UNIT, "ReadWritePaths=").split(' ').count(), 1, "no link goes from one mount to another");
    arguments.push(env!("CARGO_BIN_EXE_rpull").into());
    arguments.extend(node.arguments(program.split(' ').skip(1)));
    let script = "caps=$1 dir=$2; shift 2
        mount --bind \"$dir\" \"$dir\"
        mount -o remount,bind,ro /
        if touch /var/lib/rpull-test 2>/dev/null; then echo not confined >&2; exit 9; fi
        exec setpriv --bounding-set=\"$caps\" --no-new-privs \"$@\"";
    let Some(receipt) = node.confined(&[], script, &arguments) else { return };
    node.assert_linked(&receipt);
}

/// Why it is one folder: the same as two mounts, and every layer is on the disk twice.
#[test]
fn two_mounts_have_layers_copied() {
    let node = Node::new(1210);
    let home = |path: PathBuf| path.parent().expect("it is in a folder of its own").to_owned();
    let mut arguments = vec![home(node.stage.containerd().address()), home(node.stage.snapshotter().root())];
    arguments.push(env!("CARGO_BIN_EXE_rpull").into());
    arguments.extend(node.arguments(["--from-file", "/etc/rpull/images"]));
    arguments.extend(["--cri".into()]);
    let script = "mount --bind \"$1\" \"$1\"; mount --bind \"$2\" \"$2\"; shift 2; exec \"$@\"";
    let Some(receipt) = node.confined(&[], script, &arguments) else { return };
    assert_eq!(receipt[0]["store"]["mode"], "direct");
    for file in each(&receipt[0], "file") {
        assert!(["copied", "cloned"].contains(&file), "{receipt:#}");
    }
}

/// A root of its own, read-only, with the program, its libraries and /proc; processes of its own; the node's folder at the same path.
#[test]
fn the_pod_has_all_that_the_program_needs() {
    let node = Node::new(1220);
    let root = node.stage.containerd().scratch().join("pod");
    let setpriv = Path::new("/usr/bin/setpriv");
    for program in [Path::new(env!("CARGO_BIN_EXE_rpull")), setpriv] {
        install(&root, program);
    }
    let words = setting(DAEMON_SET, "args: ").split(", ").collect::<Vec<_>>();
    let mut arguments = vec![capabilities(setting(DAEMON_SET, "add: ")).into(), Node::common(), root, setpriv.to_owned()];
    arguments.push(env!("CARGO_BIN_EXE_rpull").into());
    arguments.extend(node.arguments(words));
    let script = "caps=$1 dir=$2 root=$3 setpriv=$4; shift 4
        mkdir -p \"$root/proc\" \"$root$dir\"
        mount --bind \"$root\" \"$root\"
        mount -t proc proc \"$root/proc\"
        mount --bind \"$dir\" \"$root$dir\"
        mount -o remount,bind,ro \"$root\"
        exec chroot \"$root\" \"$setpriv\" --bounding-set=\"$caps\" --no-new-privs \"$@\"";
    let Some(receipt) = node.confined(&["--pid", "--fork"], script, &arguments) else { return };
    node.assert_linked(&receipt);
}

/// Copies a program and the libraries it is linked with to their paths below `root`.
fn install(root: &Path, program: &Path) {
    let listed = Command::new("ldd").arg(program).output().expect("ldd runs");
    let listed = String::from_utf8(listed.stdout).expect("paths are text");
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for file in libraries.chain([program]) {
        let place = root.join(file.strip_prefix("/").expect("it is absolute"));
        std::fs::create_dir_all(place.parent().expect("it has a folder")).unwrap();
        std::fs::copy(file, place).unwrap();
    }
}
