//! House rules that lints cannot say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::{Path, PathBuf};

/// A file is one noun; past this many lines it is two.
const LINES_MAX: usize = 600;

/// The only folder that may hold unsafe code.
const UNSAFE_HOME: &str = "dataplane/src/driver/uring/";

/// The one file of cryptography that may, for a measured gain: docs/decisions/0005-wide-hmac.md.
const UNSAFE_CRYPTOGRAPHY: &str = "dataplane/src/srtp/wide.rs";

/// The longest crate root that is still a map.
const ROOT_LINES_MAX: usize = 60;

#[test]
fn files_are_short() {
    for (path, text) in files("rs") {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{path} has {lines} lines; cut it into nouns"
        );
    }
}

#[test]
fn crate_roots_are_maps() {
    for krate in ["dataplane", "signaling", "control", "benches"] {
        let root = fs::read_to_string(top().join(krate).join("src/lib.rs")).unwrap();
        let lines = root.lines().count();
        assert!(
            root.starts_with("//!"),
            "{krate}/src/lib.rs says what the crate is"
        );
        assert!(
            lines <= ROOT_LINES_MAX,
            "{krate}/src/lib.rs has {lines} lines; it is a map"
        );
    }
}

#[test]
fn unsafe_has_one_address() {
    for (path, text) in files("rs") {
        let allowed = path.starts_with(UNSAFE_HOME)
            || path == UNSAFE_CRYPTOGRAPHY
            || path.ends_with("tests/tidy.rs")
            || path.contains("alloc");
        let lines = text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.starts_with("//"));
        let found = lines.into_iter().any(|line| {
            line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")
        });
        assert!(
            allowed || !found,
            "{path} holds unsafe code; it belongs in {UNSAFE_HOME}"
        );
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in files("rs") {
        let first = text.lines().find(|line| !line.starts_with("#!["));
        assert!(
            first.is_some_and(|line| line.starts_with("//!")),
            "{path} has no module documentation"
        );
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    for (path, text) in files("md") {
        let folder = top().join(&path).parent().unwrap().to_owned();
        for (_, link) in text
            .match_indices("](")
            .map(|(at, _)| (at, &text[at + 2..]))
        {
            let target = link.split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                folder.join(target).exists(),
                "{path} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "X".to_owned() + "XX",
    ];
    for (path, text) in ["rs", "js", "md", "toml", "css", "html"]
        .into_iter()
        .flat_map(files)
    {
        for word in &words {
            assert!(
                !text.contains(word),
                "{path} holds {word}: finish it or take it out"
            );
        }
    }
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The project's own files with this ending: path from the top, and text.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![top()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if path.is_dir() {
                if !["target", "corpus", "artifacts", "node_modules"].contains(&name)
                    && !name.starts_with('.')
                {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|extension| extension == ending)
            {
                let text = fs::read_to_string(&path).unwrap();
                found.push((
                    path.strip_prefix(top()).unwrap().display().to_string(),
                    text,
                ));
            }
        }
    }
    assert!(
        !found.is_empty() || ending == "css",
        "there are files that end with {ending}"
    );
    found
}
