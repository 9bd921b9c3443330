#![no_main]
//! `dataplane::wire::fuzz::rtp` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::wire::fuzz::rtp(bytes));
