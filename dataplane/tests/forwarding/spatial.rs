//! Spatial layers of VP9 that need each other in key pictures only (L3T1_KEY): a receiver is sent one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dataplane::command::{
    Command, ExtensionIds, Format, PayloadKind, Preference, Quality, TrackSpec,
};
use dataplane::id::SenderId;
use dataplane::wire::{VideoCodec, vp9};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::world::*;

const CAMERA: u32 = 100;

/// A camera, who watches it, and the layers that it sends.
struct Scene {
    world: World,
    publisher: Peer,
    subscriber: Peer,
    layers: u8,
    sequence: u16,
    picture: u16,
    timestamp: u32,
    keyframe: bool,
    received: Vec<rtp::Packet>,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::new();
        let format = Format {
            payload: PayloadKind::Video(VideoCodec::Vp9),
            ..video_format()
        };
        let track = TrackSpec {
            formats: vec![format],
            extensions: ExtensionIds {
                mid: Some(PUBLISHER_MID_ID),
                ..ExtensionIds::default()
            },
            ..video_track(1)
        };
        let (mut publisher, subscriber) = watched(&mut world, track, picture_sender());
        publisher.receive(&mut world);
        Scene {
            world,
            publisher,
            subscriber,
            layers: 3,
            sequence: 65_500,
            picture: 0,
            timestamp: 0,
            keyframe: true,
            received: Vec::new(),
        }
    }

    /// A picture: one packet for each layer, the larger the higher.
    fn picture(&mut self) {
        let keyframe = std::mem::take(&mut self.keyframe);
        for spatial in 0..self.layers {
            let is_top = spatial + 1 == self.layers;
            let (predicted, inter_layer) = (!keyframe, keyframe && spatial > 0);
            let unused_above = !keyframe || spatial == 2;
            let mut payload = vec![
                0xac | u8::from(predicted) << 6 | u8::from(unused_above),
                0x80 | (self.picture >> 8) as u8,
                self.picture as u8,
                spatial << 1 | u8::from(inter_layer),
                self.picture as u8,
            ];
            payload.extend(vec![spatial; 200 + 400 * usize::from(spatial)]);
            let media = Media {
                timestamp: self.timestamp,
                marker: is_top,
                ..video(CAMERA, self.sequence, &payload)
            };
            self.publisher.send(&mut self.world, &media.packet());
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.picture = (self.picture + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add(3_000);
    }

    /// So many pictures; a key picture follows where one was asked for.
    fn run(&mut self, pictures: usize) {
        for _ in 0..pictures {
            self.picture();
            self.received.extend(self.subscriber.media(&mut self.world));
            let asked = self
                .publisher
                .control::<PictureLossIndication>(&mut self.world);
            self.keyframe |= !asked.is_empty();
            self.world.ms(33);
        }
    }

    /// Runs, checks what a decoder would insist on, and returns which spatial layers the last picture had.
    fn settle(&mut self, pictures: usize) -> Vec<u8> {
        self.run(pictures);
        let described = self.received.iter().map(|packet| {
            let descriptor = vp9::Descriptor::parse(&packet.payload).unwrap();
            (packet, descriptor.spatial, !descriptor.is_predicted)
        });
        let described: Vec<_> = described.collect();
        let mut shown = None;
        for pair in described.windows(2) {
            let ((packet, spatial, is_key), (next, above, _)) = (pair[0], pair[1]);
            let step = next
                .header
                .sequence_number
                .wrapping_sub(packet.header.sequence_number);
            assert_eq!(step, 1, "numbers are continuous");
            let is_last = packet.header.timestamp != next.header.timestamp;
            assert_eq!(
                packet.header.marker, is_last,
                "a picture ends with a marker"
            );
            if is_key {
                assert!(is_last || above == spatial + 1, "nothing is missing below");
                shown = Some(spatial);
            } else {
                assert_eq!(Some(spatial), shown, "it leans on its own layer");
            }
        }
        let last = self.received.last().unwrap().header.timestamp;
        let of_last = described
            .iter()
            .filter(|(packet, ..)| packet.header.timestamp == last);
        of_last.map(|(_, spatial, _)| *spatial).collect()
    }

    fn prefer(&mut self, most: u8) {
        self.world.command(Command::Prefer {
            sender: SenderId(1),
            preference: Preference {
                most: Quality::Layer(most),
                priority: 0,
            },
        });
    }
}

#[test]
fn a_receiver_is_sent_one_layer_and_changes_it_by_a_key_picture() {
    let mut scene = Scene::new();
    assert_eq!(scene.settle(120), [2]);
    scene.prefer(0);
    assert_eq!(scene.settle(60), [0]);
    scene.prefer(1);
    assert_eq!(scene.settle(120), [1]);
    scene.prefer(2);
    assert_eq!(scene.settle(120), [2]);
}

#[test]
fn a_layer_that_its_encoder_stops_without_a_word_is_left_for_the_next_lower() {
    let mut scene = Scene::new();
    assert_eq!(scene.settle(60), [2]);
    scene.layers = 2;
    assert_eq!(scene.settle(15), [1], "half a second later");
    assert_eq!(scene.settle(300), [1]);
    scene.layers = 3;
    scene.keyframe = true;
    assert_eq!(scene.settle(200), [2]);
}
