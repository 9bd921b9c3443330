//! A person in a room: joins, offers, sends recorded media, receives everybody else's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::command::{DtlsRole, DtlsSpec, MediaKind};
use dataplane::dtls::Certificate;
use dataplane::id::{Mid, Rid};
use dataplane::sim::network::Rng;
use dataplane::sim::peer::{Peer, PeerConfig, PeerIce, PublicationSpec};
use dataplane::sim::reception::ReceptionSpec;
use serde_json::json;

use super::answer::{Answer, AnsweredSection};
use super::clip::Camera;
use super::encodings::{Encodings, RIDS};
use super::histogram::Histogram;
use super::offer::{
    AUDIO_LEVEL_ID, CAMERA_MID, MICROPHONE_MID, MID_ID, OPUS, OfferSpec, Ssrcs, VP8, VP8_RTX,
};
use super::publishers::{Publishers, SentTimes};
use super::reception::{StreamReport, Watched};
use super::roster::{RemoteTrack, Roster, ServerMessage};
use super::sections::{Sections, mid_of_receiver};
use super::tune::{Microphone, Tune};

/// Between the reports of a person, as browsers send them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a person is told at birth.
#[derive(Clone, Debug)]
pub(super) struct PersonConfig {
    pub(super) room: String,
    pub(super) name: String,
    /// Which of the people it is: nobody begins its recording where the one before does.
    pub(super) number: usize,
    pub(super) seed: u64,
    /// Zero of the meeting's time.
    pub(super) epoch: Instant,
    pub(super) certificate: Certificate,
    pub(super) encodings: Encodings,
    pub(super) tune: Arc<Tune>,
    pub(super) publishers: Publishers,
}

/// What came of a person.
#[derive(Clone, Debug)]
pub(super) struct PersonReport {
    /// From the first message to SRTP keys.
    pub(super) connected_in: Option<Duration>,
    /// Why it is not in the meeting any more.
    pub(super) failure: Option<String>,
    /// Key frames that it was asked for, of all its encodings.
    pub(super) key_requests: u64,
    pub(super) unreadable: u64,
    pub(super) streams: Vec<StreamReport>,
    pub(super) latency: Histogram,
    pub(super) lateness: Histogram,
}

/// An offer that is not answered yet.
#[derive(Debug)]
struct Pending {
    id: u64,
    sections: Sections,
    asked_at: Instant,
}

/// A person, without IO.
///
/// Call order: any `handle_*` with the current time, then drain `poll_text` and `poll_transmit`,
/// then wait until `poll_timeout` or the next input.
#[derive(Debug)]
pub(super) struct Person {
    config: PersonConfig,
    began_at: Instant,
    offer: OfferSpec,
    roster: Roster,
    sections: Sections,
    /// By section that receives.
    watched: Vec<Option<Watched>>,
    /// Whether the sections changed since the last offer.
    dirty: bool,
    pending: Option<Pending>,
    offers: u64,
    peer: Option<Peer>,
    candidates: Vec<SocketAddr>,
    sent: Arc<SentTimes>,
    texts: VecDeque<String>,
    failure: Option<String>,
    /// How late `handle_timeout` is called: what this program itself adds to all that it measures.
    lateness: Histogram,
}

impl Person {
    /// Somebody who wants to join.
    pub(super) fn new(now: Instant, config: PersonConfig) -> Person {
        let mut rng = Rng::new(config.seed);
        let join = json!({"type": "join", "room": config.room, "name": config.name});
        let mut offer = OfferSpec {
            ufrag: format!("{:08x}", rng.next_u32()),
            pwd: format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()),
            fingerprint: config.certificate.fingerprint(),
            ssrcs: Ssrcs {
                audio: rng.next_u32(),
                video: rng.next_u32(),
                video_rtx: rng.next_u32(),
                encodings: [0; RIDS.len()],
            },
            simulcast: config.encodings.is_simulcast(),
            session_id: rng.next_u64() >> 2,
            cname: format!("{:016x}", rng.next_u64()),
        };
        offer.ssrcs.encodings = std::array::from_fn(|_| rng.next_u32());
        Person {
            config,
            began_at: now,
            offer,
            roster: Roster::default(),
            sections: Sections::default(),
            watched: Vec::new(),
            dirty: false,
            pending: None,
            offers: 0,
            peer: None,
            candidates: Vec::new(),
            sent: Arc::default(),
            texts: VecDeque::from([join.to_string()]),
            failure: None,
            lateness: Histogram::default(),
        }
    }

    /// Takes a message of the server.
    pub(super) fn handle_text(&mut self, now: Instant, text: &str) {
        let Ok(message) = serde_json::from_str::<ServerMessage>(text) else {
            // The one message without a type is the last: an error.
            self.fail(&format!("the server says {text}"));
            return;
        };
        match message {
            ServerMessage::Joined { you, people } => {
                self.config.publishers.insert(&you, self.sent.clone());
                self.roster = Roster::new(you, people);
                // What it sends is offered even to an empty room.
                self.dirty = true;
            }
            ServerMessage::PersonJoined { person } => self.roster.add(person),
            ServerMessage::PersonLeft { id } => self.roster.remove(&id),
            ServerMessage::Tracks { id, tracks } => self.roster.set_tracks(&id, tracks),
            ServerMessage::Answer { id, sdp } => self.on_answer(now, id, &sdp),
            ServerMessage::Refused { id, error } => {
                self.fail(&format!("offer {id} was refused: {error}"));
            }
            ServerMessage::MediaLost { reason } | ServerMessage::Closed { reason } => {
                self.fail(&reason);
            }
            ServerMessage::Other => return,
        }
        self.negotiate(now);
    }

    /// Takes a datagram.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        peer.handle_datagram(now, from, datagram);
        let now_us = now.saturating_duration_since(self.config.epoch).as_micros() as u64;
        while let Some(arrival) = peer.poll_arrival() {
            let mut watched = self.watched.iter_mut().flatten();
            if let Some(watched) = watched.find(|watched| watched.ssrc == arrival.ssrc) {
                watched.handle_arrival(now, now_us, &arrival);
            }
        }
        self.note_end();
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(due) = self.poll_timeout() {
            self.lateness.add(now.saturating_duration_since(due));
        }
        let Some(peer) = &mut self.peer else {
            return;
        };
        for watched in self.watched.iter_mut().flatten() {
            if watched.poll_key_request(now) {
                peer.request_key_frame(watched.ssrc);
            }
        }
        peer.handle_timeout(now);
        self.note_end();
    }

    /// Counts from here on.
    pub(super) fn handle_measure(&mut self) {
        self.lateness = Histogram::default();
        let Some(peer) = &self.peer else {
            return;
        };
        for watched in self.watched.iter_mut().flatten() {
            watched.handle_measure(peer);
        }
    }

    /// Leaves the room.
    pub(super) fn handle_leave(&mut self, now: Instant) {
        if let Some(peer) = &mut self.peer {
            peer.handle_close(now);
        }
        self.texts.push_back(json!({"type": "leave"}).to_string());
    }

    /// The connection to the server broke.
    pub(super) fn handle_broken(&mut self, reason: &str) {
        self.fail(reason);
    }

    /// The next message to the server.
    pub(super) fn poll_text(&mut self) -> Option<String> {
        self.texts.pop_front()
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.as_mut()?.poll_transmit()
    }

    /// When `handle_timeout` wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let peer = self.peer.as_ref()?;
        let watched = self.watched.iter().flatten();
        let asks = watched.filter_map(Watched::poll_timeout);
        asks.chain(peer.poll_timeout()).min()
    }

    /// Where the server may be reached, the best address first; none before its first answer.
    pub(super) fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// What came of it so far.
    pub(super) fn report(&self, now: Instant) -> PersonReport {
        let mut report = PersonReport {
            connected_in: None,
            failure: self.failure.clone(),
            key_requests: 0,
            unreadable: 0,
            streams: Vec::new(),
            latency: Histogram::default(),
            lateness: self.lateness.clone(),
        };
        let Some(peer) = &self.peer else {
            return report;
        };
        report.connected_in = peer.connected_at().map(|at| at - self.began_at);
        let videos = [&[self.offer.ssrcs.video], &self.offer.ssrcs.encodings[..]].concat();
        let videos = videos.into_iter().filter_map(|ssrc| peer.publication(ssrc));
        report.key_requests = videos.map(|counts| counts.key_requests).sum();
        report.unreadable = peer.counts().unreadable;
        for watched in self.watched.iter().flatten() {
            let stream = watched.report(now, &self.config.name, peer);
            report.streams.push(stream);
            report.latency.merge(watched.latency());
        }
        report
    }

    /// Offers again when the sections are not what they should be, one offer at a time.
    fn negotiate(&mut self, now: Instant) {
        self.dirty |= self.sections.assign(self.roster.tracks());
        if !self.dirty || self.pending.is_some() || self.failure.is_some() {
            return;
        }
        self.dirty = false;
        self.offers += 1;
        let (id, sections) = (self.offers, self.sections.clone());
        let receivers = sections.receivers.iter().enumerate();
        let wants: serde_json::Map<String, serde_json::Value> = receivers
            .filter_map(|(index, receiver)| {
                let wanted = receiver.wants.as_ref()?;
                Some((mid_of_receiver(index), wanted.id.as_str().into()))
            })
            .collect();
        let message = json!({
            "type": "offer",
            "id": id,
            "sdp": self.offer.to_sdp(id, &sections),
            "sources": { MICROPHONE_MID: "microphone", CAMERA_MID: "camera" },
            "wants": wants,
        });
        self.texts.push_back(message.to_string());
        self.pending = Some(Pending {
            id,
            sections,
            asked_at: now,
        });
    }

    fn on_answer(&mut self, now: Instant, id: u64, sdp: &str) {
        let Some(pending) = self.pending.take_if(|pending| pending.id == id) else {
            return;
        };
        let answer = match Answer::parse(sdp) {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(&error.to_string());
                return;
            }
        };
        for mid in [MICROPHONE_MID, CAMERA_MID] {
            if !answer.section(mid).is_some_and(|section| section.accepted) {
                self.fail(&format!("the server did not take section {mid}"));
                return;
            }
        }
        if self.peer.is_none() {
            self.connect(now, &answer);
        }
        self.candidates.clone_from(&answer.candidates);
        for (index, receiver) in pending.sections.receivers.into_iter().enumerate() {
            let section = answer.section(&mid_of_receiver(index));
            let section = section.filter(|section| section.sends);
            self.receive(pending.asked_at, index, receiver.wants, section);
        }
    }

    /// The first answer: there is somebody to connect with.
    fn connect(&mut self, now: Instant, answer: &Answer) {
        let config = PeerConfig {
            ice: PeerIce {
                local_ufrag: self.offer.ufrag.clone(),
                local_pwd: self.offer.pwd.clone(),
                remote_ufrag: answer.ufrag.clone(),
                remote_pwd: answer.pwd.clone(),
            },
            dtls: DtlsSpec {
                role: DtlsRole::Client,
                fingerprints: answer.fingerprints.clone(),
            },
            certificate: self.config.certificate.clone(),
            epoch: self.config.epoch,
            seed: self.config.seed,
            cname: self.offer.cname.clone(),
            report_interval: REPORT_INTERVAL,
        };
        let mut peer = Peer::new(now, config);
        peer.watch();
        let number = self.config.number;
        let mid_id = |mid: &str| {
            let id = answer.section(mid).and_then(|section| section.mid_id)?;
            Some((id, Mid::new(mid.as_bytes())?))
        };
        let audio = PublicationSpec {
            ssrc: self.offer.ssrcs.audio,
            rtx: None,
            payload_type: OPUS,
            clock_rate: 48_000,
            mid: mid_id(MICROPHONE_MID),
            rid: None,
            // One speaks at a time, as in a meeting.
            audio_level: (number == 0).then_some(AUDIO_LEVEL_ID),
            first_sequence: self.config.seed as u16,
            first_timestamp: self.offer.ssrcs.video,
        };
        let video = PublicationSpec {
            ssrc: self.offer.ssrcs.video,
            rtx: Some((self.offer.ssrcs.video_rtx, VP8_RTX)),
            payload_type: VP8,
            clock_rate: 90_000,
            mid: mid_id(CAMERA_MID),
            audio_level: None,
            ..audio.clone()
        };
        let microphone = Microphone::new(self.config.tune.clone(), number * 17);
        peer.publish(now, audio, Box::new(microphone));
        let rid_id = answer
            .section(CAMERA_MID)
            .and_then(|section| section.rid_id);
        for (spec, camera) in self.cameras(video, rid_id) {
            peer.publish(now, spec, Box::new(camera));
        }
        self.peer = Some(peer);
    }

    /// The streams of the camera, `single` being what one alone is sent as.
    fn cameras(
        &self,
        single: PublicationSpec,
        rid_id: Option<u8>,
    ) -> Vec<(PublicationSpec, Camera)> {
        let number = self.config.number;
        match &self.config.encodings {
            Encodings::One(clip) => {
                let camera = Camera::new(clip.clone(), number, self.sent.clone());
                vec![(single, camera)]
            }
            Encodings::Simulcast(clips) => {
                let streams = RIDS.iter().zip(self.offer.ssrcs.encodings).zip(clips);
                let streams = streams.map(|((rid, ssrc), clip)| {
                    let spec = PublicationSpec {
                        ssrc,
                        rtx: None,
                        rid: rid_id.zip(Rid::new(rid.as_bytes())),
                        ..single.clone()
                    };
                    // Nobody looks up when they left: picture ids change where encodings do.
                    (spec, Camera::new(clip.clone(), number, Arc::default()))
                });
                streams.collect()
            }
        }
    }

    /// Makes what is received in a section what was answered.
    fn receive(
        &mut self,
        asked_at: Instant,
        index: usize,
        track: Option<RemoteTrack>,
        section: Option<&AnsweredSection>,
    ) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        if self.watched.len() <= index {
            self.watched.resize_with(index + 1, || None);
        }
        let Some(slot) = self.watched.get_mut(index) else {
            return;
        };
        let after = track.zip(section.and_then(|section| Some((section, section.ssrc?))));
        let is_same = match (&slot, &after) {
            (Some(watched), Some((track, (_, ssrc)))) => {
                watched.track == *track && watched.ssrc == *ssrc
            }
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        if let Some(before) = slot.take() {
            peer.forget(before.ssrc);
        }
        let Some((track, (section, ssrc))) = after else {
            return;
        };
        let mid = Mid::new(section.mid.as_bytes());
        let is_video = track.kind == MediaKind::Video;
        peer.receive(ReceptionSpec {
            ssrc,
            payload_type: if is_video { VP8 } else { OPUS },
            rtx: section
                .rtx_ssrc
                .filter(|_| is_video)
                .map(|rtx| (rtx, VP8_RTX)),
            clock_rate: if is_video { 90_000 } else { 48_000 },
            mid: section.mid_id.filter(|id| *id == MID_ID).zip(mid),
            nack: is_video,
            // The recording has no stamps that the peer could follow: `Picture` asks.
            pli: false,
        });
        if is_video && self.config.encodings.is_simulcast() {
            // As a page with small tiles does, so that the machine is left to who is looked at.
            let prefer = json!({"type": "prefer", "track": track.id, "most": 0});
            self.texts.push_back(prefer.to_string());
        }
        let sent = self.config.publishers.find(&track.owner);
        *slot = Some(Watched::new(track, ssrc, asked_at, sent));
    }

    /// A session that ended by itself is a failure.
    fn note_end(&mut self) {
        if let Some(reason) = self.peer.as_ref().and_then(Peer::closed) {
            self.fail(&format!("the media session ended: {reason:?}"));
        }
    }

    fn fail(&mut self, reason: &str) {
        self.failure.get_or_insert_with(|| reason.to_owned());
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn person(now: Instant) -> Person {
        let config = PersonConfig {
            room: "mill".to_owned(),
            name: "Ada".to_owned(),
            number: 0,
            seed: 7,
            epoch: now,
            certificate: Certificate::generate().unwrap(),
            encodings: Encodings::people(),
            tune: Arc::new(Tune::people()),
            publishers: Publishers::default(),
        };
        Person::new(now, config)
    }

    fn said(person: &mut Person) -> Option<Value> {
        person
            .poll_text()
            .map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn one_offer_at_a_time_and_the_next_has_what_came_meanwhile() {
        let now = Instant::now();
        let mut ada = person(now);
        assert_eq!(said(&mut ada).unwrap()["type"], "join");
        let joined =
            r#"{"type":"joined","you":"a","people":[{"id":"a","name":"Ada","tracks":[]}]}"#;
        ada.handle_text(now, joined);
        let first = said(&mut ada).unwrap();
        assert_eq!((&first["id"], &first["wants"]), (&json!(1), &json!({})));

        let bob = json!({"type": "person-joined", "person": {"id": "b", "name": "Bob", "tracks": [
            {"id": "t", "source": "camera", "kind": "video", "muted": false}]}});
        ada.handle_text(now, &bob.to_string());
        assert_eq!(said(&mut ada), None, "the first offer is not answered yet");

        let section = |mid: u32| format!("m=audio 9 RTP 111\r\na=mid:{mid}\r\na=recvonly\r\n");
        let fingerprint = ["00"; 32].join(":");
        let answer = format!(
            "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n{}{}",
            section(0),
            section(1)
        );
        let answer = json!({"type": "answer", "id": 1, "sdp": answer});
        ada.handle_text(now, &answer.to_string());
        assert_eq!(
            ada.candidates(),
            ["127.0.0.1:9".parse::<SocketAddr>().unwrap()]
        );
        let second = said(&mut ada).unwrap();
        assert_eq!(second["wants"], json!({"2": "t"}));
        let sdp = second["sdp"].as_str().unwrap();
        assert!(sdp.contains("a=group:BUNDLE 0 1 2\r\n"), "{sdp}");
        ada.handle_timeout(now);
        assert!(ada.poll_transmit().is_some(), "it checks the way");
    }

    #[test]
    fn what_goes_wrong_is_remembered_in_its_first_words() {
        let now = Instant::now();
        let mut ada = person(now);
        ada.handle_text(now, r#"{"error":"the room is full","code":4009}"#);
        ada.handle_broken("closed");
        let failure = ada.report(now).failure.unwrap();
        assert!(failure.contains("the room is full"), "{failure}");
    }
}
