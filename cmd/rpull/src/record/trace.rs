//! Chrome's trace event format, which Perfetto opens: images, connections and containerd as processes, their rows as threads.

use std::io::{self, Write};

use progress::{StepSpan, Subject, Tally};
use serde_json::{Value, json};

use super::{
    log::{End, Log, Range, micros, step_name},
    rows::rows,
};

/// Processes of the trace, in the order in which they are shown.
const IMAGES: (u32, &str) = (1, "images");
const CONNECTIONS: (u32, &str) = (2, "connections");
const CONTAINERD: (u32, &str) = (3, "containerd");

/// Writes one object, an event a line.
pub(super) fn write(log: &Log, tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let about = json!({
        "rpull": env!("RPULL_VERSION"),
        "exit_code": log.code,
        "seconds": log.ended.as_secs_f64(),
        "bytes_by_host": tally.by_host,
        "retries": tally.retries,
        "stalls": tally.stalls,
        "left_out": { "ranges": log.left_out.ranges, "bytes": log.left_out.bytes, "steps": log.left_out.steps },
    });
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[")?;
    let mut events = Events { out, first: true };
    images(log, &mut events)?;
    connections(log, &mut events)?;
    containerd(log, &mut events)?;
    out.write_all(b"\n]}\n")
}

struct Events<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

impl Events<'_> {
    fn put(&mut self, event: &Value) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        write!(self.out, "{comma}\n{event}")
    }

    fn process(&mut self, (pid, name): (u32, &str)) -> io::Result<()> {
        self.put(&json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": name } }))?;
        self.put(&json!({ "ph": "M", "name": "process_sort_index", "pid": pid, "args": { "sort_index": pid } }))
    }

    fn thread(&mut self, (pid, _): (u32, &str), tid: usize, name: &str) -> io::Result<()> {
        self.put(&json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": { "name": name } }))?;
        self.put(&json!({ "ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": { "sort_index": tid } }))
    }

    fn step(&mut self, (pid, _): (u32, &str), tid: usize, step: &StepSpan) -> io::Result<()> {
        let (from, to) = (micros(step.started), micros(step.ended));
        let mut args = match &step.subject {
            Subject::Image(name) => json!({ "image": name }),
            Subject::Blob(blob) => json!({ "blob": blob.short(), "digest": blob.to_string() }),
        };
        args["outcome"] = if step.complete { "complete" } else { "failed or cut off" }.into();
        let name = step_name(step.step);
        self.put(
            &json!({ "ph": "X", "cat": "step", "name": name, "pid": pid, "tid": tid, "ts": from, "dur": to - from, "args": args }),
        )
    }
}

fn images(log: &Log, events: &mut Events<'_>) -> io::Result<()> {
    events.process(IMAGES)?;
    let mut names: Vec<&str> = Vec::new();
    for step in log.steps_in_order(|step| matches!(step.subject, Subject::Image(_))) {
        let Subject::Image(name) = &step.subject else { continue };
        let tid = names.iter().position(|known| known == name).map_or(Ok(names.len() + 1), |at| Err(at + 1));
        if let Ok(tid) = tid {
            names.push(name);
            events.thread(IMAGES, tid, name)?;
        }
        events.step(IMAGES, tid.unwrap_or_else(|known| known), step)?;
    }
    Ok(())
}

fn connections(log: &Log, events: &mut Events<'_>) -> io::Result<()> {
    events.process(CONNECTIONS)?;
    let ranges = log.ranges_in_order();
    let (placed, count) =
        rows(ranges.iter().map(|range| (range.started, range.ended, Some(range.port).filter(|port| *port > 0))));
    for row in 1..=count {
        events.thread(CONNECTIONS, row, &format!("connection {row}"))?;
    }
    for (range, row) in ranges.into_iter().zip(placed) {
        range_slices(log, range, row + 1, events)?;
    }
    Ok(())
}

/// The range itself, within it the wait for its first byte, and a mark at its end when it failed or was given up.
fn range_slices(log: &Log, range: &Range, tid: usize, events: &mut Events<'_>) -> io::Result<()> {
    let (pid, _) = CONNECTIONS;
    let digest = log.digest_of(range);
    let mut args = json!({
        "blob": digest.short(),
        "digest": digest.to_string(),
        "host": log.host_of(range),
        "offset": range.offset,
        "bytes": range.bytes,
        "attempt": range.attempt(),
        "outcome": range.ending.name(),
    });
    let optional = [("server", log.server_of(range)), ("address", log.peer_of(range)), ("cause", log.cause_of(range))];
    for (key, text) in optional.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        args[key] = text.into();
    }
    if range.port > 0 {
        args["local_port"] = range.port.into();
    }
    let (ts, dur) = (range.started, range.ended - range.started);
    events.put(
        &json!({ "ph": "X", "cat": "range", "name": digest.short(), "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args }),
    )?;
    let waited = range.first_byte().unwrap_or(range.ended) - range.started;
    events.put(&json!({ "ph": "X", "cat": "wait", "name": "waits", "pid": pid, "tid": tid, "ts": ts, "dur": waited }))?;
    if matches!(range.ending, End::Failed(_) | End::Slow(_)) {
        let name = range.ending.name();
        events.put(
            &json!({ "ph": "i", "s": "t", "cat": "incident", "name": name, "pid": pid, "tid": tid, "ts": range.ended, "args": args }),
        )?;
    }
    Ok(())
}

fn containerd(log: &Log, events: &mut Events<'_>) -> io::Result<()> {
    events.process(CONTAINERD)?;
    let steps = log.steps_in_order(|step| matches!(step.subject, Subject::Blob(_)));
    let (placed, count) = rows(steps.iter().map(|step| (micros(step.started), micros(step.ended), None::<()>)));
    for row in 1..=count {
        let name = if row == 1 { "containerd".to_owned() } else { format!("containerd {row}") };
        events.thread(CONTAINERD, row, &name)?;
    }
    for (step, row) in steps.into_iter().zip(placed) {
        events.step(CONTAINERD, row + 1, step)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::log::tests::{blobs, example};

    fn written(log: &Log) -> Value {
        let mut out = Vec::new();
        write(log, &Tally::default(), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_trace_has_the_ranges_on_connections_and_the_steps_beside_them() {
        let trace = written(&example());
        let events = trace["traceEvents"].as_array().unwrap();
        let of = |category: &'static str| events.iter().filter(move |event| event["cat"] == category);
        let [bottom, _] = blobs();
        let tracks: Vec<_> = of("range").map(|event| (event["tid"].as_u64().unwrap(), event["ts"].as_u64().unwrap())).collect();
        assert_eq!(tracks, [(1, 15_000), (2, 16_000), (2, 21_000), (1, 41_000), (2, 51_000)]);
        let first = of("range").next().unwrap();
        assert_eq!(
            *first,
            json!({ "ph": "X", "cat": "range", "name": bottom.short(), "pid": 2, "tid": 1, "ts": 15_000, "dur": 25_000, "args": {
                "blob": bottom.short(), "digest": bottom.to_string(), "host": "r.example:5000", "server": "r.example:5000",
                "address": "127.0.0.1:5000", "local_port": 40001, "offset": 0, "bytes": 600, "attempt": 1,
                "outcome": "rest taken over by another connection",
            } })
        );
        let failed = of("range").nth(1).unwrap();
        assert_eq!(failed["args"]["cause"], "r.example:5000: blob: reset by \"peer\" <here>");
        assert_eq!((&failed["args"]["attempt"], failed["args"].get("address")), (&json!(1), None));
        assert_eq!(of("incident").count(), 2);
        let steps: Vec<_> = of("step").map(|event| (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap())).collect();
        let containerd = [(3, 1), (3, 1), (3, 2), (3, 1), (3, 1), (3, 1)];
        assert_eq!(steps, [[(1, 1); 5].as_slice(), &containerd].concat());
        let names: Vec<_> =
            events.iter().filter(|event| event["name"] == "thread_name").map(|event| &event["args"]["name"]).collect();
        assert_eq!(names, ["r.example:5000/a:1", "connection 1", "connection 2", "containerd", "containerd 2"]);
        assert_eq!(trace["otherData"]["left_out"], json!({ "ranges": 0, "bytes": 0, "steps": 0 }));
    }

    #[test]
    fn a_run_that_came_to_nothing_has_a_trace() {
        let trace = written(&Log::default());
        assert_eq!(trace["traceEvents"].as_array().unwrap().len(), 6);
    }
}
