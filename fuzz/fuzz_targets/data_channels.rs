#![no_main]
//! `dataplane::data::fuzz::association` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::data::fuzz::association(bytes));
