//! Every committed input of the fuzz targets goes through its target's body, so that what a fuzzer found
//! once is never lost.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, like its own lines"
)]

use std::fs;
use std::path::{Path, PathBuf};

use signaling::{conversation, doors, firestore, sdp};

/// How many of a target's inputs its body likes; the failing one is named above the failure.
fn liked(target: &str, mut body: impl FnMut(&[u8]) -> bool) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("a folder for each target");
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let likes = |file: &&PathBuf| {
        println!("{}", file.display());
        body(&fs::read(file).unwrap())
    };
    files.iter().filter(likes).count()
}

/// A target's inputs that are text.
fn text(bytes: &[u8], body: impl FnOnce(&str) -> bool) -> bool {
    std::str::from_utf8(bytes).is_ok_and(body)
}

#[test]
fn offers_and_fragments() {
    assert!(liked("sdp_offer", |bytes| text(bytes, sdp::fuzz::offer)) > 0);
    assert!(liked("ice_fragment", |bytes| text(bytes, sdp::fuzz::fragment)) > 0);
}

#[test]
fn documents() {
    assert!(liked("firestore_request", firestore::fuzz::request) > 0);
}

#[test]
fn conversations() {
    assert!(liked("websocket", conversation) > 0);
}

#[test]
fn requests() {
    assert!(liked("http_request", |bytes| doors::fuzz::requests(bytes) > 0) > 0);
}
