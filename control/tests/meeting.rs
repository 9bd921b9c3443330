//! Meetings of real browsers through a real node.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

use harness::emulator::until;
use harness::{Browsers, Page, Server};

async fn join(browsers: &Browsers, server: &Server, room: &str, name: &str) -> Page {
    let page = browsers
        .open(&server.url(&format!("/?room={room}&name={name}&join=1")))
        .await;
    page.until(
        "to be in the meeting",
        "document.body.dataset.state === 'in-meeting'",
    )
    .await;
    page
}

async fn meeting_of_three(driver: &str) {
    let server = Server::start(&["--driver", driver]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    let bob = join(&browsers, &server, "mill", "Bob").await;
    ada.sees("Bob", "camera").await;
    bob.sees("Ada", "camera").await;
    ada.hears("Bob's sound").await;
    bob.hears("Ada's sound").await;
    ada.until(
        "a mark that Bob speaks",
        "document.querySelector('article[data-name=Bob][data-speaking=true]')",
    )
    .await;

    let lobby = server.url("/?room=mill&name=Late");
    let late = browsers.open(&lobby).await;
    late_joiner_sees_a_picture_soon(&late, &lobby, &ada).await;
    late.sees("Ada", "camera").await;
    late.sees("Bob", "camera").await;
    ada.sees("Late", "camera").await;
    bob.screenshot(&format!("three-{driver}")).await;

    late.close().await;
    for page in [&ada, &bob] {
        page.until(
            "Late to be gone",
            "!document.querySelector('article[data-name=Late]')",
        )
        .await;
    }
    ada.sees("Bob", "camera").await;
    ada.close().await;
    bob.close().await;
}

/// What a late joiner may wait for a picture. How long it really takes is `make first-frame`; this is longer by what
/// three browsers do to two slow cores (1.7 s were seen), and shorter than who is never sent a key frame waits.
const LATE_MS_MAX: f64 = 3_000.0;

/// The best of three joins: a busy machine may spoil one, a missing key frame spoils them all.
async fn late_joiner_sees_a_picture_soon(late: &Page, lobby: &str, host: &Page) {
    let mut best_ms = f64::INFINITY;
    for _ in 0..3 {
        late.until(
            "the lobby",
            "document.querySelector('#join')?.disabled === false",
        )
        .await;
        best_ms = best_ms.min(late.first_frame_ms("Ada").await);
        if best_ms <= LATE_MS_MAX {
            return;
        }
        late.click("#leave").await;
        host.until(
            "Late to be gone",
            "!document.querySelector('article[data-name=Late]')",
        )
        .await;
        late.goto(lobby).await;
    }
    panic!("a late joiner saw nobody for {best_ms:.0} ms");
}

#[tokio::test]
async fn a_browser_without_udp_meets_over_tcp() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    let tess = browsers.open(&server.url("/?room=mill&name=Tess")).await;
    // The page itself runs unchanged: the answer loses its UDP candidates on the way in.
    tess.eval(
        "(() => {
           const set = RTCPeerConnection.prototype.setRemoteDescription;
           RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
             return set.call(this, { type, sdp: sdp.replace(/a=candidate:\\S+ \\d+ udp .*\\r\\n/gi, '') });
           };
         })()",
    )
    .await;
    tess.until(
        "the lobby",
        "document.querySelector('#join')?.disabled === false",
    )
    .await;
    tess.click("#join").await;
    tess.sees("Ada", "camera").await;
    ada.sees("Tess", "camera").await;
    let transport = tess.eval("(await window.millrace.stats()).transport").await;
    assert_eq!(transport, "tcp");
    tess.close().await;
    ada.close().await;
}

#[tokio::test]
async fn three_people_meet_over_io_uring() {
    meeting_of_three("uring").await;
}

#[tokio::test]
async fn three_people_meet_over_plain_sockets() {
    meeting_of_three("msg").await;
}

#[tokio::test]
async fn controls_are_seen_by_others() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    let bob = join(&browsers, &server, "mill", "Bob").await;
    bob.sees("Ada", "camera").await;

    ada.click("#mute").await;
    bob.until(
        "Ada's muted mark",
        "document.querySelector('article[data-name=Ada][data-muted=true]')",
    )
    .await;
    ada.click("#mute").await;
    bob.until(
        "Ada unmuted",
        "!document.querySelector('article[data-name=Ada][data-muted=true]')",
    )
    .await;

    ada.click("#share").await;
    bob.sees("Ada", "screen").await;
    bob.screenshot("screen-share").await;
    ada.click("#share").await;
    bob.until(
        "the screen to be gone",
        "!document.querySelector('article[data-source=screen]')",
    )
    .await;
    bob.sees("Ada", "camera").await;

    ada.click("#chat-open").await;
    ada.eval("document.querySelector('#chat-input').value = 'Hello, Bob'")
        .await;
    ada.click("#chat-send").await;
    bob.until("Ada's words", "[...document.querySelectorAll('.chat-message')].some(m => m.innerText.includes('Hello, Bob'))")
        .await;

    ada.click("#leave").await;
    bob.until(
        "Ada to be gone",
        "!document.querySelector('article[data-name=Ada]')",
    )
    .await;
    ada.close().await;
    bob.close().await;
}

#[tokio::test]
async fn ice_restart_moves_media_to_a_new_address() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    let bob = join(&browsers, &server, "mill", "Bob").await;
    bob.sees("Ada", "camera").await;
    ada.moves_to_another_port().await;
    bob.sees("Ada", "camera").await;
    ada.sees("Bob", "camera").await;
    ada.close().await;
    bob.close().await;
}

/// The encodings of one's own camera by their names: whether it is sent, and its width.
const OWN_ENCODINGS: &str =
    "window.millrace.stats().then(({ streams }) => Object.fromEntries(streams
    .filter(s => s.direction === 'out' && s.source === 'camera').map(s => [s.rid, s])))";

/// The width of what comes of Ada's camera now.
const WIDTH_OF_ADA: &str = "window.millrace.stats().then(({ streams }) => streams
    .find(s => s.direction === 'in' && s.name === 'Ada' && s.source === 'camera')?.width)";

/// Pins the quality of Ada's camera in the open connection panel.
async fn pin(page: &Page, quality: &str) {
    let select = "document.querySelector('#info-body li[data-source=camera] select')";
    page.until("a choice of quality", select).await;
    page.eval(&format!(
        "(() => {{ {select}.value = {quality:?}; {select}.dispatchEvent(new Event('change')); }})()"
    ))
    .await;
}

#[tokio::test]
async fn a_picture_is_sent_as_large_as_somebody_wants_it() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    ada.until(
        "three encodings of a camera",
        &format!("{OWN_ENCODINGS}.then(({{ q, h, f }}) => q && h && f)"),
    )
    .await;
    let small = server.url("/?room=mill&name=Bob&join=1");
    let bob = browsers.open_with(&small, &["--window-size=520,420"]).await;
    bob.sees("Ada", "camera").await;
    // Bob's tile is small: the smallest is enough, and the others are not encoded any more.
    ada.until(
        "only the smallest encoding to be sent",
        &format!("{OWN_ENCODINGS}.then(({{ q, h, f }}) => q.active && !h.active && !f.active)"),
    )
    .await;
    bob.until(
        "a quarter of Ada's picture",
        &format!("{WIDTH_OF_ADA}.then(width => width > 0 && width <= 320)"),
    )
    .await;

    bob.eval("document.querySelector('#info-open').click()")
        .await;
    pin(&bob, "best").await;
    bob.until(
        "all of Ada's picture",
        &format!("{WIDTH_OF_ADA}.then(width => width > 640)"),
    )
    .await;
    ada.until(
        "all encodings to be sent",
        &format!("{OWN_ENCODINGS}.then(({{ q, h, f }}) => q.active && h.active && f.active)"),
    )
    .await;
    bob.until(
        "the panel to say so",
        "document.querySelector('#info-body li[data-source=camera]').innerText.includes('high')",
    )
    .await;
    ada.click("#info-open").await;
    ada.until(
        "the panel to show what is sent",
        "document.querySelector('#info-body').innerText.includes('medium')",
    )
    .await;
    ada.screenshot("panel").await;
    pin(&bob, "0").await;
    bob.until(
        "a quarter of Ada's picture again",
        &format!("{WIDTH_OF_ADA}.then(width => width > 0 && width <= 320)"),
    )
    .await;
    bob.close().await;
    ada.close().await;
}

#[tokio::test]
async fn a_picture_that_finds_no_room_says_so() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = join(&browsers, &server, "mill", "Ada").await;
    let bob = browsers.open(&server.url("/?room=mill&name=Bob")).await;
    // The page itself runs unchanged: what the server would say on a slow network is put in its mouth.
    bob.eval(
        "(() => {
           const Socket = window.WebSocket;
           window.WebSocket = function (url) {
             window.socket = new Socket(url);
             socket.addEventListener('message', event => {
               if (['layer', 'estimate'].includes(JSON.parse(event.data).type)) event.stopImmediatePropagation();
             });
             return socket;
           };
           window.hear = message => socket.onmessage({ data: JSON.stringify(message) });
         })()",
    )
    .await;
    bob.until(
        "the lobby",
        "document.querySelector('#join')?.disabled === false",
    )
    .await;
    bob.click("#join").await;
    bob.sees("Ada", "camera").await;
    let track =
        "millrace.people().find(p => p.name === 'Ada').tracks.find(t => t.source === 'camera').id";
    bob.click("#info-open").await;
    bob.eval("hear({ type: 'estimate', bps: 1234567 })").await;
    bob.eval(&format!(
        "hear({{ type: 'layer', track: {track}, layer: null, pause: 'no-room' }})"
    ))
    .await;
    let note = "document.querySelector('article[data-name=Ada][data-source=camera]').innerText";
    bob.until(
        "the tile to say why",
        &format!("{note}.includes('too slow')"),
    )
    .await;
    bob.until(
        "what the network carries",
        "document.querySelector('#info-body').innerText.includes('of ~1.2 Mbit/s')",
    )
    .await;
    bob.screenshot("paused").await;
    bob.eval(&format!(
        "hear({{ type: 'layer', track: {track}, layer: 0 }})"
    ))
    .await;
    bob.until(
        "the picture again",
        &format!("!{note}.includes('too slow')"),
    )
    .await;
    bob.close().await;
    ada.close().await;
}

const WHIP_AND_WHEP: &str = r"
  window.gathered = pc => new Promise(go => {
    if (pc.iceGatheringState === 'complete') return go();
    pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && go());
  });
  window.post = async (pc, url) => {
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp });
    if (response.status !== 201) throw new Error(response.status + ' ' + await response.text());
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    return { location: new URL(response.headers.get('Location'), url).href, etag: response.headers.get('ETag') };
  };
  window.whip = async url => {
    const pc = window.publisher = new RTCPeerConnection();
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    for (const track of media.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
    return window.published = await post(pc, url);
  };
  window.whep = async url => {
    const pc = window.viewer = new RTCPeerConnection();
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.addTransceiver('audio', { direction: 'recvonly' });
    const video = document.createElement('video');
    video.autoplay = true;
    const tile = document.createElement('article');
    Object.assign(tile.dataset, { name: 'Encoder', source: 'camera' });
    tile.append(video);
    document.body.append(tile);
    pc.ontrack = event => { video.srcObject = event.streams[0]; };
    window.millrace = { pc };
    return window.watched = await post(pc, url);
  };
";

/// Whether the encoder's browser thinks that it can send a megabit a second.
const ESTIMATE: &str = "publisher.getStats().then(stats => [...stats.values()]
    .some(s => s.type === 'candidate-pair' && s.availableOutgoingBitrate > 1e6))";

#[tokio::test]
async fn an_encoder_publishes_by_whip_and_a_player_of_another_origin_watches_by_whep() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let elsewhere = Server::start(&[]);
    // A page without a content security policy: it may fetch from anywhere, as a player's page would.
    let player = browsers.open(&elsewhere.url("/healthz")).await;
    let encoder = browsers.open(&server.url("/healthz")).await;
    for page in [&player, &encoder] {
        page.eval(&format!("(() => {{ {WHIP_AND_WHEP} }})()")).await;
    }
    // The player comes first and is answered at once; its media starts when the encoder's does.
    player
        .eval(&format!("whep({:?})", server.url("/v1/rooms/studio/whep")))
        .await;
    encoder
        .eval(&format!(
            "whip({:?})",
            server.url("/v1/rooms/studio/whip?name=Encoder")
        ))
        .await;
    player.sees("Encoder", "camera").await;
    player.hears("the encoder's sound").await;
    // Its packets are numbered, and their arrival is told: its estimate grows on that.
    encoder
        .until("an estimate of more than a megabit", ESTIMATE)
        .await;
    // Workers report once a second.
    until("feedback to be counted", || {
        server.metric("millrace_transport_feedback_sent_total") > 3
    })
    .await;

    let person = join(&browsers, &server, "studio", "Ada").await;
    person.sees("Encoder", "camera").await;
    encoder.eval("fetch(published.location, { method: 'DELETE' }).then(r => { if (!r.ok) throw r.status })").await;
    person
        .until(
            "the encoder to be gone",
            "!document.querySelector('article[data-name=Encoder]')",
        )
        .await;
    player.eval("fetch(watched.location, { method: 'DELETE' }).then(r => { if (!r.ok) throw r.status })").await;
    person.close().await;
    player.close().await;
    encoder.close().await;
}

/// A page's end of data channels alone, at the WHIP door: what came on each, by label.
const CHANNELS: &str = r"
  window.channels = async url => {
    const pc = window.publisher = new RTCPeerConnection();
    window.inbox = { room: [], lossy: [], millrace: [] };
    const open = (name, label, options) => {
      const channel = pc.createDataChannel(label, options);
      channel.binaryType = 'arraybuffer';
      channel.onmessage = ({ data }) => window.inbox[name].push(typeof data === 'string' ? data : data.byteLength);
      return new Promise(go => { channel.onopen = () => go(channel); });
    };
    const opened = Promise.all([
      open('room', 'room'), open('lossy', 'room', { ordered: false, maxRetransmits: 0 }), open('millrace', 'millrace'),
    ]);
    window.published = await post(pc, url);
    [window.room, window.lossy, window.control] = await opened;
    window.open_more = open;
    control.send(JSON.stringify({ type: 'hello' }));
  };
";

#[tokio::test]
async fn data_channels_reach_the_others_in_the_room() {
    let server = Server::start(&[]);
    let browsers = Browsers::start();
    let ada = browsers.open(&server.url("/healthz")).await;
    let bob = browsers.open(&server.url("/healthz")).await;
    for (page, name) in [(&ada, "Ada"), (&bob, "Bob")] {
        page.eval(&format!("(() => {{ {WHIP_AND_WHEP} {CHANNELS} }})()"))
            .await;
        let door = server.url(&format!("/v1/rooms/mill/whip?name={name}"));
        page.eval(&format!("channels({door:?})")).await;
        // The answer to `hello` says that the server has heard of the channels that were opened before.
        page.until("who I am", "JSON.parse(inbox.millrace[0] ?? '{}').you")
            .await;
    }
    ada.eval("room.send('hello, Bob')").await;
    bob.until("Ada's words", "inbox.room[0] === 'hello, Bob'")
        .await;
    bob.eval("(room.send(''), room.send(new Uint8Array(65536)), lossy.send('quick'))")
        .await;
    ada.until("nothing", "inbox.room[0] === ''").await;
    ada.until("a long message", "inbox.room[1] === 65536").await;
    ada.until("a quick message", "inbox.lossy[0] === 'quick'")
        .await;
    assert_eq!(ada.eval("inbox.lossy.length").await, 1);

    // To one person, by the ids that the control channel told.
    let id = "JSON.parse(inbox.millrace[0]).you";
    let (ada_id, bob_id) = (ada.eval(id).await, bob.eval(id).await);
    for (page, to) in [(&ada, &bob_id), (&bob, &ada_id)] {
        let to = format!("to:{}", to.as_str().unwrap());
        page.eval(&format!(
            "(inbox.to = [], open_more('to', {to:?}).then(c => {{ window.to = c; control.send('{{\"type\":\"hello\"}}'); }}))"
        ))
        .await;
        page.until("to be heard", "inbox.millrace.length >= 2")
            .await;
    }
    ada.eval("to.send('psst')").await;
    bob.until("a whisper", "inbox.to[0] === 'psst'").await;

    // Chat reaches those without a WebSocket; an unknown label closes its channel, and nothing else.
    ada.eval("control.send(JSON.stringify({ type: 'chat', text: 'on air' }))")
        .await;
    bob.until(
        "Ada's chat",
        "inbox.millrace.some(m => JSON.parse(m).text === 'on air')",
    )
    .await;
    ada.eval(
        "(window.odd = publisher.createDataChannel('files'), odd.onclose = () => { window.refused = true; })",
    )
    .await;
    ada.until("the odd channel to be closed", "window.refused")
        .await;
    ada.eval("room.close()").await;
    ada.until("the channel to be closed", "room.readyState === 'closed'")
        .await;
    bob.eval("lossy.send('still here')").await;
    ada.until("the other channel to go on", "inbox.lossy.length === 2")
        .await;
    until("messages to be counted", || {
        server.metric("millrace_data_messages_received_total") > 6
    })
    .await;
    assert_eq!(server.metric("millrace_drop_data_malformed_total"), 0);
    assert_eq!(server.metric("millrace_data_channels_refused_total"), 0);
    ada.close().await;
    bob.close().await;
}
