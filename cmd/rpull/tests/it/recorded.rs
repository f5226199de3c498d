//! `--trace`, `--waterfall` and `--metrics`: what really happened, also when it did not go well.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use crate::stage::{eventually, finish, native, network, on_each_daemon, run, size_of, start};

/// Files that a run leaves, in a folder of their own.
struct Record(TempDir);

impl Record {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn flags(&self) -> Vec<String> {
        let names = [("--trace", "trace.json"), ("--waterfall", "pull.svg"), ("--metrics", "rpull.prom")];
        names.iter().flat_map(|(flag, name)| [(*flag).to_owned(), self.path(name).to_str().unwrap().to_owned()]).collect()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn trace(&self) -> Value {
        serde_json::from_str(&self.text("trace.json")).unwrap()
    }

    /// The value of one series.
    fn metric(&self, series: &str) -> Option<u64> {
        let text = self.text("rpull.prom");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    fn assert_picture(&self) {
        let svg = self.text("pull.svg");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.lines().all(|line| line.matches('<').count() == line.matches('>').count()), "{svg}");
    }

    fn assert_nothing_else(&self) {
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 3, "something is left beside the files");
    }
}

fn events<'a>(trace: &'a Value, category: &str) -> Vec<&'a Value> {
    let all = trace["traceEvents"].as_array().unwrap();
    all.iter().filter(|event| event["cat"] == category).collect()
}

/// What the ranges of each blob cover, which must be each byte once, from its first byte on.
fn covered(trace: &Value) -> BTreeMap<String, u64> {
    let mut ranges: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for range in events(trace, "range") {
        let number = |key: &str| range["args"][key].as_u64().unwrap();
        if number("bytes") > 0 {
            let digest = range["args"]["digest"].as_str().unwrap().to_owned();
            ranges.entry(digest).or_default().push((number("offset"), number("bytes")));
        }
    }
    let end = |mut ranges: Vec<(u64, u64)>| {
        ranges.sort_unstable();
        ranges.iter().fold(0, |at, (offset, bytes)| {
            assert_eq!(*offset, at, "{ranges:?}");
            at + bytes
        })
    };
    ranges.into_iter().map(|(digest, ranges)| (digest, end(ranges))).collect()
}

/// Slices of one track never overlap but where one lies inside the other.
fn assert_tracks(trace: &Value, most_connections: u64) {
    let mut tracks: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for event in events(trace, "range").into_iter().chain(events(trace, "step")) {
        let number = |key: &str| event[key].as_u64().unwrap();
        tracks.entry((number("pid"), number("tid"))).or_default().push((number("ts"), number("ts") + number("dur")));
    }
    for (track, mut slices) in tracks.clone() {
        slices.sort_unstable();
        assert!(slices.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{track:?} {slices:?}");
    }
    let connections = tracks.keys().filter(|(pid, _)| *pid == 2).count() as u64;
    assert!((1..=most_connections).contains(&connections), "{connections} tracks of connections");
}

fn large(seeds: &[u64]) -> Image {
    Image::new(seeds.iter().map(|&seed| Layer::overlaybd(Blob { seed, data: 2 << 20 })).collect())
}

#[test]
fn a_record_shows_every_byte_once_and_every_step_though_requests_fail() {
    on_each_daemon("recorded", |stage| {
        let image = large(&[1700, 1701, 1702]);
        let failing = |request: &mut testkit::fault::Request<'_>| match request.number {
            2 | 6 => Some(Fault::ResetAt(50_000)),
            4 => Some(Fault::Status { code: 503, retry_after: None }),
            _ => None,
        };
        let server = Server::builder().image("1", &image).faults(failing).start();
        let reference = format!("{}/recorded:1", server.address());
        let record = Record::new();
        let mut args = vec!["--range-size".to_owned(), "256K".to_owned(), "--max-connections".to_owned(), "5".to_owned()];
        args.extend(record.flags());
        let receipt = stage.pull(args.iter().chain([&reference]));

        let trace = record.trace();
        let expected: BTreeMap<_, _> = image.layers().iter().map(|layer| (layer.digest.to_string(), layer.size)).collect();
        assert_eq!(covered(&trace), expected);
        assert_tracks(&trace, 5);
        let failed: Vec<_> = events(&trace, "range").into_iter().filter(|range| range["args"]["outcome"] == "failed").collect();
        assert_eq!(failed.len(), 3, "{failed:#?}");
        assert!(failed.iter().all(|range| range["args"]["cause"].as_str().unwrap().contains(&server.address())));
        for range in events(&trace, "range") {
            assert_eq!(range["args"]["host"], server.address());
        }
        let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
        for step in events(&trace, "step") {
            assert_eq!(step["args"]["outcome"], "complete", "{step}");
            *steps.entry(step["name"].as_str().unwrap()).or_default() += 1;
        }
        let once = ["resolve", "plan", "fetch and commit", "prove", "publish"].map(|step| (step, 1));
        let each = ["prepare snapshot", "commit content", "link", "commit snapshot"].map(|step| (step, 3));
        assert_eq!(steps, once.into_iter().chain(each).collect());

        record.assert_picture();
        let svg = record.text("pull.svg");
        assert!(image.layers().iter().all(|layer| svg.contains(&layer.digest.short())) && svg.contains("3 retries"), "{svg}");

        let fetched = record.metric(&format!("rpull_bytes_total{{source=\"network\",host=\"{}\"}}", server.address()));
        assert_eq!(fetched, Some(network(&receipt)));
        assert_eq!(record.metric("rpull_bytes_total{source=\"documents\"}"), receipt["bytes"]["documents"].as_u64());
        assert_eq!((record.metric("rpull_retries_total"), record.metric("rpull_last_run_success")), (Some(3), Some(1)));

        // Nothing is fetched the second time; the counters go on, the picture is of this run.
        stage.pull(args.iter().chain([&reference]));
        assert_eq!(covered(&record.trace()), BTreeMap::new());
        record.assert_picture();
        assert_eq!(record.metric("rpull_runs_total{code=\"0\"}"), Some(2));
        assert_eq!((record.metric("rpull_retries_total"), record.metric("rpull_last_run_bytes")), (Some(3), Some(0)));
        record.assert_nothing_else();
    });
}

#[test]
fn a_failed_pull_leaves_its_record_too() {
    on_each_daemon("recorded-failure", |stage| {
        let layers = [(1710, 2 << 20), (1711, 3 << 20)].map(|(seed, data)| Layer::overlaybd(Blob { seed, data }));
        let image = Image::new(layers.into());
        let lost = image.layers()[1].size;
        let missing = move |request: &mut testkit::fault::Request<'_>| {
            (request.size == lost).then_some(Fault::Status { code: 404, retry_after: None })
        };
        let server = Server::builder().image("1", &image).faults(missing).start();
        let reference = format!("{}/failure:1", server.address());
        let record = Record::new();
        let flags = record.flags();
        let output = stage.rpull(flags.iter().chain([&reference]));
        output.fails_with(4);
        let trace = record.trace();
        assert_eq!(trace["otherData"]["exit_code"], 4);
        let failed: Vec<_> = events(&trace, "range").into_iter().filter(|range| range["args"]["outcome"] == "failed").collect();
        let digest = image.layers()[1].digest.to_string();
        assert!(!failed.is_empty() && failed.iter().all(|range| range["args"]["digest"] == digest), "{failed:#?}");
        let cut_off = events(&trace, "step").into_iter().filter(|step| step["args"]["outcome"] != "complete");
        assert!(cut_off.into_iter().any(|step| step["name"] == "fetch and commit"));
        record.assert_picture();
        assert!(record.text("pull.svg").contains("ended with exit code 4"));
        assert_eq!(record.metric("rpull_last_run_success"), Some(0));
        assert_eq!(record.metric("rpull_runs_total{code=\"4\"}"), Some(1));
        record.assert_nothing_else();
    });
}

#[test]
fn an_interrupted_pull_shows_the_ranges_that_hung() {
    on_each_daemon("recorded-interrupt", |stage| {
        let image = large(&[1720]);
        let stuck =
            |request: &mut testkit::fault::Request<'_>| (request.size > 1 << 20).then_some(Fault::Stall { after: 20_000 });
        let server = Server::builder().image("1", &image).faults(stuck).start();
        let record = Record::new();
        let mut command = stage.command(["--max-connections", "2", &format!("{}/interrupt:1", server.address())]);
        let child = start(command.args(record.flags()));
        eventually(|| (server.count().body_bytes >= 40_000).then_some(())).expect("both ranges hang");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        finish(child).fails_with(130);
        let trace = record.trace();
        let hung: Vec<_> = events(&trace, "range").into_iter().filter(|range| range["args"]["outcome"] == "closed").collect();
        assert_eq!(hung.len(), 2, "{trace:#}");
        assert_eq!(record.metric("rpull_runs_total{code=\"130\"}"), Some(1));
        record.assert_picture();
    });
}

#[test]
fn all_images_of_a_run_are_in_one_record() {
    on_each_daemon("recorded-several", |stage| {
        let images = [native(&[1730, 1731]), native(&[1731, 1732])];
        let references: Vec<String> = images
            .iter()
            .zip(["a", "b"])
            .map(|(image, name)| image.push(stage.registry(), &format!("recorded-{name}"), "1"))
            .collect();
        let record = Record::new();
        let flags = record.flags();
        let output = run(&mut stage.command(flags.iter().chain(&references)));
        assert_eq!(output.code, 0, "{output:#?}");
        let trace = record.trace();
        let layers = images.iter().flat_map(|image| image.layers().iter().map(|layer| (layer.digest.to_string(), layer.size)));
        assert_eq!(covered(&trace), layers.collect());
        let tracks: Vec<_> =
            trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "thread_name").collect();
        for reference in &references {
            assert!(tracks.iter().any(|track| track["pid"] == 1 && track["args"]["name"] == *reference), "{tracks:#?}");
        }
        let fetched: u64 = covered(&trace).values().sum();
        assert_eq!(record.metric("rpull_last_run_bytes"), Some(fetched));
        assert!(fetched < images.iter().map(size_of).sum());
    });
}

#[test]
fn a_file_that_cannot_be_written_is_found_out_before_the_pull() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/file");
    for (flag, what) in [("--trace", "trace"), ("--waterfall", "waterfall"), ("--metrics", "metrics file")] {
        for (path, why) in [
            (missing.as_path(), "No such file or directory (os error 2)"),
            (directory.path(), "is a directory"),
            (Path::new("/proc/file"), "No such file or directory (os error 2)"),
        ] {
            // There is no containerd: had it been asked first, that would be said.
            let output = run(crate::rpull().args(["--address", "/nonexistent/c.sock", flag]).arg(path).arg("r.example/a:1"));
            let expected = format!(
                "rpull: cannot write the {what} {}: {why}\n\
                 hint: name a file in a directory that exists and may be written to\n",
                path.display()
            );
            assert_eq!((output.code, output.stdout.as_str(), output.stderr), (2, "", expected));
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn two_files_of_one_name_are_refused_however_it_is_spelled() {
    let here = std::env::current_dir().unwrap().join("x");
    for other in [Path::new("x"), Path::new("./x"), &here] {
        let output = run(crate::rpull().args(["--receipt", "x", "--trace"]).arg(other).arg("r.example/a:1"));
        let expected =
            format!("rpull: --receipt and --trace name the same file {}\nhint: give each a file of its own\n", other.display());
        assert_eq!((output.code, output.stdout.as_str(), output.stderr), (2, "", expected));
    }
}

#[test]
fn a_run_that_never_began_is_counted_as_a_failure() {
    let record = Record::new();
    let mut command = crate::rpull();
    let output = run(command
        .args(["--address", "/nonexistent/c.sock", "--connect-timeout", "100ms"])
        .args(record.flags())
        .arg("r.example/a:1"));
    assert_eq!(output.code, 7, "{output:#?}");
    assert_eq!(record.metric("rpull_last_run_success"), Some(0));
    record.assert_picture();
    assert_eq!(events(&record.trace(), "range").len(), 0);
}
