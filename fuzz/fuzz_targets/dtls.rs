#![no_main]
//! `dataplane::dtls::association::fuzz::handshake` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = dataplane::dtls::association::fuzz::handshake(bytes);
});
