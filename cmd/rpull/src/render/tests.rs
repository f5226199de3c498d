use oci::Digest;

use super::*;
use crate::exit::ExitCode;

/// Draws what is told at the given seconds, with a beat where one is due; stdout and stderr.
pub(super) fn drawn(drawing: &mut dyn Draw, story: Vec<(u64, Told)>) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err };
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
        Event::FetchStarted { blob: fetched, size: 4_739_584, resumed: 0 },
        Event::Waiting { blob: fetched, whom: "process 7".to_owned() },
        Event::Warning { text: "one\u{1b}thing".to_owned() },
        Event::LayerCommitted { index: 0, blob: kept },
        Event::FetchFinished { blob: fetched },
        Event::LayerCommitted { index: 1, blob: fetched },
    ];
    let mut story: Vec<_> = events.into_iter().map(|told| (0, event("r/a:1", told))).collect();
    story.push((0, Told::Ended(Ok(Summary { images: 1, fetched: 4_739_584 }))));
    story
}

#[test]
fn a_plain_pull_is_one_line_per_layer() {
    let (out, err) = drawn(&mut Plain::new(false), story());
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
        event("r/a:1", Event::FetchStarted { blob: shared, size: 1024, resumed: 0 }),
        event("r/b:1", Event::LayerCommitted { index: 0, blob: shared }),
        Told::Pulled { image: "r/b:1".to_owned() },
        event("r/b:1", Event::Warning { text: "odd".to_owned() }),
        Told::Failed(failure("r/c:1: not found")),
        Told::Ended(Ok(Summary { images: 2, fetched: 1024 })),
    ];
    let story = story.into_iter().map(|told| (0, told)).collect();
    let (out, err) = drawn(&mut Plain::new(true), story);
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
    let (out, err) = drawn(&mut Quiet, story());
    assert_eq!((out.as_str(), err.as_str()), ("done\n", "rpull: warning: one\\u{1b}thing\n"));
    let (out, err) = drawn(&mut Quiet, vec![(0, Told::Ended(Err(failure("no"))))]);
    assert_eq!((out.as_str(), err.as_str()), ("", "rpull: no\nhint: look there\n"));
}

#[test]
fn the_thread_ends_when_it_is_closed_though_handles_live_on() {
    let (sender, receiver) = mpsc::channel();
    for told in [Told::Line("out".to_owned()), Told::Closed, Told::Line("late".to_owned())] {
        sender.send(told).ok().unwrap();
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut plain = Plain::new(false);
    draw(&receiver, &mut plain, &mut Streams { out: &mut out, err: &mut err });
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b""[..]));
}
