//! What publishers send: media, repairs, and what is neither.

use super::packet::{TAIL_LEN, Tail, digest};
use super::sessions::stranger;
use super::stream::Stream;
use super::track::{EXTENSIONS, Sent, Track, VIDEO, VOICE, VOICE_RED, rid, rtx_of, rtx_type};
use super::world::World;
use crate::command::{MediaKind, PayloadKind};
use crate::id::{Ssrc, TrackId};
use crate::sim::script::Script;
use crate::transmit::Path;
use crate::wire::{ExtensionBlock, RtpHeader, RtpView, VideoCodec};

/// Packets of one operation.
const PACKETS_MAX: usize = 12;

/// Packets that are held back at once, and how far behind the newest each may be when it is delivered.
const LATE_MAX: usize = 8;
const BEHIND_MAX: u64 = 32;

/// Indices that a publisher may still repair.
const LEFT_OUT_MAX: usize = 64;

/// Longest payload before its tail: with header, extensions, number and tag it fits a datagram.
const FRONT_MAX: usize = 1_100;

/// What formats put before what they carry, at most: a retransmission's number, the headers of redundancy.
const FORMAT_HEADER_LEN_MAX: usize = 16;

/// The beginning of a VP8 key frame's payload behind its descriptor (RFC 7741 section 4.3).
const VP8_KEY: [u8; 10] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01];

/// What a run of packets is like.
struct Manner {
    flags: u8,
    more: u8,
    encoding: usize,
}

impl World {
    /// Some packets of a track, in order or not.
    pub(super) fn send_media(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.some_track(script) else {
            return;
        };
        let (count, flags, more) = (script.byte(), script.byte(), script.byte());
        let encodings = self.tracks[&id].encodings.len();
        let manner = Manner {
            flags,
            more,
            encoding: usize::from(count >> 4) % encodings,
        };
        let count = 1 + usize::from(count & 15) % PACKETS_MAX;
        let front = script.piece().to_vec();
        for number in 0..count {
            let is_last = number + 1 == count;
            self.send_packet(id, &manner, &front, is_last);
        }
    }

    fn send_packet(&mut self, id: TrackId, manner: &Manner, front: &[u8], is_last: bool) {
        let track = self
            .tracks
            .get_mut(&id)
            .expect("chosen among those that are there");
        let owner = track.owner;
        let count = self.clients[owner].count;
        self.clients[owner].count += 1;
        if manner.flags & 1 != 0 && is_last {
            // One is lost on its way.
            let encoding = &mut track.encodings[manner.encoding];
            if encoding.left_out.len() < LEFT_OUT_MAX {
                encoding.left_out.push(encoding.next);
            }
            encoding.next += 1;
        }
        let payload = payload(track, owner, count, manner, front);
        let encoding = &mut track.encodings[manner.encoding];
        let (ssrc, index) = (encoding.ssrc, encoding.next);
        encoding.next += 1;
        let sent = Sent {
            source: ssrc,
            index,
            digest: digest(body_of(track, manner, &payload)),
        };
        track.sent.insert(count, sent);
        let header = RtpHeader {
            marker: is_last && manner.flags & 2 == 0,
            payload_type: payload_type(track, manner),
            sequence: index as u16,
            timestamp: track.timestamp,
            ssrc: Ssrc(ssrc),
            padding: manner.more & 1 != 0,
        };
        if is_last {
            track.timestamp = track.timestamp.wrapping_add(u32::from(manner.more) * 90);
            track.picture = track.picture.wrapping_add(1);
        }
        let block = extensions(track, manner, front, count);
        let padding = if header.padding {
            manner.more.max(1)
        } else {
            0
        };
        let packet = self.clients[owner].seal_rtp(&header, &block, &payload, padding, index);
        let Some(packet) = packet else {
            return;
        };
        if manner.flags & 4 != 0 && self.late.len() < LATE_MAX {
            self.late.push((owner, ssrc, index, packet));
        } else {
            self.deliver(owner, ssrc, index, &packet);
        }
    }

    /// An authentic packet arrives at its worker.
    fn deliver(&mut self, owner: usize, ssrc: u32, index: u64, packet: &[u8]) {
        let client = &self.clients[owner];
        let (worker, path) = (client.worker, client.path);
        // From where its publisher proved nothing, or without keys, it goes nowhere.
        if self.is_taken(worker, path, packet) {
            self.note_delivered(ssrc, index);
            self.clients[owner].last_taken = packet.to_vec();
        }
    }

    /// An engine was given a packet. Who is sent nothing at the moment, or goes on with something else since, is not
    /// sent what comes late, and the numbers around it stand.
    fn note_delivered(&mut self, ssrc: u32, index: u64) {
        let is_late = self
            .delivered
            .highest(ssrc)
            .is_some_and(|highest| index < highest);
        if is_late {
            self.unsent += self.count_passing_over(ssrc);
        }
        self.delivered.note(ssrc, index);
    }

    /// How many streams that are fed from a source are not sent what came of it just now, and late.
    fn count_passing_over(&self, ssrc: u32) -> u64 {
        let is_fed = |stream: &Stream| {
            let track = stream.feed.and_then(|id| self.tracks.get(&id));
            track.is_some_and(|track| track.encodings.iter().any(|its| its.ssrc == ssrc))
        };
        let passing = self.clients.iter().flat_map(|client| {
            let engine = &self.engines[client.worker];
            let streams = client.streams.values().filter(|stream| is_fed(stream));
            streams.filter(|stream| engine.passes_over_late(stream.sender, ssrc))
        });
        passing.count() as u64
    }

    /// A packet arrives. Whether it was authentic and new.
    fn is_taken(&mut self, worker: usize, path: Path, packet: &[u8]) -> bool {
        let before = self.engines[worker].counters.rtp_received;
        self.arrive(worker, path, packet);
        self.engines[worker].counters.rtp_received > before
    }

    /// A packet that was held back arrives, unless it is too late for that.
    pub(super) fn deliver_late(&mut self, script: &mut Script<'_>) {
        let chosen = script.below(self.late.len());
        if chosen >= self.late.len() {
            return;
        }
        let (owner, ssrc, index, packet) = self.late.swap_remove(chosen);
        let highest = self.delivered.highest(ssrc);
        let is_in_time = highest.is_none_or(|highest| index + BEHIND_MAX > highest);
        if is_in_time && self.clients[owner].is_here {
            self.deliver(owner, ssrc, index, &packet);
        }
    }

    /// A publisher sends what was lost once more, by the stream for that (RFC 4588).
    pub(super) fn send_repair(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.some_track(script) else {
            return;
        };
        let chosen = script.byte();
        let track = self
            .tracks
            .get_mut(&id)
            .expect("chosen among those that are there");
        let owner = track.owner;
        let manner = Manner {
            flags: 0,
            more: 0,
            encoding: usize::from(chosen) % track.encodings.len(),
        };
        if track.shape.kind == MediaKind::Audio {
            return;
        }
        let encoding = &mut track.encodings[manner.encoding];
        let Some(lost) = encoding.left_out.pop() else {
            return;
        };
        let (ssrc, index) = (encoding.ssrc, encoding.rtx_next);
        encoding.rtx_next += 1;
        let count = self.clients[owner].count;
        self.clients[owner].count += 1;
        let front = script.piece();
        let content = payload(track, owner, count, &manner, front);
        let sent = Sent {
            source: ssrc,
            index: lost,
            digest: digest(&content),
        };
        track.sent.insert(count, sent);
        let mut payload = (lost as u16).to_be_bytes().to_vec();
        payload.extend_from_slice(&content);
        let mut block = ExtensionBlock::new();
        let _ = block.push(EXTENSIONS.mid.unwrap_or(0), track.mid().as_bytes());
        if track.encodings.len() > 1 {
            let id = EXTENSIONS.repaired_rid.unwrap_or(0);
            let _ = block.push(id, rid(manner.encoding).as_bytes());
        }
        let header = RtpHeader {
            marker: false,
            payload_type: rtx_type(),
            sequence: index as u16,
            timestamp: track.timestamp,
            ssrc: Ssrc(rtx_of(ssrc)),
            padding: false,
        };
        let packet = self.clients[owner].seal_rtp(&header, &block, &payload, 0, index);
        let highest = self.delivered.highest(ssrc);
        // What is not behind has not been missed yet.
        let is_in_time =
            highest.is_some_and(|highest| lost < highest && lost + BEHIND_MAX > highest);
        if let Some(packet) = packet {
            let client = &self.clients[owner];
            let (worker, path) = (client.worker, client.path);
            if self.is_taken(worker, path, &packet) && is_in_time {
                self.note_delivered(ssrc, lost);
            }
        }
    }

    /// Any plaintext under the right key.
    pub(super) fn send_raw_media(&mut self, script: &mut Script<'_>) {
        if self.is_strict {
            return;
        }
        let Some(index) = self.somebody(script) else {
            return;
        };
        let mut packet = script.piece().to_vec();
        if let Some(first) = packet.first_mut() {
            // Version 2, and no padding: the tail would count it.
            *first = *first & 0x1f | 0x80;
        }
        let choices = script.byte();
        let ssrcs: Vec<u32> = self
            .tracks
            .values()
            .filter(|track| track.owner == index && track.is_here)
            .flat_map(|track| &track.encodings)
            .flat_map(|encoding| [encoding.ssrc, rtx_of(encoding.ssrc)])
            .collect();
        let client = &mut self.clients[index];
        let tail = Tail {
            client: client.number,
            track: None,
            count: client.count,
        };
        client.count += 1;
        packet.extend_from_slice(&tail.bytes());
        if let (Some(ssrc), Some(place)) = (
            ssrcs.get(usize::from(choices) % ssrcs.len().max(1)),
            packet.get_mut(8..12),
        ) {
            place.copy_from_slice(&ssrc.to_be_bytes());
        }
        let Ok(view) = RtpView::parse(&packet) else {
            return;
        };
        let (header_len, sequence) = (view.header_len(), view.sequence());
        if header_len + FORMAT_HEADER_LEN_MAX + TAIL_LEN > packet.len() {
            // The header would be made of the tail.
            return;
        }
        if view.payload_type() == VOICE_RED
            && let Some(first) = packet.get_mut(header_len)
        {
            // One block: repetitions would be made of the tail.
            *first &= 0x7f;
        }
        let mut sealed = packet.clone();
        sealed.resize(packet.len() + 32, 0);
        let len = packet.len() - header_len;
        let sealed_len =
            client
                .seal
                .seal_rtp_in_place(&mut sealed, header_len, len, u64::from(sequence));
        client.is_loose = true;
        let (worker, path) = (client.worker, client.path);
        if let Some(sealed) = sealed_len.and_then(|len| sealed.get(..len)) {
            let sealed = sealed.to_vec();
            self.arrive(worker, path, &sealed);
        }
    }

    /// The last packet once more, as it was or with a byte changed: it goes nowhere.
    pub(super) fn send_changed(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let (at, mask) = (script.short(), script.byte());
        let client = &self.clients[index];
        let mut packet = client.last_taken.clone();
        let (worker, path) = (client.worker, client.path);
        let len = packet.len().max(1);
        if let Some(byte) = packet.get_mut(usize::from(at) % len) {
            *byte ^= mask;
        }
        let before = self.engines[worker].counters.rtp_received;
        self.arrive(worker, path, &packet);
        let after = self.engines[worker].counters.rtp_received;
        assert_eq!(
            before, after,
            "a packet that is not authentic, or came before"
        );
    }

    /// A publisher begins anew with another source, and leaves some numbers out.
    pub(super) fn change_source(&mut self, script: &mut Script<'_>) {
        let Some(id) = self.some_track(script) else {
            return;
        };
        let (jump, choices) = (script.short(), script.byte());
        let ssrc = self.number() << 4;
        let track = self
            .tracks
            .get_mut(&id)
            .expect("chosen among those that are there");
        let len = track.encodings.len();
        let encoding = &mut track.encodings[usize::from(choices >> 1) % len];
        encoding.left_out.clear();
        if choices & 1 == 0 {
            // So far ahead that it is still ahead for who follows by 16 bits.
            encoding.next += u64::from(jump & 0x7fff);
            return;
        }
        let gone = encoding.ssrc;
        encoding.ssrc = ssrc;
        encoding.next = u64::from(jump);
        self.late.retain(|(_, source, _, _)| *source != gone);
    }

    /// Any bytes from somebody's address.
    pub(super) fn send_raw(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let client = &self.clients[index];
        let (worker, path) = (client.worker, client.path);
        let before = self.engines[worker].counters.rtp_received;
        // A malformed check is told so, which is no more than came.
        self.greeted.insert(path);
        self.arrive(worker, path, script.piece());
        assert_eq!(before, self.engines[worker].counters.rtp_received);
    }

    /// Any bytes from nobody's address.
    pub(super) fn send_strange(&mut self, script: &mut Script<'_>) {
        let (worker, number) = (script.below(2), self.number());
        let path = stranger(number);
        let before = self.engines[worker].counters.bytes_sent;
        let bytes = script.piece();
        self.settle();
        self.greeted.insert(path);
        self.arrive(worker, path, bytes);
        let engine = &self.engines[worker];
        assert!(!engine.paths.contains_key(&path));
        assert!(engine.counters.bytes_sent <= before + bytes.len() as u64 || self.sends_max < 99);
    }
}

fn payload_type(track: &Track, manner: &Manner) -> crate::id::PayloadType {
    match track.shape.kind {
        MediaKind::Video => VIDEO,
        MediaKind::Audio if is_red(manner) => VOICE_RED,
        MediaKind::Audio => VOICE,
    }
}

fn is_red(manner: &Manner) -> bool {
    manner.flags & 8 != 0
}

/// What of a payload is forwarded to who takes no redundancy.
fn body_of<'a>(track: &Track, manner: &Manner, payload: &'a [u8]) -> &'a [u8] {
    let is_wrapped = track.shape.kind == MediaKind::Audio && is_red(manner);
    payload.get(usize::from(is_wrapped)..).unwrap_or_default()
}

fn payload(track: &Track, owner: usize, count: u32, manner: &Manner, front: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let is_voice = track.shape.kind == MediaKind::Audio;
    if is_voice && is_red(manner) {
        // No block but the primary one (RFC 2198 section 3).
        payload.push(VOICE.0);
    }
    if track.shape.payload == PayloadKind::Video(VideoCodec::Vp8) && manner.flags & 16 == 0 {
        let [high, low] = (track.picture | 0x8000).to_be_bytes();
        let temporal = manner.more >> 5 & 3;
        payload.extend_from_slice(&[0x90, 0xe0, high, low, track.picture as u8, temporal << 6]);
        if manner.flags & 32 == 0 {
            payload.extend_from_slice(&VP8_KEY);
        }
    }
    payload.extend_from_slice(front);
    if manner.flags & 64 != 0 {
        let len = 4 * usize::from(manner.more);
        payload.resize((payload.len() + len).min(FRONT_MAX), 0x5a);
    }
    let tail = Tail {
        client: owner as u32,
        track: Some(track.id),
        count,
    };
    payload.extend_from_slice(&tail.bytes());
    payload
}

fn extensions(track: &Track, manner: &Manner, front: &[u8], count: u32) -> ExtensionBlock {
    let mut block = ExtensionBlock::new();
    let mut push = |id: Option<u8>, value: &[u8]| {
        let _ = block.push(id.unwrap_or(0), value);
    };
    push(EXTENSIONS.mid, track.mid().as_bytes());
    if track.encodings.len() > 1 {
        push(EXTENSIONS.rid, rid(manner.encoding).as_bytes());
    }
    if manner.more & 2 != 0 {
        push(EXTENSIONS.transport_cc, &(count as u16).to_be_bytes());
    }
    if track.shape.kind == MediaKind::Audio {
        push(EXTENSIONS.audio_level, &[manner.more]);
    }
    if manner.flags & 128 != 0 {
        let described = front.get(..front.len().min(64)).unwrap_or_default();
        push(EXTENSIONS.dependency_descriptor, described);
        push(EXTENSIONS.abs_capture_time, &[manner.more; 8]);
        push(EXTENSIONS.video_orientation, &[manner.more & 3]);
    }
    block
}
