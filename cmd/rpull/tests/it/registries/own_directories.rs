//! The directories that are read when no flag names one. They are absolute paths, so the machine's `/etc` is another one here.

use std::{ffi::OsStr, fs, os::unix::fs::symlink, path::Path, process::Command};

use tempfile::TempDir;

use super::scenes::{self, Scene};
use crate::stage::{Output, Stage, daemons, run};

/// A registry known as `name` by the `hosts.toml` in `directory` of an `/etc` that has nothing else.
fn known_as(name: &str, directory: &str) -> (Scene, String, TempDir) {
    let scene = scenes::registry(&format!("own-{directory}-{name}"), |_| ());
    let host = &scene.from[0];
    let etc = tempfile::tempdir().unwrap();
    let files = etc.path().join(directory).join(name);
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("hosts.toml"), format!("server = \"http://{host}\"\n")).unwrap();
    let reference = scene.reference.replace(host, name);
    (scene, reference, etc)
}

/// Runs rpull with that `/etc` by these words, its name first.
fn run_with(etc: &Path, called: &[&OsStr], inner: &Command) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\""]).arg(etc);
    command.args(called).args(inner.get_args()).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    run(&mut command)
}

fn stage(namespace: &str) -> Stage {
    Stage::shared(&daemons().pop().expect("there is a containerd"), namespace)
}

#[test]
fn without_the_flag_the_nodes_own_directories_are_read() {
    let stage = stage("own-directories");
    for (directory, name) in [("containerd/certs.d", "a.example"), ("docker/certs.d", "b.example")] {
        let (scene, reference, etc) = known_as(name, directory);
        let inner = stage.command(["--plain-http=false", &reference]);
        let output = run_with(etc.path(), &[inner.get_program()], &inner);
        assert_eq!(output.code, 0, "{output:#?}");
        stage.assert_layers(&scene.image);
    }
}

/// As `ctr` reads none.
#[test]
fn called_ctr_it_reads_only_a_directory_that_the_flag_names() {
    let stage = stage("ctrs-directories");
    let bin = tempfile::tempdir().unwrap();
    let ctr = bin.path().join("ctr");
    symlink(env!("CARGO_BIN_EXE_rpull"), &ctr).unwrap();
    for (directory, name) in [("containerd/certs.d", "c.example"), ("docker/certs.d", "d.example")] {
        let (scene, reference, etc) = known_as(name, directory);
        let output =
            run_with(etc.path(), &[ctr.as_os_str(), "rpull".as_ref()], &stage.command(["--plain-http=false", &reference]));
        assert!(output.fails_with(5).contains("no such host"), "{output:#?}");
        let folder = format!("/etc/{directory}");
        let inner = stage.command(["--plain-http=false", "--hosts-dir", &folder, &reference]);
        let output = run_with(etc.path(), &[ctr.as_os_str(), "rpull".as_ref()], &inner);
        assert_eq!(output.code, 0, "{output:#?}");
        stage.assert_layers(&scene.image);
    }
}
