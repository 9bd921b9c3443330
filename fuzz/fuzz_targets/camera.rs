#![no_main]
//! `control::camera::repack::fuzz::camera` under libFuzzer.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    control::camera::repack::fuzz::camera(bytes);
});
