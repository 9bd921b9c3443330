#![no_main]
//! Any document as a page's request: read or refused with a sentence, without a panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _is_a_request = signaling::firestore::fuzz::request(bytes);
});
