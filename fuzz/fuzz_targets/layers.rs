#![no_main]
//! `dataplane::wire::fuzz::layers` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::wire::fuzz::layers(bytes));
