//! See `registry::fuzzing::url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| registry::fuzzing::url(input));
