#![no_main]
//! `dataplane::srtp::fuzz::control` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::srtp::fuzz::control(bytes));
