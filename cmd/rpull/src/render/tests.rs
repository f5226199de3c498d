use oci::Digest;
use progress::Written;

use super::*;
use crate::exit::ExitCode;

/// Draws what is told at the given seconds, with a beat where one is due; stdout and stderr.
pub(super) fn drawn(drawing: &mut dyn Draw, story: Vec<(u64, Told)>) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err, ink: Ink::Plain };
    let mut next = drawing.beat();
    for (at, told) in story {
        let at = Duration::from_secs(at);
        while let (Some(beat), Some(due)) = (drawing.beat(), next.filter(|due| *due <= at)) {
            drawing.tick(due, &mut streams);
            next = Some(due + beat);
        }
        drawing.hear(at, told, &mut streams);
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

pub(super) fn event(image: &str, event: Event) -> Told {
    Told::Event { image: Some(image.into()), event }
}

pub(super) fn failure(message: &str) -> Failure {
    Failure { code: ExitCode::NotFound, message: message.to_owned(), hint: Some("look there".to_owned()) }
}

fn story() -> Vec<(u64, Told)> {
    let (fetched, kept) = (Digest::of(b"fetched"), Digest::of(b"kept"));
    let events = [
        Event::Resolved { reference: "r/a:1".to_owned(), target: kept },
        Event::Planned { layers: 2, to_fetch: vec![(fetched, 4_739_584)] },
        Event::FetchStarted { blob: fetched, size: 4_739_584, resumed: 0, written: Written::default() },
        Event::Waiting { blob: fetched, whom: "process 7".to_owned() },
        Event::Warning { text: "one\u{1b}thing".to_owned() },
        Event::LayerCommitted { index: 0, blob: kept, lazy: false },
        Event::FetchFinished { blob: fetched },
        Event::LayerCommitted { index: 1, blob: fetched, lazy: false },
    ];
    let mut story: Vec<_> = events.into_iter().map(|told| (0, event("r/a:1", told))).collect();
    story.push((0, Told::Ended(Ok(Summary { images: 1, fetched: 4_739_584 }))));
    story
}

#[test]
fn a_plain_pull_is_one_line_per_layer() {
    let (out, err) = drawn(&mut Plain::new(false, Progress::silent()), story());
    let [kept, fetched] = [&b"kept"[..], b"fetched"].map(Digest::of);
    let [kept_short, fetched_short] = [kept.short(), fetched.short()];
    assert_eq!(
        out,
        format!(
            "r/a:1: {kept}\n2 layers, 4.5 MiB to fetch\n{fetched_short}: waiting for process 7\n\
             layer 1/2 {kept_short}: was here\nlayer 2/2 {fetched_short}: 4.5 MiB fetched\ndone\n"
        )
    );
    assert_eq!(err, "rpull: warning: one\\u{1b}thing\n");
}

#[test]
fn of_several_images_each_line_names_its_own() {
    let shared = Digest::of(b"shared");
    let story = [
        event("r/a:1", Event::Planned { layers: 1, to_fetch: vec![(shared, 1024)] }),
        event("r/b:1", Event::Planned { layers: 1, to_fetch: vec![(shared, 1024)] }),
        event("r/a:1", Event::FetchStarted { blob: shared, size: 1024, resumed: 0, written: Written::default() }),
        event("r/a:1", Event::FetchFinished { blob: shared }),
        event("r/b:1", Event::LayerCommitted { index: 0, blob: shared, lazy: false }),
        Told::Pulled { image: "r/b:1".to_owned(), fetched: 0 },
        event("r/b:1", Event::Warning { text: "odd".to_owned() }),
        Told::Failed { image: None, failure: failure("r/c:1: not found") },
        Told::Ended(Ok(Summary { images: 2, fetched: 1024 })),
    ];
    let story = story.into_iter().map(|told| (0, told)).collect();
    let (out, err) = drawn(&mut Plain::new(true, Progress::silent()), story);
    assert_eq!(
        out,
        format!(
            "r/a:1: 1 layer, 1.0 KiB to fetch\nr/b:1: 1 layer, 1.0 KiB to fetch\n\
             r/b:1: layer 1/1 {}: 1.0 KiB fetched\nr/b:1: pulled\n2 images, 1.0 KiB fetched\ndone\n",
            shared.short()
        )
    );
    assert_eq!(err, "rpull: warning: r/b:1: odd\nrpull: r/c:1: not found\nhint: look there\n");
}

#[test]
fn a_quiet_pull_says_done_alone_and_what_went_wrong() {
    let (out, err) = drawn(&mut Quiet { says_done: true }, story());
    assert_eq!((out.as_str(), err.as_str()), ("done\n", "rpull: warning: one\\u{1b}thing\n"));
    let (out, err) = drawn(&mut Quiet { says_done: true }, vec![(0, Told::Ended(Err(failure("no"))))]);
    assert_eq!((out.as_str(), err.as_str()), ("", "rpull: no\nhint: look there\n"));
}

#[test]
fn the_thread_ends_when_it_is_closed_though_handles_live_on() {
    let (sender, receiver) = mpsc::channel();
    for told in [Told::Line("out".to_owned()), Told::Closed, Told::Line("late".to_owned())] {
        sender.send(told).ok().unwrap();
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut plain = Plain::new(false, Progress::silent());
    draw(&receiver, &mut plain, &mut Streams { out: &mut out, err: &mut err, ink: Ink::Plain });
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b""[..]));
}

/// A transfer of `size` bytes by the clock: so many bytes are there at so many seconds.
fn transfer(size: u64, arrivals: &[(u64, u64)], drawing: &mut dyn Draw, progress: &Progress) -> (String, String) {
    let (blob, written) = (Digest::of(b"blob"), Written::default());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err, ink: Ink::Plain };
    let start = [
        Event::Planned { layers: 1, to_fetch: vec![(blob, size)] },
        Event::FetchStarted { blob, size, resumed: 0, written: written.clone() },
    ];
    for told in start {
        drawing.hear(Duration::ZERO, event("r/a:1", told), &mut streams);
    }
    progress.meter().connection_opened();
    for (second, bytes) in arrivals {
        let news = bytes - written.bytes();
        written.add(news);
        progress.meter().add_fetched(news);
        drawing.tick(Duration::from_secs(*second), &mut streams);
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

const MIB: u64 = 1 << 20;

#[test]
fn a_plain_pull_that_takes_long_sums_up() {
    let progress = Progress::silent();
    let mut plain = Plain::new(false, progress.clone());
    assert_eq!(plain.beat(), Some(Duration::from_secs(5)));
    let (out, _) = transfer(100 * MIB, &[(5, 10 * MIB), (10, 30 * MIB), (15, 30 * MIB), (20, 100 * MIB)], &mut plain, &progress);
    assert_eq!(
        out,
        "1 layer, 100.0 MiB to fetch\n\
         10.0 MiB of 100.0 MiB (10 %), 2.0 MiB/s, 45s left, 1 connection\n\
         30.0 MiB of 100.0 MiB (30 %), 4.0 MiB/s, 17s left, 1 connection\n\
         30.0 MiB of 100.0 MiB (30 %), 0 B/s, 1 connection\n"
    );
}

#[test]
fn what_is_tried_again_is_told_with_the_next_sum() {
    let mut plain = Plain::new(false, Progress::silent());
    let retrying = |cause: &str| Event::Retrying {
        blob: None,
        host: "r".to_owned(),
        cause: cause.to_owned(),
        after: Duration::from_secs(1),
    };
    let story = [(0, "r: busy"), (1, "r: refused\n"), (6, "")];
    let story = story.into_iter().map(|(at, cause)| (at, event("r/a:1", retrying(cause)))).collect();
    assert_eq!(drawn(&mut plain, story).0, "trying again: r: refused\n");
}

/// Each line as JSON.
fn parsed(out: &str) -> Vec<serde_json::Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_tells_how_far_it_is_four_times_a_second_while_something_changes() {
    let progress = Progress::silent();
    let mut json = Json::new(progress.clone());
    assert_eq!(json.beat(), Some(Duration::from_millis(250)));
    let (out, _) = transfer(100, &[(1, 10), (2, 10), (3, 70)], &mut json, &progress);
    let advanced: Vec<_> = parsed(&out).into_iter().filter(|line| line["event"] == "advanced").collect();
    let bytes = |done: u64| serde_json::json!({ "done": done, "total": 100 });
    assert_eq!(advanced.len(), 2, "nothing changed in the second second: {out}");
    assert_eq!((&advanced[0]["bytes"], &advanced[0]["rate"], &advanced[0]["eta"]), (&bytes(10), &10.into(), &9.into()));
    assert_eq!((&advanced[1]["at"], &advanced[1]["bytes"]), (&3.0.into(), &bytes(70)));
    assert_eq!(advanced[1]["images"], serde_json::json!([{ "image": "r/a:1", "bytes": bytes(70) }]));
    assert_eq!(advanced[1]["connections"], 1);
}

#[test]
fn json_ends_with_the_outcome_and_says_the_same_on_stderr() {
    let mut with_end = story();
    with_end.pop();
    with_end.push((0, Told::Failed { image: Some("r/a:1".to_owned()), failure: failure("r/a:1: no") }));
    with_end.push((0, Told::Ended(Err(failure("1 of 1")))));
    let (out, err) = drawn(&mut Json::new(Progress::silent()), with_end);
    let exit = serde_json::json!({ "code": 4, "name": "not-found" });
    let lines = parsed(&out);
    let [.., image, last] = lines.as_slice() else { panic!("{out}") };
    assert_eq!((&image["event"], &image["image"], &image["exit"]), (&"image-failed".into(), &"r/a:1".into(), &exit));
    assert_eq!((&last["event"], &last["message"], &last["hint"]), (&"failed".into(), &"1 of 1".into(), &"look there".into()));
    assert_eq!(err, "rpull: warning: one\\u{1b}thing\nrpull: r/a:1: no\nhint: look there\nrpull: 1 of 1\nhint: look there\n");

    let (out, _) = drawn(&mut Json::new(Progress::silent()), story());
    let last = parsed(&out).pop().unwrap();
    assert_eq!((&last["event"], &last["v"], &last["exit"]["code"]), (&"done".into(), &1.into(), &0.into()));
    assert!(out.starts_with(r#"{"v":1,"at":0.0,"event":"resolved","image":"r/a:1","target":"sha256:"#), "{out}");
}

#[test]
fn what_a_failed_image_wanted_alone_is_waited_for_no_longer() {
    let [alone, shared, here] = [&b"alone"[..], b"shared", b"here"].map(Digest::of);
    let mut board = board::Board::default();
    let [a, b] = ["r/a:1", "r/b:1"].map(Arc::from);
    board.hear(Some(&a), &Event::Planned { layers: 3, to_fetch: vec![(alone, 10), (shared, 100), (here, 1000)] });
    board.hear(Some(&b), &Event::Planned { layers: 1, to_fetch: vec![(shared, 100)] });
    board.hear(Some(&a), &Event::FetchFinished { blob: here });
    assert_eq!(board.bytes(), (1000, 1110));
    board.forget("r/a:1");
    assert_eq!(board.bytes(), (1000, 1100));
    assert_eq!(board.images().collect::<Vec<_>>(), [("r/b:1", 0, 100)]);
    // The other one found it here.
    board.hear(Some(&b), &Event::LayerCommitted { index: 0, blob: shared, lazy: false });
    assert_eq!((board.bytes(), board.fetched(shared), board.fetched(here)), ((1100, 1100), None, Some(1000)));
}
