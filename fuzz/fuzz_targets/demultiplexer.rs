#![no_main]
//! `dataplane::wire::fuzz::demultiplexer` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataplane::wire::fuzz::demultiplexer(bytes));
