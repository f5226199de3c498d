//! Counters for Prometheus in the text format that `node_exporter --collector.textfile` reads.
//!
//! A counter only means something when it goes on counting, and the file is all that is left between two runs: what it said before
//! is read, and this run's share added. The `rpull_last_run_…` gauges are this run's alone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use progress::Tally;

/// A file of ours has a few lines; one that is longer is none.
const LONGEST_FILE: u64 = 1 << 20;

/// One run.
pub(super) struct Run<'a> {
    pub(super) tally: &'a Tally,
    /// Exit code.
    pub(super) code: u8,
    pub(super) took: Duration,
    pub(super) ended: SystemTime,
}

/// Counters of the file as it was, by name and labels.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Former(BTreeMap<String, u64>);

impl Former {
    /// What cannot be read counts as nothing: it is about to be replaced.
    pub(super) fn of(path: &Path) -> Self {
        let is_ours = |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LONGEST_FILE);
        let text = if is_ours(path) { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let name = series.split('{').next()?;
            FAMILIES.iter().any(|family| family.counts && family.name == name).then_some(())?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }
}

/// A metric with all its label values.
struct Family {
    name: &'static str,
    counts: bool,
    help: &'static str,
}

const FAMILIES: [Family; 9] = [
    Family { name: "rpull_bytes_total", counts: true, help: "Bytes of images by where they came from." },
    Family { name: "rpull_refetched_bytes_total", counts: true, help: "Bytes received that were there already." },
    Family { name: "rpull_retries_total", counts: true, help: "Requests made again." },
    Family { name: "rpull_stalls_total", counts: true, help: "Connections given up as too slow, by rule." },
    Family { name: "rpull_runs_total", counts: true, help: "Runs by exit code." },
    Family { name: "rpull_last_run_success", counts: false, help: "Did the last run end with exit code 0?" },
    Family { name: "rpull_last_run_duration_seconds", counts: false, help: "How long the last run took." },
    Family { name: "rpull_last_run_timestamp_seconds", counts: false, help: "When the last run ended." },
    Family { name: "rpull_last_run_bytes", counts: false, help: "Bytes of layers that came over the network in the last run." },
];

/// The whole file.
pub(super) fn text(run: &Run<'_>, former: &Former) -> String {
    let Run { tally, code, took, ended } = run;
    let Tally { by_host, by_source, stalls, .. } = tally;
    let mut counters = former.0.clone();
    let mut count = |series: String, by: u64| *counters.entry(series).or_default() += by;
    for (host, bytes) in by_host {
        count(format!("rpull_bytes_total{{source=\"network\",host=\"{}\"}}", escaped(host)), *bytes);
    }
    for source in ["documents", "same_namespace", "other_namespace", "spool", "snapshot"] {
        let bytes = by_source.get(source).copied().unwrap_or_default();
        count(format!("rpull_bytes_total{{source=\"{source}\"}}"), bytes);
    }
    count("rpull_refetched_bytes_total".to_owned(), tally.refetched);
    count("rpull_retries_total".to_owned(), tally.retries);
    let rules = [("silent", stalls.silent), ("trickling", stalls.trickling), ("floor", stalls.floor), ("waited", stalls.waited)];
    for (rule, number) in rules {
        count(format!("rpull_stalls_total{{rule=\"{rule}\"}}"), number);
    }
    count(format!("rpull_runs_total{{code=\"{code}\"}}"), 1);
    let network: u64 = by_host.values().sum();
    let timestamp = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let gauges = [
        ("rpull_last_run_success", u64::from(*code == 0).to_string()),
        ("rpull_last_run_duration_seconds", format!("{:.3}", took.as_secs_f64())),
        ("rpull_last_run_timestamp_seconds", format!("{:.3}", timestamp.as_secs_f64())),
        ("rpull_last_run_bytes", network.to_string()),
    ];
    let mut text = String::new();
    for Family { name, counts, help } in FAMILIES {
        let kind = if counts { "counter" } else { "gauge" };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let is_of = |series: &str| series.split('{').next() == Some(name);
        for (series, value) in counters.iter().filter(|(series, _)| is_of(series)) {
            let _ = writeln!(text, "{series} {value}");
        }
        for (series, value) in gauges.iter().filter(|(series, _)| *series == name) {
            let _ = writeln!(text, "{series} {value}");
        }
    }
    text
}

/// A label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use progress::Stalls;

    use super::*;

    fn run(code: u8) -> String {
        let tally = Tally {
            fetched: 900,
            retries: 2,
            stalls: Stalls { silent: 1, ..Stalls::default() },
            refetched: 30,
            by_host: BTreeMap::from([("m.example:5000".to_owned(), 500), ("r.example:443".to_owned(), 400)]),
            by_source: BTreeMap::from([("documents", 70), ("spool", 20)]),
            ..Tally::default()
        };
        let ended = UNIX_EPOCH + Duration::from_millis(1_795_866_125_500);
        let run = Run { tally: &tally, code, took: Duration::from_millis(1250), ended };
        text(&run, &Former::default())
    }

    const FIRST: &str = r#"# HELP rpull_bytes_total Bytes of images by where they came from.
# TYPE rpull_bytes_total counter
rpull_bytes_total{source="documents"} 70
rpull_bytes_total{source="network",host="m.example:5000"} 500
rpull_bytes_total{source="network",host="r.example:443"} 400
rpull_bytes_total{source="other_namespace"} 0
rpull_bytes_total{source="same_namespace"} 0
rpull_bytes_total{source="snapshot"} 0
rpull_bytes_total{source="spool"} 20
# HELP rpull_refetched_bytes_total Bytes received that were there already.
# TYPE rpull_refetched_bytes_total counter
rpull_refetched_bytes_total 30
# HELP rpull_retries_total Requests made again.
# TYPE rpull_retries_total counter
rpull_retries_total 2
# HELP rpull_stalls_total Connections given up as too slow, by rule.
# TYPE rpull_stalls_total counter
rpull_stalls_total{rule="floor"} 0
rpull_stalls_total{rule="silent"} 1
rpull_stalls_total{rule="trickling"} 0
rpull_stalls_total{rule="waited"} 0
# HELP rpull_runs_total Runs by exit code.
# TYPE rpull_runs_total counter
rpull_runs_total{code="0"} 1
# HELP rpull_last_run_success Did the last run end with exit code 0?
# TYPE rpull_last_run_success gauge
rpull_last_run_success 1
# HELP rpull_last_run_duration_seconds How long the last run took.
# TYPE rpull_last_run_duration_seconds gauge
rpull_last_run_duration_seconds 1.250
# HELP rpull_last_run_timestamp_seconds When the last run ended.
# TYPE rpull_last_run_timestamp_seconds gauge
rpull_last_run_timestamp_seconds 1795866125.500
# HELP rpull_last_run_bytes Bytes of layers that came over the network in the last run.
# TYPE rpull_last_run_bytes gauge
rpull_last_run_bytes 900
"#;

    #[test]
    fn the_first_run_counts_from_nothing() {
        assert_eq!(run(0), FIRST);
    }

    #[test]
    fn counters_go_on_where_the_file_left_off_and_gauges_do_not() {
        let former = Former::parse(&run(0));
        let tally = Tally { by_host: BTreeMap::from([("r.example:443".to_owned(), 1)]), ..Tally::default() };
        let second = text(&Run { tally: &tally, code: 5, took: Duration::ZERO, ended: UNIX_EPOCH }, &former);
        for line in [
            "rpull_bytes_total{source=\"network\",host=\"m.example:5000\"} 500",
            "rpull_bytes_total{source=\"network\",host=\"r.example:443\"} 401",
            "rpull_retries_total 2",
            "rpull_runs_total{code=\"0\"} 1",
            "rpull_runs_total{code=\"5\"} 1",
            "rpull_last_run_success 0",
            "rpull_last_run_bytes 1",
        ] {
            assert!(second.lines().any(|other| other == line), "{line} is not in\n{second}");
        }
    }

    #[test]
    fn what_is_not_ours_in_the_file_counts_as_nothing() {
        let text = "# HELP x y\nnode_load1 3\nrpull_retries_total x\nrpull_last_run_bytes 4\nrpull_runs_total -1\n\u{0}";
        assert_eq!(Former::parse(text), Former::default());
        assert_eq!(Former::of(Path::new("/dev/zero")), Former::default());
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
