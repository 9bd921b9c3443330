//! Between the RTSP client and a camera: the client connects to a port of ours on loopback, and what is said there is
//! carried to the camera by [`Talk`]. Packets go no further than here: they are the lane's.
//!
//! The client is `retina`. It keeps the order of requests and keeps sessions alive; what it cannot do is done here:
//! bounded answers, redirects, TLS, nonces that change, and connecting to nothing but the address that was checked.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use url::Url;

use super::super::limits::{
    BITRATE_BPS_MAX, CONNECT_TIME, DATAGRAMS_PER_TURN, FLOOD_TIME, HEAD_BYTES_MAX, ROOM_LOOK,
    ROOM_TIME,
};
use super::datagrams::Datagrams;
use super::dial::{Link, Wire};
use super::failure::{Failure, of_io};
use super::message::{Inbox, Message};
use super::talk::Talk;

/// What takes packets.
pub(super) trait Sink {
    /// A packet of a stream of the description.
    fn packet(&mut self, now: Instant, media: usize, is_rtcp: bool, bytes: &[u8]);

    /// Whether as many packets as a read brings would be taken.
    fn has_room(&mut self) -> bool;

    /// That was all for now.
    fn flush(&mut self);
}

/// Waits until there is room for what was read: meanwhile the camera, or the kernel, keeps what follows. Those who
/// have what they need are not kept from it, and the wait has an end.
async fn await_room(sink: &RefCell<impl Sink>) {
    let looks = ROOM_TIME.as_millis() / ROOM_LOOK.as_millis();
    for _ in 0..looks {
        if sink.borrow_mut().has_room() {
            return;
        }
        sleep(ROOM_LOOK).await;
    }
}

/// One connection's gate.
pub(super) struct Gate {
    listener: TcpListener,
    client: Option<TcpStream>,
    /// What the client sent and is no whole request yet.
    asked: Vec<u8>,
    wire: Box<dyn Wire>,
    inbox: Inbox,
    datagrams: Datagrams,
    flood: Flood,
}

/// What woke the gate.
enum Woken {
    Camera(usize),
    Client(usize),
    Stranger(TcpStream),
    Datagrams,
}

impl Gate {
    /// A gate to the camera behind `link`, and the URL at which the client finds it.
    pub(super) async fn open(link: Link, token: &str) -> Result<(Gate, Url), Failure> {
        let ours = |error: std::io::Error| Failure::Ours(of_io(&error));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(ours)?;
        let port = listener.local_addr().map_err(ours)?.port();
        let url = Url::parse(&format!("rtsp://127.0.0.1:{port}/{token}"))
            .expect("a number and hexadecimal digits make a URL");
        let gate = Gate {
            listener,
            client: None,
            asked: Vec::new(),
            wire: link.wire,
            inbox: Inbox::default(),
            datagrams: Datagrams::new(link.local, link.peer),
            flood: Flood::new(now()),
        };
        Ok((gate, url))
    }

    /// Carries what is said until something ends it, and says what.
    pub(super) async fn run(&mut self, talk: &RefCell<Talk>, sink: &RefCell<impl Sink>) -> Failure {
        loop {
            if let Err(failure) = self.turn(talk, sink).await {
                return failure;
            }
        }
    }

    async fn turn(
        &mut self,
        talk: &RefCell<Talk>,
        sink: &RefCell<impl Sink>,
    ) -> Result<(), Failure> {
        let woken = self.wait().await?;
        let now = now();
        match woken {
            Woken::Camera(0) => return Err(Failure::Closed),
            Woken::Camera(len) => {
                self.flood.take(now, len)?;
                self.inbox.filled(len);
                await_room(sink).await;
                self.on_messages(now, talk, sink)?;
            }
            Woken::Datagrams => {
                await_room(sink).await;
                self.on_datagrams(now, sink)?;
            }
            // Whoever connects first without being the client is in its place for one request.
            Woken::Stranger(stream) => {
                self.asked.clear();
                self.client = Some(stream);
            }
            Woken::Client(0) if self.is_known(talk) => return Err(Failure::Closed),
            Woken::Client(0) => self.client = None,
            Woken::Client(_) => self.on_requests(talk)?,
        }
        self.write(talk).await
    }

    /// Whether the client that is connected has asked something that only ours can.
    fn is_known(&self, talk: &RefCell<Talk>) -> bool {
        talk.borrow().is_begun()
    }

    async fn wait(&mut self) -> Result<Woken, Failure> {
        let broken = |error: std::io::Error| Failure::Broken(of_io(&error));
        let client = &mut self.client;
        let (listener, asked) = (&self.listener, &mut self.asked);
        let from_client = async {
            match client {
                Some(client) => client.read_buf(asked).await.map(Woken::Client),
                None => listener
                    .accept()
                    .await
                    .map(|(stream, _)| Woken::Stranger(stream)),
            }
        };
        tokio::select! {
            read = self.wire.read(self.inbox.room()) => read.map(Woken::Camera).map_err(broken),
            woken = from_client => woken.map_err(|error| Failure::Ours(of_io(&error))),
            () = self.datagrams.readable() => Ok(Woken::Datagrams),
        }
    }

    fn on_messages(
        &mut self,
        now: Instant,
        talk: &RefCell<Talk>,
        sink: &RefCell<impl Sink>,
    ) -> Result<(), Failure> {
        let mut talk = talk.borrow_mut();
        let mut sink = sink.borrow_mut();
        while let Some(message) = self.inbox.poll_message()? {
            match message {
                Message::Packet { channel, bytes } => {
                    if let Some((media, is_rtcp)) = talk.stream_of(channel) {
                        sink.packet(now, media, is_rtcp, bytes);
                    }
                }
                Message::Answer(answer) => talk.handle_answer(&answer, &mut self.datagrams)?,
                Message::Request => {}
            }
        }
        sink.flush();
        Ok(())
    }

    fn on_datagrams(&mut self, now: Instant, sink: &RefCell<impl Sink>) -> Result<(), Failure> {
        let mut sink = sink.borrow_mut();
        let mut budget = DATAGRAMS_PER_TURN;
        while let Some((media, is_rtcp, bytes)) = self.datagrams.poll_datagram(&mut budget) {
            self.flood.take(now, bytes.len())?;
            sink.packet(now, media, is_rtcp, bytes);
        }
        sink.flush();
        Ok(())
    }

    /// Requests that the client has sent whole. One that is not ours ends its connection, and the next one is taken.
    fn on_requests(&mut self, talk: &RefCell<Talk>) -> Result<(), Failure> {
        let mut talk = talk.borrow_mut();
        while let Some(end) = self
            .asked
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&self.asked[..end]).into_owned();
            self.asked.drain(..end + 4);
            if !talk.is_ours(&head) {
                self.client = None;
                self.asked.clear();
                return Ok(());
            }
            talk.handle_request(&head, &mut self.datagrams)?;
        }
        if self.asked.len() > HEAD_BYTES_MAX {
            self.client = None;
            self.asked.clear();
        }
        Ok(())
    }

    async fn write(&mut self, talk: &RefCell<Talk>) -> Result<(), Failure> {
        let (for_camera, for_client) = {
            let mut talk = talk.borrow_mut();
            (talk.poll_for_camera(), talk.poll_for_client())
        };
        if !for_camera.is_empty() {
            let written = async {
                self.wire.write_all(&for_camera).await?;
                self.wire.flush().await
            };
            match timeout(CONNECT_TIME, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Failure::Broken(of_io(&error))),
                Err(_) => return Err(Failure::Slow),
            }
        }
        if let (Some(client), false) = (&mut self.client, for_client.is_empty()) {
            let written = client.write_all(&for_client).await;
            written.map_err(|error| Failure::Ours(of_io(&error)))?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Holds a camera to its bitrate: a bucket that leaks as much.
#[derive(Debug)]
struct Flood {
    bytes: f64,
    at: Instant,
}

impl Flood {
    fn new(now: Instant) -> Flood {
        Flood {
            bytes: 0.0,
            at: now,
        }
    }

    fn take(&mut self, now: Instant, len: usize) -> Result<(), Failure> {
        let rate = BITRATE_BPS_MAX as f64 / 8.0;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.bytes = (self.bytes - passed * rate).max(0.0) + len as f64;
        if self.bytes > rate * FLOOD_TIME.as_secs_f64() {
            return Err(Failure::Flood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Has room when it was asked so often.
    struct Busy {
        looks: u32,
        free_at: u32,
    }

    impl Sink for Busy {
        fn packet(&mut self, _: Instant, _: usize, _: bool, _: &[u8]) {}

        fn has_room(&mut self) -> bool {
            self.looks += 1;
            self.looks >= self.free_at
        }

        fn flush(&mut self) {}
    }

    #[tokio::test]
    async fn a_camera_waits_for_room_and_not_for_ever() {
        for (free_at, looks) in [(1, 1), (5, 5), (u32::MAX, 200)] {
            let sink = RefCell::new(Busy { looks: 0, free_at });
            await_room(&sink).await;
            assert_eq!(sink.borrow().looks, looks);
        }
    }

    #[test]
    fn t_34_a_flood_is_told_from_a_large_picture() {
        let start = now();
        let mut flood = Flood::new(start);
        // 10 Mbit at once, each second.
        for n in 0..100 {
            let at = start + Duration::from_secs(n);
            assert_eq!(flood.take(at, 1_250_000), Ok(()));
        }
        // 200 Mbit/s.
        let at = |n: u64| start + Duration::from_secs(200) + Duration::from_millis(10 * n);
        let ends = (0..1_000).find(|n| flood.take(at(*n), 250_000).is_err());
        let ends = ends.expect("it is noticed");
        assert!((150..250).contains(&ends), "after {ends} times 10 ms");
    }
}
