//! A forwarded packet costs the engine no more instructions than `baseline.json` says.
//!
//! Instructions are counted by `valgrind --tool=callgrind`, so the count repeats itself on a busy machine and,
//! nearly, on any: only Rust code is counted, which was compiled for every x86-64 alike. What aws-lc and the C library do (they choose
//! by the processor what they run) and what the benchmark itself does is left out. A profile with counter mode is
//! counted as a processor without AVX-512 runs it, for valgrind knows none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::call::Load;
use benches::engine::{Bursts, Scene, forward_all, prepare};
use dataplane::command::SrtpProfile;
use serde::{Deserialize, Serialize};

/// What a count may grow by before somebody has to say that it is meant.
const MARGIN: f64 = 0.03;

/// Names the case that [`profiled`] runs.
const CASE: &str = "INSTRUCTIONS_CASE";

/// Set to accept what is counted now.
const ACCEPT: &str = "ACCEPT_BASELINE";

const SUBSCRIBERS: usize = 50;

/// Rounds, each a second of media: reports and timers are part of it.
const ROUNDS: u64 = 2;

/// What was counted when somebody last accepted it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    instructions_per_packet: BTreeMap<String, f64>,
}

fn cases() -> [(&'static str, Load); 4] {
    let video = Load::video(SUBSCRIBERS, 10, 15);
    [
        ("video", video),
        (
            "video, numbered",
            Load {
                is_numbered: true,
                ..video
            },
        ),
        ("audio", Load::audio(SUBSCRIBERS, 50)),
        (
            "video, counter mode",
            Load {
                profile: SrtpProfile::Aes128CmHmacSha1_80,
                ..video
            },
        ),
    ]
}

#[test]
fn a_forwarded_packet_costs_no_more_instructions_than_before() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let now = Baseline {
        rustc: rustc(),
        instructions_per_packet: cases()
            .map(|(name, load)| (name.to_owned(), count(name, &load)))
            .into(),
    };
    println!("{now:#?}");
    if std::env::var_os(ACCEPT).is_some() {
        let text = serde_json::to_string_pretty(&now).unwrap() + "\n";
        return std::fs::write(path, text).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let before: Baseline = serde_json::from_str(&text).unwrap_or_default();
    let mut dearer = Vec::new();
    for (name, count) in &now.instructions_per_packet {
        let known = before.instructions_per_packet.get(name).copied();
        let known = known.unwrap_or_default();
        if *count > known * (1.0 + MARGIN) {
            dearer.push(format!("{name}: {count:.0} where it was {known:.0}"));
        }
    }
    assert!(
        dearer.is_empty(),
        "a forwarded packet costs more instructions than benches/baseline.json allows ({}; counted then with {}, \
         now with {}). If that is meant, accept it with `{ACCEPT}=1 cargo test -p benches --test instructions` \
         and commit the file.",
        dearer.join("; "),
        before.rustc,
        now.rustc,
    );
}

/// Instructions of our own for each packet that is forwarded.
fn count(name: &str, load: &Load) -> f64 {
    let out = scratch(name);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*forward_all*"])
        .args([
            "--demangle=no",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "profiled", "--ignored"])
        .env(CASE, name)
        .output()
        .expect("valgrind is needed: scripts/test-deps installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let profile = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let packets = ROUNDS * load.bursts_per_second * (load.burst * load.subscribers) as u64;
    own_instructions(&profile) as f64 / packets as f64
}

fn scratch(name: &str) -> PathBuf {
    let file = format!("callgrind-{}-{name}", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(file)
}

/// The self cost of what counts in callgrind's output (its format: valgrind's manual, chapter 6).
fn own_instructions(profile: &str) -> u64 {
    let (mut sum, mut counts, mut is_call) = (0, false, false);
    for line in profile.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            counts = is_own(function);
        } else if line.starts_with("calls=") {
            // The next line holds what the called function cost, which is counted there.
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            if counts && !is_call {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
                sum += cost.unwrap_or(0);
            }
            is_call = false;
        }
    }
    sum
}

/// Whether a function is Rust, and not the benchmark's.
fn is_own(function: &str) -> bool {
    let is_rust = function.starts_with("_ZN") || function.starts_with("_R");
    is_rust && !function.contains("benches") && !function.contains("instructions")
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(
        |_| "an unknown rustc".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[test]
#[ignore = "is run under valgrind by the other test"]
fn profiled() {
    let name = std::env::var(CASE).unwrap_or_default();
    let (_, load) = cases().into_iter().find(|(its, _)| *its == name).unwrap();
    let count = load.bursts_per_second as usize;
    let (mut scene, mut bursts) = (Scene::new(&load), Bursts::new(load, count));
    for _ in 0..ROUNDS {
        prepare(&mut scene, &mut bursts, &load);
        forward_all(&mut scene, &mut bursts, &load);
        let expected = count * load.burst * load.subscribers;
        assert_eq!(scene.packets, expected as u64);
    }
}
