//! House rules that lints cannot say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
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

/// Where code may log: what does IO, and the shells of threads.
const LOGGING: [&str; 2] = ["dataplane/src/driver/", "dataplane/src/dtls/lane.rs"];

#[test]
fn t_06_and_t_16_the_packet_path_logs_nothing() {
    for (path, text) in files("rs") {
        if !path.starts_with("dataplane/src/") || LOGGING.iter().any(|home| path.starts_with(home))
        {
            continue;
        }
        let logs = ["tracing::", "log::", "println!", "eprintln!"];
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let line = code.lines().find(|line| {
            let is_comment = line.trim_start().starts_with("//");
            let is_own = line.contains("super::log::") || line.contains("engine::log");
            !is_comment && !is_own && logs.iter().any(|word| line.contains(word))
        });
        assert_eq!(
            line, None,
            "{path} logs; a peer must not be able to fill a disk"
        );
    }
}

#[test]
fn t_28_no_table_is_hashed_without_a_key_of_its_own() {
    // What these hash, a peer can make collide: their keys are none or the same in every process.
    let words = [
        "FxHash",
        "FnvHash",
        "nohash",
        "foldhash",
        "AHash",
        "BuildHasherDefault",
        "RandomState::with_seed(",
    ];
    for (path, text) in files("rs") {
        let is_ours = ["dataplane/src/", "signaling/src/", "control/src/"];
        if is_ours.iter().any(|home| path.starts_with(home)) {
            let word = words.iter().find(|word| text.contains(**word));
            assert_eq!(word, None, "{path} has a table that a peer can slow down");
        }
    }
}

#[test]
fn x_11_the_page_makes_no_markup_of_text() {
    let words = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "srcdoc",
        "eval(",
        "new Function",
        "DOMParser",
        "createContextualFragment",
        "setHTMLUnsafe",
        "javascript:",
    ];
    let pages = ["js", "html"].into_iter().flat_map(files);
    for (path, text) in pages.filter(|(path, _)| path.starts_with("signaling/web/")) {
        for word in words {
            assert!(
                !text.contains(word) || path.contains("/tests/"),
                "{path} holds {word}: names and chat are whatever people type"
            );
        }
    }
}

/// The cases of ATTACKS.md; there is no tenth.
const CASES: std::ops::RangeInclusive<u32> = 1..=34;

/// The case by which a part of a test's name begins: `t_01` or `x_01_..`.
fn case_of(part: &str) -> Option<String> {
    let (letter, rest) = part.split_at_checked(2)?;
    let (number, rest) = rest.split_at_checked(2)?;
    let is_case = matches!(letter, "t_" | "x_") && number.bytes().all(|b| b.is_ascii_digit());
    let ends = rest.is_empty() || rest.starts_with('_');
    (is_case && ends).then(|| part[..4].replace('_', "-").to_uppercase())
}

/// The cases by which a test is named: `t_06_and_t_16_..` has two.
fn cases_of(name: &str) -> Vec<String> {
    name.split("_and_").filter_map(case_of).collect()
}

#[test]
fn every_attack_is_told_with_its_tests_and_every_test_is_told() {
    let document = fs::read_to_string(top().join("docs/security.md")).unwrap();
    let there = tests_of_cases();
    let mut told = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for row in document.lines().filter(|line| is_row(line)) {
        let case = row[2..].split(' ').next().unwrap().to_owned();
        for test in row.split('`').filter(|part| part.contains(".rs::")) {
            let (file, name) = test.split_once("::").unwrap();
            assert!(
                cases_of(name).contains(&case),
                "{name} stands in the row of {case}"
            );
            told.insert((file.to_owned(), name.to_owned()));
        }
        rows.insert(case);
    }
    for number in CASES.filter(|number| *number != 10) {
        let case = format!("T-{number:02}");
        assert!(rows.contains(&case), "docs/security.md has no row {case}");
    }
    let missing: Vec<_> = told.difference(&there).collect();
    assert!(
        missing.is_empty(),
        "docs/security.md tells of tests that are not there: {missing:?}"
    );
    let untold: Vec<_> = there.difference(&told).collect();
    assert!(
        untold.is_empty(),
        "docs/security.md does not tell of {untold:?}"
    );
}

/// The tests that are named by a case: their file and name.
fn tests_of_cases() -> BTreeSet<(String, String)> {
    let mut there = BTreeSet::new();
    for (path, text) in files("rs") {
        let names = text.lines().filter_map(|line| {
            let code = line.trim_start().trim_start_matches("async ");
            let name = code.strip_prefix("fn ")?.strip_suffix("() {")?;
            case_of(name).map(|_| name)
        });
        there.extend(names.map(|name| (path.clone(), name.to_owned())));
    }
    there
}

/// Whether a line of the document is a row of its table.
fn is_row(line: &str) -> bool {
    ["| T-", "| X-"].iter().any(|start| line.starts_with(start))
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
