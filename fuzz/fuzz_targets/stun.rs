#![no_main]
//! `dataplane::wire::fuzz::stun` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::wire::fuzz::stun(bytes));
