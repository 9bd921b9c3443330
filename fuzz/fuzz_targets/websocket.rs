#![no_main]
//! `signaling::conversation` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = signaling::conversation(bytes);
});
