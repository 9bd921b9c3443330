//! A client's `RTCPeerConnection`: what it offers, what was answered, and the media that follows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dataplane::command::{DtlsRole, DtlsSpec, MediaKind};
use dataplane::dtls::Certificate;
use dataplane::id::Mid;
use dataplane::sim::network::Rng;
use dataplane::sim::peer::{Peer, PeerConfig, PeerIce, PublicationSpec};
use dataplane::sim::reception::ReceptionSpec;
use dataplane::sim::source::{MediaSource, Shape, Synthetic, Vp8};

use crate::description::{Answer, Answered, Numbers, Section, Transport};
use crate::lane::Hello;

/// What is sent: a microphone and a camera, by their mids.
pub(crate) const SENDS: [(&str, MediaKind); 2] = [("0", MediaKind::Audio), ("1", MediaKind::Video)];

/// How media and what is said about it look in a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) audio: Shape,
    pub(crate) video: Shape,
    pub(crate) report_interval: Duration,
    pub(crate) consent_interval: Duration,
    /// Whether receivers tell when packets arrived.
    pub(crate) feedback: bool,
}

/// A section that receives.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) mid: String,
    pub(crate) kind: MediaKind,
    /// The track that is wanted there.
    pub(crate) want: Option<String>,
    /// The stream that comes, since the last answer.
    pub(crate) ssrc: Option<u32>,
}

/// An offer that is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    pub(crate) at: Instant,
    /// What each receiver wanted in it.
    wants: Vec<Option<String>>,
    sends: [bool; 2],
}

/// The connection.
pub(crate) struct Call {
    pub(crate) transport: Transport,
    certificate: Certificate,
    pub(crate) hello: Hello,
    pub(crate) peer: Option<Peer>,
    /// Our credentials and theirs, as the peer has them.
    ice: Option<PeerIce>,
    pub(crate) address: SocketAddr,
    /// Where the node is that answered.
    pub(crate) server: Option<SocketAddr>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) offers: u64,
    pub(crate) pending: Option<Pending>,
    pub(crate) answered_at: Instant,
    /// What of it is sent, since the last answer.
    pub(crate) sends: [bool; 2],
    ssrcs: [u32; 3],
    /// Whether the offer names them.
    signalled: bool,
    /// Names of the streams in their stamps.
    pub(crate) streams: [u32; 2],
    /// The node or the network ended it.
    pub(crate) is_over: bool,
    strangers: u64,
    seed: u64,
}

impl Call {
    pub(crate) fn new(
        now: Instant,
        rng: &mut Rng,
        numbers: Numbers,
        certificate: (Certificate, bool),
        address: SocketAddr,
        streams: [u32; 2],
    ) -> Call {
        let (certificate, is_real) = certificate;
        let mut fingerprint = certificate.fingerprint();
        if !is_real {
            fingerprint = std::array::from_fn(|_| rng.next_u32() as u8);
        }
        let hello = if is_real {
            Hello::Real
        } else {
            Hello::Saying(now)
        };
        let (ufrag, pwd) = credentials(rng);
        let base = rng.next_u32() & 0xffff_fff0;
        Call {
            transport: Transport {
                ufrag,
                pwd,
                fingerprint,
                numbers,
            },
            certificate,
            hello,
            peer: None,
            ice: None,
            address,
            server: None,
            receivers: Vec::new(),
            offers: 0,
            pending: None,
            answered_at: now,
            sends: [false; 2],
            ssrcs: [base + 1, base + 2, base + 3],
            signalled: rng.chance(0.5),
            streams,
            is_over: false,
            strangers: 0,
            seed: rng.next_u64(),
        }
    }

    /// Whether media can flow.
    pub(crate) fn is_connected(&self) -> bool {
        let up = |peer: &Peer| peer.connected_at().is_some() && peer.closed().is_none();
        !self.is_over && self.peer.as_ref().is_some_and(up)
    }

    /// Whether what was last agreed on has been so for this long.
    pub(crate) fn is_settled(&self, now: Instant, span: Duration) -> bool {
        let connected_at = self.peer.as_ref().and_then(Peer::connected_at);
        connected_at.is_some_and(|at| now >= at.max(self.answered_at) + span)
    }

    /// Whether there is nothing to offer for who sends this.
    pub(crate) fn is_empty(&self, sends: [bool; 2]) -> bool {
        self.receivers.is_empty() && sends == [false; 2]
    }

    /// The next offer restarts ICE.
    pub(crate) fn restart_ice(&mut self, rng: &mut Rng) {
        (self.transport.ufrag, self.transport.pwd) = credentials(rng);
    }

    /// A section for sound and one for a picture, of whomever the node chooses.
    pub(crate) fn want_whatever_comes(&mut self) {
        let kinds = [MediaKind::Audio, MediaKind::Video].into_iter().enumerate();
        let receivers = kinds.map(|(index, kind)| Receiver {
            mid: format!("r{index}"),
            kind,
            want: Some(String::new()),
            ssrc: None,
        });
        self.receivers = receivers.collect();
    }

    /// Sections that receive just these tracks, in any order; whether any changed.
    pub(crate) fn want(&mut self, tracks: &[(String, MediaKind)]) -> bool {
        let mut changed = false;
        for receiver in &mut self.receivers {
            let kept = receiver
                .want
                .as_ref()
                .is_none_or(|want| tracks.iter().any(|(id, _)| id == want));
            if !kept {
                receiver.want = None;
                changed = true;
            }
        }
        for (id, kind) in tracks {
            if self
                .receivers
                .iter()
                .any(|known| known.want.as_ref() == Some(id))
            {
                continue;
            }
            changed = true;
            let free = self
                .receivers
                .iter_mut()
                .find(|known| known.want.is_none() && known.kind == *kind);
            match free {
                Some(free) => free.want = Some(id.clone()),
                None => self.receivers.push(Receiver {
                    mid: format!("r{}", self.receivers.len()),
                    kind: *kind,
                    want: Some(id.clone()),
                    ssrc: None,
                }),
            }
        }
        changed
    }

    /// The next offer, of what it sends and what it wants.
    pub(crate) fn offer(&mut self, now: Instant, sends: Option<[bool; 2]>) -> String {
        self.offers += 1;
        let mut sections = Vec::new();
        let [audio, video, rtx] = self.ssrcs;
        for (index, (mid, kind)) in SENDS.into_iter().enumerate() {
            let Some(sends) = sends else { break };
            let is_sent = sends[index];
            let named = self.signalled && is_sent;
            let ssrcs = match kind {
                _ if !named => Vec::new(),
                MediaKind::Audio => vec![audio],
                MediaKind::Video => vec![video, rtx],
            };
            sections.push(Section {
                mid: mid.to_owned(),
                kind,
                direction: if is_sent { "sendonly" } else { "inactive" },
                ssrcs,
            });
        }
        for receiver in &self.receivers {
            sections.push(Section {
                mid: receiver.mid.clone(),
                kind: receiver.kind,
                direction: match receiver.want {
                    Some(_) => "recvonly",
                    None => "inactive",
                },
                ssrcs: Vec::new(),
            });
        }
        self.pending = Some(Pending {
            id: self.offers,
            at: now,
            wants: self
                .receivers
                .iter()
                .map(|known| known.want.clone())
                .collect(),
            sends: sends.unwrap_or_default(),
        });
        self.transport.offer(self.offers, &sections)
    }

    /// The offer was answered.
    pub(crate) fn handle_answer(&mut self, now: Instant, epoch: Instant, pace: &Pace, sdp: &str) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        let answer = Answer::read(sdp);
        self.answered_at = now;
        self.server = answer.address;
        self.connect(now, epoch, pace, &answer);
        for (index, (mid, kind)) in SENDS.into_iter().enumerate() {
            let takes = answer.section(mid).is_some_and(|section| section.receives);
            let sends = pending.sends[index];
            assert!(takes || !sends, "what is offered is taken: {sdp}");
            self.send(now, pace, index, kind, sends);
        }
        for (index, want) in pending.wants.into_iter().enumerate() {
            let section = self
                .receivers
                .get(index)
                .and_then(|receiver| answer.section(&receiver.mid))
                .filter(|section| section.sends && want.is_some());
            self.receive(index, section);
        }
    }

    /// New credentials of the node's, after an ICE restart over WHIP or WHEP.
    pub(crate) fn handle_restarted(&mut self, now: Instant, remote_ufrag: &str, remote_pwd: &str) {
        let ice = PeerIce {
            local_ufrag: self.transport.ufrag.clone(),
            local_pwd: self.transport.pwd.clone(),
            remote_ufrag: remote_ufrag.to_owned(),
            remote_pwd: remote_pwd.to_owned(),
        };
        if self.ice.as_ref() != Some(&ice)
            && let Some(peer) = &mut self.peer
        {
            peer.restart_ice(now, ice.clone());
            self.ice = Some(ice);
        }
    }

    fn connect(&mut self, now: Instant, epoch: Instant, pace: &Pace, answer: &Answer) {
        if self.peer.is_some() {
            self.handle_restarted(now, &answer.ufrag, &answer.pwd);
            return;
        }
        let ice = PeerIce {
            local_ufrag: self.transport.ufrag.clone(),
            local_pwd: self.transport.pwd.clone(),
            remote_ufrag: answer.ufrag.clone(),
            remote_pwd: answer.pwd.clone(),
        };
        self.ice = Some(ice.clone());
        let mut peer = Peer::new(
            now,
            PeerConfig {
                ice,
                dtls: DtlsSpec {
                    role: DtlsRole::Client,
                    fingerprints: answer.fingerprints(),
                },
                certificate: self.certificate.clone(),
                epoch,
                seed: self.seed,
                cname: "c".to_owned(),
                report_interval: pace.report_interval,
            },
        );
        if !matches!(self.hello, Hello::Real) {
            peer.await_keys();
        }
        peer.keep_consent_every(pace.consent_interval);
        peer.watch();
        if let Some(id) = self.transport.numbers.transport.filter(|_| pace.feedback) {
            peer.answer_feedback(id);
        }
        self.peer = Some(peer);
    }

    fn send(&mut self, now: Instant, pace: &Pace, index: usize, kind: MediaKind, sends: bool) {
        let before = std::mem::replace(&mut self.sends[index], sends);
        let Some(peer) = &mut self.peer else { return };
        let numbers = self.transport.numbers;
        let [audio, video, rtx] = self.ssrcs;
        if before && !sends {
            peer.unpublish([audio, video][index]);
        }
        if before || !sends {
            return;
        }
        let mid = Mid::new(SENDS[index].0.as_bytes()).expect("a short tag");
        let spec = PublicationSpec {
            ssrc: audio,
            rtx: None,
            payload_type: numbers.opus,
            clock_rate: 48_000,
            mid: Some((numbers.mid, mid)),
            rid: None,
            audio_level: Some(numbers.level),
            first_sequence: self.seed as u16,
            first_timestamp: (self.seed >> 16) as u32,
        };
        let stream = self.streams[index];
        let (spec, source): (PublicationSpec, Box<dyn MediaSource>) = match kind {
            MediaKind::Audio => (spec, Box::new(Synthetic::new(stream, pace.audio))),
            MediaKind::Video => {
                let video = PublicationSpec {
                    ssrc: video,
                    rtx: Some((rtx, numbers.rtx)),
                    payload_type: numbers.vp8,
                    clock_rate: 90_000,
                    audio_level: None,
                    ..spec
                };
                (video, Box::new(Vp8(Synthetic::new(stream, pace.video))))
            }
        };
        peer.publish(now, spec, source);
    }

    /// What a section receives from now on.
    fn receive(&mut self, index: usize, section: Option<&Answered>) {
        let (Some(receiver), Some(peer)) = (self.receivers.get_mut(index), &mut self.peer) else {
            return;
        };
        let ssrc = section.and_then(|section| section.ssrc);
        if receiver.ssrc == ssrc {
            return;
        }
        if let Some(before) = std::mem::replace(&mut receiver.ssrc, ssrc) {
            peer.forget(before);
        }
        let (Some(ssrc), Some(section)) = (ssrc, section) else {
            return;
        };
        let numbers = self.transport.numbers;
        let mid = Mid::new(receiver.mid.as_bytes()).expect("a short tag");
        let is_video = receiver.kind == MediaKind::Video;
        peer.receive(ReceptionSpec {
            ssrc,
            payload_type: if is_video { numbers.vp8 } else { numbers.opus },
            rtx: section.rtx.map(|rtx| (rtx, numbers.rtx)),
            clock_rate: if is_video { 90_000 } else { 48_000 },
            mid: Some((numbers.mid, mid)),
            nack: is_video,
            pli: is_video,
        });
    }

    /// What must hold of everything that came.
    pub(crate) fn assert_sound(&mut self, now: Instant) {
        let Some(peer) = &self.peer else { return };
        let counts = peer.counts();
        assert_eq!(counts.unreadable, 0, "what does not decrypt: {counts:?}");
        // Media may overtake the answer that announces it, or come in place of one that could not be written.
        let is_quiet = now > self.answered_at + Duration::from_secs(2);
        let is_settled = self.pending.is_none() && !self.is_over && is_quiet;
        assert!(
            !is_settled || counts.strangers == self.strangers,
            "a stream that nobody asked for: {counts:?}"
        );
        self.strangers = counts.strangers;
        for reception in peer.receptions() {
            let (ssrc, counts) = (reception.spec().ssrc, reception.counts());
            let faults = (counts.format_errors, counts.damaged);
            assert_eq!(faults, (0, 0), "{ssrc:x}: {counts:?}");
        }
    }
}

fn credentials(rng: &mut Rng) -> (String, String) {
    let pwd = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    (format!("{:08x}", rng.next_u32()), pwd)
}
