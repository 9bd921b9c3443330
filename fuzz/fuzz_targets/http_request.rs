#![no_main]
//! `signaling::doors::fuzz::requests` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = signaling::doors::fuzz::requests(bytes);
});
