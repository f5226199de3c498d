use clap::CommandFactory as _;

use super::*;
use crate::args::Args;

fn command() -> Command {
    let mut command = Args::command();
    command.build();
    command
}

/// Words of a command line, split at blanks; `""` is the empty word.
fn words(line: &str) -> Vec<OsString> {
    line.split(' ').filter(|word| !word.is_empty()).map(|word| if word == "\"\"" { "" } else { word }.into()).collect()
}

fn rewritten(line: &str) -> Result<Vec<OsString>, NotBoolean> {
    rewrite(&command(), words(line))
}

#[test]
fn every_rule_of_go() {
    for (line, expected) in [
        // One dash is as good as two.
        ("-namespace k8s.io", "--namespace=k8s.io"),
        ("--namespace k8s.io", "--namespace=k8s.io"),
        ("-namespace=k8s.io", "--namespace=k8s.io"),
        ("--namespace=k8s.io", "--namespace=k8s.io"),
        ("-debug", "--debug"),
        ("-n k8s.io", "--namespace=k8s.io"),
        ("-n=k8s.io", "--namespace=k8s.io"),
        ("--n k8s.io", "--namespace=k8s.io"),
        ("-k", "--skip-verify"),
        ("-a /run/c.sock", "--address=/run/c.sock"),
        ("-h", "--help"),
        ("-help", "--help"),
        ("-v", "--version"),
        ("-version", "--version"),
        // Any next word is a value.
        ("--user -x:y", "--user=-x:y"),
        ("-u -x:y", "--user=-x:y"),
        ("--user --debug", "--user=--debug"),
        ("--user -- r/a:1", "--user=-- -- r/a:1"),
        ("--user - r/a:1", "--user=- -- r/a:1"),
        ("--user \"\" r/a:1", "--user= -- r/a:1"),
        ("--user= -- r/a:1", "--user= -- r/a:1"),
        ("--label a=b=c", "--label=a=b=c"),
        ("--label=a=b", "--label=a=b"),
        ("-label -namespace", "--label=-namespace"),
        ("--user", "--user"),
        // Values are not rewritten, nor is what follows.
        ("-user -debug -debug", "--user=-debug --debug"),
        // A switch takes a value only behind `=`, in the spellings of ParseBool; the last one wins.
        ("--debug true", "--debug -- true"),
        ("--debug=true", "--debug"),
        ("-k=1", "--skip-verify"),
        ("-k=t --debug=T", "--skip-verify --debug"),
        ("-k=TRUE --debug=True", "--skip-verify --debug"),
        ("--debug=false", ""),
        ("--debug=0 -k=f", ""),
        ("--debug=F -k=FALSE --lazy=False", ""),
        ("--debug --debug", "--debug"),
        ("--debug --debug=false", ""),
        ("--debug=false r/a:1 -debug", "--debug -- r/a:1"),
        ("--label=--debug --debug=false", "--label=--debug"),
        // `--` ends the flags.
        ("--debug -- -r/a:1 --debug=false", "--debug -- -r/a:1 --debug=false"),
        ("-- --user", "-- --user"),
        // Other than in Go, flags may follow the reference.
        ("r/a:1 -n x", "--namespace=x -- r/a:1"),
        // The first word may be a command; flags that every command has may stand on either side of it.
        ("verify r/a:1", "verify -- r/a:1"),
        ("-n x verify -deep -k r/a:1 r/b:1", "--namespace=x --skip-verify verify --deep -- r/a:1 r/b:1"),
        ("verify --deep --deep=false -debug -h", "--debug verify --help"),
        ("verify --lazy", "verify --lazy"),
        ("--lazy verify r/a:1", "verify --lazy -- r/a:1"),
        ("--deep=0 -n x verify", "--deep --namespace=x verify"),
        ("--user verify verify", "--user=verify verify"),
        ("verify verify", "verify -- verify"),
        ("verify r/a:1 -n", "--namespace"),
        ("r/a:1 verify", "-- r/a:1 verify"),
        ("-- verify", "-- verify"),
        ("--deep r/a:1", "--deep -- r/a:1"),
        // Nothing is guessed: a word that is no flag is refused whole, never as letters.
        ("-namespce k8s.io", "--namespce -- k8s.io"),
        ("-kn", "--kn"),
        ("-nk8s.io", "--nk8s.io"),
        ("-x", "--x"),
        ("--no-such=1", "--no-such"),
        ("-ualice:secret", "--ualice"),
        // Bad syntax goes to clap as it stands.
        ("---debug", "---debug"),
        ("-=x", "-=x"),
        ("--=x", "--=x"),
        ("-", "-- -"),
        ("\"\"", "-- \"\""),
    ] {
        assert_eq!(rewritten(line), Ok(words(expected)), "{line}");
    }
}

#[test]
fn a_switch_refuses_what_is_no_boolean() {
    for value in ["yes", "", "2", "tRUE"] {
        let expected = NotBoolean { flag: "debug".to_owned(), value: value.to_owned() };
        assert_eq!(rewritten(&format!("--debug={value}")), Err(expected), "{value}");
    }
}

#[test]
fn values_need_not_be_utf_8() {
    let path = OsStr::from_bytes(b"/x/\xff").to_owned();
    let expected = OsStr::from_bytes(b"--hosts-dir=/x/\xff").to_owned();
    assert_eq!(rewrite(&command(), ["-hosts-dir".into(), path]), Ok(vec![expected]));
}

proptest::proptest! {
    #[test]
    fn any_words_are_rewritten_or_refused(line in proptest::collection::vec("\\PC{0,12}|-{0,3}[a-z=-]{0,9}", 0..8)) {
        let _ = rewrite(&command(), line.iter().map(OsString::from));
    }

    /// Written out, nothing is left to rewrite.
    #[test]
    fn rewriting_twice_changes_nothing(line in proptest::collection::vec("-{0,2}(debug|k|n|user|x|r/a|verify|deep)(=true|=0|=-k)?", 0..8)) {
        if let Ok(once) = rewrite(&command(), line.iter().map(OsString::from)) {
            proptest::prop_assert_eq!(rewrite(&command(), once.clone()), Ok(once));
        }
    }
}
