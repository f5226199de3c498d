//! See `registry::fuzzing::docker_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| registry::fuzzing::docker_config(input));
