//! See `oci::fuzzing::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| oci::fuzzing::reference(input));
