//! See `registry::fuzzing::hosts_toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| registry::fuzzing::hosts_toml(input));
