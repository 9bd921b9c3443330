//! Real Chromium over bad networks: what a viewer sees whose path is narrow, changes, or loses packets, and
//! that nobody else sees anything of it.
//!
//! Each case prints what was seen, second by second. `make test-long` runs those that `make test` has no time
//! for, and keeps what they print in `docs/networks.txt`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::time::Duration;

use dataplane::sim::network::LinkSpec;
use harness::shaper::Shaper;
use harness::{Browsers, PATIENCE_MS, Page, Server};

/// What a publisher sends.
#[derive(Clone, Copy)]
struct Source {
    codec: &'static str,
    /// Members of `sendEncodings`.
    encodings: &'static str,
    /// Pictures a second: fewer where a slow machine's encoder would make the picture smaller.
    rate: u64,
}

const VP9_SVC: Source = Source {
    codec: "VP9",
    encodings: "[{scalabilityMode: 'L3T3_KEY', maxBitrate: 2_000_000}]",
    rate: 30,
};

const AV1_SVC: Source = Source {
    codec: "AV1",
    encodings: "[{scalabilityMode: 'L3T3', maxBitrate: 2_000_000}]",
    rate: 20,
};

const AV1_TEMPORAL: Source = Source {
    codec: "AV1",
    encodings: "[{scalabilityMode: 'L1T3', maxBitrate: 900_000}]",
    rate: 30,
};

const VP8_SIMULCAST: Source = Source {
    codec: "VP8",
    encodings: "[
        {rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000},
        {rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000},
        {rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_700_000}]",
    rate: 30,
};

/// Has a page publish a camera over WHIP.
async fn publish(page: &Page, source: Source) {
    let Source {
        codec,
        encodings,
        rate,
    } = source;
    page.eval(&format!(
        "await (async () => {{
           const video = {{ width: 960, height: 540, frameRate: {rate} }};
           const stream = await navigator.mediaDevices.getUserMedia({{ video, audio: true }});
           const pc = window.pc = new RTCPeerConnection({{ bundlePolicy: 'max-bundle' }});
           pc.addTransceiver(stream.getAudioTracks()[0], {{ direction: 'sendonly' }});
           const sent = pc.addTransceiver(stream.getVideoTracks()[0],
             {{ direction: 'sendonly', sendEncodings: {encodings} }});
           const wanted = RTCRtpSender.getCapabilities('video').codecs.filter(codec =>
             ['video/{codec}', 'video/rtx'].includes(codec.mimeType));
           sent.setCodecPreferences(wanted);
           await pc.setLocalDescription();
           const answer = await fetch('/v1/rooms/mill/whip', {{
             method: 'POST', headers: {{ 'content-type': 'application/sdp' }}, body: pc.localDescription.sdp }});
           if (!answer.ok) throw new Error(await answer.text());
           await pc.setRemoteDescription({{ type: 'answer', sdp: await answer.text() }});
         }})()"
    ))
    .await;
    page.until(
        "to be connected",
        "window.pc.connectionState === 'connected'",
    )
    .await;
}

/// Has a page watch the room over WHEP.
async fn watch(page: &Page, query: &str) {
    page.eval(&format!(
        "await (async () => {{
           const pc = window.pc = new RTCPeerConnection({{ bundlePolicy: 'max-bundle' }});
           pc.addTransceiver('audio', {{ direction: 'recvonly' }});
           const video = pc.addTransceiver('video', {{ direction: 'recvonly' }});
           // Layers of AV1 can be told apart only by the descriptor, which Chromium has to be asked for.
           const extensions = video.getHeaderExtensionsToNegotiate();
           for (const extension of extensions) {{
             if (extension.uri.includes('dependency-descriptor')) extension.direction = 'sendrecv';
           }}
           video.setHeaderExtensionsToNegotiate(extensions);
           const shown = document.createElement('video');
           Object.assign(shown, {{ autoplay: true, muted: true, width: 640, srcObject: new MediaStream([video.receiver.track]) }});
           document.body.replaceChildren(shown);
           await pc.setLocalDescription();
           const answer = await fetch('/v1/rooms/mill/whep{query}', {{
             method: 'POST', headers: {{ 'content-type': 'application/sdp' }}, body: pc.localDescription.sdp }});
           if (!answer.ok) throw new Error(await answer.text());
           window.layerUrl = answer.headers.get('location') + '/layer';
           await pc.setRemoteDescription({{ type: 'answer', sdp: await answer.text() }});
         }})()"
    ))
    .await;
    page.until(
        "a picture",
        "document.querySelector('video').videoWidth > 0",
    )
    .await;
}

/// What a viewer has seen so far.
#[derive(Clone, Copy, Debug)]
struct Seen {
    lines: u64,
    frames: u64,
    frozen_s: f64,
    bytes: u64,
    lost: i64,
}

impl Seen {
    /// Looks now.
    async fn at(page: &Page) -> Seen {
        let stats = page
            .eval(
                "await (async () => {
                   const stats = [...(await window.pc.getStats()).values()];
                   return stats.find(s => s.type === 'inbound-rtp' && s.kind === 'video') ?? {};
                 })()",
            )
            .await;
        Seen {
            lines: stats["frameHeight"].as_u64().unwrap_or(0),
            frames: stats["framesDecoded"].as_u64().unwrap_or(0),
            frozen_s: stats["totalFreezesDuration"].as_f64().unwrap_or(0.0),
            bytes: stats["bytesReceived"].as_u64().unwrap_or(0),
            lost: stats["packetsLost"].as_i64().unwrap_or(0),
        }
    }
}

/// The lines that the publisher's encoder makes: fewer than the camera gives where the machine is too slow for it.
async fn lines_made(publisher: &Page) -> u64 {
    let most = publisher
        .eval(
            "await (async () => {
               const stats = [...(await window.pc.getStats()).values()];
               const sent = stats.filter(s => s.type === 'outbound-rtp' && s.kind === 'video');
               return Math.max(0, ...sent.map(s => s.frameHeight ?? 0));
             })()",
        )
        .await;
    most.as_u64().unwrap_or(0)
}

/// How much of the publisher's picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// The smallest of three: a quarter of the lines.
    Smallest,
    /// Half of the lines, or more.
    Half,
    /// All lines.
    Whole,
}

impl Size {
    /// Whether so many lines are this, of a picture that is made with `made` lines; encoders round a quarter.
    fn is(self, lines: u64, made: u64) -> bool {
        lines > 0
            && match self {
                Size::Smallest => (4 * lines).abs_diff(made) <= 4,
                Size::Half => 2 * lines >= made,
                Size::Whole => lines == made,
            }
    }
}

/// Between two looks at a picture that is waited for.
const LOOK_EVERY_MS: u64 = 50;

/// Time for real networks to do what they do.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn narrow(rate_bps: u64) -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(20),
        rate_bps: Some(rate_bps),
        // A quarter of a second of it.
        queue_bytes_max: (rate_bps / 32) as usize,
        ..LinkSpec::default()
    }
}

fn open() -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(20),
        ..LinkSpec::default()
    }
}

/// A publisher, a viewer at a network of its own, and one at none.
struct Scene {
    source: Source,
    server: Server,
    shaper: Shaper,
    publisher: Page,
    viewer: Page,
    other: Page,
    _browsers: Browsers,
}

/// Waits until a page shows so much of what the publisher makes.
async fn shows(page: &Page, publisher: &Page, size: Size) -> Result<(), String> {
    let (mut seen, mut made) = (0, 0);
    for _ in 0..PATIENCE_MS / LOOK_EVERY_MS {
        made = lines_made(publisher).await;
        let height = page.eval("document.querySelector('video').videoHeight");
        seen = height.await.as_u64().unwrap_or(0);
        if size.is(seen, made) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
    Err(format!(
        "waited in vain for {size:?}: {seen} lines of {made}"
    ))
}

/// What both viewers saw in some seconds.
struct Shown {
    /// Pictures a second that are published.
    rate: u64,
    /// At the beginning, and after each second.
    viewer: Vec<Seen>,
    /// At the beginning and the end.
    other: [Seen; 2],
    /// What the publisher made then.
    lines_made: [u64; 2],
}

impl Scene {
    /// All watch, and the viewer's picture has the size that it is to have.
    async fn new(source: Source, down: LinkSpec, size: Size) -> Result<Scene, String> {
        let server = Server::start(&[]);
        let browsers = Browsers::start();
        let shaper = Shaper::start(&server, down, open()).await;
        let lobby = server.url("/?room=elsewhere");
        let camera = format!("--use-fake-device-for-media-stream=fps={}", source.rate);
        let publisher = browsers.open_with(&lobby, &[&camera]).await;
        publish(&publisher, source).await;
        let other = browsers.open(&lobby).await;
        watch(&other, "").await;
        let viewer = browsers.open(&lobby).await;
        viewer.eval(&shaper.patch()).await;
        watch(&viewer, "").await;
        let scene = Scene {
            source,
            server,
            shaper,
            publisher,
            viewer,
            other,
            _browsers: browsers,
        };
        let seen = scene.viewer_shows(size).await;
        let seen = seen.and(shows(&scene.other, &scene.publisher, Size::Whole).await);
        if let Err(reason) = seen {
            scene.end().await;
            return Err(reason);
        }
        Ok(scene)
    }

    async fn viewer_shows(&self, size: Size) -> Result<(), String> {
        shows(&self.viewer, &self.publisher, size).await
    }

    /// Lets so much time pass and says what was seen in it.
    async fn run(&self, title: &str, seconds: u64) -> Shown {
        println!("{title}");
        let before = (
            Seen::at(&self.other).await,
            lines_made(&self.publisher).await,
        );
        let mut viewer = vec![Seen::at(&self.viewer).await];
        for _ in 0..seconds {
            pass(1).await;
            viewer.push(Seen::at(&self.viewer).await);
        }
        let after = (
            Seen::at(&self.other).await,
            lines_made(&self.publisher).await,
        );
        for pair in viewer.windows(2) {
            let [one, next] = [&pair[0], &pair[1]];
            println!(
                "{:>6} kbit/s {:>3} frames of {:>3} lines, frozen {:.2} s",
                (next.bytes - one.bytes) / 125,
                next.frames - one.frames,
                next.lines,
                next.frozen_s - one.frozen_s
            );
        }
        Shown {
            rate: self.source.rate,
            viewer,
            other: [before.0, after.0],
            lines_made: [before.1, after.1],
        }
    }

    async fn end(self) {
        self.publisher.close().await;
        self.viewer.close().await;
        self.other.close().await;
        drop(self.server);
    }
}

impl Shown {
    /// How long the viewer's picture stood still, in seconds, from that second on.
    fn frozen_s(&self, from: usize) -> f64 {
        self.viewer[self.viewer.len() - 1].frozen_s - self.viewer[from].frozen_s
    }

    /// Frames in the last five seconds.
    fn frames_of_last_five(&self) -> u64 {
        let last = self.viewer.len() - 1;
        self.viewer[last].frames - self.viewer[last - 5].frames
    }

    /// Four of five pictures came in the last five seconds.
    fn is_smooth(&self) -> bool {
        self.frames_of_last_five() > 4 * self.rate
    }

    /// Whether the picture at the end is so much of what the publisher makes then.
    fn is(&self, size: Size) -> bool {
        size.is(self.viewer[self.viewer.len() - 1].lines, self.lines_made[1])
    }

    /// The other viewer has all of what the publisher makes, without a pause.
    fn check_others(&self) -> Result<(), String> {
        let ([before, after], made) = (self.other, self.lines_made);
        let seconds = self.viewer.len() as u64 - 1;
        let is_whole = [before, after]
            .iter()
            .zip(made)
            .all(|(seen, made)| Size::Whole.is(seen.lines, made));
        check(
            is_whole && after.lost == before.lost,
            &format!("the other viewer's picture suffered: {before:?} {after:?} of {made:?} lines"),
        )?;
        let frozen_s = after.frozen_s - before.frozen_s;
        let frames = after.frames - before.frames;
        check(
            frozen_s < 0.5 && 5 * frames > 4 * seconds * self.rate,
            &format!(
                "the other viewer saw {frames} frames in {seconds} s, frozen for {frozen_s:.2} s"
            ),
        )
    }
}

fn check(holds: bool, else_says: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| else_says.to_owned())
}

/// The best of three: a busy machine may spoil one, what does not work spoils them all.
async fn best_of_three<F: Future<Output = Result<(), String>>>(case: impl Fn() -> F) {
    let mut said = Vec::new();
    for _ in 0..3 {
        match case().await {
            Ok(()) => return,
            Err(reason) => {
                println!("{reason}");
                said.push(reason);
            }
        }
    }
    panic!("{said:?}");
}

/// Three megabits a second become half of one.
async fn a_step_down(source: Source) -> Result<(), String> {
    let scene = Scene::new(source, narrow(3_000_000), Size::Whole).await?;
    scene.run("3 Mbit/s", 5).await;
    scene.shaper.set_down(narrow(500_000));
    let narrowed = scene.run("500 kbit/s", 12).await;
    scene.shaper.set_down(narrow(3_000_000));
    scene.run("3 Mbit/s", 10).await;
    let widened = scene.viewer_shows(Size::Whole).await;
    scene.end().await;

    let frozen_s = narrowed.frozen_s(0);
    let late_s = narrowed.frozen_s(5);
    println!("frozen {frozen_s:.2} s in all, {late_s:.2} s after the fifth second");
    narrowed.check_others()?;
    check(frozen_s <= 1.0, &format!("frozen for {frozen_s:.2} s"))?;
    let settled = late_s < 0.3 && !narrowed.is(Size::Whole) && narrowed.is_smooth();
    check(settled, "it has not settled after five seconds")?;
    widened
}

/// A small part of what the others have.
async fn a_narrow_path(source: Source) -> Result<(), String> {
    let scene = Scene::new(source, narrow(300_000), Size::Smallest).await?;
    scene.run("300 kbit/s, settling", 8).await;
    let narrow_path = scene.run("300 kbit/s", 10).await;
    scene.shaper.set_down(narrow(5_000_000));
    scene.run("5 Mbit/s", 10).await;
    let widened = scene.viewer_shows(Size::Whole).await;
    scene.end().await;

    let frozen_s = narrow_path.frozen_s(0);
    narrow_path.check_others()?;
    check(frozen_s < 0.3, &format!("frozen for {frozen_s:.2} s"))?;
    check(
        narrow_path.is(Size::Smallest) && narrow_path.is_smooth(),
        "it is not low and smooth",
    )?;
    widened
}

/// Every tenth packet is lost.
async fn a_path_that_loses(source: Source, seconds: u64) -> Result<(), String> {
    let lossy = LinkSpec {
        loss: 0.1,
        ..narrow(5_000_000)
    };
    let scene = Scene::new(source, lossy, Size::Half).await?;
    scene.run("10 % loss, settling", 5).await;
    let shown = scene.run("10 % loss", seconds).await;
    scene.end().await;

    let share = shown.frozen_s(0) / seconds as f64 * 100.0;
    println!("frozen for {share:.1} % of the time");
    shown.check_others()?;
    check(share < 2.0, &format!("frozen for {share:.1} % of the time"))?;
    check(shown.is(Size::Half), "the picture is the smallest")
}

#[tokio::test]
async fn a_narrow_path_is_shown_a_small_smooth_picture_and_a_wide_one_all_of_it() {
    best_of_three(|| a_narrow_path(VP8_SIMULCAST)).await;
}

#[tokio::test]
async fn a_step_down_is_followed_within_a_second() {
    best_of_three(|| a_step_down(VP8_SIMULCAST)).await;
}

#[tokio::test]
async fn a_path_that_loses_every_tenth_packet_shows_the_picture_all_the_same() {
    best_of_three(|| a_path_that_loses(VP8_SIMULCAST, 40)).await;
}

#[tokio::test]
#[ignore = "takes minutes: `make test-long`"]
async fn spatial_layers_are_chosen_as_encodings_are() {
    for source in [VP9_SVC, AV1_SVC] {
        println!("{} {}", source.codec, source.encodings);
        best_of_three(|| a_narrow_path(source)).await;
        best_of_three(|| a_step_down(source)).await;
        best_of_three(|| a_path_that_loses(source, 30)).await;
    }
}

/// A picture of one size, which can only become slower.
async fn temporal_layers(source: Source) -> Result<(), String> {
    let scene = Scene::new(source, narrow(3_000_000), Size::Whole).await?;
    scene.run("3 Mbit/s", 5).await;
    scene.shaper.set_down(narrow(600_000));
    let shown = scene.run("600 kbit/s", 15).await;
    scene.end().await;

    shown.check_others()?;
    let frames = shown.frames_of_last_five();
    let is_slower = shown.is(Size::Whole) && (30..135).contains(&frames);
    check(is_slower, &format!("{frames} frames in five seconds"))
}

#[tokio::test]
#[ignore = "takes a minute: `make test-long`"]
async fn temporal_layers_make_a_picture_slower() {
    println!("{} {}", AV1_TEMPORAL.codec, AV1_TEMPORAL.encodings);
    best_of_three(|| temporal_layers(AV1_TEMPORAL)).await;
}
