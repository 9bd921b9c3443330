#![no_main]
//! `dataplane::engine::fuzz::operations` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = dataplane::engine::fuzz::operations(bytes);
});
