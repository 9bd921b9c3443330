//! Real Chromium over bad networks: what a viewer sees whose path is narrow, changes, or loses packets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use std::time::Duration;

use dataplane::sim::network::LinkSpec;
use harness::shaper::Shaper;
use harness::{Browsers, Page, Server};

/// What a publisher sends.
#[derive(Clone, Copy)]
struct Source {
    codec: &'static str,
    /// Members of `sendEncodings`.
    encodings: &'static str,
}

const VP8_SIMULCAST: Source = Source {
    codec: "VP8",
    encodings: "[
        {rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000},
        {rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000},
        {rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_700_000}]",
};

/// Has a page publish a camera over WHIP.
async fn publish(page: &Page, source: Source) {
    let Source { codec, encodings } = source;
    page.eval(&format!(
        "await (async () => {{
           const video = {{ width: 1280, height: 720, frameRate: 20 }};
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
    // NOPIC
}

/// What a viewer has seen so far.
#[derive(Clone, Copy, Debug)]
struct Seen {
    height: u64,
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
            height: stats["frameHeight"].as_u64().unwrap_or(0),
            frames: stats["framesDecoded"].as_u64().unwrap_or(0),
            frozen_s: stats["totalFreezesDuration"].as_f64().unwrap_or(0.0),
            bytes: stats["bytesReceived"].as_u64().unwrap_or(0),
            lost: stats["packetsLost"].as_i64().unwrap_or(0),
        }
    }
}

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
    server: Server,
    shaper: Shaper,
    publisher: Page,
    viewer: Page,
    _browsers: Browsers,
}

impl Scene {
    async fn new(source: Source, down: LinkSpec) -> Scene {
        let server = Server::start(&[]);
        let browsers = Browsers::start();
        let shaper = Shaper::start(&server, down, open()).await;
        let publisher = browsers.open(&server.url("/?room=elsewhere")).await;
        publish(&publisher, source).await;
        let viewer = browsers.open(&server.url("/?room=elsewhere")).await;
        viewer.eval(&shaper.patch()).await;
        watch(&viewer, "").await;
        Scene {
            server,
            shaper,
            publisher,
            viewer,
            _browsers: browsers,
        }
    }

    /// Lets so much time pass and says what was seen in it, second by second.
    async fn run(&self, seconds: u64) -> Vec<Seen> {
        let mut seen = vec![Seen::at(&self.viewer).await];
        for _ in 0..seconds {
            pass(1).await;
            seen.push(Seen::at(&self.viewer).await);
        }
        for pair in seen.windows(2) {
            let kbps = (pair[1].bytes - pair[0].bytes) / 125;
            let frames = pair[1].frames - pair[0].frames;
            let frozen = pair[1].frozen_s - pair[0].frozen_s;
            println!(
                "{kbps:>6} kbit/s {frames:>3} frames of {:>4} lines, frozen {frozen:.2} s, lost {}",
                pair[1].height, pair[1].lost
            );
        }
        seen
    }

    async fn end(self) {
        self.publisher.close().await;
        self.viewer.close().await;
        drop(self.server);
    }
}

#[tokio::test]
async fn explore() {
    let scene = Scene::new(VP8_SIMULCAST, narrow(3_000_000)).await;
    scene.run(8).await;
    for _ in 0..3 {
        scene.shaper.set_down(narrow(500_000));
        println!("500");
        scene.run(10).await;
        scene.shaper.set_down(narrow(3_000_000));
        println!("3000");
        scene.run(10).await;
    }
    scene.end().await;
}
