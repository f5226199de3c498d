//! See `oci::fuzzing::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oci::fuzzing::manifest(input));
