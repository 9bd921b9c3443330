//! Pictures that come in several encodings and layers, and receivers that are sent one of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dataplane::command::{
    Command, ExtensionIds, Feed, Format, PayloadKind, Preference, Quality, SenderFormat, Simulcast,
    Source, TrackSpec,
};
use dataplane::event::{Event, Sent};
use dataplane::id::{PayloadType, Rid, SenderId, Ssrc, TrackId};
use dataplane::wire::VideoCodec;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::world::*;

const RID_ID: u8 = 5;
const REPAIRED_RID_ID: u8 = 6;
const DESCRIPTOR_ID: u8 = 7;
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];

/// A frame every 33 ms.
const FRAME_MS: u64 = 33;

pub(crate) fn simulcast_track(simulcast: Simulcast) -> TrackSpec {
    TrackSpec {
        formats: vec![Format {
            payload: PayloadKind::Video(VideoCodec::Vp8),
            ..video_format()
        }],
        extensions: ExtensionIds {
            mid: Some(PUBLISHER_MID_ID),
            rid: Some(RID_ID),
            repaired_rid: Some(REPAIRED_RID_ID),
            dependency_descriptor: Some(DESCRIPTOR_ID),
            ..ExtensionIds::default()
        },
        simulcast,
        ..video_track(1)
    }
}

pub(crate) fn by_rid() -> Simulcast {
    Simulcast::Rids(
        RIDS.iter()
            .map(|rid| Rid::new(rid.as_bytes()).unwrap())
            .collect(),
    )
}

/// One encoding of a VP8 camera: its own numbers, timestamps and picture ids.
pub(crate) struct Encoding {
    rid: Option<&'static str>,
    pub(crate) ssrc: u32,
    sequence: u16,
    timestamp: u32,
    picture: u16,
    base: u8,
    packets: usize,
    pub(crate) keyframe: bool,
}

impl Encoding {
    pub(crate) fn new(index: usize, rid: Option<&'static str>) -> Encoding {
        Encoding {
            rid,
            ssrc: 100 + index as u32,
            sequence: 65_000 + 100 * index as u16,
            timestamp: 0xffff_0000_u32.wrapping_add(77_777 * index as u32),
            picture: 0x7ff0 + index as u16 * 5,
            base: 250 - index as u8,
            packets: 1 + 2 * index,
            keyframe: true,
        }
    }

    /// Sends a frame; every second is of the higher temporal layer.
    pub(crate) fn frame(&mut self, world: &mut World, publisher: &mut Peer, number: u64) {
        let keyframe = std::mem::take(&mut self.keyframe);
        let temporal = u8::from(number % 2 == 1 && !keyframe);
        if temporal == 0 {
            self.base = self.base.wrapping_add(1);
        }
        for packet in 0..self.packets {
            let begins = packet == 0;
            let mut payload = vec![
                0x80 | if begins { 0x10 } else { 0 },
                0xe0,
                0x80 | (self.picture >> 8) as u8 & 0x7f,
                self.picture as u8,
                self.base,
                (temporal << 6) | 0x20,
                u8::from(!keyframe),
            ];
            payload.extend([self.ssrc as u8; 900]);
            let mut extensions: Vec<(u8, &[u8])> = vec![(PUBLISHER_MID_ID, b"v")];
            if let Some(rid) = self.rid {
                extensions.push((RID_ID, rid.as_bytes()));
            }
            let media = Media {
                timestamp: self.timestamp,
                marker: packet + 1 == self.packets,
                extensions: &extensions,
                ..video(self.ssrc, self.sequence, &payload)
            };
            publisher.send(world, &media.packet());
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.picture = (self.picture + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add(2_970);
    }
}

/// A publisher of three encodings and a receiver, some time into the meeting.
struct Scene {
    world: World,
    publisher: Peer,
    subscriber: Peer,
    encodings: Vec<Encoding>,
    frames: u64,
    received: Vec<rtp::Packet>,
}

impl Scene {
    fn new(simulcast: Simulcast) -> Scene {
        let mut world = World::new();
        let has_rids = matches!(simulcast, Simulcast::Rids(_));
        let mut track = simulcast_track(simulcast);
        if !has_rids {
            track.sources = (100..103)
                .map(|ssrc| Source {
                    ssrc: Ssrc(ssrc),
                    rtx: None,
                })
                .collect();
        }
        let (mut publisher, subscriber) = watched(&mut world, track, picture_sender());
        publisher.receive(&mut world);
        let encodings = RIDS.iter().enumerate();
        Scene {
            encodings: encodings
                .map(|(index, rid)| Encoding::new(index, has_rids.then_some(*rid)))
                .collect(),
            world,
            publisher,
            subscriber,
            frames: 0,
            received: Vec::new(),
        }
    }

    /// Some frames of all encodings but those left out; key frames come where they were asked for.
    fn run(&mut self, frames: u64, without: &[usize]) {
        for _ in 0..frames {
            for (index, encoding) in self.encodings.iter_mut().enumerate() {
                if !without.contains(&index) {
                    encoding.frame(&mut self.world, &mut self.publisher, self.frames);
                }
            }
            self.frames += 1;
            self.received.extend(self.subscriber.media(&mut self.world));
            for asked in self
                .publisher
                .control::<PictureLossIndication>(&mut self.world)
            {
                for encoding in &mut self.encodings {
                    encoding.keyframe |= encoding.ssrc == asked.media_ssrc;
                }
            }
            self.world.ms(FRAME_MS);
        }
    }

    fn prefer(&mut self, most: Quality) {
        let preference = Preference { most, priority: 0 };
        self.world.command(Command::Prefer {
            sender: SenderId(1),
            preference,
        });
    }

    /// The encoding that the last packets are of, by their payload.
    fn shown(&self) -> u8 {
        self.received.last().unwrap().payload.last().unwrap() - 100
    }

    /// What a decoder would insist on: numbers, pictures and time go on without a gap.
    fn check_continuity(&self) {
        let mut last: Option<(&rtp::Packet, u16)> = None;
        for packet in &self.received {
            let picture = u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff;
            let begins = packet.payload[0] & 0x10 != 0;
            if let Some((before, its)) = last {
                let step = packet
                    .header
                    .sequence_number
                    .wrapping_sub(before.header.sequence_number);
                assert_eq!(step, 1, "numbers are continuous");
                assert_eq!(picture, (its + u16::from(begins)) & 0x7fff, "and pictures");
                let ticks = packet
                    .header
                    .timestamp
                    .wrapping_sub(before.header.timestamp);
                assert!(begins != (ticks == 0), "a frame is a time");
                assert!(ticks < 3 * 90_000, "and goes forward");
                let changes = packet.payload.last() != before.payload.last();
                assert!(
                    !changes || (begins && packet.payload[6] == 0),
                    "changes at a key frame"
                );
                if changes {
                    assert_eq!(
                        packet.payload[4],
                        before.payload[4].wrapping_add(1),
                        "base frames too"
                    );
                }
            }
            last = Some((packet, picture));
        }
    }
}

#[test]
fn a_receiver_gets_the_best_encoding_and_goes_where_it_prefers_without_a_seam() {
    for simulcast in [by_rid(), Simulcast::Sources] {
        let mut scene = Scene::new(simulcast);
        scene.run(120, &[]);
        assert_eq!(scene.shown(), 2);
        for (most, shown) in [(0, 0), (1, 1), (9, 2), (0, 0)] {
            scene.prefer(Quality::Layer(most));
            scene.run(60, &[]);
            assert_eq!(scene.shown(), shown);
        }
        scene.check_continuity();
        assert!(scene.received.len() > 200);
        let chosen = scene.world.events.iter().filter(|event| {
            matches!(
                event,
                Event::Chosen {
                    sent: Sent::Layers { .. },
                    ..
                }
            )
        });
        let chosen = chosen.count() as u64;
        assert_eq!(scene.world.counters().layer_switches, chosen);
    }
}

#[test]
fn nothing_is_sent_to_who_wants_nothing_and_a_key_frame_begins_it_again() {
    let mut scene = Scene::new(by_rid());
    scene.run(120, &[]);
    scene.prefer(Quality::Off);
    scene.run(1, &[]);
    let sent = scene.received.len();
    scene.run(30, &[]);
    assert_eq!(scene.received.len(), sent);
    scene.prefer(Quality::Best);
    scene.run(60, &[]);
    assert!(scene.received.len() > sent + 100);
    assert_eq!((scene.shown(), scene.received[sent].payload[6]), (2, 0));
    assert!(scene.world.events.contains(&Event::Chosen {
        session: scene.subscriber.session,
        sender: SenderId(1),
        sent: Sent::Unwanted,
    }));
}

#[test]
fn an_encoding_that_stops_without_a_word_is_replaced_and_taken_up_again() {
    let mut scene = Scene::new(by_rid());
    scene.run(120, &[]);
    assert_eq!(scene.shown(), 2);
    scene.run(120, &[2]);
    assert_eq!(scene.shown(), 1);
    scene.run(60, &[1, 2]);
    scene.run(60, &[1, 2]);
    assert_eq!(scene.shown(), 0);
    scene.run(200, &[]);
    assert_eq!(scene.shown(), 2);
    scene.check_continuity();
}

#[test]
fn t_28_packets_of_rids_that_were_never_announced_go_nowhere() {
    let mut scene = Scene::new(by_rid());
    for number in 0..1_000_u32 {
        let rid = format!("r{number}");
        let extensions: [(u8, &[u8]); 2] = [(PUBLISHER_MID_ID, b"v"), (RID_ID, rid.as_bytes())];
        let media = Media {
            extensions: &extensions,
            ..video(5_000 + number, 1, &[0x10; 100])
        };
        scene.publisher.send(&mut scene.world, &media.packet());
    }
    assert_eq!(scene.world.counters().drop_unknown_ssrc, 1_000);
    scene.run(60, &[]);
    assert!(!scene.received.is_empty());
}

#[test]
fn a_retransmission_names_the_encoding_that_it_repairs() {
    let mut scene = Scene::new(by_rid());
    scene.prefer(Quality::Layer(0));
    scene.run(30, &[]);
    // A packet of the smallest encoding is lost, and comes as a retransmission of a source of its own.
    let lost = scene.encodings[0].sequence;
    scene.encodings[0].sequence = lost.wrapping_add(1);
    scene.run(1, &[1, 2]);
    let mut payload = lost.to_be_bytes().to_vec();
    payload.extend([0x90, 0x80, 0x80 | 5, 5, 1, 100]);
    let extensions: [(u8, &[u8]); 2] = [(PUBLISHER_MID_ID, b"v"), (REPAIRED_RID_ID, b"q")];
    let repair = Media {
        payload_type: PUBLISHER_RTX,
        extensions: &extensions,
        ..video(900, 1, &payload)
    };
    let before = scene.received.len();
    scene.publisher.send(&mut scene.world, &repair.packet());
    scene
        .received
        .extend(scene.subscriber.media(&mut scene.world));
    assert_eq!(scene.received.len(), before + 1, "it fills the gap");
}

#[test]
fn a_renegotiation_that_ends_simulcast_leaves_the_smallest_encoding() {
    let mut scene = Scene::new(by_rid());
    scene.prefer(Quality::Layer(0));
    scene.run(60, &[]);
    let mut track = simulcast_track(Simulcast::Rids(vec![Rid::new(b"q").unwrap()]));
    track.track = TrackId(1);
    scene.world.command(Command::Publish {
        session: scene.publisher.session,
        track: Box::new(track),
    });
    let before = scene.received.len();
    scene.run(30, &[]);
    assert!(scene.received.len() > before + 20);
    assert!(scene.world.counters().drop_unknown_ssrc > 0);
    let numbered = |payload_type, rtx| SenderFormat {
        payload_type: PayloadType(payload_type),
        rtx: Some(PayloadType(rtx)),
        red: None,
    };
    let feed = Feed {
        track: TrackId(1),
        payload_types: vec![Some(numbered(SUBSCRIBER_PT, SUBSCRIBER_RTX))],
    };
    scene.world.command(Command::Feed {
        sender: SenderId(1),
        source: Some(feed),
    });
    scene.run(30, &[]);
    scene.check_continuity();
}

/// ATTACKS.md T-26.
#[test]
fn t_26_thousands_of_requests_for_a_key_frame_become_one_each_half_second() {
    let mut scene = Scene::new(by_rid());
    scene.run(60, &[]);
    let ask = || -> Vec<Box<dyn rtcp::Packet>> {
        let pli = PictureLossIndication {
            sender_ssrc: 1,
            media_ssrc: 0x5001,
        };
        (0..100)
            .map(|_| Box::new(pli.clone()) as Box<dyn rtcp::Packet>)
            .collect()
    };
    let mut asked = 0;
    for _ in 0..100 {
        for _ in 0..3 {
            scene.subscriber.send_rtcp(&mut scene.world, &ask());
        }
        asked += scene
            .publisher
            .control::<PictureLossIndication>(&mut scene.world)
            .len();
        scene.world.ms(20);
    }
    assert!(
        (3..=5).contains(&asked),
        "{asked} requests in two seconds for 30,000"
    );
}

/// ATTACKS.md T-23 and T-24.
#[test]
fn t_24_descriptors_that_lie_harm_nobody_and_pictures_go_on() {
    let mut scene = Scene::new(by_rid());
    scene.run(60, &[]);
    let mut seed = 0x1234_5678_9abc_def0_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..20_000_u64 {
        let encoding = &mut scene.encodings[(random() % 3) as usize];
        let bytes = |len: u64, random: &mut dyn FnMut() -> u64| -> Vec<u8> {
            (0..len).map(|_| random() as u8).collect()
        };
        let descriptor_len = random() % 40;
        let descriptor = bytes(descriptor_len, &mut random);
        let payload_len = 1 + random() % 60;
        let mut payload = bytes(payload_len, &mut random);
        if round % 3 == 0 {
            // From an advisory: a descriptor whose fields end behind the packet.
            payload.splice(.., [0x81, 0x81, 0x94]);
        }
        let rid = encoding.rid.unwrap();
        let extensions: [(u8, &[u8]); 3] = [
            (PUBLISHER_MID_ID, b"v"),
            (RID_ID, rid.as_bytes()),
            (DESCRIPTOR_ID, &descriptor),
        ];
        let kept = if descriptor.is_empty() { 2 } else { 3 };
        let media = Media {
            timestamp: encoding.timestamp,
            extensions: &extensions[..kept],
            ..video(encoding.ssrc, encoding.sequence, &payload)
        };
        scene.publisher.send(&mut scene.world, &media.packet());
        encoding.sequence = encoding.sequence.wrapping_add(1);
        if round % 50 == 0 {
            scene.subscriber.media(&mut scene.world);
            scene.prefer(Quality::Layer((round / 50 % 4) as u8));
            scene.world.ms(10);
        }
    }
    scene.prefer(Quality::Best);
    scene.subscriber.media(&mut scene.world);
    for encoding in &mut scene.encodings {
        encoding.keyframe = true;
    }
    scene.received.clear();
    scene.run(150, &[]);
    assert_eq!(scene.shown(), 2);
    assert!(scene.received.len() > 500);
}
