use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Vec<Entry>, Error> {
    parse(Path::new("/etc/c/docker.io/hosts.toml"), text, "docker.io", &Options::default())
}

#[test]
fn hosts_keep_the_order_of_the_file_and_the_server_is_last() {
    let entries = read(
        r#"
server = "https://up.example"
[host."https://z.example"]
  capabilities = ["pull", "Resolve"]
[host."http://a.example:5000/proxy"]
  capabilities = ["pull"]
  dial_timeout = "1.5s"
[host."https://m.example/v2/"]
  override_path = true
[host."https://m.example/custom"]
  override_path = true
[host."plain.example"]
"#,
    )
    .unwrap();
    let seen: Vec<_> = entries.iter().map(|entry| (entry.base.as_str(), entry.resolve)).collect();
    assert_eq!(
        seen,
        [
            ("https://z.example/v2", true),
            ("http://a.example:5000/proxy/v2", false),
            ("https://m.example/v2", true),
            ("https://m.example/custom", true),
            ("https://plain.example/v2", true),
            ("https://up.example/v2", true),
        ]
    );
    assert_eq!(entries[1].dial_timeout, Some(Duration::from_millis(1500)));
    assert!(entries.iter().all(|entry| entry.pull && entry.relation == Relation::Named));
}

#[test]
fn keys_of_the_root_are_the_servers() {
    let entries =
        read("server = \"https://up.example\"\ncapabilities = [\"pull\"]\nca = \"a.crt\"\n[header]\nx = \"y\"\n").unwrap();
    assert_eq!((entries.len(), entries[0].pull, entries[0].resolve), (1, true, false));
    assert_eq!((entries[0].tls.more_roots.len(), entries[0].headers.len()), (1, 1));
}

#[test]
fn without_a_server_the_registry_itself_is_last() {
    let entries = read("[host.\"https://m.example\"]\ncapabilities = [\"push\"]\n").unwrap();
    assert!(!entries[0].pull && entries[0].relation == Relation::Named);
    assert_eq!(entries[1].relation, Relation::Own);
    assert_eq!(entries[1].base.as_str(), "https://registry-1.docker.io/v2");
}

#[test]
fn certificates_are_relative_to_the_file() {
    let path = |name: &str| PathBuf::from("/etc/c/docker.io").join(name);
    for (text, ca, client) in [
        (r#"ca = "a.crt""#, vec!["a.crt"], vec![]),
        (r#"ca = ["a.crt", "/b.crt"]"#, vec!["a.crt", "/b.crt"], vec![]),
        (r#"client = "c.pem""#, vec![], vec![("c.pem", "c.pem")]),
        (r#"client = ["c.pem", "d.pem"]"#, vec![], vec![("c.pem", "c.pem"), ("d.pem", "d.pem")]),
        (r#"client = [["c.cert", "c.key"], ["d.pem", ""]]"#, vec![], vec![("c.cert", "c.key"), ("d.pem", "d.pem")]),
    ] {
        let entries = read(&format!("[host.\"https://m.example\"]\n{text}\n")).unwrap();
        assert_eq!(entries[0].tls.more_roots, ca.into_iter().map(path).collect::<Vec<_>>(), "{text}");
        let client: Vec<_> = client.into_iter().map(|(certificate, key)| (path(certificate), path(key))).collect();
        assert_eq!(entries[0].tls.client, client, "{text}");
        assert_eq!(entries[1].tls.more_roots, Vec::<PathBuf>::new(), "the server has none");
    }
}

#[test]
fn headers_come_single_and_many_and_do_not_print() {
    let entries = read("[host.\"https://m.example\".header]\nx-one = \"a-secret\"\nx-two = [\"b\", \"c\"]\n").unwrap();
    let values = |name| entries[0].headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((values("x-one"), values("x-two")), (vec!["a-secret"], vec!["b", "c"]));
    assert!(!format!("{entries:?}").contains("a-secret"));
}

#[test]
fn http_with_tls_settings_begins_with_https() {
    let entries = read("[host.\"http://m.example:5000\"]\nskip_verify = true\n").unwrap();
    assert_eq!((entries[0].base.as_str(), entries[0].fallback), ("https://m.example:5000/v2", true));
}

#[test]
fn a_broken_file_is_named_with_line_and_column() {
    for (text, place, message) in [
        ("server = \n", "1:10", ""),
        ("\n[host.\"https://m.example\"]\n  capabilities = [\"pull\", \"pul\"]\n", "3:27", "unknown capability \"pul\""),
        ("[host.\"https://m.example\"]\n  dial_timeout = \"5\"\n", "2:18", "dial_timeout is no duration"),
        ("[host.\"https://u:s3cret@m.example\"]\n", "1:7", "\"m.example\" is not http(s)"),
        ("[host.\"https://u:s3cret@m.example:x\"]\n", "1:7", "\"m.example:x\" is no URL"),
        ("header = \"Bearer s3cret\"\n", "1:10", "invalid type: string \"…\", expected a map"),
        ("[header]\nx = { y = \"s3cret\" }\n", "2:5", "expected a string or a list"),
        ("[host.\"https://m.example\"]\nskip_verify = \"yes\"\n", "2:15", "expected a boolean"),
        ("[host.\"https://m.example\"]\nca = 5\n", "2:6", "expected a string or a list"),
    ] {
        let error = read(text).unwrap_err().to_string();
        let expected = format!("/etc/c/docker.io/hosts.toml:{place}: ");
        assert!(error.starts_with(&expected) && error.contains(message) && !error.contains("s3cret"), "{text}\n{error}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in r#"(server|\[host\."|https://m|"\]|capabilities|ca|=|"|\[|\]|pull|header|\n| |é|\.){0,30}"#) {
        let _ = read(&text);
    }
}
