//! Every committed input of the fuzz target goes through its body, so that what a fuzzer found once is never lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;

use control::camera::repack::fuzz::camera;

#[test]
fn packets_of_cameras() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/camera");
    let files = fs::read_dir(folder).expect("a folder for the target");
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut came_out = 0;
    for file in files {
        println!("{}", file.display());
        came_out += camera(&fs::read(file).unwrap());
    }
    assert!(came_out > 0, "no input makes a packet");
}
