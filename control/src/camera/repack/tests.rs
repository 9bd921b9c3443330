//! Pictures of every shape through a stream, and what a viewer gets of them.

use std::time::{Duration, Instant};

use dataplane::id::{PayloadType, Ssrc};
use dataplane::wire::RtpView;
use dataplane::wire::nal::units;

use super::coding::{Kind, Layout};
use super::fuzz::{camera, packet};
use super::{Coding, Packets, Repack, Sets, Sound, Start};
use crate::camera::limits::RTP_PAYLOAD_MAX;
use crate::camera::order::Outlet;

/// x264's, 1920x1080, high profile, and a picture parameter set.
pub(super) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x28, 0xAC, 0xD9, 0x40, 0x78, 0x02, 0x27, 0xE5, 0xC0, 0x44, 0x00, 0x00, 0x03,
    0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xC0, 0x3C, 0x60, 0xC6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xEB, 0xE3, 0xCB, 0x22, 0xC0];

/// x265's, 1280x720, main profile.
const SPS_265: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x5D, 0xA0, 0x02, 0x80, 0x80, 0x2D, 0x16, 0x59, 0x59, 0xA4, 0x93, 0x2B, 0x80, 0x40, 0x00,
    0x00, 0xFA, 0x00, 0x00, 0x17, 0x70, 0x02,
];
const VPS_265: &[u8] = &[0x40, 0x01, 0x0C, 0x01, 0xFF, 0xFF, 0x01, 0x60];
const PPS_265: &[u8] = &[0x44, 0x01, 0xC1, 0x72, 0xB4, 0x62, 0x40];

/// SplitMix64, as in the engine's tests.
struct Generator(u64);

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// A camera and what came of its packets.
struct Line {
    coding: Coding,
    repack: Repack,
    now: Instant,
    number: u16,
    timestamp: u32,
    out: Vec<Vec<u8>>,
}

impl Line {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant is as good as another"
    )]
    fn new(coding: Coding, described: &[&[u8]]) -> Line {
        let mut sets = Sets::new(coding);
        for unit in described {
            assert!(sets.learn(unit));
        }
        let outlet = Outlet {
            ssrc: Ssrc(1),
            payload_type: PayloadType(100),
        };
        let start = Start {
            sequence: 65_500,
            timestamp: 0,
        };
        Line {
            coding,
            repack: Repack::video(coding, sets, 96, outlet, start),
            now: Instant::now(),
            number: 65_000,
            timestamp: 0xFFFF_0000,
            out: Vec::new(),
        }
    }

    fn h264() -> Line {
        Line::new(Coding::H264, &[SPS, PPS])
    }

    fn next_picture(&mut self) {
        self.now += Duration::from_millis(40);
        self.timestamp = self.timestamp.wrapping_add(3_600);
    }

    fn send(&mut self, payload: &[u8], marker: bool) {
        self.number = self.number.wrapping_add(1);
        let packet = packet(marker, (self.number, self.timestamp), payload);
        let mut out = Packets::default();
        self.repack.handle_rtp(self.now, &packet, &mut out);
        self.out.extend(out.iter().map(<[u8]>::to_vec));
    }

    /// The pictures that came out: timestamp, units, and whether the marker was on the last packet and on no other.
    fn pictures(&self) -> Vec<(u32, Vec<Vec<u8>>, bool)> {
        let mut pictures: Vec<(u32, Vec<Vec<u8>>, Vec<bool>)> = Vec::new();
        for packet in &self.out {
            let view = RtpView::parse(packet).unwrap();
            assert!(view.payload().len() <= RTP_PAYLOAD_MAX);
            if pictures
                .last()
                .is_none_or(|(at, ..)| *at != view.timestamp())
            {
                pictures.push((view.timestamp(), Vec::new(), Vec::new()));
            }
            let (_, whole, markers) = pictures.last_mut().unwrap();
            markers.push(view.marker());
            match self.coding.layout(view.payload()).unwrap() {
                Layout::Single(unit) => whole.push(unit.to_vec()),
                Layout::Aggregate(rest) => whole.extend(units(rest).map(<[u8]>::to_vec)),
                Layout::Fragment {
                    header,
                    start,
                    part,
                    ..
                } => {
                    if start {
                        whole.push(header[..self.coding.header_len()].to_vec());
                    }
                    whole.last_mut().unwrap().extend_from_slice(part);
                }
            }
        }
        let ends = |markers: &[bool]| markers.iter().rposition(|marker| !marker);
        pictures
            .into_iter()
            .map(|(at, whole, markers)| {
                let is_right = markers.last() == Some(&true)
                    && ends(&markers).is_none_or(|at| at + 2 == markers.len());
                (at, whole, is_right)
            })
            .collect()
    }
}

/// A picture's units as a camera might send them, and those that a viewer is to get.
fn picture(g: &mut Generator, coding: Coding, is_key: bool) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut sent = Vec::new();
    let mut wanted = Vec::new();
    let extras: [&[u8]; 3] = match coding {
        Coding::H264 => [
            &[0x09, 0x10],
            &[0x06, 0x05, 0x01, 0x00, 0x80],
            &[0x0C, 0xFF, 0x80],
        ],
        Coding::H265 => [
            &[0x46, 0x01, 0x10],
            &[0x4E, 0x01, 0x05, 0x80],
            &[0x4C, 0x01, 0x80],
        ],
    };
    if g.below(2) == 0 {
        sent.push(extras[g.below(2)].to_vec());
    }
    for slice in 0..1 + g.below(3) {
        let mut unit = match (coding, is_key) {
            (Coding::H264, true) => vec![0x65],
            (Coding::H264, false) => vec![0x41],
            (Coding::H265, true) => vec![0x26, 0x01],
            (Coding::H265, false) => vec![0x02, 0x01],
        };
        unit.push(if slice == 0 { 0x88 } else { 0x11 });
        let len = [10, 300, 1_177, 1_180, 1_181, 5_000][g.below(6)] + g.below(4);
        unit.extend(g.bytes(len));
        wanted.push(unit.clone());
        sent.push(unit);
    }
    if g.below(3) == 0 {
        sent.push(extras[2].to_vec());
    }
    (sent, wanted)
}

/// Units in payloads: by themselves, in fragments of any size, or together.
fn payloads(g: &mut Generator, coding: Coding, sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut rest = sent;
    while let Some((unit, after)) = rest.split_first() {
        rest = after;
        let header_len = coding.header_len();
        match g.below(3) {
            0 if unit.len() > 100 => {
                let mut header = [0; 2];
                header[..header_len].copy_from_slice(&unit[..header_len]);
                let size = [50, 700, 1_400, 3_000][g.below(4)];
                let pieces: Vec<&[u8]> = unit[header_len..].chunks(size).collect();
                for (n, piece) in pieces.iter().enumerate() {
                    let ends = (n == 0, n + 1 == pieces.len());
                    let head = coding.fragment_header(header, ends.0, ends.1);
                    let mut payload = head[..coding.fragment_len()].to_vec();
                    payload.extend_from_slice(piece);
                    payloads.push(payload);
                }
            }
            1 if !rest.is_empty() => {
                let mut payload = coding.aggregate_header().to_vec();
                for unit in [unit, &rest[0]] {
                    payload.extend((unit.len() as u16).to_be_bytes());
                    payload.extend_from_slice(unit);
                }
                rest = &rest[1..];
                payloads.push(payload);
            }
            _ => payloads.push(unit.clone()),
        }
    }
    payloads
}

#[test]
fn whole_pictures_come_out_as_the_same_units_in_order() {
    let mut g = Generator(0x4341_4D31);
    for round in 0..60 {
        let (coding, sets): (_, &[&[u8]]) = match round % 2 {
            0 => (Coding::H264, &[SPS, PPS]),
            _ => (Coding::H265, &[VPS_265, SPS_265, PPS_265]),
        };
        let mut line = Line::new(coding, sets);
        let mut expected = Vec::new();
        for n in 0..12 {
            let is_key = n % 4 == 0;
            let (sent, mut wanted) = picture(&mut g, coding, is_key);
            let payloads = payloads(&mut g, coding, &sent);
            line.next_picture();
            for (at, payload) in payloads.iter().enumerate() {
                line.send(payload, at + 1 == payloads.len());
            }
            if is_key {
                wanted.splice(0..0, sets.iter().map(|unit| unit.to_vec()));
            }
            expected.push(wanted);
        }
        for ((_, mut came, is_marked), wanted) in line.pictures().into_iter().zip(&expected) {
            // A marker that came with what was left out is on filler data.
            came.retain(|unit| unit != coding.filler());
            assert_eq!(&came, wanted);
            assert!(is_marked);
        }
        assert_eq!(line.pictures().len(), expected.len());
        assert_eq!(line.repack.counts().lost, 0);
    }
}

#[test]
fn sets_that_come_by_themselves_are_sent_with_the_key_frame_and_marked_there_only() {
    let mut line = Line::new(Coding::H264, &[]);
    line.next_picture();
    line.send(SPS, true);
    line.send(PPS, true);
    line.send(&[0x65, 0x88, 1], true);
    let (_, units, is_marked) = line.pictures().remove(0);
    assert_eq!(units, [SPS, PPS, &[0x65, 0x88, 1]]);
    assert!(is_marked);
    assert_eq!(line.out.len(), 2);
    assert_eq!(line.repack.truth().unwrap().1, (1920, 1080));
}

#[test]
fn sets_that_change_in_mid_stream_are_taken() {
    let mut line = Line::h264();
    line.next_picture();
    line.send(&[0x65, 0x88, 1], true);
    let changed = [0x68, 0xEB, 0xE3, 0xCB, 0x22, 0xC1];
    line.next_picture();
    line.send(&changed, false);
    line.send(&[0x41, 0x88, 1], true);
    line.next_picture();
    line.send(&[0x65, 0x88, 2], true);
    let pictures = line.pictures();
    assert_eq!(pictures[1].1, [SPS, &changed, &[0x41, 0x88, 1]]);
    assert_eq!(pictures[2].1, [SPS, &changed, &[0x65, 0x88, 2]]);
}

#[test]
fn a_set_in_fragments_is_put_together() {
    let mut line = Line::new(Coding::H264, &[PPS]);
    line.next_picture();
    let (one, two) = SPS[1..].split_at(9);
    line.send(&[&[0x7C, 0x87], one].concat(), false);
    line.send(&[&[0x7C, 0x47], two].concat(), false);
    line.send(&[0x65, 0x88, 1], true);
    assert_eq!(line.pictures()[0].1, [SPS, PPS, &[0x65, 0x88, 1]]);
}

#[test]
fn a_camera_that_forgets_the_marker_is_given_one() {
    let mut line = Line::h264();
    for n in 0..3 {
        line.next_picture();
        line.send(&[if n == 0 { 0x65 } else { 0x41 }, 0x88, n], false);
    }
    let pictures = line.pictures();
    assert!(pictures[0].2 && pictures[1].2 && !pictures[2].2);
    assert_eq!(pictures[1].1.last().unwrap(), Coding::H264.filler());
}

#[test]
fn gaps_stay_gaps_and_late_packets_are_left_out() {
    let mut line = Line::h264();
    line.next_picture();
    line.send(&[0x65, 0x88, 1], true);
    let before = RtpView::parse(line.out.last().unwrap()).unwrap().sequence();
    line.number = line.number.wrapping_add(3);
    line.next_picture();
    line.send(&[0x41, 0x88, 1], true);
    let after = RtpView::parse(line.out.last().unwrap()).unwrap().sequence();
    assert_eq!(after.wrapping_sub(before), 4);
    assert_eq!(line.repack.counts().lost, 3);
    let count = line.out.len();
    line.number = line.number.wrapping_sub(3);
    line.send(&[0x41, 0x88, 1], true);
    assert_eq!(line.out.len(), count);
}

#[test]
fn after_the_camera_came_back_a_key_frame_comes_first_and_time_goes_on() {
    let mut line = Line::h264();
    line.next_picture();
    line.send(&[0x65, 0x88, 1], true);
    line.repack.restart(96, None);
    line.timestamp = 5;
    line.number = 9;
    line.now += Duration::from_secs(2);
    line.send(&[0x41, 0x88, 1], true);
    assert_eq!(
        line.pictures().len(),
        1,
        "nothing that refers to what nobody has"
    );
    line.next_picture();
    line.send(&[0x65, 0x88, 2], true);
    let pictures = line.pictures();
    let step = pictures[1].0.wrapping_sub(pictures[0].0);
    assert!(step.abs_diff(2 * 90_000 + 3_600) <= 1, "{step}");
}

#[test]
fn a_stream_without_key_frames_is_let_through_in_the_end() {
    let mut line = Line::h264();
    for _ in 0..400 {
        line.next_picture();
        line.send(&[0x41, 0x88, 1], true);
    }
    assert!(line.pictures().len() > 50);
}

#[test]
fn b_frames_are_recognised() {
    let mut line = Line::h264();
    line.next_picture();
    line.send(&[0x65, 0x88, 1], true);
    assert!(!line.repack.has_b_frames());
    line.next_picture();
    // first_mb 0, type 6.
    line.send(&[0x01, 0b1001_1100, 0], true);
    assert!(line.repack.has_b_frames());

    let mut line = Line::new(Coding::H265, &[VPS_265, SPS_265, PPS_265]);
    for back in [0, 0, 2] {
        line.next_picture();
        line.timestamp -= back * 3_600;
        line.send(&[0x26, 0x01, 0x80, 1], true);
    }
    assert!(line.repack.has_b_frames(), "by their order");
}

#[test]
fn a_sender_report_is_passed_on_under_our_name_and_time() {
    let mut line = Line::h264();
    line.next_picture();
    line.send(&[0x65, 0x88, 1], true);
    let (ours, ..) = line.pictures()[0];
    let mut report = vec![0x80, 200, 0, 6];
    report.extend(0x4341_4D31u32.to_be_bytes());
    report.extend(0x1234_5678_9ABC_DEF0u64.to_be_bytes());
    report.extend(line.timestamp.wrapping_add(900).to_be_bytes());
    report.extend([0; 8]);
    let mut out = Packets::default();
    line.repack.handle_rtcp(&report, &mut out);
    let sent = out.iter().next().unwrap();
    assert_eq!(sent[4..8], 1u32.to_be_bytes());
    assert_eq!(sent[8..16], report[8..16]);
    assert_eq!(sent[16..20], ours.wrapping_add(900).to_be_bytes());
    report[7] ^= 1;
    out.clear();
    line.repack.handle_rtcp(&report, &mut out);
    assert!(out.is_empty(), "of another source");
}

#[test]
fn padding_extensions_and_sources_are_left_behind() {
    let mut line = Line::h264();
    let mut bytes = packet(true, (1, 1), &[]);
    bytes[0] = 0xB1;
    bytes.extend([
        1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0x10, 9, 0, 0, 0x65, 0x88, 7, 0, 0, 3,
    ]);
    let mut out = Packets::default();
    line.repack.handle_rtp(line.now, &bytes, &mut out);
    assert_eq!(out.iter().last().unwrap()[12..], [0x65, 0x88, 7]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant is as good as another"
)]
fn long_packets_of_g711_are_cut() {
    let outlet = Outlet {
        ssrc: Ssrc(1),
        payload_type: PayloadType(0),
    };
    let start = Start {
        sequence: 1,
        timestamp: 10,
    };
    let mut repack = Repack::sound(Sound::G711, 8_000, 96, outlet, start);
    let mut out = Packets::default();
    let long = packet(true, (1, 500), &[0xD5; 2_000]);
    repack.handle_rtp(Instant::now(), &long, &mut out);
    let read: Vec<_> = out
        .iter()
        .map(|packet| RtpView::parse(packet).unwrap())
        .map(|view| (view.timestamp(), view.payload().len(), view.marker()))
        .collect();
    assert_eq!(
        read,
        [(10, 960, true), (970, 960, false), (1_930, 80, false)]
    );
}

#[test]
fn whatever_comes_what_leaves_is_whole() {
    let mut g = Generator(0x4341_4D32);
    let mut came_out = 0;
    for round in 0..400 {
        let coding = [Coding::H264, Coding::H265][round % 2];
        let mut script = vec![(round % 4) as u8];
        for n in 0..30 {
            let (sent, _) = picture(&mut g, coding, n % 5 == 0);
            let sets: &[&[u8]] = match coding {
                Coding::H264 => &[SPS, PPS],
                Coding::H265 => &[VPS_265, SPS_265, PPS_265],
            };
            let sets = sets.iter().map(|unit| unit.to_vec());
            let all: Vec<_> = sets.take(g.below(4)).chain(sent).collect();
            for mut payload in payloads(&mut g, coding, &all) {
                for _ in 0..g.below(3) {
                    let at = g.below(payload.len().min(30));
                    payload[at] = g.below(256) as u8;
                }
                payload.truncate(1 + g.below(payload.len()));
                let what = [0x03, 0x04, 0x83, 0x84, 0xF3, 0x00, 0x01, 0x02][g.below(8)];
                script.extend([what, g.below(256) as u8, g.below(256) as u8]);
                script.extend((payload.len() as u16).to_be_bytes());
                script.extend(payload);
            }
        }
        came_out += camera(&script);
    }
    assert!(
        came_out > 10_000,
        "{came_out}: the scripts are too wild to show anything"
    );
    assert!(matches!(Coding::H264.kind(&[0x65]), Kind::KeySlice));
}
