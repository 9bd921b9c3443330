#![no_main]
//! Any text as an offer: parsed and answered without a panic, and the answer reads back.

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _reads_as_an_offer = signaling::sdp::fuzz::offer(text);
});
