//! Nine people in a meeting, one of them a page whose network becomes narrow for a while and wide again:
//! what arrives follows, and every picture goes on.
//!
//! `make nine-step` draws what was seen as `docs/nine.svg`, with `docs/nine.png` of the page while it was narrow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use benches::peers::encodings::Encodings;
use benches::peers::meeting::{Meeting, MeetingConfig};
use benches::peers::tune::Tune;
use benches::rates::{Axes, Line, by_time};
use dataplane::sim::network::LinkSpec;
use harness::shaper::Shaper;
use harness::{Browsers, Page, Server};
use tokio::time::MissedTickBehavior;

const OTHERS: usize = 8;

/// What the page's network carries, and for how many seconds.
const PHASES: [(u64, usize); 3] = [(8_000_000, 15), (1_000_000, 15), (8_000_000, 20)];

/// A phase is judged by its last seconds: before them what is sent finds what the network carries.
const SETTLED: usize = 5;

/// How much less may come back, of what came before.
const COMES_BACK: f64 = 0.8;

/// A page of 1280 by 800 pixels: what is more is the browser's own. Its tiles are high enough for the
/// second of three encodings.
const WINDOW: &str = "--window-size=1280,943";

/// Whose tile says what.
#[derive(Clone, Copy, Debug)]
struct Tile {
    frames: u64,
    is_paused: bool,
}

/// What the page has seen so far.
#[derive(Debug)]
struct Seen {
    at_ms: f64,
    /// Of all video.
    bytes: u64,
    /// Of all sound.
    sound_bytes: u64,
    /// What the node thinks that the page's network carries.
    estimate_bps: Option<f64>,
    /// By person.
    tiles: Vec<Tile>,
}

impl Seen {
    /// Looks now.
    async fn at(page: &Page) -> Seen {
        let said = page
            .eval(
                "await (async () => {
                   const { atMs, streams } = await window.millrace.stats();
                   const sounds = streams.filter(s => s.direction === 'in' && s.kind === 'audio');
                   const videos = streams.filter(s => s.direction === 'in' && s.kind === 'video' && s.person);
                   const tile = (person) => document.querySelector(`article[data-person='${person}'][data-source=camera]`);
                   videos.sort((a, b) => a.name < b.name ? -1 : 1);
                   return {
                     atMs,
                     bytes: videos.reduce((sum, s) => sum + s.bytes, 0),
                     sound: sounds.reduce((sum, s) => sum + s.bytes, 0),
                     estimate: window.millrace.estimate(),
                     tiles: videos.map(s => ({ frames: s.frames, paused: tile(s.person).dataset.paused === 'true' })),
                   };
                 })()",
            )
            .await;
        let tiles = said["tiles"].as_array().unwrap().iter();
        Seen {
            at_ms: said["atMs"].as_f64().unwrap(),
            bytes: said["bytes"].as_u64().unwrap(),
            sound_bytes: said["sound"].as_u64().unwrap(),
            estimate_bps: said["estimate"].as_f64(),
            tiles: tiles
                .map(|tile| Tile {
                    frames: tile["frames"].as_u64().unwrap(),
                    is_paused: tile["paused"].as_bool().unwrap(),
                })
                .collect(),
        }
    }

    /// Bits per second of video between two looks.
    fn rate_since(&self, before: &Seen) -> f64 {
        (self.bytes - before.bytes) as f64 * 8_000.0 / (self.at_ms - before.at_ms)
    }

    /// Bits per second of sound between two looks.
    fn sound_since(&self, before: &Seen) -> f64 {
        (self.sound_bytes - before.sound_bytes) as f64 * 8_000.0 / (self.at_ms - before.at_ms)
    }
}

/// A path of this rate that holds a quarter of a second of it.
fn path(rate_bps: u64) -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(20),
        rate_bps: Some(rate_bps),
        queue_bytes_max: (rate_bps / 32) as usize,
        ..LinkSpec::default()
    }
}

/// Joins through the relay, and sees and hears the others.
async fn join(browsers: &Browsers, server: &Server, shaper: &Shaper) -> Page {
    let lobby = server.url("/?room=nine&name=Page");
    let page = browsers.open_with(&lobby, &[WINDOW]).await;
    page.eval(&shaper.patch()).await;
    page.click("#join").await;
    for number in 1..=OTHERS {
        page.sees(&format!("Person {number}"), "camera").await;
    }
    page.hears("somebody").await;
    page
}

/// Lets a phase pass and says what was seen at its beginning and after each second.
async fn watch(page: &Page, rate_bps: u64, seconds: usize) -> Vec<Seen> {
    println!("{} Mbit/s", rate_bps / 1_000_000);
    let mut seconds_pass = tokio::time::interval(Duration::from_secs(1));
    // Two looks in a row would be one, where the page kept the first waiting.
    seconds_pass.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds_pass.tick().await;
    let mut seen = vec![Seen::at(page).await];
    for _ in 0..seconds {
        seconds_pass.tick().await;
        let now = Seen::at(page).await;
        let before = seen.last().unwrap();
        let (rate, sound) = (now.rate_since(before), now.sound_since(before));
        let estimate = now.estimate_bps.unwrap_or_default();
        let paused = now.tiles.iter().filter(|tile| tile.is_paused).count();
        println!(
            "{:>5.0} kbit/s of video, {:>4.0} of sound, estimate {:>5.0} kbit/s, {paused} paused",
            rate / 1_000.0,
            sound / 1_000.0,
            estimate / 1_000.0
        );
        seen.push(now);
    }
    seen
}

/// The page as it is, once no tile is fading from one state to another, as a PNG that is small enough for a
/// repository: a little smaller, with five bits a colour.
async fn picture(page: &Page) -> Vec<u8> {
    page.until(
        "tiles that do not fade",
        "[...document.querySelectorAll('.tile video')].every(v => [0, 1].includes(Number(getComputedStyle(v).opacity)))",
    )
    .await;
    page.screenshot("nine-step").await;
    let shot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots/nine-step.png");
    let shot = BASE64_STANDARD.encode(std::fs::read(shot).unwrap());
    let small = page
        .eval(&format!(
            "await (async () => {{
               const bytes = Uint8Array.from(atob('{shot}'), c => c.charCodeAt(0));
               const image = await createImageBitmap(new Blob([bytes], {{ type: 'image/png' }}));
               const canvas = document.createElement('canvas');
               [canvas.width, canvas.height] = [960, Math.round(960 * image.height / image.width)];
               const context = canvas.getContext('2d');
               context.imageSmoothingQuality = 'high';
               context.drawImage(image, 0, 0, canvas.width, canvas.height);
               const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
               pixels.data.forEach((value, at, data) => {{ data[at] = (value & 0xf8) | (value >> 5); }});
               context.putImageData(pixels, 0, 0);
               return canvas.toDataURL('image/png').split(',')[1];
             }})()"
        ))
        .await;
    BASE64_STANDARD.decode(small.as_str().unwrap()).unwrap()
}

/// Bits per second of video in a phase's last seconds.
fn settled_bps(seen: &[Seen]) -> f64 {
    let last = &seen[seen.len() - 1];
    last.rate_since(&seen[seen.len() - 1 - SETTLED])
}

/// In a phase's last seconds every picture moves, or its tile says that it is paused.
fn check_tiles(seen: &[Seen]) -> Result<(), String> {
    let (before, after) = (&seen[seen.len() - 1 - SETTLED], &seen[seen.len() - 1]);
    check(
        (before.tiles.len(), after.tiles.len()) == (OTHERS, OTHERS),
        &format!("there are {} tiles", after.tiles.len()),
    )?;
    let pairs = before.tiles.iter().zip(&after.tiles);
    let mut still = pairs.filter(|(before, after)| after.frames <= before.frames);
    let stuck = still.find(|(_, after)| !after.is_paused);
    check(
        stuck.is_none(),
        &format!("a picture stands still: {stuck:?}"),
    )
}

fn check(holds: bool, else_says: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| else_says.to_owned())
}

/// What must hold of all three phases.
fn check_phases(phases: &[Vec<Seen>]) -> Result<(), String> {
    phases.iter().try_for_each(|seen| check_tiles(seen))?;
    let [before, narrow, after] = [0, 1, 2].map(|phase| settled_bps(&phases[phase]));
    println!("settled at {before:.0}, {narrow:.0}, {after:.0} bit/s");
    let narrow_bps = PHASES[1].0 as f64;
    check(
        narrow < narrow_bps && narrow_bps < before,
        &format!("{narrow:.0} bit/s arrive where it is narrow, {before:.0} before"),
    )?;
    check(
        after > COMES_BACK * before,
        &format!("of {before:.0} bit/s only {after:.0} come back"),
    )
}

/// The network's rate, what the node thinks that it is, and what arrives.
fn plot(phases: &[Vec<Seen>]) -> String {
    let [mut network, mut estimate, mut video] = [const { Vec::new() }; 3];
    let begun_ms = phases[0][0].at_ms;
    let second = |seen: &Seen| (seen.at_ms - begun_ms) / 1_000.0;
    for (number, (seen, (rate_bps, _))) in phases.iter().zip(PHASES).enumerate() {
        let next = phases.get(number + 1).and_then(|next| next.first());
        let until_s = second(next.unwrap_or(&seen[seen.len() - 1]));
        let ends = [second(&seen[0]), until_s];
        network.extend(ends.map(|at_s| (at_s, rate_bps as f64 / 1e6)));
        for pair in seen.windows(2) {
            let at_s = second(&pair[1]);
            video.push((at_s, pair[1].rate_since(&pair[0]) / 1e6));
            estimate.extend(pair[1].estimate_bps.map(|bps| (at_s, bps / 1e6)));
        }
    }
    let lines = [
        ("what the network carries", network),
        ("the node's estimate of it", estimate),
        ("video that the page receives", video),
    ];
    let lines = lines.map(|(name, points)| Line {
        name: name.to_owned(),
        points,
    });
    by_time(
        "Nine people, one of them on a changing network",
        &Axes::RATES,
        &lines,
    )
    .unwrap()
}

/// Nine meet, and the network of one goes through all phases: what was seen, and the page while it was narrow.
async fn meet() -> (Vec<Vec<Seen>>, Vec<u8>) {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let shaper = Shaper::start(&server, path(PHASES[0].0), path(PHASES[0].0)).await;
    let meeting = Meeting::start(MeetingConfig {
        url: server.url(""),
        room: "nine".to_owned(),
        people: OTHERS,
        joins_per_second: 20.0,
        encodings: Encodings::people_in_three().unwrap(),
        tune: Arc::new(Tune::people()),
        pid: Some(server.pid()),
    })
    .await
    .unwrap();
    let page = join(&browsers, &server, &shaper).await;
    let (mut phases, mut png) = (Vec::new(), Vec::new());
    for (number, (rate_bps, seconds)) in PHASES.into_iter().enumerate() {
        shaper.set_down(path(rate_bps));
        phases.push(watch(&page, rate_bps, seconds).await);
        if number == 1 {
            png = picture(&page).await;
        }
    }
    let late_ms = meeting.report().await.lateness.p99_ms;
    println!("the others waited for the CPU {late_ms:?} ms at most, but for one time in a hundred");
    meeting.leave().await;
    page.close().await;
    (phases, png)
}

/// The best of three: a busy machine may spoil one, what does not work spoils them all.
#[tokio::test]
#[ignore = "takes more than a minute: `make test-long`"]
async fn nine_people_and_a_bandwidth_step() {
    let mut said = Vec::new();
    for _ in 0..3 {
        let (phases, png) = meet().await;
        match check_phases(&phases) {
            Ok(()) => {
                let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
                std::fs::write(docs.join("nine.svg"), plot(&phases)).unwrap();
                std::fs::write(docs.join("nine.png"), png).unwrap();
                return;
            }
            Err(reason) => {
                println!("{reason}");
                said.push(reason);
            }
        }
    }
    panic!("{said:?}");
}
