//! `--progress json`: every line of real runs against the schema that programs are written by.

use std::{io::Write as _, path::Path, process::Stdio};

use serde_json::Value;
use testkit::{
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use super::{Slow, failing, python};
use crate::stage::{Output, native, on_each_daemon, size_of};

/// Says for each line of its input that is not as the schema has it why.
const CHECK: &str = "
import json, jsonschema, sys
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    for error in validator.iter_errors(json.loads(line)):
        print(line.strip(), error.message, error.context)
";

/// What the schema has against these lines.
fn complaints(lines: &str) -> String {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/progress.schema.json");
    let mut child = python()
        .args(["-W", "ignore", "-c", CHECK])
        .arg(schema)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "python3 and python3-jsonschema are needed");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of a run, each checked.
#[track_caller]
fn events(output: &Output) -> Vec<Value> {
    assert_eq!(complaints(&output.stdout), "", "{output:#?}");
    let events: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends = events.iter().filter(|event| event["event"] == "done" || event["event"] == "failed").count();
    assert_eq!(ends, 1, "{output:#?}");
    events
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn the_schema_is_one_that_refuses() {
    let good = r#"{"v":1,"at":0.5,"event":"image-done","image":"r/a:1","fetched":7}"#;
    assert_eq!(complaints(good), "");
    for bad in [
        good.replace("\"v\":1", "\"v\":2"),
        good.replace("image-done", "image-gone"),
        good.replace("7}", "-7}"),
        good.replace("7}", "7,\"more\":1}"),
        good.replace("\"image\":\"r/a:1\",", ""),
        r#"{"v":1,"at":1,"event":"failed","exit":{"code":4,"name":"disk"},"message":"no"}"#.to_owned(),
    ] {
        assert_ne!(complaints(&bad), "", "{bad}");
    }
}

#[test]
fn a_pull_is_told_from_its_plan_to_its_end() {
    on_each_daemon("json", |stage| {
        let slow = Slow::new(1640, 1.5e6);
        let output = stage.rpull(["--progress", "json", slow.reference().as_str()]);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
        let events = events(&output);
        let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds[1]), ("resolved", "planned"), "{kinds:?}");
        assert_eq!(kinds[kinds.len() - 2..], ["image-done", "done"], "{kinds:?}");
        let size = size_of(&slow.image);
        assert_eq!(events[0]["target"], slow.image.digest().to_string());
        assert_eq!((&events[1]["layers"], &events[1]["fetch"]["bytes"]), (&2.into(), &size.into()));
        assert!(
            events[..events.len() - 1]
                .iter()
                .filter(|event| event["event"] != "advanced")
                .all(|event| event["image"] == slow.reference())
        );

        let advanced = of(&events, "advanced");
        let done: Vec<u64> = advanced.iter().map(|event| event["bytes"]["done"].as_u64().unwrap()).collect();
        assert!(advanced.len() >= 2 && done.is_sorted(), "{done:?}");
        assert!(advanced.iter().all(|event| event["bytes"]["total"] == size && event["images"][0]["image"] == slow.reference()));
        assert!(advanced.iter().any(|event| event["rate"].as_u64() > Some(0) && event["connections"].as_u64() > Some(0)));
        // By its own clock: at most four a second.
        let times: Vec<f64> = advanced.iter().map(|event| event["at"].as_f64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 0.249), "{times:?}");

        let committed = of(&events, "layer-committed");
        assert_eq!(committed.iter().map(|event| event["layer"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(committed.iter().map(|event| event["fetched"].as_u64().unwrap()).sum::<u64>(), size);
        let last = events.last().unwrap();
        assert_eq!((&last["fetched"], &last["exit"]["code"]), (&size.into(), &0.into()));
        stage.assert_whole(&slow.reference(), &slow.image);
    });
}

#[test]
fn a_failure_is_the_last_event_and_the_exit_code() {
    on_each_daemon("json-failed", |stage| {
        let missing = stage.registry().reference("json-failed", "missing");
        let output = stage.rpull(["--progress", "json", missing.as_str()]);
        let stderr = output.fails_with(4);
        let last = events(&output).pop().unwrap();
        assert_eq!(
            (&last["event"], &last["exit"]["code"], &last["exit"]["name"]),
            (&"failed".into(), &4.into(), &"not-found".into())
        );
        assert!(stderr.starts_with(&format!("rpull: {}\n", last["message"].as_str().unwrap())), "{stderr}");
    });
    let output = crate::stage::run(crate::rpull().args(["--progress", "json", "--from-file", "/nonexistent/list"]));
    output.fails_with(2);
    assert_eq!(events(&output)[0]["exit"]["name"], "usage");
}

#[test]
fn several_images_are_told_apart() {
    on_each_daemon("json-several", |stage| {
        let (one, other) = (native(&[1650, 1651]), native(&[1650, 1652]));
        let server = Server::builder().image("one", &one).image("other", &other).start();
        let [first, second] = ["one", "other"].map(|tag| format!("{}/several:{tag}", server.address()));
        let missing = stage.registry().reference("json-several", "missing");
        let output = stage.rpull(["--progress=json", first.as_str(), &missing, &second]);
        output.fails_with(4);
        let events = events(&output);
        for (kind, expected) in
            [("image-done", vec![&first, &second]), ("image-failed", vec![&missing]), ("planned", vec![&first, &second])]
        {
            let mut images: Vec<_> = of(&events, kind).iter().map(|event| event["image"].as_str().unwrap()).collect();
            images.sort_unstable();
            assert_eq!(images, expected, "{kind}: {output:#?}");
        }
        assert_eq!(events.last().unwrap()["message"], format!("1 of 3 images could not be pulled: {missing}"));
    });
}

#[test]
fn trouble_on_the_way_is_told() {
    on_each_daemon("json-trouble", |stage| {
        let image = Image::new(vec![Layer::overlaybd(Blob { seed: 1660, data: 1 << 20 })]);
        let failing = Server::builder().image("1", &image).faults(failing(2, 503)).start();
        let reference = format!("{}/trouble:1", failing.address());
        let output = stage.rpull(["--progress", "json", reference.as_str()]);
        assert_eq!(output.code, 0, "{output:#?}");
        let events_of_it = events(&output);
        let retrying = of(&events_of_it, "retrying");
        assert!(!retrying.is_empty() && retrying.iter().all(|event| event["host"] == failing.address()), "{output:#?}");
        stage.remove_image(&reference);

        // A mirror that has nothing but the documents.
        let mirror =
            Server::builder().image("1", &image).faults(|_| Some(Fault::Status { code: 404, retry_after: None })).start();
        let whole = Server::builder().image("1", &image).start();
        let hosts = tempfile::tempdir().unwrap();
        std::fs::create_dir(hosts.path().join(whole.address())).unwrap();
        std::fs::write(
            hosts.path().join(whole.address()).join("hosts.toml"),
            format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", whole.address(), mirror.address()),
        )
        .unwrap();
        let reference = format!("{}/trouble:1", whole.address());
        let output = stage.rpull(["--progress", "json", "--hosts-dir", hosts.path().to_str().unwrap(), &reference]);
        assert_eq!(output.code, 0, "{output:#?}");
        let events_of_it = events(&output);
        let left = of(&events_of_it, "mirror-left");
        assert_eq!(left.len(), 1, "{output:#?}");
        assert_eq!((&left[0]["host"], &left[0]["image"]), (&mirror.address().into(), &reference.as_str().into()));
    });
}
