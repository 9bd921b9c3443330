#![no_main]
//! `dataplane::wire::fuzz::rtcp` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::wire::fuzz::rtcp(bytes));
