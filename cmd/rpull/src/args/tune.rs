//! `--tune KEY=VALUE`: every number of the transfer (docs/tuning.md), for those who know better than the defaults.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use transfer::{Limits, RetryPolicy};

use super::value::{self, ValueError};

const HINT: &str = "docs/tuning.md lists the keys and their defaults, for example --tune stall=1m,attempts=20";

/// The numbers after all settings.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    pub(crate) limits: Limits,
    pub(crate) retry: RetryPolicy,
    /// For a connection to stand.
    pub(crate) connect: Duration,
    /// For the head of an answer.
    pub(crate) answer: Duration,
}

impl Default for Tuned {
    fn default() -> Self {
        let options = registry::Options::default();
        Self {
            limits: Limits::default(),
            retry: RetryPolicy::default(),
            connect: options.connect_timeout,
            answer: options.header_timeout,
        }
    }
}

/// One `KEY=VALUE` that can be applied.
#[derive(Clone, Debug)]
pub(super) struct Setting(String);

/// Checks `KEY=VALUE`.
pub(super) fn setting(text: &str) -> Result<Setting, ValueError> {
    set(&mut Tuned::default(), text)?;
    Ok(Setting(text.to_owned()))
}

/// All of them, the last of a key counts.
pub(super) fn tuned(settings: &[Setting]) -> Tuned {
    let mut tuned = Tuned::default();
    for Setting(text) in settings {
        set(&mut tuned, text).expect("checked when it was parsed");
    }
    tuned
}

fn set(tuned: &mut Tuned, text: &str) -> Result<(), ValueError> {
    let (key, value) = text.split_once('=').ok_or_else(|| ValueError::new("not KEY=VALUE", HINT))?;
    let Tuned { limits, retry, connect, answer } = tuned;
    match key {
        "first-connections" => limits.first_connections = parsed::<NonZeroUsize>(value)?,
        "least-range" => limits.least_range = bytes(value)?,
        "growth-window" => limits.growth_window = span(value)?,
        "growth-gain" => limits.growth_gain = positive(value)?,
        "calm" => limits.calm = span(value)?,
        "steal-above" => limits.steal_above = span(value)?,
        "stall" => limits.stall = span(value)?,
        "slow-span" => limits.slow_span = span(value)?,
        "slow-divisor" => limits.slow_divisor = positive(value)?,
        #[expect(clippy::cast_precision_loss, reason = "no floor is near 2^52 bytes a second")]
        "floor" => limits.floor = bytes(value)?.get() as f64,
        "reopen-pause" => limits.reopen_pause = span(value)?,
        "silence" => limits.silence = span(value)?,
        "attempts" => retry.attempts = parsed::<NonZeroU32>(value)?.get(),
        "progress" => retry.progress = bytes(value)?.get(),
        "first-pause" => retry.first_pause = span(value)?,
        "longest-pause" => retry.longest_pause = span(value)?,
        "retry-after" => retry.longest_wait = span(value)?,
        "unreached" => retry.unreached = span(value)?,
        "connect" => *connect = span(value)?,
        "answer" => *answer = span(value)?,
        _ => return Err(ValueError::new(format!("no such key: {key}"), HINT)),
    }
    Ok(())
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, ValueError> {
    text.parse().map_err(|_| ValueError::new("not a number above 0", HINT))
}

fn positive(text: &str) -> Result<f64, ValueError> {
    let number: f64 = parsed(text)?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err(ValueError::new("not a number above 0", HINT)) }
}

fn span(text: &str) -> Result<Duration, ValueError> {
    let span = value::duration(text)?;
    if span.is_zero() { Err(ValueError::new("must be more than 0", HINT)) } else { Ok(span) }
}

fn bytes(text: &str) -> Result<NonZeroU64, ValueError> {
    let bytes = value::bytes(text).and_then(NonZeroU64::new);
    bytes.ok_or_else(|| ValueError::new("not a size: bytes with an optional suffix K, M or G", HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNING: &str = include_str!("../../../../docs/tuning.md");

    #[test]
    fn the_document_lists_every_key_with_its_default() {
        let rows = TUNING.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut keys = 0;
        for row in rows {
            let cells: Vec<&str> = row.split(" | ").collect();
            let words = |cell: &str| cell.split(", ").map(|word| word.trim_matches('`').to_owned()).collect::<Vec<_>>();
            for (key, default) in words(cells[0]).into_iter().zip(words(cells[1])) {
                let setting = setting(&format!("{key}={default}")).unwrap_or_else(|error| panic!("{key}: {error}"));
                assert_eq!(format!("{:?}", tuned(&[setting])), format!("{:?}", Tuned::default()), "{key} is not {default}");
                keys += 1;
            }
        }
        assert_eq!(keys, 20);
    }

    #[test]
    fn the_last_of_a_key_counts_and_rubbish_is_refused() {
        let settings: Vec<_> = ["stall=1m", "floor=1M", "stall=2s"].iter().map(|text| setting(text).unwrap()).collect();
        let tuned = tuned(&settings);
        assert_eq!((tuned.limits.stall, tuned.limits.floor), (Duration::from_secs(2), 1_048_576.0));
        for text in ["stall", "stall=", "stall=0", "stall=1", "x=1", "attempts=0", "growth-gain=nan", "floor=-1", "=", ""] {
            assert!(setting(text).is_err(), "{text}");
        }
    }
}
