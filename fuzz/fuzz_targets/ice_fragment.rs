#![no_main]
//! Any text as a trickle-ICE fragment (RFC 8840).

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _reads_as_a_fragment = signaling::sdp::fuzz::fragment(text);
});
