//! The one thread of the bare forwarder: a socket, and a loop.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use dataplane::dtls::Certificate;
use dataplane::id::PayloadType;
use dataplane::srtp::SequenceWindow;
use dataplane::wire::{BindingRequest, ExtensionBlock, Protocol, RtpHeader, RtpView, classify};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::PollFlags;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

use super::session::{Session, SessionSpec};
use crate::peers::meeting::now;
use crate::socket::wait_for;

/// Bytes that wait in the kernel, each way; the dataplane asks for as much.
const BUFFER_BYTES: usize = 8 << 20;

/// Packets that are received before they are sent.
const BATCH_MAX: usize = 256;

/// Bytes of the longest packet.
const PACKET_BYTES: usize = 1_500;

/// The longest GSO send.
const BURST_BYTES_MAX: usize = 60_000;
const BURST_SEGMENTS_MAX: usize = 64;

/// How often handshakes are looked after.
const TICK: Duration = Duration::from_millis(100);

/// How it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A datagram a call, received one at a time.
    Datagrams,
    /// All that came for a receiver in one call (UDP_SEGMENT), received in runs (UDP_GRO).
    Bursts,
}

/// A packet that was opened.
struct Opened {
    publisher: usize,
    header: RtpHeader,
    index: u64,
    payload: Vec<u8>,
}

/// The thread's world.
pub(super) struct Forwarder {
    manner: Manner,
    udp: UdpSocket,
    state: Option<UdpSocketState>,
    certificate: Certificate,
    comers: Receiver<SessionSpec>,
    sessions: Vec<Session>,
    by_address: HashMap<SocketAddr, usize>,
    by_ufrag: HashMap<Vec<u8>, usize>,
    batch: Vec<Opened>,
    slot: Vec<u8>,
    buffer: Vec<u8>,
}

impl Forwarder {
    /// Binds the socket; sessions come through the sender.
    pub(super) fn bind(
        address: SocketAddr,
        manner: Manner,
        certificate: Certificate,
    ) -> io::Result<(Forwarder, Sender<SessionSpec>, SocketAddr)> {
        let udp = UdpSocket::bind(address)?;
        udp.set_nonblocking(true)?;
        // Only for who may; the others take what they get.
        set_socket_recv_buffer_size_force(&udp, BUFFER_BYTES).ok();
        set_socket_send_buffer_size_force(&udp, BUFFER_BYTES).ok();
        let state = match manner {
            Manner::Datagrams => None,
            Manner::Bursts => Some(UdpSocketState::new((&udp).into())?),
        };
        let address = udp.local_addr()?;
        let (sender, comers) = channel();
        let forwarder = Forwarder {
            manner,
            udp,
            state,
            certificate,
            comers,
            sessions: Vec::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            batch: Vec::new(),
            slot: vec![0; 1 << 16],
            buffer: vec![0; 1 << 16],
        };
        Ok((forwarder, sender, address))
    }

    /// Forwards until nobody can come any more.
    pub(super) fn run(mut self) {
        let mut tick_at = now() + TICK;
        loop {
            let mut sockets = [rustix::event::PollFd::new(&self.udp, PollFlags::IN)];
            wait_for(&mut sockets, TICK);
            while let Ok(spec) = self.comers.try_recv() {
                let ufrag = spec.ice.local_ufrag.clone().into_bytes();
                self.by_ufrag.insert(ufrag, self.sessions.len());
                self.sessions.push(Session::new(now(), spec));
            }
            while self.receive() && self.batch.len() < BATCH_MAX {}
            match self.manner {
                Manner::Datagrams => self.send_datagrams(),
                Manner::Bursts => self.send_bursts(),
            }
            self.batch.clear();
            if tick_at <= now() {
                tick_at = now() + TICK;
                self.tick();
            }
        }
    }

    /// Takes what one call brings; `false` when there is nothing.
    fn receive(&mut self) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = match &self.state {
            None => {
                let received = self.udp.recv_from(&mut buffer);
                received.map(|(len, from)| (len, len, from))
            }
            Some(state) => {
                let mut meta = [RecvMeta::default()];
                let mut slices = [IoSliceMut::new(&mut buffer)];
                let received = state.recv((&self.udp).into(), &mut slices, &mut meta);
                let [meta] = meta;
                received.map(|_| (meta.len, meta.stride, meta.addr))
            }
        };
        if let Ok((len, stride, from)) = received {
            let run = buffer.get(..len).unwrap_or_default();
            for datagram in run.chunks(stride.max(1)) {
                self.take(from, datagram);
            }
        }
        self.buffer = buffer;
        // A port that was closed says so in the next call; it is none of the others' business.
        !matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        let known = self.by_address.get(&from).copied();
        match classify(datagram) {
            Some(Protocol::Rtp) => {
                if let Some(at) = known {
                    self.open(at, datagram);
                }
            }
            Some(Protocol::Rtcp) | None => {}
            Some(Protocol::Stun | Protocol::Dtls) => {
                let Some(at) = known.or_else(|| self.at_ufrag(datagram)) else {
                    return;
                };
                let Some(session) = self.sessions.get_mut(at) else {
                    return;
                };
                let mut out = Vec::new();
                session.handle_datagram(now(), &self.certificate, from, datagram, &mut out);
                if session.address == Some(from) {
                    self.by_address.insert(from, at);
                }
                for datagram in out {
                    self.udp.send_to(&datagram, from).ok();
                }
            }
        }
    }

    fn at_ufrag(&self, datagram: &[u8]) -> Option<usize> {
        let request = BindingRequest::parse(datagram).ok()??;
        let (ours, _) = request.username();
        self.by_ufrag.get(ours).copied()
    }

    /// Decrypts a publisher's packet.
    fn open(&mut self, publisher: usize, datagram: &[u8]) -> Option<()> {
        let session = self.sessions.get_mut(publisher)?;
        let (open, _) = session.keys.as_ref()?;
        let view = RtpView::parse(datagram).ok()?;
        let ssrc = view.ssrc().0;
        let known = session.windows.iter().position(|(of, _)| *of == ssrc);
        let at = known.unwrap_or_else(|| {
            session.windows.push((ssrc, SequenceWindow::new()));
            session.windows.len() - 1
        });
        let (_, window) = session.windows.get_mut(at)?;
        let index = window.estimate(view.sequence());
        let mut payload = vec![0; datagram.len()];
        let len = open
            .open_rtp(datagram, view.header_len(), index, &mut payload)
            .ok()?;
        payload.truncate(len);
        if !window.is_fresh(index) {
            return None;
        }
        window.accept(index);
        self.batch.push(Opened {
            publisher,
            header: RtpHeader {
                marker: view.marker(),
                payload_type: PayloadType(view.payload_type().0),
                sequence: view.sequence(),
                timestamp: view.timestamp(),
                ssrc: view.ssrc(),
                padding: view.has_padding(),
            },
            index,
            payload,
        });
        Some(())
    }

    /// Each packet to each receiver in turn.
    fn send_datagrams(&mut self) {
        for packet in &self.batch {
            for session in receivers(&self.sessions, packet.publisher) {
                let Some((len, to)) = seal(session, packet, &mut self.slot) else {
                    continue;
                };
                let datagram = self.slot.get(..len).unwrap_or_default();
                self.udp.send_to(datagram, to).ok();
            }
        }
    }

    /// Each receiver gets all packets of the batch, equal ones in one call.
    fn send_bursts(&mut self) {
        let mut publishers: Vec<usize> = self.batch.iter().map(|packet| packet.publisher).collect();
        publishers.sort_unstable();
        publishers.dedup();
        let mut rooms: Vec<&str> = publishers
            .iter()
            .filter_map(|at| Some(self.sessions.get(*at)?.spec.room.as_str()))
            .collect();
        rooms.sort_unstable();
        rooms.dedup();
        for session in self.sessions.iter().filter(|session| {
            !session.spec.publishes && rooms.contains(&session.spec.room.as_str())
        }) {
            let (mut written, mut count, mut segment) = (0, 0, 0);
            for packet in &self.batch {
                if !is_for(&self.sessions, session, packet.publisher) {
                    continue;
                }
                if written + PACKET_BYTES > BURST_BYTES_MAX || count == BURST_SEGMENTS_MAX {
                    self.send_run(session, written, segment);
                    (written, count) = (0, 0);
                }
                let room = self.slot.get_mut(written..).unwrap_or_default();
                let Some((len, _)) = seal(session, packet, room) else {
                    continue;
                };
                if count > 0 && len != segment {
                    self.send_run(session, written, segment);
                    self.slot.copy_within(written..written + len, 0);
                    (written, count) = (0, 0);
                }
                segment = len;
                written += len;
                count += 1;
            }
            self.send_run(session, written, segment);
        }
    }

    fn send_run(&self, session: &Session, len: usize, segment: usize) {
        let (Some(to), Some(state)) = (session.address, &self.state) else {
            return;
        };
        if len == 0 {
            return;
        }
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: self.slot.get(..len).unwrap_or_default(),
            segment_size: (segment < len).then_some(segment),
            src_ip: None,
        };
        state.try_send((&self.udp).into(), &transmit).ok();
    }

    fn tick(&mut self) {
        for session in &mut self.sessions {
            if session.keys.is_some() {
                continue;
            }
            let mut out = Vec::new();
            session.handle_timeout(now(), &mut out);
            for (datagram, to) in out.iter().zip(session.address.iter().cycle()) {
                self.udp.send_to(datagram, to).ok();
            }
        }
    }
}

/// Whether this session receives what that publisher sends: same room, and not oneself.
fn is_for(sessions: &[Session], session: &Session, publisher: usize) -> bool {
    sessions.get(publisher).is_some_and(|publisher| {
        publisher.spec.room == session.spec.room && publisher.spec.name != session.spec.name
    })
}

fn receivers(sessions: &[Session], publisher: usize) -> impl Iterator<Item = &Session> {
    let receivers = sessions.iter().filter(|session| !session.spec.publishes);
    receivers.filter(move |session| is_for(sessions, session, publisher))
}

/// Writes the packet under a receiver's key; its length and where it goes.
fn seal(session: &Session, packet: &Opened, room: &mut [u8]) -> Option<(usize, SocketAddr)> {
    let (_, key) = session.keys.as_ref()?;
    let header_len = packet.header.write(room, &ExtensionBlock::new())?;
    let len = key.seal_rtp(room, header_len, &packet.payload, 0, packet.index)?;
    Some((len, session.address?))
}
