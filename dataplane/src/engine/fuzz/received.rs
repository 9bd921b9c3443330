//! What leaves the engines, at whom it arrives, and what it must be.

use super::packet::{Tail, digest};
use super::stream::Stream;
use super::track::Track;
use super::world::World;
use crate::command::MediaKind;
use crate::id::TrackId;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::transmit::Path;
use crate::wire::{Protocol, RtpView, classify, padding_len};

/// Payload types of receivers: voices, redundancy around them, pictures, their retransmissions.
const VOICE: u8 = 109;
const RED: u8 = 110;
const VIDEO: u8 = 120;
const VIDEO_RTX: u8 = 121;

/// Transport-wide numbers that a receiver keeps for its feedback.
const NUMBERS_MAX: usize = 256;

impl World {
    /// A datagram leaves a worker.
    pub(super) fn receive(&mut self, worker: usize, path: Path, datagram: &[u8]) {
        match classify(datagram) {
            Some(Protocol::Stun) => {
                assert!(self.greeted.contains(&path), "who said nothing is answered");
            }
            Some(Protocol::Rtp) => self.receive_rtp(worker, path, datagram),
            Some(Protocol::Rtcp) => self.receive_rtcp(worker, path, datagram),
            Some(Protocol::Dtls) | None => panic!("something leaves that nobody sent"),
        }
    }

    /// Reports and requests: they wait in a queue, so who they are for may have left or moved.
    fn receive_rtcp(&mut self, worker: usize, path: Path, datagram: &[u8]) {
        let mut plain = [0; DATAGRAM_BYTES_MAX];
        assert!(self.greeted.contains(&path), "who proved nothing is told");
        let theirs = self.clients.iter_mut().rev();
        let mut theirs = theirs.filter(|client| client.worker == worker && client.is_keyed);
        let is_read = theirs.any(|client| client.control.open(datagram, &mut plain).is_ok());
        assert!(is_read, "nobody reads it, or its index was used before");
        self.seen.control += 1;
    }

    fn receive_rtp(&mut self, worker: usize, path: Path, datagram: &[u8]) {
        let index = self
            .clients
            .iter()
            .position(|client| client.worker == worker && client.media == Some(path));
        let index = index.expect("media goes where its receiver was nominated");
        let view = RtpView::parse(datagram).expect("what leaves is RTP");
        let ssrc = view.ssrc().0;
        let client = &mut self.clients[index];
        let transport = view.extensions().find(|(id, _)| *id == 5);
        if let Some(number) = transport.and_then(|(_, value)| value.first_chunk()) {
            if client.numbers.len() >= NUMBERS_MAX {
                client.numbers.remove(0);
            }
            client.numbers.push(u16::from_be_bytes(*number));
        }
        let named = |stream: &Stream| stream.is_here && stream.rtx == Some(ssrc);
        let media_ssrc = if client.streams.contains_key(&ssrc) {
            ssrc
        } else {
            let mut streams = client.streams.iter();
            let found = streams.find(|(_, stream)| named(stream));
            *found.expect("a stream that nobody asked for").0
        };
        let stream = client.streams.get_mut(&media_ssrc).expect("found just now");
        assert!(stream.is_here, "a stream that is over");
        let is_repair = ssrc != media_ssrc;
        let indices = match is_repair {
            true => stream.repairs.entry(ssrc).or_default(),
            false => &mut stream.media,
        };
        let packet_index = indices.window.estimate(view.sequence());
        let mut plain = [0; DATAGRAM_BYTES_MAX];
        let len = client
            .open
            .open_rtp(datagram, view.header_len(), packet_index, &mut plain)
            .expect("what is sent can be read");
        let is_repeated = indices.note(packet_index, datagram);
        let plain = plain.get(..len).expect("no longer than the buffer");
        let padding = match view.has_padding() {
            true => padding_len(plain).expect("padding that counts itself"),
            false => 0,
        };
        let body = &plain[..len - padding];
        let received = Received {
            index,
            ssrc: media_ssrc,
            payload_type: view.payload_type().0,
        };
        if is_repair {
            self.read_repair(received, body);
        } else {
            self.read_media(received, packet_index, body, is_repeated);
        }
    }

    fn read_media(&mut self, received: Received, number: u64, body: &[u8], is_repeated: bool) {
        self.seen.media += 1;
        let tail = self.read_tail(received, body, !is_repeated);
        let client = &mut self.clients[received.index];
        let Some(stream) = client.streams.get_mut(&received.ssrc) else {
            return;
        };
        if let Some(before) = stream.got.insert(number, tail) {
            assert_eq!(before, tail, "a number stands for one packet");
        }
        if is_repeated {
            return;
        }
        let sent = tail.track.and_then(|id| Some((id, self.tracks.get(&id)?)));
        match sent.and_then(|(id, track)| Some((id, track.sent.get(&tail.count)?))) {
            Some((id, sent)) => stream.note(id, sent.source, sent.index),
            None => stream.is_loose = true,
        }
    }

    /// A retransmission (RFC 4588): the original's number, and the original. Or padding.
    fn read_repair(&mut self, received: Received, body: &[u8]) {
        if body.is_empty() {
            self.seen.padding += 1;
            return;
        }
        self.seen.repairs += 1;
        let (number, body) = body
            .split_first_chunk()
            .expect("a retransmission says of what");
        let number = u16::from_be_bytes(*number);
        assert_eq!(received.payload_type, VIDEO_RTX);
        let tail = self.read_tail(
            Received {
                payload_type: VIDEO,
                ..received
            },
            body,
            false,
        );
        let client = &mut self.clients[received.index];
        let Some(stream) = client.streams.get_mut(&received.ssrc) else {
            return;
        };
        let index = stream
            .index_of(number)
            .expect("what was never sent is not repeated");
        let lowest = stream.got.first_key_value().map(|(lowest, _)| *lowest);
        if lowest.is_some_and(|lowest| index >= lowest) {
            let before = *stream.got.entry(index).or_insert(tail);
            assert_eq!(before, tail, "what is repeated is what was sent");
        }
    }

    /// Whose packet it is, and that the receiver may have it.
    fn read_tail(&self, received: Received, body: &[u8], is_new: bool) -> Tail {
        let client = &self.clients[received.index];
        let stream = &client.streams[&received.ssrc];
        let tail = Tail::read(body).expect("a payload that was published");
        let owner = &self.clients[tail.client as usize];
        assert_eq!(owner.room, client.room, "a packet of another room");
        let of_owner = |id: &TrackId| self.tracks[id].owner == tail.client as usize;
        let Some(track) = tail.track else {
            assert!(stream.fed.iter().any(of_owner), "a packet of somebody else");
            return tail;
        };
        assert!(stream.fed.contains(&track), "a packet of another track");
        assert!(
            !is_new || stream.feed == Some(track),
            "a packet of what was sent before"
        );
        self.assert_whole(&self.tracks[&track], received, tail, body);
        tail
    }

    fn assert_whole(&self, track: &Track, received: Received, tail: Tail, body: &[u8]) {
        let kind = track.shape.kind;
        let types = match kind {
            MediaKind::Audio => [VOICE, RED],
            MediaKind::Video => [VIDEO, VIDEO],
        };
        let payload_type = received.payload_type;
        assert!(types.contains(&payload_type), "a number of another format");
        if payload_type != RED
            && track.is_exact()
            && let Some(sent) = track.sent.get(&tail.count)
        {
            assert_eq!(digest(body), sent.digest, "a packet that is not as it was");
        }
    }
}

/// What a packet says of itself, and who got it.
#[derive(Clone, Copy, Debug)]
struct Received {
    index: usize,
    ssrc: u32,
    payload_type: u8,
}
