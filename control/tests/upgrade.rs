//! The program is replaced while people talk: browsers, and generated sessions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use benches::swarm::door::DoorSpec;
use benches::swarm::media::{Media, Shape};
use benches::swarm::row::Row;
use benches::swarm::scene::{self, Cast, Intake, News, SceneConfig};
use control::room::ROOMS_VERSION;
use dataplane::command::MediaKind;
use dataplane::engine::SNAPSHOT_VERSION;
use harness::{Browsers, Page, Server};

/// What viewers may notice at most.
const GAP_MS_MAX: f64 = 100.0;

/// How often a test may try to stay below that: a busy machine makes some gaps longer, and none shorter.
const TRIES: usize = 4;

/// Where pictures are late by so much although nothing happens, the machine is too busy to say anything of gaps.
const STARVED_MS: f64 = 30.0;

/// A node whose program can be replaced.
struct Replaceable {
    server: Server,
    socket: PathBuf,
}

impl Replaceable {
    fn start(name: &str, flags: &[&str]) -> Replaceable {
        let socket = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.socket"));
        let own = ["--upgrade-socket", socket.to_str().unwrap()];
        let server = Server::start(&[&own, flags].concat());
        Replaceable { server, socket }
    }
}

/// Notes in the page when each frame of Ada's picture came, and whatever disappears.
const WATCH: &str = "(() => {
    const watch = window.watch = { came: [], gone: [], pc: window.millrace.pc };
    const video = document.querySelector('article[data-name=Ada][data-source=camera] video');
    const step = (now, frame) => {
      watch.came.push(frame.receiveTime ?? now);
      video.requestVideoFrameCallback(step);
    };
    video.requestVideoFrameCallback(step);
    new MutationObserver(changes => {
      for (const change of changes) {
        for (const node of change.removedNodes) {
          if (node.nodeName === 'ARTICLE') watch.gone.push(node.dataset.name);
        }
        if (change.target === document.body && change.type === 'attributes') {
          watch.gone.push(document.body.dataset.state);
        }
      }
    }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-state'] });
  })()";

/// By how much the longest time between two frames exceeds the usual one.
const GAP: &str = "(() => {
    const { came } = window.watch;
    const between = came.slice(1).map((at, i) => at - came[i]).sort((a, b) => a - b);
    window.watch.came = came.slice(-1);
    return between.at(-1) - between[between.length >> 1];
  })()";

async fn join(browsers: &Browsers, server: &Server, name: &str) -> Page {
    let address = server.url(&format!("/?room=mill&name={name}&join=1"));
    let page = browsers.open(&address).await;
    let state = "document.body.dataset.state === 'in-meeting'";
    page.until("to be in the meeting", state).await;
    page
}

/// Whoever is at the page says something that the other reads: the line to the node is up for both.
async fn chats(from: &Page, to: &Page, words: &str) {
    from.until(
        "to be able to say something",
        &format!(
            "(() => {{
               document.querySelector('#chat-input').value = {words:?};
               document.querySelector('#chat-send').click();
               return [...document.querySelectorAll('.chat-message')].some(m => m.innerText.includes({words:?}));
             }})()"
        ),
    )
    .await;
    to.until(
        words,
        &format!(
            "[...document.querySelectorAll('.chat-message')].some(m => m.innerText.includes({words:?}))"
        ),
    )
    .await;
}

#[tokio::test]
async fn browsers_stay_in_their_meeting() {
    let mut node = Replaceable::start("browsers", &[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &node.server, "Ada").await;
    let bob = join(&browsers, &node.server, "Bob").await;
    bob.sees("Ada", "camera").await;
    ada.sees("Bob", "camera").await;
    for page in [&ada, &bob] {
        page.click("#chat-open").await;
    }
    bob.eval(WATCH).await;
    let (mut gaps, mut starved) = (Vec::new(), 0);
    for number in 1..=TRIES {
        bob.until("two seconds of pictures", "window.watch.came.length > 40")
            .await;
        let late_ms = bob.eval(GAP).await.as_f64().unwrap();
        starved += usize::from(late_ms > STARVED_MS);
        node.server.upgrade();
        bob.sees("Ada", "camera").await;
        ada.sees("Bob", "camera").await;
        bob.hears("Ada's sound").await;
        gaps.push(bob.eval(GAP).await.as_f64().unwrap());
        chats(&ada, &bob, &format!("program {number}")).await;
        if gaps.iter().any(|gap| *gap < GAP_MS_MAX) {
            break;
        }
    }
    println!("two browsers: {gaps:.1?} ms, and {starved} times the machine was busy before");
    let is_held = gaps.iter().any(|gap| *gap < GAP_MS_MAX);
    assert!(is_held || starved > 0, "{gaps:?}");
    // Nobody left, nothing was negotiated anew, and nothing was lost on the way.
    let watched = bob
        .eval(
            "(async () => {
               const { gone, pc } = window.watch;
               const stats = [...(await pc.getStats()).values()];
               return {
                 gone,
                 same: pc === window.millrace.pc && pc.connectionState === 'connected',
                 lost: stats.filter(s => s.type === 'inbound-rtp').reduce((sum, s) => sum + s.packetsLost, 0),
               };
             })()",
        )
        .await;
    assert_eq!(
        watched,
        serde_json::json!({ "gone": [], "same": true, "lost": 0 })
    );
    let late = join(&browsers, &node.server, "Late").await;
    late.sees("Ada", "camera").await;
    ada.sees("Late", "camera").await;
    late.close().await;
    ada.close().await;
    bob.close().await;
}

/// Another program as the node hears it: how far it comes before it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    /// When it has the sockets.
    Early,
    /// When it has the rooms, and signalling stands still.
    Midway,
    /// When it has everything, and media stands still.
    Late,
}

/// A line to the node, in the frames of `control::take_over`.
struct Line(UnixStream);

impl Line {
    fn say(&mut self, tag: u8, body: &[u8]) {
        let head = [&[tag][..], &(body.len() as u64).to_be_bytes()].concat();
        self.0.write_all(&[&head, body].concat()).unwrap();
    }

    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).unwrap();
        let [tag, len @ ..] = head;
        let mut body = vec![0; u64::from_be_bytes(len) as usize];
        self.0.read_exact(&mut body).unwrap();
        (tag, body)
    }

    /// Says hello as a program that reads this version of engines; what the node answers.
    fn hello(socket: &Path, engine: u32) -> (Line, u8, String) {
        let mut line = Line(UnixStream::connect(socket).unwrap());
        let hello = serde_json::json!({
            "conversation": 1, "engine": engine, "rooms": ROOMS_VERSION, "program": "a test",
        });
        line.say(1, hello.to_string().as_bytes());
        let (tag, said) = line.hear();
        (line, tag, String::from_utf8(said).unwrap())
    }
}

/// A program begins to take over, and dies.
fn die(socket: &Path, when: Dies) {
    let (mut line, tag, _) = Line::hello(socket, SNAPSHOT_VERSION);
    assert_eq!(tag, 2, "terms");
    // Two bytes bring the descriptors, which are dropped here.
    line.0.read_exact(&mut [0; 2]).unwrap();
    if when == Dies::Early {
        return;
    }
    line.say(3, &[]);
    assert_eq!(line.hear().0, 4, "rooms");
    if when == Dies::Midway {
        return;
    }
    line.say(5, &[]);
    assert_eq!(line.hear().0, 6, "what is common to the workers");
    assert_eq!(line.hear().0, 7, "an engine");
}

/// Publishers and viewers by WHIP and WHEP at this port: what came of them while `act` ran, and of that.
async fn crowd<T: Send + 'static>(
    http: u16,
    viewers: usize,
    seconds: u32,
    act: impl FnOnce() -> T + Send + 'static,
) -> (Row, T) {
    let rooms = format!("http://127.0.0.1:{http}/v1/rooms");
    let video = Shape {
        rate: 25,
        packets: 1,
        key_packets: 1,
        bytes: 500,
    };
    let config = SceneConfig {
        door: DoorSpec::Whip {
            whip: format!("{rooms}/{{room}}/whip?name={{name}}"),
            whep: format!("{rooms}/{{room}}/whep"),
        },
        server: "millrace".to_owned(),
        scene: "upgrade".to_owned(),
        cast: Cast::Watch {
            rooms: 10,
            steps: vec![viewers],
        },
        media: vec![Media::Shaped(MediaKind::Video, video)],
        plain: false,
        decrypt_every: 1,
        intake: Intake::Runs,
        joins_per_second: 200.0,
        seconds,
        until_full: false,
        pid: None,
        core: None,
    };
    let (mut act, mut acting, mut rows) = (Some(act), None, Vec::new());
    scene::run(config, |news| match news {
        News::Refused(why) => println!("not in: {why}"),
        News::Second(line) => {
            println!("{line}");
            if let Some(act) = act.take() {
                acting = Some(std::thread::spawn(act));
            }
        }
        News::Measured(row) => rows.push(row.clone()),
    })
    .await
    .unwrap();
    let acted = acting.expect("a second was measured").join().unwrap();
    (rows.pop().unwrap(), acted)
}

/// Programs die half way, and then one takes over, while media flows.
async fn generated_sessions_go_on(name: &str, viewers: usize, seconds: u32) -> Row {
    let mut node = Replaceable::start(name, &[]);
    let http = node.server.http;
    let (row, node) = crowd(http, viewers, seconds, move || {
        for when in [Dies::Early, Dies::Midway, Dies::Late] {
            die(&node.socket, when);
        }
        let (_, tag, said) = Line::hello(&node.socket, SNAPSHOT_VERSION + 1);
        assert!(tag == 10 && said.contains("version"), "{said}");
        node.server.upgrade();
        node
    })
    .await;
    println!("{row:?}");
    assert_eq!((row.failures, row.connected), (0, viewers), "{row:?}");
    // No number came twice, and none did not come.
    assert_eq!((row.repeated, row.unreadable), (0, 0), "{row:?}");
    assert!(row.loss <= 0.0, "{row:?}");
    drop(node);
    row
}

#[tokio::test]
async fn sessions_go_on_whoever_fails_half_way() {
    generated_sessions_go_on("few", 40, 4).await;
}

/// The long form: `make take-over`.
#[tokio::test]
#[ignore = "fills two cores for half a minute: `make take-over`"]
async fn a_thousand_sessions_go_on() {
    let mut latest = Vec::new();
    for _ in 0..TRIES {
        let row = generated_sessions_go_on("thousand", 1_000, 6).await;
        latest.push(row.p999_ms.unwrap());
        if latest.iter().any(|ms| *ms < GAP_MS_MAX) {
            return;
        }
    }
    panic!("999 of 1,000 packets came within {latest:?} ms");
}

fn upgrade(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(flags)
        .arg("upgrade")
        .output()
        .unwrap()
}

fn assert_fails(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(part), "`{part}` is not in: {said}");
}

#[test]
fn what_cannot_take_over_says_why_and_the_node_goes_on() {
    assert_fails(&upgrade(&[]), "--upgrade-socket");
    let nowhere = ["--upgrade-socket", "/nowhere/millrace.socket"];
    assert_fails(&upgrade(&nowhere), "no node answers at /nowhere");

    let mut node = Replaceable::start("refusals", &[]);
    let mode = node.socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = ["--upgrade-socket", node.socket.to_str().unwrap()];
    let beside = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(socket)
        .output()
        .unwrap();
    assert_fails(&beside, "a node answers at the upgrade socket");
    let (http, media) = (node.server.http, node.server.media);
    let at = |http: u16, media: u16, workers: &str| {
        let (http, media) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{media}"));
        let flags = ["--http", &http, "--media", &media, "--workers", workers];
        upgrade(&[&socket[..], &flags].concat())
    };
    assert_fails(&at(http, media - 1, "1"), "media at");
    assert_fails(&at(http - 1, media, "1"), "HTTP at");
    assert_fails(&at(http, media, "2"), "has 1 workers");
    assert!(node.server.is_ready());
    node.server.upgrade();
    assert!(node.server.is_ready());
}
