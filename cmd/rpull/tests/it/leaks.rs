//! No run of rpull shows a secret. Every helper that runs it looks for all secrets of the tests in all that it said
//! ([`testkit::secrets`]); here is shown that they would find one.

use std::process::Command;

use testkit::secrets;

use crate::{
    outcome,
    stage::{finish, run, start},
};

fn shell(script: &str, secret: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", secret]);
    command
}

#[test]
#[should_panic(expected = "stdout shows a secret")]
fn a_secret_on_stdout_would_be_found() {
    run(&mut shell(r#"echo "the password is $1""#, secrets::keep("planted on stdout")));
}

#[test]
#[should_panic(expected = "stderr shows a secret")]
fn a_secret_on_stderr_would_be_found() {
    finish(start(&mut shell(r#"echo "the password is $1" >&2"#, secrets::keep("planted on stderr"))));
}

#[test]
#[should_panic(expected = "the receipt shows a secret in base64")]
fn a_secret_in_the_receipt_would_be_found() {
    let receipt = tempfile::NamedTempFile::new().unwrap();
    let script = r#"printf 'user:%s' "$1" | base64 > "$3""#;
    let mut command = shell(script, secrets::keep("planted in the receipt"));
    run(command.arg("--receipt").arg(receipt.path()));
}

#[test]
#[should_panic(expected = "the receipt shows a secret")]
fn a_secret_in_the_receipt_of_a_run_that_is_waited_for_would_be_found() {
    let receipt = tempfile::NamedTempFile::new().unwrap();
    let mut command = shell(r#"echo "$1" > "$3""#, secrets::keep("planted in a later receipt"));
    finish(start(command.arg("--receipt").arg(receipt.path())));
}

#[test]
#[should_panic(expected = "the metrics file shows a secret")]
fn a_secret_in_a_record_of_the_run_would_be_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = shell(r#"echo "$1" > "$5""#, secrets::keep("planted in the metrics"));
    run(command.args(["--trace", "/nonexistent", "--metrics"]).arg(file.path()));
}

#[test]
#[should_panic(expected = "stdout shows a secret")]
fn a_password_of_the_command_line_is_a_secret_though_the_test_does_not_say_so() {
    run(shell(r#"echo "$3""#, "").args(["--user", "ann:planted-with-user"]).arg("r/a:1"));
}

#[test]
#[should_panic(expected = "stderr shows a secret")]
fn a_secret_in_a_usage_error_would_be_found() {
    outcome(&mut shell(r#"echo "$1" >&2"#, secrets::keep("planted in a usage error")));
}
