//! Body of a test and fuzz target: any packets of a camera in, and what comes out is packets for the engine.

use std::time::{Duration, Instant};

use dataplane::id::{PayloadType, Ssrc};
use dataplane::wire::RtpView;
use dataplane::wire::nal::units;

use super::coding::Layout;
use super::out::HEADER_LEN;
use super::{Coding, Packets, Repack, Sets, Sound, Start};
use crate::camera::limits::RTP_PAYLOAD_MAX;
use crate::camera::order::Outlet;

/// The camera's payload type and source, and ours.
const THEIRS: u8 = 96;
const THEIR_SOURCE: u32 = 0x4341_4D31;
const OURS: Outlet = Outlet {
    ssrc: Ssrc(0x4D49_4C4C),
    payload_type: PayloadType(111),
};

/// Numbers that are left out for one packet that came: a gap, and one for a beginning.
const SKIPPED_MAX: u16 = crate::camera::limits::GAP_MAX + 1;

/// The first byte says which codec; then follow records: what to do, a number, a timestamp, a length, bytes.
/// Returns how many packets came out.
pub fn camera(script: &[u8]) -> usize {
    let Some((&codec, mut rest)) = script.split_first() else {
        return 0;
    };
    let coding = match codec % 4 {
        0 => Some(Coding::H264),
        1 => Some(Coding::H265),
        _ => None,
    };
    let mut repack = stream(codec, coding);
    let mut judge = Judge {
        coding,
        next: 65_530,
        came_out: 0,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "where a script's time begins does not matter"
    )]
    let mut now = Instant::now();
    let mut state = (7u16, 1_000u32);
    let mut out = Packets::default();
    while let Some((record, after)) = rest.split_first_chunk::<5>() {
        let [what, number, time, high, low] = *record;
        let len = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (bytes, after) = after.split_at(len);
        rest = after;
        now += Duration::from_millis(u64::from(time));
        state.0 = state.0.wrapping_add(match number {
            0..=239 => 1,
            240..=249 => u16::from(number - 239),
            250..=252 => 0u16.wrapping_sub(u16::from(number - 249)),
            _ => 5_000 * u16::from(number - 252),
        });
        state.1 = state.1.wrapping_add(match what >> 4 {
            0..=7 => 0,
            8..=12 => u32::from(time) * 90,
            n => u32::from(n) << 28,
        });
        out.clear();
        match what & 0x0F {
            0 => repack.handle_rtp(now, bytes, &mut out),
            1 => repack.handle_rtcp(bytes, &mut out),
            2 => repack.restart(THEIRS, None),
            what => {
                let packet = packet(what & 1 == 1, state, bytes);
                repack.handle_rtp(now, &packet, &mut out);
            }
        }
        judge.judge(&out);
    }
    judge.came_out
}

fn stream(codec: u8, coding: Option<Coding>) -> Repack {
    let start = Start {
        sequence: 65_530,
        timestamp: 0xFFFF_0000,
    };
    match coding {
        Some(coding) => Repack::video(coding, Sets::new(coding), THEIRS, OURS, start),
        None if codec % 4 == 2 => Repack::sound(Sound::G711, 8_000, THEIRS, OURS, start),
        None => Repack::sound(Sound::Opus, 48_000, THEIRS, OURS, start),
    }
}

/// A camera's packet.
pub(super) fn packet(marker: bool, (number, timestamp): (u16, u32), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, u8::from(marker) << 7 | THEIRS];
    packet.extend(number.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(THEIR_SOURCE.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Holds what comes out to what the engine is promised.
struct Judge {
    coding: Option<Coding>,
    next: u16,
    came_out: usize,
}

impl Judge {
    fn judge(&mut self, out: &Packets) {
        for packet in out.iter() {
            self.came_out += 1;
            if packet.get(1) == Some(&200) {
                assert_eq!(packet.len(), 28, "a sender report without blocks");
                continue;
            }
            let view = RtpView::parse(packet).expect("a packet that can be read");
            assert_eq!(
                view.header_len(),
                HEADER_LEN,
                "neither sources nor extensions"
            );
            assert!(!view.has_padding() && view.ssrc() == OURS.ssrc);
            assert_eq!(view.payload_type(), OURS.payload_type);
            let payload = view.payload();
            assert!(
                (1..=RTP_PAYLOAD_MAX).contains(&payload.len()),
                "{}",
                payload.len()
            );
            let skipped = view.sequence().wrapping_sub(self.next);
            assert!(skipped <= SKIPPED_MAX, "{skipped} numbers were left out");
            self.next = view.sequence().wrapping_add(1);
            if let Some(coding) = self.coding {
                check(coding, payload);
            }
        }
    }
}

/// A payload is laid out as its format says, and has nothing in it that was to be left out but the marker's filler.
fn check(coding: Coding, payload: &[u8]) {
    use super::coding::Kind;
    match coding
        .layout(payload)
        .expect("a layout that we take ourselves")
    {
        Layout::Single(unit) => {
            assert!(coding.kind(unit) != Kind::Other || unit == coding.filler());
        }
        Layout::Aggregate(rest) => {
            let inside: Vec<_> = units(rest).collect();
            assert!(inside.len() > 1 && inside.iter().all(|unit| coding.kind(unit) == Kind::Set));
            let bytes: usize = inside.iter().map(|unit| unit.len() + 2).sum();
            assert_eq!(bytes, rest.len(), "nothing behind the last unit");
        }
        Layout::Fragment {
            header,
            start,
            end,
            part,
        } => {
            assert!(!part.is_empty() && (!start || !end));
            assert!(matches!(coding.kind(&header), Kind::Slice | Kind::KeySlice));
        }
    }
}
