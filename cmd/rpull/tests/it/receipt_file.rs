//! The file of `--receipt`.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
};

use crate::stage::{native, on_each_daemon};

#[test]
fn a_receipt_goes_to_a_pipe_or_into_a_file_that_only_success_replaces() {
    on_each_daemon("receipt", |stage| {
        let image = native(&[950, 951]);
        let reference = image.push(stage.registry(), "receipt", "1");
        let output = stage.rpull(["--receipt", "/dev/stdout", &reference]);
        output.succeeds();
        let json = &output.stdout[output.stdout.find("\n{").unwrap()..output.stdout.rfind("\n}").unwrap() + 2];
        let receipt: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(receipt["manifest"], image.digest().to_string());

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("receipt.json");
        fs::write(&file, "former").unwrap();
        let missing = stage.registry().reference("receipt", "missing");
        stage.rpull(["--receipt", file.to_str().unwrap(), &missing]).fails_with(4);
        assert_eq!(fs::read_to_string(&file).unwrap(), "former");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something is left beside the receipt");

        stage.rpull(["--receipt", file.to_str().unwrap(), &reference]).succeeds();
        let receipt: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(receipt["reference"], reference);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    });
}

#[test]
fn a_link_to_a_file_stays_also_where_that_file_is_our_own_stdout() {
    on_each_daemon("linked-receipt", |stage| {
        let reference = native(&[952]).push(stage.registry(), "linked-receipt", "1");
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let is_link = |name| path(name).symlink_metadata().unwrap().is_symlink();

        // What /dev/stdout is; rpull runs as root, and could replace that one.
        symlink("/proc/self/fd/1", path("stdout")).unwrap();
        let file = File::create(path("output")).unwrap();
        let run = stage.command(["--receipt", path("stdout").to_str().unwrap(), "-q", &reference]).stdout(file).status();
        assert!(run.unwrap().success());
        assert!(is_link("stdout"));
        let output = fs::read_to_string(path("output")).unwrap();
        let json = output.strip_suffix("done\n").unwrap_or_else(|| panic!("{output}"));
        let receipt: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(receipt["reference"], reference);

        symlink("kept.json", path("link.json")).unwrap();
        fs::write(path("kept.json"), "former").unwrap();
        stage.rpull(["--receipt", path("link.json").to_str().unwrap(), &reference]).succeeds();
        assert!(is_link("link.json"));
        let receipt: serde_json::Value = serde_json::from_slice(&fs::read(path("kept.json")).unwrap()).unwrap();
        assert_eq!(receipt["reference"], reference);
    });
}
