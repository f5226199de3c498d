//! `--dry-run`: the plan is what the pull then does, and nothing of it stays, however it ends.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{
    Daemons,
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use crate::{
    mounted::Mounted,
    outcome, rpull,
    stage::{Output, Stage, chain_of, each, eventually, finish, native, network, on_each_daemon, size_of, start},
};

const MIB: u64 = 1 << 20;

/// All that a run could leave: records, content, snapshots, leases, ingests, files of the spool with their lengths.
type Traces = (Vec<String>, Vec<String>, Vec<String>, Vec<String>, String, Option<BTreeMap<String, u64>>);

fn traces(stage: &Stage) -> Traces {
    let files = |directory: &Path| {
        let entries = fs::read_dir(directory).ok()?.flatten();
        Some(
            entries
                .map(|entry| (entry.file_name().display().to_string(), entry.metadata().map_or(0, |found| found.len())))
                .collect(),
        )
    };
    let snapshots = stage.snapshots().into_iter().map(|info| info.name).collect();
    let ingests = stage.ctr(["content", "active"]);
    (stage.images(), stage.contents(), snapshots, stage.leases(), ingests, files(&stage.spool()))
}

/// Runs it, which must leave nothing.
#[track_caller]
fn dry_run(stage: &Stage, args: &[&str]) -> Output {
    let before = traces(stage);
    let output = stage.rpull(args);
    assert_eq!(traces(stage), before, "{output:#?}");
    output
}

/// The plan as scripts have it.
#[track_caller]
fn plan(stage: &Stage, args: &[&str]) -> Value {
    let output = dry_run(stage, &[&["--dry-run=json"], args].concat());
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
    let plan: Value = serde_json::from_str(&output.stdout).expect("one line is one object");
    assert_eq!(plan["v"], 1);
    plan
}

/// An image of which the lowest layer is whole here, the second is content, and the third is not here.
fn mixed(stage: &Stage, name: &str, seed: u64) -> (Image, String) {
    for (tag, seeds) in [("base", [seed].as_slice()), ("other", &[seed + 1])] {
        let reference = native(seeds).push(stage.registry(), name, tag);
        stage.pull([&reference]);
    }
    let image = native(&[seed, seed + 1, seed + 2]);
    let reference = image.push(stage.registry(), name, "mixed");
    (image, reference)
}

#[test]
fn a_plan_says_what_is_kept_attached_and_fetched_and_the_pull_does_it() {
    // A stage of its own: what is in the spool is looked at.
    for daemon in crate::stage::daemons() {
        let stage = Stage::on(&daemon);
        for (store, seed) in [("direct", 4000), ("api", 4010)] {
            let name = format!("planned-{store}");
            let (image, reference) = mixed(&stage, &name, seed);
            let output = dry_run(&stage, &["--store", store, "--dry-run", &reference]);
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
            let lines: Vec<&str> = output.stdout.lines().collect();
            let [first, heads, low, middle, top, network_line, space, store_line] = lines[..] else { panic!("{output:#?}") };
            assert_eq!(first, format!("{reference}: {}", image.digest()));
            assert_eq!(heads, "LAYER  DIGEST            SIZE  ACTION  WHY");
            let row = |index: usize, action: &str, why: &str| {
                format!("{}/3    {}  68.5 KiB  {action:6}  {why}", index + 1, image.layers()[index].digest.short())
            };
            let kept = "its snapshot is committed and linked to its blob";
            assert_eq!(low, row(0, "keep", kept), "{output:#?}");
            assert_eq!(middle, row(1, "attach", "its blob is in the content store"));
            assert_eq!(top, row(2, "fetch", "it is not here"));
            assert_eq!(network_line, "network: 68.5 KiB of 205.5 KiB");
            assert!(space.starts_with("space: 16.1 MiB needed, ") && space.contains(" free at /"), "{space}");
            assert!(store_line.starts_with(&format!("store: {store}, ")), "{store_line}");

            let plan = plan(&stage, &["--store", store, &reference]);
            assert_eq!(each(&plan, "action"), ["keep", "attach", "fetch"]);
            assert_eq!((plan["network"].as_u64(), plan["store"]["mode"].as_str()), (Some(image.layers()[2].size), Some(store)));
            assert_eq!(each(&plan, "chain_id"), chain_of(&image));
            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(each(&receipt, "came"), ["kept", "attached", "fetched"], "{receipt:#}");
            assert_eq!(Some(network(&receipt)), plan["network"].as_u64());
            assert_eq!(receipt["manifest"], plan["manifest"]);
        }
    }
}

#[test]
fn of_an_image_that_is_whole_nothing_is_planned() {
    on_each_daemon("planned-whole", |stage| {
        let reference = native(&[4020, 4021]).push(stage.registry(), "planned-whole", "1");
        stage.pull([&reference]);
        let output = stage.rpull(["--dry-run", &reference]);
        assert_eq!(output.code, 0, "{output:#?}");
        assert!(output.stdout.contains("network: 0 B of 137.0 KiB\nspace: 0 B needed, "), "{output:#?}");
        assert_eq!(output.stdout.matches("  keep    ").count(), 2, "{output:#?}");
        assert_eq!(stage.leases(), Vec::<String>::new());
    });
}

#[test]
fn what_another_namespace_has_is_planned_to_be_taken_and_is_not_taken() {
    on_each_daemon("planned-elsewhere", |owner| {
        let image = native(&[4030]);
        let reference = image.push(owner.registry(), "planned-elsewhere", "1");
        owner.pull([&reference]);
        let stage = owner.in_namespace("planned-elsewhere-2");
        let output = stage.rpull(["--dry-run=json", &reference]);
        let plan: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((each(&plan, "action"), &plan["network"]), (vec!["attach"], &0.into()), "{plan:#}");
        assert_eq!((stage.contents(), stage.leases()), (Vec::new(), Vec::new()));
        assert_eq!(network(&stage.pull([&reference])), 0);
    });
}

#[test]
fn what_an_earlier_run_left_does_not_count_as_network() {
    let stage = Stage::on(&Daemons::available().remove(0));
    let image = Image::new(vec![Layer::overlaybd(Blob { seed: 4040, data: 8 * MIB })]);
    let stuck = Server::builder().image("1", &image).faults(|request| {
        let behind = request.range.is_none_or(|(start, _)| start >= 4 * MIB);
        (request.size > MIB && behind).then_some(Fault::Stall { after: 0 })
    });
    let (stuck, whole) = (stuck.start(), Server::builder().image("1", &image).start());
    let mut command = stage.command(["--range-size", "256K", "--max-connections", "4"]);
    let child = start(command.arg(format!("{}/left:1", stuck.address())));
    let journal = stage.spool().join(format!("{}.journal", image.layers()[0].digest.hex()));
    // A header of 100 bytes, and 12 for each MiB.
    let begun = || fs::metadata(&journal).is_ok_and(|found| found.len() >= 124).then_some(());
    eventually(begun).expect("some of the layer arrives");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(child).code, 130);
    let reference = format!("{}/left:1", whole.address());
    let plan = plan(&stage, &[&reference]);
    let why = each(&plan, "why")[0];
    assert!(why.starts_with("it is not here; an earlier run left "), "{why}");
    let planned = plan["network"].as_u64().unwrap();
    assert!(planned < size_of(&image), "{plan:#}");
    assert_eq!(network(&stage.pull([&reference])), planned);
}

#[test]
fn a_filesystem_that_is_too_small_is_said_with_the_plan() {
    let stage = Stage::on(&Daemons::available().remove(0));
    let root = stage.containerd().content_root();
    fs::create_dir_all(&root).unwrap();
    let Some(_mount) = Mounted::tmpfs(&root, 24) else { return };
    fs::create_dir(root.join("ingest")).unwrap();
    let image = Image::new(vec![Layer::overlaybd(Blob { seed: 4050, data: 12 * MIB })]);
    let server = Server::builder().image("1", &image).start();
    let output = dry_run(&stage, &["--dry-run", &format!("{}/short:1", server.address())]);
    assert_eq!(output.code, 8, "{output:#?}");
    assert!(output.stdout.contains("1/1  ") && output.stdout.ends_with("the spool\n"), "{output:#?}");
    let short = output.stdout.lines().find(|line| line.starts_with("space: ")).unwrap();
    assert!(short.ends_with(&format!("at {}/rpull-spool, which is not enough", root.display())), "{short}");
    assert!(output.stderr.starts_with(&format!("rpull: {}/rpull-spool needs ", root.display())), "{output:#?}");
    assert!(output.stderr.contains("\nhint: free some space"), "{output:#?}");
}

#[test]
fn a_signal_in_the_middle_leaves_nothing_either() {
    let seeds: Vec<u64> = (4100..4116).collect();
    for daemon in crate::stage::daemons() {
        let stage = Stage::on(&daemon);
        let image = native(&seeds);
        let reference = image.push(stage.registry(), "planned-signal", "1");
        stage.pull([&reference]);
        let before = traces(&stage);
        let containerd = Pid::from_raw(stage.containerd().pid().expect("it runs").cast_signed()).unwrap();
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            // It may be over before it is caught.
            let caught = eventually(|| {
                let mut child = start(&mut stage.command(["--dry-run", &reference]));
                eventually(|| (!stage.leases().is_empty() || child.try_wait().unwrap().is_some()).then_some(()));
                // Whatever it is about to ask is not answered before it knows that it is to stop.
                kill_process(containerd, Signal::STOP).unwrap();
                kill_process(Pid::from_child(&child), signal).unwrap();
                kill_process(containerd, Signal::CONT).unwrap();
                Some(finish(child)).filter(|output| output.code != 0)
            });
            let output = caught.expect("one is caught");
            assert_eq!(output.code, code, "{output:#?}");
            assert!(!output.stderr.contains("may be left") && !output.stderr.contains("hint: "), "{output:#?}");
            assert_eq!(traces(&stage), before);
        }
    }
}

#[test]
fn of_several_images_each_is_planned_and_a_failure_does_not_stop_the_others() {
    on_each_daemon("planned-several", |stage| {
        let names = ["1", "2"].map(|tag| native(&[4060]).push(stage.registry(), "planned-several", tag));
        let missing = stage.registry().reference("planned-several", "none");
        let output = stage.rpull(["--dry-run", "--progress", "json", &names[0], &missing, &names[1]]);
        assert_eq!(output.code, 4, "{output:#?}");
        let plans: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(plans.iter().map(|plan| plan["reference"].as_str().unwrap()).collect::<Vec<_>>(), names);
        assert!(output.stderr.contains("404 Not Found") && output.stderr.contains("\nhint: "), "{output:#?}");
        let output = stage.rpull(["--dry-run=json", "--fail-fast", &missing, &names[1]]);
        assert_eq!((output.code, output.stdout.as_str()), (4, ""), "{output:#?}");
    });
}

#[test]
fn a_plan_for_programs_has_nothing_between_the_objects() {
    let stage = Stage::on(&Daemons::available().remove(0));
    // Longer than the pause between two lines of progress.
    let busy = |request: &mut testkit::fault::Request<'_>| {
        (request.number == 1).then_some(Fault::Status { code: 503, retry_after: Some("6".into()) })
    };
    let server = Server::builder().image("1", &native(&[4070])).faults(busy).start();
    let reference = format!("{}/planned-busy:1", server.address());
    assert_eq!(plan(&stage, &[&reference])["reference"], reference);
    assert!(server.count().requests > 1, "the fault never came");
}

#[test]
fn what_makes_no_sense_beside_it_is_refused() {
    for (args, said) in [
        (
            &["--dry-run", "--quiet", "r.example/a:1"][..],
            "rpull: --dry-run has nothing to say with --quiet or --progress none\nhint: leave one of them out\n",
        ),
        (
            &["--dry-run", "--receipt", "x", "r.example/a:1"],
            "rpull: --dry-run pulls nothing that --receipt, --trace, --waterfall or --metrics could tell of\n\
             hint: write the plan to a file: rpull --dry-run=json REF > FILE\n",
        ),
    ] {
        assert_eq!(outcome(rpull().args(args)), (2, String::new(), said.to_owned()));
    }
    let (code, _, stderr) = outcome(rpull().args(["--dry-run=xml", "r.example/a:1"]));
    assert!(code == 2 && stderr.contains("'xml'") && stderr.contains("\nhint: "), "{stderr}");
}
