use std::time::Duration;

use oci::Digest;
use progress::{Ending, Event, RangeSpan, Tally};

use super::*;
use crate::record::log::tests::example;

fn drawn(log: &Log) -> String {
    let tally = Tally { by_host: [("r.example:5000".to_owned(), 1500)].into(), retries: 1, ..Tally::default() };
    let mut out = Vec::new();
    write(log, &tally, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Rectangles with this hint in them, as `(x, width)`.
fn places(svg: &str, hint: &str) -> Vec<(f64, f64)> {
    let number = |line: &str, name: &str| -> f64 {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let rects = svg.lines().filter(|line| line.starts_with("<rect x=") && line.contains(hint));
    rects.map(|line| (number(line, " x"), number(line, " width"))).collect()
}

#[test]
fn a_range_is_as_wide_as_it_took_and_pale_until_its_first_byte() {
    let svg = drawn(&example());
    let a_millisecond = (paint::RIGHT - paint::LEFT) / 90.0;
    let near = |(x, width): (f64, f64), from: f64, to: f64| {
        let expected = (paint::LEFT + from * a_millisecond, (to - from) * a_millisecond);
        assert!((x - expected.0).abs() < 0.1 && (width - expected.1).abs() < 0.1, "{x} {width} is not {expected:?}");
    };
    let [pale, full] = places(&svg, "from byte 0: 600 B in 25 ms, first byte after 5 ms")[..] else { panic!("{svg}") };
    near(pale, 15.0, 40.0);
    near(full, 20.0, 40.0);
    let [never] = places(&svg, "no byte came")[..] else { panic!("{svg}") };
    near(never, 16.0, 20.0);
}

#[test]
fn what_went_wrong_is_marked_and_told_without_breaking_the_picture() {
    let svg = drawn(&example());
    assert!(svg.contains("failed: r.example:5000: blob: reset by &quot;peer&quot; &lt;here&gt;"), "{svg}");
    assert!(svg.contains("given up: far slower than the others"));
    assert!(svg.contains("request 2 for these bytes"));
    assert!(
        svg.contains("1.5 KiB from r.example:5000 in 45 ms (32.6 KiB/s)  ·  2 connections  ·  5 ranges  ·  1 retry"),
        "{svg}"
    );
    assert_eq!(svg.matches("<title>").count(), svg.matches("</title>").count());
    let balanced = svg.lines().all(|line| line.matches('<').count() == line.matches('>').count());
    assert!(balanced, "{svg}");
}

#[test]
fn a_run_that_came_to_nothing_has_a_picture() {
    let mut log = Log::default();
    log.end(Duration::from_millis(3), 5);
    let svg = drawn(&log);
    assert!(svg.contains("no byte of a layer crossed the network") && svg.contains("ended with exit code 5 after 3 ms"), "{svg}");
}

#[test]
fn thousands_of_ranges_are_drawn_as_few_and_none_is_lost() {
    let mut log = Log::default();
    for at in 0..20_000_u64 {
        let number = at % 64;
        log.hear(&Event::RangeDone(RangeSpan {
            blob: Digest::of(&[u8::from(at > 10_000)]),
            host: "r.example:5000".to_owned(),
            answered: None,
            attempt: 1,
            offset: at * 10,
            bytes: 10,
            started: Duration::from_micros(at / 64 * 500 + number),
            first_byte: Some(Duration::from_micros(at / 64 * 500 + number)),
            ended: Duration::from_micros(at / 64 * 500 + 500),
            ending: Ending::Whole,
        }));
    }
    log.end(Duration::from_secs(1), 0);
    let svg = drawn(&log);
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
    assert!(svg.contains("64 connections  ·  20000 ranges"));
    let told: u64 = svg
        .lines()
        .filter(|line| line.contains("fill-opacity=\"0.28\"") && line.contains(" ranges with "))
        .map(|line| line.split_once(": ").unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let single = svg.lines().filter(|line| line.contains("fill-opacity=\"0.28\"") && line.contains("from byte")).count() as u64;
    assert_eq!(told + single, 20_000);
}
