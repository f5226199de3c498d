//! See `registry::fuzzing::content_range`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| registry::fuzzing::content_range(input));
