//! The file of `--receipt`.

use std::fs;

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
