//! Packets on their way out: bursts, each to one subscriber, sealed into the caller's slot.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::burst::{Burst, Piece};
use super::continuity::renumber;
use super::log::Entry;
use super::moment::Moment;
use super::numbering::{Numbers, Shift};
use super::planner::Planner;
use super::redundancy;
use super::sender::{Route, Sender, SenderKey, Treatment};
use super::session::{Session, SessionKey};
use super::thinning::{Late, Lateness};
use super::track::{Track, TrackKey};
use super::{Engine, clock::Ntp};
use crate::limits::BURST_SEGMENTS_MAX;
use crate::srtp::SealKey;
use crate::transmit::Transmit;
use crate::wire::{ExtensionBlock, RtpHeader, red};

/// Bytes of an RTP header without extensions.
const HEADER_LEN: usize = 12;

/// Bytes of the original sequence number in a retransmission (RFC 4588 section 4).
pub(super) const OSN_LEN: usize = 2;

/// Padding of a packet that is nothing else: as much as its length field can say.
pub(super) const FILLER_LEN: usize = 255;

/// How many sessions before its turn a session is touched..
const SESSION_AHEAD: usize = 4;

/// ..and, which takes what was touched then, its first sender.
const SENDER_AHEAD: usize = 2;

/// The burst in the making. Its memory is used again for each.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) packets: Vec<Planned>,
    pub(super) burst: Burst,
    /// The packets' SRTP indices, for what is sealed of all together.
    indices: Vec<u64>,
    extensions: Encoded,
    /// When the first of its packets came that leaves for the first time.
    oldest: Option<Instant>,
}

/// The header extensions encoded last. The packets of a frame often have the same, and each is asked
/// for twice: for its size when the burst is planned, and when it is written.
#[derive(Debug)]
struct Encoded {
    block: ExtensionBlock,
    send_time: [u8; 3],
    /// Whose they are, and of which packet if they hold anything of its own.
    of: Option<(SenderKey, Option<u64>)>,
}

impl Encoded {
    fn begin(&mut self, now: Ntp) {
        // abs-send-time: 24 bits of NTP, 6 of seconds and 18 of fractions.
        let time = ((now.0 >> 14) & 0x00ff_ffff) as u32;
        let [_, high, middle, low] = time.to_be_bytes();
        self.send_time = [high, middle, low];
        self.of = None;
    }

    /// The extensions of a packet from this sender, with the elements of its `list`.
    fn block(
        &mut self,
        (key, sender): (SenderKey, &Sender),
        entry: &Entry,
        list: &[u8],
        shift: Shift,
    ) -> &mut ExtensionBlock {
        let of = (key, (!list.is_empty()).then(|| entry.position()));
        if self.of != Some(of) {
            sender.extensions(list, shift, self.send_time, &mut self.block);
            self.of = Some(of);
        }
        &mut self.block
    }
}

/// A packet that leaves with the burst.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) sender: SenderKey,
    /// Whose log has it: the sender may read another by the time that the burst is written.
    pub(super) track: TrackKey,
    pub(super) entry: Entry,
    pub(super) route: Route,
    /// The media's numbers.
    pub(super) numbers: Numbers,
    /// Number in the retransmission stream, when it leaves in that.
    pub(super) rtx: Option<u64>,
    /// Whether it has the marker whatever its publisher says: the picture ends with it for this receiver
    /// or somebody speaks after a pause (RFC 3551 section 4.1).
    pub(super) is_marked: bool,
    /// Whether it is only padding, which goes with the retransmissions; `entry` then is without content.
    pub(super) is_filler: bool,
    pub(super) piece: Piece,
}

impl Plan {
    /// An empty plan with its memory reserved.
    pub(super) fn new() -> Plan {
        Plan {
            packets: Vec::with_capacity(BURST_SEGMENTS_MAX),
            burst: Burst::default(),
            indices: Vec::with_capacity(BURST_SEGMENTS_MAX),
            extensions: Encoded {
                block: ExtensionBlock::new(),
                send_time: [0; 3],
                of: None,
            },
            oldest: None,
        }
    }

    fn begin(&mut self, now: Ntp) {
        self.packets.clear();
        self.burst = Burst::default();
        self.oldest = None;
        self.extensions.begin(now);
    }

    /// Adds a packet that leaves for the first time.
    pub(super) fn push_new(&mut self, planned: Planned) {
        let arrived = planned.entry.stamp.arrived;
        self.oldest = Some(self.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
        self.packets.push(planned);
    }

    /// Size of a packet of `body` bytes as a datagram, without padding.
    pub(super) fn datagram_len(
        &mut self,
        sender: (SenderKey, &Sender),
        (entry, list): (&Entry, &[u8]),
        shift: Shift,
        body: usize,
        seal: &SealKey,
    ) -> usize {
        let extensions = self.extensions.block(sender, entry, list, shift);
        HEADER_LEN + extensions.len() + body + seal.overhead()
    }
}

impl Engine {
    /// The next burst of media, of whichever session is next.
    pub(super) fn poll_media(&mut self, now: Instant, slot: &mut [u8]) -> Option<Transmit> {
        while let Some(&key) = self.ready.front() {
            self.touch_next();
            let transmit = self.poll_session(now, key, slot);
            let soon = self.moment(now).soon;
            let senders = &self.senders;
            let is_done = self.sessions.get_mut(key).is_none_or(|session| {
                session.is_ready = transmit.is_some() && session.has_due(senders, soon);
                !session.is_ready
            });
            if is_done {
                self.ready.pop_front();
            }
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// Has what the next sessions' bursts need brought into the cache while this one's is made. After a
    /// worker's sleep between two frames it is all cold, and the packets' own path, which needs one thing
    /// after the other, would wait for each by itself.
    fn touch_next(&self) {
        let session = |ahead: usize| self.sessions.get(*self.ready.get(ahead)?);
        let sender =
            session(SENDER_AHEAD).and_then(|session| self.senders.get(*session.pending.first()?));
        black_box(session(SESSION_AHEAD).map(Session::touch));
        black_box(sender.map(Sender::touch));
    }

    fn poll_session(&mut self, now: Instant, key: SessionKey, slot: &mut [u8]) -> Option<Transmit> {
        let Moment {
            ntp, soon, late, ..
        } = *self.moment(now);
        let session = self.sessions.get_mut(key)?;
        let path = session.ice.media_path()?;
        self.plan.begin(ntp);
        let mut planner = Planner {
            tracks: &self.tracks,
            senders: &mut self.senders,
            counters: &mut self.counters,
            plan: &mut self.plan,
            lateness: Lateness::new(late),
            allowance: usize::MAX,
        };
        let mut lacks = None;
        if let Some(downlink) = &session.downlink {
            planner.allowance = downlink.allowance(now);
            lacks = downlink.probe_allowance(now);
            if downlink.was_paced(now) {
                planner.lateness = Lateness::new(Late::paced(now));
            }
        }
        planner.plan_resends(session);
        planner.plan_media(session, soon);
        if let Some(lacks) = lacks {
            planner.plan_filler(session, lacks);
        }
        let is_spent = planner.allowance == 0;
        if let Some(track) = planner.lateness.keyframe_wanted() {
            self.request_keyframe(now, track);
        }
        let len = self.write_burst(now, key, slot);
        if is_spent || lacks.is_some() {
            let is_in_vain = len.is_none() && lacks.is_some_and(|lacks| lacks > 0);
            self.begin_pace(now, key, is_spent, is_in_vain);
        }
        let len = len?;
        let segment = self.plan.burst.segment.min(len);
        self.count_send(now);
        Some(Transmit { path, len, segment })
    }

    fn count_send(&mut self, now: Instant) {
        let Plan {
            packets, oldest, ..
        } = &self.plan;
        let held = oldest.map_or(Duration::ZERO, |oldest| {
            now.saturating_duration_since(oldest)
        });
        let counters = &mut self.counters;
        counters.media_sends += 1;
        counters.media_sends_held_us += held.as_micros() as u64;
        counters.rtp_forwarded += packets.len() as u64;
        if packets.len() > 1 {
            counters.rtp_sent_in_bursts += packets.len() as u64;
        }
    }

    /// Writes and seals what was planned, and returns its length; `None` for nothing.
    fn write_burst(&mut self, now: Instant, key: SessionKey, slot: &mut [u8]) -> Option<usize> {
        let Session { keys, downlink, .. } = self.sessions.get_mut(key)?;
        let seal = &keys.as_ref()?.seal;
        let Plan {
            packets,
            burst,
            indices,
            extensions,
            ..
        } = &mut self.plan;
        let mut len = 0;
        indices.clear();
        for (index, planned) in packets.iter().enumerate() {
            let sender = self.senders.get_mut(planned.sender)?;
            let padding = burst.padding(index, planned.piece);
            if padding > 0 && planned.rtx.is_none() {
                sender.handle_altered(planned.numbers.sequence);
            }
            let track = self.tracks.get(planned.track)?;
            let list = track.log.extensions(&planned.entry);
            let shift = planned.numbers.shift;
            let block = extensions.block((planned.sender, sender), &planned.entry, list, shift);
            let room = slot.get_mut(len..len + planned.piece.len + padding)?;
            if let Some(downlink) = downlink.as_mut().filter(|_| sender.is_numbered) {
                let number = downlink.handle_packet(now, room.len());
                block.set_first(number.to_be_bytes());
            }
            let written = planned.write(room, sender, track, block, seal, padding as u8);
            // A packet that was planned fits: its size was counted with the same extensions.
            debug_assert_eq!(written, Some(room.len()), "a packet is as long as planned");
            len += written?;
            indices.push(planned.index());
        }
        seal.sign_burst(slot.get_mut(..len)?, burst.segment, indices)?;
        if let Some(downlink) = downlink {
            downlink.handle_burst(now, (len, packets.len()));
        }
        (len > 0).then_some(len)
    }
}

/// Writes RTP padding: its last byte counts it (RFC 3550 section 5.1).
fn pad(room: &mut [u8], padding: u8) -> Option<()> {
    let room = room.get_mut(..usize::from(padding))?;
    room.fill(0);
    if let Some(last) = room.last_mut() {
        *last = padding;
    }
    Some(())
}

impl Planned {
    /// Its SRTP index.
    fn index(&self) -> u64 {
        self.rtx.unwrap_or(self.numbers.sequence)
    }

    /// Whether its picture has another number for this receiver.
    fn is_renumbered(&self) -> bool {
        let shift = self.numbers.shift;
        self.route.treatment == Treatment::Renumber && (shift.picture != 0 || shift.base != 0)
    }

    /// Writes the packet into `room`, which has exactly its size.
    fn write(
        &self,
        room: &mut [u8],
        sender: &Sender,
        track: &Track,
        block: &ExtensionBlock,
        seal: &SealKey,
        padding: u8,
    ) -> Option<usize> {
        let body = self.route.body(track.log.payload(&self.entry))?;
        let mut header = RtpHeader {
            marker: self.entry.stamp.marker || self.is_marked,
            payload_type: self.route.payload_type,
            sequence: self.numbers.sequence as u16,
            timestamp: self.numbers.timestamp,
            ssrc: sender.spec.ssrc,
            padding: padding > 0,
        };
        if let Some(index) = self.rtx {
            if self.is_filler {
                return self.write_filler(room, sender, block, seal);
            }
            header.sequence = index as u16;
            header.ssrc = sender.spec.rtx?;
            header.payload_type = self.route.rtx?;
            let header_len = header.write(room, block)?;
            let plain = room.get_mut(header_len..)?;
            let (osn, rest) = plain.split_first_chunk_mut::<OSN_LEN>()?;
            *osn = (self.numbers.sequence as u16).to_be_bytes();
            let copy = rest.get_mut(..body.len())?;
            copy.copy_from_slice(body);
            if self.is_renumbered() {
                renumber(copy, self.numbers.shift);
            }
            pad(rest.get_mut(body.len()..)?, padding)?;
            let plain_len = OSN_LEN + body.len() + usize::from(padding);
            return seal.seal_rtp_in_place_of_burst(room, header_len, plain_len, index);
        }
        let index = self.numbers.sequence;
        let header_len = header.write(room, block)?;
        match self.route.treatment {
            Treatment::Renumber if self.is_renumbered() => {
                let plain = room.get_mut(header_len..)?;
                let (copy, rest) = plain.split_at_mut_checked(body.len())?;
                copy.copy_from_slice(body);
                renumber(copy, self.numbers.shift);
                pad(rest, padding)?;
                let plain_len = body.len() + usize::from(padding);
                seal.seal_rtp_in_place_of_burst(room, header_len, plain_len, index)
            }
            Treatment::Copy | Treatment::Renumber | Treatment::Unwrap => {
                seal.seal_rtp_of_burst(room, header_len, body, padding, index)
            }
            Treatment::Wrap(payload_type, distance) => {
                let plain = room.get_mut(header_len..)?;
                let repeated = (track, &self.entry);
                let len = redundancy::write(plain, repeated, (payload_type, distance))?;
                pad(plain.get_mut(len..)?, padding)?;
                let plain_len = len + usize::from(padding);
                seal.seal_rtp_in_place_of_burst(room, header_len, plain_len, index)
            }
            Treatment::Rename(from, to) => {
                let copy = room.get_mut(header_len..header_len + body.len())?;
                copy.copy_from_slice(body);
                // A payload that is not what it claims to be leaves as it came.
                let _ = red::rewrite(copy, from, to);
                seal.seal_rtp_in_place_of_burst(room, header_len, body.len(), index)
            }
        }
    }

    /// Writes a packet of the retransmissions that is nothing but padding (RFC 3550 section 5.1).
    fn write_filler(
        &self,
        room: &mut [u8],
        sender: &Sender,
        block: &ExtensionBlock,
        seal: &SealKey,
    ) -> Option<usize> {
        let index = self.rtx?;
        let header = RtpHeader {
            marker: false,
            payload_type: self.route.rtx?,
            sequence: index as u16,
            timestamp: self.numbers.timestamp,
            ssrc: sender.spec.rtx?,
            padding: true,
        };
        let header_len = header.write(room, block)?;
        seal.seal_rtp_of_burst(room, header_len, &[], FILLER_LEN as u8, index)
    }
}
