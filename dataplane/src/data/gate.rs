//! What of a peer's SCTP reaches the crate.
//!
//! The crate makes a stream of every number that it sees, steps one by one over any jump of a
//! FORWARD TSN, keeps requests to reset streams without end, ends the association at an ERROR and
//! panics at an error cause that is too long. What comes on a stream that we have reset it can
//! neither read nor forget, and answers the peer's own reset "in progress" for ever. So every packet
//! is written anew: of well-formed chunks, within bounds, and with what has no reader turned into a
//! byte on a stream that is read and thrown away, because it has to be acknowledged all the same.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::channel::DataDrops;
use super::packet::{
    Chunk, Draft, Malformed, Packet, kind, parameters, u16_at, u32_at, write_parameter,
};
use crate::limits::{
    DATA_CHUNK_OVERHEAD_BYTES, DATA_CHUNKS_AHEAD_MAX, DATA_FORWARD_MAX, DATA_RECEIVE_BUFFER_BYTES,
    DATA_RECEIVED_BYTES_MAX, DATA_RESETS_DEFERRED_MAX, DATA_RESETS_UNANSWERED_MAX,
    DATA_STREAMS_MAX,
};

/// The stream whose messages nobody reads: no peer may use it.
pub(super) const SINK: u16 = DATA_STREAMS_MAX;

/// In a DATA chunk's flags: unordered, the first fragment and the last (RFC 9260 section 3.3.1).
const UNORDERED_AND_WHOLE: u8 = 0b111;

/// Parameter types (RFC 9260 section 3.3, RFC 3758 section 3.1, RFC 5061 section 4.2.7, RFC 6525
/// section 4).
mod parameter {
    pub(super) const HEARTBEAT_INFO: u16 = 1;
    pub(super) const STATE_COOKIE: u16 = 7;
    pub(super) const OUTGOING_RESET: u16 = 13;
    pub(super) const RESET_RESPONSE: u16 = 16;
    pub(super) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
    pub(super) const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
}

/// In an answer to a reset: not yet (RFC 6525 section 4.4).
const IN_PROGRESS: u32 = 6;

/// Smallest receive window that an INIT may announce, in bytes (RFC 9260 section 3.3.2).
const WINDOW_BYTES_MIN: u32 = 1_500;

/// The fixed part of an INIT's value.
const INIT_BYTES: usize = 16;

/// What is to be done with a packet.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Drop,
    /// The crate may see this.
    Pass(Bytes),
    /// The peer wants an association.
    Init {
        /// Tells repeats of an INIT from another one.
        tag: u32,
        /// The number that the peer's first chunk will have.
        first_tsn: u32,
        /// Whether it moves on past chunks that it gave up (RFC 3758).
        forwards: bool,
        /// For the crate.
        packet: Bytes,
    },
    /// The peer ends it.
    Abort,
}

/// The gate in front of one association.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Our verification tag, once our INIT or INIT ACK left.
    tag: Option<u32>,
    /// Whether an INIT of ours is unanswered.
    awaits_init_ack: bool,
    /// Whether the peer said that it moves on past chunks that it gave up.
    forwards: bool,
    /// Up to here we told the peer that we have everything.
    cumulative: u32,
    /// Memory of chunks that the crate may hold, at most; nothing once it says so.
    held_bytes: usize,
    /// The peer's requests to reset streams that wait for chunks.
    resets_deferred: BTreeSet<u32>,
    /// Our requests that were not answered.
    resets_unanswered: BTreeSet<u32>,
}

impl Gate {
    /// The gate of a peer whose INIT was taken.
    pub(super) fn after_init(first_tsn: u32, forwards: bool) -> Gate {
        Gate {
            forwards,
            cumulative: first_tsn.wrapping_sub(1),
            ..Gate::default()
        }
    }

    /// Judges a packet of the peer; `is_closing` says whether we have reset a stream that the peer
    /// has not reset yet.
    pub(super) fn handle_packet(
        &mut self,
        bytes: &[u8],
        is_closing: impl Fn(u16) -> bool,
        drops: &mut DataDrops,
    ) -> Verdict {
        let Ok(packet) = Packet::parse(bytes) else {
            drops.malformed += 1;
            return Verdict::Drop;
        };
        let verdict = match packet.chunks().next() {
            Some(Ok(first)) if first.kind == kind::INIT => judge_init(&packet, &first),
            Some(Ok(_)) if self.tag == Some(packet.tag) => self.judge(&packet, is_closing, drops),
            _ => Err(Malformed),
        };
        verdict.unwrap_or_else(|Malformed| {
            drops.malformed += 1;
            Verdict::Drop
        })
    }

    /// A message was read, of so many bytes in so many chunks.
    pub(super) fn handle_read(&mut self, bytes: usize, chunks: usize) {
        let freed = bytes + chunks * DATA_CHUNK_OVERHEAD_BYTES;
        self.held_bytes = self.held_bytes.saturating_sub(freed);
    }

    /// Learns from a packet of ours; `false` when the peer has left too much of it unanswered.
    #[must_use]
    pub(super) fn observe(&mut self, bytes: &[u8]) -> bool {
        // It is the crate's own: what cannot be read there has nothing to teach.
        let Ok(packet) = Packet::parse(bytes) else {
            return true;
        };
        for chunk in packet.chunks().map_while(Result::ok) {
            match chunk.kind {
                kind::INIT | kind::INIT_ACK => {
                    self.tag = u32_at(chunk.value, 0);
                    self.awaits_init_ack = chunk.kind == kind::INIT;
                }
                kind::SACK => self.observe_sack(chunk.value),
                kind::RECONFIG => self.observe_reconfig(chunk.value),
                _ => {}
            }
        }
        self.resets_unanswered.len() <= DATA_RESETS_UNANSWERED_MAX
    }

    /// Memory of chunks that the crate may hold.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn judge(
        &mut self,
        packet: &Packet<'_>,
        is_closing: impl Fn(u16) -> bool,
        drops: &mut DataDrops,
    ) -> Result<Verdict, Malformed> {
        let mut draft = Draft::like(packet);
        for chunk in packet.chunks() {
            let chunk = chunk?;
            let value = chunk.value;
            match chunk.kind {
                kind::ABORT => return Ok(Verdict::Abort),
                kind::DATA => self.judge_data(&chunk, &is_closing, &mut draft, drops)?,
                kind::SACK => {
                    let gaps = u16_at(value, 8).ok_or(Malformed)?;
                    let repeats = u16_at(value, 10).ok_or(Malformed)?;
                    let items = usize::from(gaps) + usize::from(repeats);
                    let sack = value.get(..12 + 4 * items).ok_or(Malformed)?;
                    draft.push(chunk.kind, 0, sack);
                }
                kind::HEARTBEAT => {
                    let info = parameters(value).next().ok_or(Malformed)??;
                    if info.kind != parameter::HEARTBEAT_INFO {
                        return Err(Malformed);
                    }
                    let mut alone = Vec::new();
                    write_parameter(info.kind, info.value, &mut alone);
                    draft.push(chunk.kind, 0, &alone);
                }
                kind::FORWARD_TSN => self.judge_forward(&chunk, &mut draft, drops)?,
                kind::RECONFIG => self.judge_reconfig(&chunk, &mut draft, drops)?,
                kind::INIT_ACK => return self.judge_init_ack(packet, value),
                kind::COOKIE_ECHO if !value.is_empty() => draft.push(chunk.kind, 0, value),
                kind::COOKIE_ACK | kind::SHUTDOWN_ACK | kind::SHUTDOWN_COMPLETE => {
                    draft.push(chunk.kind, 0, &[]);
                }
                kind::SHUTDOWN => {
                    draft.push(chunk.kind, 0, value.first_chunk::<4>().ok_or(Malformed)?);
                }
                // An ERROR tells us of nothing that we could do better, and the crate takes it for
                // the end. Types with the highest bit are left out (RFC 9260 section 3.2).
                _ if chunk.kind & 0x80 != 0 || chunk.kind == ERROR => {}
                _ => return Err(Malformed),
            }
        }
        Ok(draft.finish().map_or(Verdict::Drop, Verdict::Pass))
    }

    /// DATA (RFC 9260 section 3.3.1): number, stream, number in the stream, protocol, bytes.
    fn judge_data(
        &mut self,
        chunk: &Chunk<'_>,
        is_closing: impl Fn(u16) -> bool,
        draft: &mut Draft,
        drops: &mut DataDrops,
    ) -> Result<(), Malformed> {
        let tsn = u32_at(chunk.value, 0).ok_or(Malformed)?;
        let stream = u16_at(chunk.value, 4).ok_or(Malformed)?;
        let (header, bytes) = chunk.value.split_at_checked(12).ok_or(Malformed)?;
        if bytes.is_empty() {
            return Err(Malformed);
        }
        let has_reader = stream < DATA_STREAMS_MAX && !is_closing(stream);
        if let Some(ahead) = self.ahead(tsn) {
            let kept = if has_reader { bytes.len() } else { 1 };
            let held = self.held_bytes + kept + DATA_CHUNK_OVERHEAD_BYTES;
            let room = if ahead == 1 { 2 } else { 1 } * DATA_RECEIVED_BYTES_MAX;
            if ahead > DATA_CHUNKS_AHEAD_MAX || held > room {
                // Not acknowledged, so it comes again.
                drops.over_limit += 1;
                return Ok(());
            }
            self.held_bytes = held;
        }
        if has_reader {
            draft.push(chunk.kind, chunk.flags, chunk.value);
            return Ok(());
        }
        let mut sunk = Vec::with_capacity(header.len() + 1);
        sunk.extend_from_slice(&tsn.to_be_bytes());
        sunk.extend_from_slice(&SINK.to_be_bytes());
        sunk.extend_from_slice(&[0; 7]);
        draft.push(chunk.kind, UNORDERED_AND_WHOLE, &sunk);
        Ok(())
    }

    /// FORWARD TSN (RFC 3758 section 3.2): a number, then stream and number in the stream for each.
    fn judge_forward(
        &mut self,
        chunk: &Chunk<'_>,
        draft: &mut Draft,
        drops: &mut DataDrops,
    ) -> Result<(), Malformed> {
        let tsn = u32_at(chunk.value, 0).ok_or(Malformed)?;
        if !chunk.value.len().is_multiple_of(4) {
            return Err(Malformed);
        }
        match self.ahead(tsn) {
            _ if !self.forwards => return Ok(()),
            Some(ahead) if ahead > DATA_FORWARD_MAX => {
                drops.over_limit += 1;
                return Ok(());
            }
            // What follows it may come before it is acknowledged.
            Some(_) => self.cumulative = tsn,
            None => {}
        }
        draft.push(chunk.kind, 0, chunk.value);
        Ok(())
    }

    /// RE-CONFIG (RFC 6525 section 3.1): one or two requests or answers.
    fn judge_reconfig(
        &mut self,
        chunk: &Chunk<'_>,
        draft: &mut Draft,
        drops: &mut DataDrops,
    ) -> Result<(), Malformed> {
        for parameter in parameters(chunk.value).take(2) {
            let parameter = parameter?;
            let number = u32_at(parameter.value, 0).ok_or(Malformed)?;
            let value = match parameter.kind {
                parameter::OUTGOING_RESET => {
                    let is_known = self.resets_deferred.contains(&number);
                    if !is_known && self.resets_deferred.len() >= DATA_RESETS_DEFERRED_MAX {
                        drops.over_limit += 1;
                        continue;
                    }
                    let len = parameter.value.len();
                    if len < 12 || !len.is_multiple_of(2) {
                        return Err(Malformed);
                    }
                    parameter.value
                }
                parameter::RESET_RESPONSE => {
                    self.resets_unanswered.remove(&number);
                    parameter.value.get(..8).ok_or(Malformed)?
                }
                // Nothing else is of use to data channels (RFC 8831 section 6.7).
                _ => continue,
            };
            let mut alone = Vec::new();
            write_parameter(parameter.kind, value, &mut alone);
            alone.truncate(4 + value.len());
            draft.push(chunk.kind, 0, &alone);
        }
        Ok(())
    }

    /// INIT ACK, which comes alone; only whoever sent an INIT has a use for it.
    fn judge_init_ack(&mut self, packet: &Packet<'_>, value: &[u8]) -> Result<Verdict, Malformed> {
        if !self.awaits_init_ack {
            return Ok(Verdict::Drop);
        }
        let cookie = parameters(value.get(INIT_BYTES..).ok_or(Malformed)?)
            .map_while(Result::ok)
            .find(|found| found.kind == parameter::STATE_COOKIE)
            .ok_or(Malformed)?;
        let (mut init, forwards) = bare_init(value)?;
        self.forwards = forwards;
        write_parameter(cookie.kind, cookie.value, &mut init);
        self.awaits_init_ack = false;
        self.cumulative = u32_at(&init, 12).ok_or(Malformed)?.wrapping_sub(1);
        let mut draft = Draft::like(packet);
        draft.push(kind::INIT_ACK, 0, &init);
        Ok(draft.finish().map_or(Verdict::Drop, Verdict::Pass))
    }

    /// How far a number is ahead of what is complete; `None` when it is not.
    fn ahead(&self, tsn: u32) -> Option<u32> {
        let ahead = tsn.wrapping_sub(self.cumulative);
        // Serial number arithmetic (RFC 9260 section 1.6).
        (ahead != 0 && ahead <= u32::MAX / 2).then_some(ahead)
    }

    fn observe_sack(&mut self, value: &[u8]) {
        let (Some(cumulative), Some(window)) = (u32_at(value, 0), u32_at(value, 4)) else {
            return;
        };
        self.cumulative = cumulative;
        if window as usize >= DATA_RECEIVE_BUFFER_BYTES && u16_at(value, 8) == Some(0) {
            self.held_bytes = 0;
        }
    }

    fn observe_reconfig(&mut self, value: &[u8]) {
        for parameter in parameters(value).map_while(Result::ok) {
            let Some(number) = u32_at(parameter.value, 0) else {
                continue;
            };
            match (parameter.kind, u32_at(parameter.value, 4)) {
                (parameter::OUTGOING_RESET, _) => _ = self.resets_unanswered.insert(number),
                (parameter::RESET_RESPONSE, Some(IN_PROGRESS)) => {
                    self.resets_deferred.insert(number);
                }
                (parameter::RESET_RESPONSE, _) => _ = self.resets_deferred.remove(&number),
                _ => {}
            }
        }
    }
}

/// Operation error (RFC 9260 section 3.3.10).
const ERROR: u8 = 9;

/// INIT, which comes alone and under tag 0 (RFC 9260 section 8.5.1).
fn judge_init(packet: &Packet<'_>, first: &Chunk<'_>) -> Result<Verdict, Malformed> {
    if packet.tag != 0 || packet.chunks().count() != 1 {
        return Err(Malformed);
    }
    let (init, forwards) = bare_init(first.value)?;
    let mut draft = Draft::like(packet);
    draft.push(kind::INIT, 0, &init);
    Ok(Verdict::Init {
        tag: u32_at(&init, 0).ok_or(Malformed)?,
        first_tsn: u32_at(&init, 12).ok_or(Malformed)?,
        forwards,
        packet: draft.finish().ok_or(Malformed)?,
    })
}

/// The fixed part of an INIT or INIT ACK, with what the crate may know of the peer's extensions, and
/// whether the peer moves on past chunks that it gave up.
fn bare_init(value: &[u8]) -> Result<(Vec<u8>, bool), Malformed> {
    let (fixed, extensions) = value.split_at_checked(INIT_BYTES).ok_or(Malformed)?;
    let tag = u32_at(fixed, 0).ok_or(Malformed)?;
    let window = u32_at(fixed, 4).ok_or(Malformed)?;
    let streams = [u16_at(fixed, 8), u16_at(fixed, 10)];
    if tag == 0 || window < WINDOW_BYTES_MIN || streams.contains(&Some(0)) {
        return Err(Malformed);
    }
    let mut init = fixed.to_vec();
    let forwards = parameters(extensions).map_while(Result::ok).any(|found| {
        found.kind == parameter::FORWARD_TSN_SUPPORTED
            || (found.kind == parameter::SUPPORTED_EXTENSIONS
                && found.value.contains(&kind::FORWARD_TSN))
    });
    if forwards {
        let value = [
            kind::FORWARD_TSN,
            kind::RECONFIG,
            kind::FORWARD_TSN,
            kind::RECONFIG,
        ];
        write_parameter(parameter::SUPPORTED_EXTENSIONS, &value, &mut init);
    }
    Ok((init, forwards))
}
