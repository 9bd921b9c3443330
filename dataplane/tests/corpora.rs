//! Every committed input of the fuzz targets goes through its target's body, so that what a fuzzer found
//! once is never lost.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, like its own lines"
)]

use std::fs;
use std::path::Path;

use dataplane::engine::fuzz::Seen;
use dataplane::{data, dtls, engine, srtp, wire};

/// Gives each input of a target to its body; the failing one is named above the failure.
fn each(target: &str, mut body: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("a folder for each target");
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no input for {target}");
    for file in files {
        println!("{}", file.display());
        body(&fs::read(file).unwrap());
    }
}

#[test]
fn packets() {
    each("demultiplexer", wire::fuzz::demultiplexer);
    each("rtp", wire::fuzz::rtp);
    each("rtcp", wire::fuzz::rtcp);
    each("stun", wire::fuzz::stun);
    each("layers", wire::fuzz::layers);
}

#[test]
fn authenticated_packets() {
    each("srtp", srtp::fuzz::media);
    each("srtcp", srtp::fuzz::control);
}

#[test]
fn handshakes() {
    let mut connected = 0;
    each("dtls", |bytes| {
        connected += usize::from(dtls::association::fuzz::handshake(bytes));
    });
    assert!(connected > 0, "no handshake was completed");
}

#[test]
fn data_channels() {
    each("data_channels", data::fuzz::association);
}

#[test]
fn the_whole_engine() {
    let mut all = Seen::default();
    each("engine", |bytes| all += engine::fuzz::operations(bytes));
    let is_seen = all.media > 0 && all.repairs > 0 && all.padding > 0 && all.control > 0;
    assert!(is_seen, "the corpus does too little: {all:?}");
}
