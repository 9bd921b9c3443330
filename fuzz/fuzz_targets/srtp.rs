#![no_main]
//! `dataplane::srtp::fuzz::media` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::srtp::fuzz::media(bytes));
