//! RTCP on its way out: reports of both kinds, NACKs, and requests for key frames.

use std::time::Instant;

use super::Engine;
use super::clock::{Ntp, duration_to_middle};
use super::outbox::Outbox;
use super::relay::remote_clock;
use super::sender::{Sender, SenderKey};
use super::session::{Session, SessionKey};
use super::slab::Slab;
use super::source::Source;
use super::track::{Home, Track, TrackKey, has_keyframes};
use crate::counters::Counters;
use crate::id::Ssrc;
use crate::limits::CNAME_BYTES_MAX;
use crate::wire::rtcp_writer::REPORT_BLOCKS_MAX;
use crate::wire::{ReportBlock, RtcpWriter};

/// Largest compound before encryption, in bytes: fits any path with what SRTCP adds.
const COMPOUND_MAX: usize = 1_160;

/// A sender report without blocks (RFC 3550 section 6.4.1).
const SENDER_REPORT_LEN: usize = 28;

/// Packets to ask for in one NACK.
const NACKS_PER_PACKET: usize = 64;

/// Sources that one bandwidth message names: the encodings of some cameras and screens.
const REMB_SOURCES_MAX: usize = 16;

const _: () = assert!(
    SENDER_REPORT_LEN
        + REPORT_BLOCKS_MAX * 24
        + sdes_len(CNAME_BYTES_MAX)
        + 20
        + REMB_SOURCES_MAX * 4
        <= COMPOUND_MAX,
    "a compound's first packets always fit"
);

/// What a subscriber is told of one stream.
#[derive(Debug)]
struct SenderReport {
    sender: SenderKey,
    ssrc: Ssrc,
    timestamp: u32,
    packets: u32,
    octets: u32,
}

/// What goes into the reports to one session. Its memory is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Material {
    senders: Vec<SenderReport>,
    blocks: Vec<ReportBlock>,
    /// Sources of video that the session sends.
    video: Vec<Ssrc>,
}

/// What one round of reports to a session says.
struct Round<'a> {
    local: Ssrc,
    now: Ntp,
    senders: &'a [SenderReport],
    /// Where the senders' names are.
    names: &'a Slab<Sender>,
    blocks: &'a [ReportBlock],
    /// Bits per second that these sources may send together.
    remb: Option<(u64, &'a [Ssrc])>,
}

impl Engine {
    /// Sends a session its reports: what it is sent, what of it arrives, and how much it may send.
    pub(super) fn send_reports(&mut self, now: Instant, key: SessionKey) {
        let mut material = std::mem::take(&mut self.material);
        let ours = self.clock.ntp(now);
        self.list_senders(key, ours, &mut material.senders);
        if let Some(session) = self.sessions.get_mut(key) {
            material.list_received(now, session, &self.tracks);
            let Material {
                senders,
                blocks,
                video,
            } = &material;
            let remb = (!video.is_empty())
                .then_some((self.config.publisher_bitrate_bps_max, video.as_slice()));
            let round = Round {
                local: session.rtcp_ssrc,
                now: ours,
                senders,
                names: &self.senders,
                blocks,
                remb,
            };
            round.send(session, &mut self.outbox, &mut self.counters);
        }
        self.material = material;
    }

    /// Lists what the session's senders report: those that sent something since the last time, and
    /// whose publisher has said how its RTP clock relates to time.
    fn list_senders(&mut self, key: SessionKey, ours: Ntp, reports: &mut Vec<SenderReport>) {
        reports.clear();
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        for &(sender_key, ssrc) in &session.senders {
            let Some(sender) = self.senders.get_mut(sender_key) else {
                continue;
            };
            let Some(source) = sender.source.as_ref() else {
                continue;
            };
            let Some(track) = self.tracks.get(source.track) else {
                continue;
            };
            let theirs = remote_clock(&self.sessions, track).and_then(|clock| clock.theirs(ours));
            let timestamp = || {
                let clock = track
                    .clock
                    .filter(|c| Some(c.epoch) == sender.numbering.epoch())?;
                let timestamp = clock.timestamp_at(theirs?, track.current_clock_rate()?);
                sender.numbering.timestamp(timestamp)
            };
            let Some(timestamp) = timestamp().filter(|_| sender.packets != sender.reported) else {
                continue;
            };
            sender.reported = sender.packets;
            reports.push(SenderReport {
                sender: sender_key,
                ssrc,
                timestamp,
                packets: sender.packets,
                octets: sender.octets,
            });
        }
    }

    /// Asks a session for the packets of it that are missing and due.
    pub(super) fn send_nacks(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let rtt = session.rtt();
        for index in 0..session.sources.len() {
            let Some(source) = session.sources.get_mut(index) else {
                return;
            };
            let Some(missing) = &mut source.missing else {
                continue;
            };
            let mut lost = [0; NACKS_PER_PACKET];
            let count = missing.take_due(now, rtt, &mut lost);
            if count == 0 {
                continue;
            }
            self.counters.nacks_sent += count as u64;
            let (local, media) = (session.rtcp_ssrc, source.ssrc);
            let lost = lost.into_iter().take(count);
            let mut buffer = [0; COMPOUND_MAX];
            let mut writer = RtcpWriter::new(&mut buffer);
            let is_whole = writer.receiver_report(local, &[]) && writer.nack(local, media, lost);
            let len = writer.len();
            debug_assert!(is_whole, "so few numbers always fit");
            let compound = buffer.get(..len).unwrap_or_default();
            send_compound(session, &mut self.outbox, &mut self.counters, compound);
        }
    }

    /// Asks a track's publisher for a key frame.
    pub(super) fn send_picture_loss(&mut self, key: TrackKey) {
        let Some(track) = self.tracks.get(key) else {
            return;
        };
        let session = match track.home {
            Home::Session(session) => session,
            Home::Worker(home, _) => {
                self.relay.want_keyframe(home, track);
                return;
            }
        };
        let Some(media) = track.ssrc() else { return };
        let Some(session) = self.sessions.get_mut(session) else {
            return;
        };
        self.counters.keyframe_requests += 1;
        let mut buffer = [0; 64];
        let mut writer = RtcpWriter::new(&mut buffer);
        let local = session.rtcp_ssrc;
        let is_whole = writer.receiver_report(local, &[]) && writer.pli(local, media);
        let len = writer.len();
        debug_assert!(is_whole, "a report and a request are 20 bytes");
        let compound = buffer.get(..len).unwrap_or_default();
        send_compound(session, &mut self.outbox, &mut self.counters, compound);
    }
}

impl Material {
    /// Lists what comes from the session: its sources, and those of its video.
    fn list_received(&mut self, now: Instant, session: &mut Session, tracks: &Slab<Track>) {
        self.video.clear();
        let own = session.tracks.iter().filter_map(|key| tracks.get(*key));
        let video = own.filter(|track| has_keyframes(track.spec.kind));
        let sources = video.filter_map(Track::ssrc);
        self.video.extend(sources.take(REMB_SOURCES_MAX));
        self.blocks.clear();
        let sources = session
            .sources
            .iter_mut()
            .filter(|source| !source.is_repair && source.reception.is_active())
            .take(REPORT_BLOCKS_MAX);
        self.blocks
            .extend(sources.map(|source| report_block(now, source)));
    }
}

impl<'a> Round<'a> {
    /// Sends all of it, in as many compounds as it takes; nothing where there is nothing to say.
    fn send(mut self, session: &mut Session, outbox: &mut Outbox, counters: &mut Counters) {
        if self.senders.is_empty() && self.blocks.is_empty() && self.remb.is_none() {
            return;
        }
        loop {
            let mut buffer = [0; COMPOUND_MAX];
            let mut writer = RtcpWriter::new(&mut buffer);
            let written = self.write(&mut writer);
            let len = writer.len();
            let compound = buffer.get(..len).unwrap_or_default();
            send_compound(session, outbox, counters, compound);
            let rest = self.senders.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            self = Round {
                senders: rest,
                blocks: &[],
                remb: None,
                ..self
            };
        }
    }

    /// Writes one compound, which begins with a report (RFC 3550 section 6.1), and returns how
    /// many senders it covers.
    fn write(&self, writer: &mut RtcpWriter<'_>) -> usize {
        let mut written = 0;
        let begun = match self.senders.first() {
            Some(first) => {
                written = 1;
                first.write(writer, self.now, self.cname(first), self.blocks)
            }
            None => writer.receiver_report(self.local, self.blocks),
        };
        debug_assert!(begun, "the first packets always fit");
        if let Some((bitrate_bps, ssrcs)) = self.remb {
            let local = self.senders.first().map_or(self.local, |first| first.ssrc);
            let fits = writer.remb(local, bitrate_bps, ssrcs);
            debug_assert!(fits, "the first packets always fit");
        }
        for report in self.senders.iter().skip(1) {
            let cname = self.cname(report);
            let len = SENDER_REPORT_LEN + sdes_len(cname.len());
            if writer.len() + len > COMPOUND_MAX || !report.write(writer, self.now, cname, &[]) {
                break;
            }
            written += 1;
        }
        // A sender that does not even fit alone is passed over, or the round would never end.
        written.max(1)
    }

    fn cname(&self, report: &SenderReport) -> &'a str {
        let sender = self.names.get(report.sender);
        sender.map_or("", |sender| sender.spec.cname.as_str())
    }
}

impl SenderReport {
    fn write(
        &self,
        writer: &mut RtcpWriter<'_>,
        now: Ntp,
        cname: &str,
        blocks: &[ReportBlock],
    ) -> bool {
        writer.sender_report(
            self.ssrc,
            now.0,
            self.timestamp,
            self.packets,
            self.octets,
            blocks,
        ) && writer.sdes_cname(self.ssrc, cname)
    }
}

/// Bytes of a source description with a name of this length.
const fn sdes_len(cname_len: usize) -> usize {
    4 + (4 + 2 + cname_len + 1).next_multiple_of(4)
}

fn report_block(now: Instant, source: &mut Source) -> ReportBlock {
    let counted = source.reception.report();
    let (last_sr, delay) = match source.reception.last_report() {
        Some((ntp, at)) => (
            ntp.middle(),
            duration_to_middle(now.saturating_duration_since(at)),
        ),
        None => (0, 0),
    };
    ReportBlock {
        ssrc: source.ssrc,
        fraction_lost: counted.fraction_lost,
        lost: counted.cumulative_lost,
        highest_sequence: counted.highest,
        jitter: counted.jitter,
        last_sr,
        delay_since_last_sr: delay,
    }
}

/// Tells a session when its packets arrived: all that it was not told yet.
pub(super) fn send_feedback(session: &mut Session, outbox: &mut Outbox, counters: &mut Counters) {
    let Some(mut arrivals) = session.arrivals.take() else {
        return;
    };
    let local = session.rtcp_ssrc;
    loop {
        let mut buffer = [0; COMPOUND_MAX];
        let mut writer = RtcpWriter::new(&mut buffer);
        if !writer.receiver_report(local, &[]) || !arrivals.write(local, &mut writer) {
            break;
        }
        let len = writer.len();
        let compound = buffer.get(..len).unwrap_or_default();
        counters.transport_feedback_sent += 1;
        send_compound(session, outbox, counters, compound);
    }
    session.arrivals = Some(arrivals);
}

/// Encrypts a compound and queues it, if the session can be reached.
fn send_compound(
    session: &mut Session,
    outbox: &mut Outbox,
    counters: &mut Counters,
    compound: &[u8],
) {
    let (Some(path), Some(keys)) = (session.ice.media_path(), &mut session.keys) else {
        return;
    };
    if !outbox.push_with(path, |out| keys.rtcp.seal(compound, out)) {
        counters.drop_control_queue_full += 1;
    }
}
