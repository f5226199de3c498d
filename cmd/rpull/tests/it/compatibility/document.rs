//! The document itself: a row for every flag, variable and behaviour, each with a verdict and a test that is there.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::upstream;

/// Flags and variables of `ctr` and of its `rpull` (reference 1.1, 1.2); what upstream's `--help` says is compared where it can be asked.
const FLAGS: [&str; 19] = [
    "--address",
    "--connect-timeout",
    "--debug",
    "--download-blobs",
    "--help",
    "--hosts-dir",
    "--http-dump",
    "--http-trace",
    "--label",
    "--namespace",
    "--plain-http",
    "--refresh",
    "--skip-verify",
    "--snapshotter",
    "--timeout",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--user",
];
const MORE: [&str; 6] = [
    "--version",
    "CONTAINERD_ADDRESS",
    "CONTAINERD_NAMESPACE",
    "CONTAINERD_SNAPSHOTTER",
    "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS",
    "SOURCE_DATE_EPOCH",
];
const VERDICTS: [&str; 3] = ["same", "better: ", "refused: "];

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What ctr has, the verdict, the tests: the rows of the tables in the part about `ctr rpull`.
fn rows() -> Vec<[String; 3]> {
    let text = fs::read_to_string(top().join("docs/compatibility.md")).unwrap();
    let part = text.split("\n## ").find(|part| part.starts_with("ctr rpull\n")).expect("a part about ctr rpull");
    let lines = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ctr "));
    let cells = |line: &str| -> [String; 3] {
        let inner = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        inner.collect::<Vec<_>>().try_into().unwrap_or_else(|cells| panic!("not three cells: {cells:?}"))
    };
    lines.map(cells).collect()
}

#[test]
fn every_row_has_a_verdict_and_a_test_that_is_there() {
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    for [what, verdict, tests] in rows {
        assert!(VERDICTS.iter().any(|word| verdict.starts_with(word)), "{what}: {verdict}");
        for test in tests.split(", ") {
            let name = test.trim_matches('`');
            let (path, function) = name.rsplit_once("::").unwrap_or_else(|| panic!("{what}: {name}"));
            let (home, module) = match path.split_once('/') {
                Some((package, module)) => (top().join("pkg").join(package), module),
                None => (top().join("cmd/rpull"), path),
            };
            let file = home.join("tests/it").join(module.replace("::", "/")).with_extension("rs");
            let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{what}: {}: {error}", file.display()));
            assert!(source.contains(&format!("fn {function}()")), "{what}: {} has no test {function}", file.display());
        }
    }
}

#[test]
fn every_flag_and_variable_has_a_row() {
    let text = rows().into_iter().map(|[what, ..]| what).collect::<Vec<_>>().join("\n");
    for name in FLAGS.iter().chain(&MORE) {
        assert!(text.contains(&format!("`{name}`")) || text.contains(&format!("`{name}, ")), "{name} has no row");
    }
}

#[test]
fn upstream_has_no_other_flags() {
    let Some(upstream) = upstream() else { return };
    let help = |arguments: &[&str]| {
        let output = Command::new(&upstream).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text =
        [help(&["rpull", "--help"]), help(&["--help"]).split("GLOBAL OPTIONS:").nth(1).unwrap_or_default().to_owned()].concat();
    let flags = text.lines().filter_map(|line| line.trim_start().strip_prefix("--")).map(|line| {
        let end = line.find(|letter: char| letter != '-' && !letter.is_ascii_alphanumeric()).unwrap_or(line.len());
        format!("--{}", &line[..end])
    });
    let known: BTreeSet<String> =
        FLAGS.iter().chain(&MORE).filter(|name| name.starts_with("--")).map(|name| (*name).to_owned()).collect();
    assert_eq!(flags.collect::<BTreeSet<_>>(), known);
}
