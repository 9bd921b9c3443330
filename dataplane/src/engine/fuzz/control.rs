//! What clients say about packets, and how the workers fare.

use super::world::World;
use crate::id::Ssrc;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::load::Load;
use crate::sim::script::Script;
use crate::wire::{ReportBlock, RtcpWriter};

/// Packets that one feedback is about.
const TOLD_MAX: usize = 64;

impl World {
    /// A compound of a client arrives.
    fn send_control(&mut self, index: usize, compound: &[u8]) {
        let client = &mut self.clients[index];
        let (worker, path) = (client.worker, client.path);
        if let Some(packet) = client.seal_rtcp(compound) {
            self.arrive(worker, path, &packet);
        }
    }

    fn send_written(&mut self, index: usize, write: impl FnOnce(&mut RtcpWriter<'_>)) {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let mut writer = RtcpWriter::new(&mut out);
        write(&mut writer);
        let len = writer.len();
        self.send_control(index, &out[..len]);
    }

    /// Any plaintext under the right key.
    pub(super) fn send_raw_control(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let ssrcs: Vec<u32> = self.clients[index].streams.keys().copied().collect();
        let choices = script.byte();
        let mut compound = script.piece().to_vec();
        // Where feedback and report blocks name their media, it is often something that there is.
        if let Some(ssrc) = ssrcs.get(usize::from(choices) % ssrcs.len().max(1))
            && let Some(place) = compound.get_mut(8..12)
        {
            place.copy_from_slice(&ssrc.to_be_bytes());
        }
        self.send_control(index, &compound);
    }

    /// A receiver asks for packets again that it got, or did not.
    pub(super) fn send_nack(&mut self, script: &mut Script<'_>) {
        let Some((index, ssrc)) = self.some_stream(script) else {
            return;
        };
        let (back, mask) = (script.byte(), script.byte());
        let stream = &self.clients[index].streams[&ssrc];
        let highest = stream.media.window.highest().unwrap_or(0) as u16;
        let first = highest.wrapping_sub(u16::from(back)).wrapping_add(4);
        let numbers = (0..8).filter(move |bit| mask >> bit & 1 == 1);
        let numbers = numbers.map(move |bit| first.wrapping_add(bit));
        self.send_written(index, |writer| {
            let _ = writer.receiver_report(Ssrc(1), &[]);
            let _ = writer.nack(Ssrc(1), Ssrc(ssrc), numbers);
        });
    }

    /// A receiver says what arrived, and when, as its bytes say.
    pub(super) fn send_feedback(&mut self, script: &mut Script<'_>) {
        let Some(index) = self.somebody(script) else {
            return;
        };
        let (count, shift) = (script.below(TOLD_MAX), script.byte());
        let numbers = &self.clients[index].numbers;
        let from = numbers.len().saturating_sub(count);
        let first = numbers.get(from).copied().unwrap_or(0);
        let base = first.wrapping_add(u16::from(shift & 15)).wrapping_sub(4);
        let mut tick = i64::from(script.short());
        let mut ticks = Vec::new();
        for _ in 0..=count {
            let step = script.byte();
            tick += i64::from(step & 0x7f) - i64::from(shift >> 4);
            ticks.push((step & 0x80 == 0).then_some(tick));
        }
        self.send_written(index, |writer| {
            let _ = writer.transport_feedback(Ssrc(1), Ssrc(2), shift, base, &ticks);
        });
    }

    /// Reports, requests for key frames, and bounds.
    pub(super) fn send_reports(&mut self, script: &mut Script<'_>) {
        let choices = script.byte();
        let (number, long) = (script.long(), script.long());
        match choices % 5 {
            0 => {
                // A publisher's clock.
                let Some(id) = self.some_track(script) else {
                    return;
                };
                let track = &self.tracks[&id];
                let ssrc = Ssrc(track.encodings[0].ssrc);
                let (owner, timestamp) = (track.owner, track.timestamp);
                let ntp = u64::from(number) << 32 | u64::from(long);
                self.send_written(owner, |writer| {
                    let _ = writer.sender_report(ssrc, ntp, timestamp, 1, 2, &[]);
                });
            }
            choice => {
                let Some((index, ssrc)) = self.some_stream(script) else {
                    return;
                };
                let ssrc = Ssrc(ssrc);
                let block = ReportBlock {
                    ssrc,
                    fraction_lost: script.byte(),
                    lost: long.cast_signed() >> 8,
                    highest_sequence: number,
                    jitter: 1,
                    last_sr: number,
                    delay_since_last_sr: long,
                };
                self.send_written(index, |writer| {
                    let _ = match choice {
                        1 => writer.receiver_report(Ssrc(1), &[block]),
                        2 => writer.pli(Ssrc(1), ssrc),
                        3 => writer.fir(Ssrc(1), ssrc, choices),
                        _ => writer.remb(Ssrc(1), u64::from(number) << (choices >> 3), &[ssrc]),
                    };
                });
            }
        }
    }

    /// How much a driver takes at once, whether the workers hear each other, and how busy they are.
    pub(super) fn set_limits(&mut self, script: &mut Script<'_>) {
        let (choices, load) = (script.byte(), script.byte());
        self.sends_max = match choices & 3 {
            0 | 1 => usize::MAX,
            2 => 1,
            _ => 0,
        };
        self.is_relay_stuck = choices & 12 == 12;
        for engine in &mut self.engines {
            engine.handle_load(Load(u16::from(load) * 4));
        }
    }
}
