//! A camera that feeds an engine, and who watches it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use dataplane::command::{
    Command, ExtensionIds, FeedSpec, Format, MediaKind, PayloadKind, Source, TrackSpec,
};
use dataplane::id::{PayloadType, SenderId, SessionId, Ssrc};
use dataplane::wire::VideoCodec;

use crate::world::*;

pub(crate) const CAMERA: SessionId = SessionId(100);
pub(crate) const CAMERA_SSRC: u32 = 7;

/// Between two pictures, in milliseconds and in ticks of the RTP clock.
pub(crate) const PICTURE_MS: u64 = 40;
pub(crate) const PICTURE_TICKS: u32 = 3_600;

/// A camera's stream: H.264 with its parameter sets before each key frame.
pub(crate) struct Camera {
    pub(crate) session: SessionId,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// Bytes of each packet of a slice.
    pub(crate) bytes: usize,
}

impl Camera {
    pub(crate) fn new(ssrc: u32) -> Camera {
        Camera {
            session: CAMERA,
            ssrc,
            // It wraps soon.
            sequence: 65_500,
            timestamp: u32::MAX - 10 * PICTURE_TICKS,
            bytes: 200,
        }
    }

    pub(crate) fn packet(&mut self, nal: &[u8], marker: bool) -> Vec<u8> {
        let mut payload = nal.to_vec();
        payload.extend(self.sequence.to_be_bytes());
        if nal.len() == 2 {
            payload.resize(self.bytes, 0);
        }
        let media = Media {
            ssrc: self.ssrc,
            payload_type: PUBLISHER_PT,
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker,
            extensions: &[],
            payload: &payload,
        };
        self.sequence = self.sequence.wrapping_add(1);
        media.packet()
    }

    /// The packets of one picture, a slice in three fragments.
    pub(crate) fn picture(&mut self, is_key: bool) -> Vec<Vec<u8>> {
        self.timestamp = self.timestamp.wrapping_add(PICTURE_TICKS);
        let mut packets = Vec::new();
        let (head, kind) = if is_key { (0x7c, 5) } else { (0x5c, 1) };
        if is_key {
            packets.push(self.packet(&[0x67], false));
            packets.push(self.packet(&[0x68], false));
        }
        for (flags, marker) in [(0x80, false), (0, false), (0x40, true)] {
            packets.push(self.packet(&[head, flags | kind], marker));
        }
        packets
    }

    pub(crate) fn hand(&self, world: &mut World, packets: &[Vec<u8>]) {
        for packet in packets {
            world
                .engine
                .handle_feed(world.now, self.session, world.now, packet);
        }
    }

    /// Some pictures, one after the other; every tenth is a key frame. What was sent of it.
    pub(crate) fn play(
        &mut self,
        world: &mut World,
        pictures: std::ops::Range<u32>,
    ) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for picture in pictures {
            let packets = self.picture(picture % 10 == 0);
            self.hand(world, &packets);
            world.ms(PICTURE_MS);
            sent.extend(packets);
        }
        sent
    }
}

pub(crate) fn camera_track(id: u64) -> TrackSpec {
    TrackSpec {
        sources: vec![Source {
            ssrc: Ssrc(CAMERA_SSRC),
            rtx: None,
        }],
        formats: vec![Format {
            payload_type: PayloadType(PUBLISHER_PT),
            clock_rate: 90_000,
            rtx: None,
            payload: PayloadKind::Video(VideoCodec::H264),
        }],
        extensions: ExtensionIds::default(),
        nack: true,
        keeps_group: true,
        ..video_track(id)
    }
}

/// What opens the camera's session and publishes its picture.
pub(crate) fn open_commands(track: TrackSpec) -> [Command; 2] {
    let spec = FeedSpec {
        session: CAMERA,
        cname: "camera".to_owned(),
    };
    let publish = Command::Publish {
        session: CAMERA,
        track: Box::new(track),
    };
    [Command::OpenFeed(Box::new(spec)), publish]
}

pub(crate) fn open(world: &mut World, track: TrackSpec) {
    for command in open_commands(track) {
        world.command(command);
    }
}

/// A world with a camera.
pub(crate) fn with_camera() -> (World, Camera) {
    let mut world = World::new();
    open(&mut world, camera_track(1));
    (world, Camera::new(CAMERA_SSRC))
}

/// A connected client that is sent the camera's picture.
pub(crate) fn viewer(world: &mut World, number: u64) -> Peer {
    let viewer = Peer::connect(world, number);
    watch(world, &viewer);
    viewer
}

pub(crate) fn watch(world: &mut World, viewer: &Peer) {
    let number = viewer.session.0;
    let mut spec = sender(number, MediaKind::Video, true);
    spec.extensions.audio_level = None;
    world.command(Command::AddSender {
        session: viewer.session,
        sender: Box::new(spec),
    });
    world.command(Command::Feed {
        sender: SenderId(number),
        source: Some(video_feed(1)),
    });
}

/// What of a camera's packet must reach a viewer as it was.
pub(crate) fn sent_payloads(packets: &[Vec<u8>]) -> Vec<&[u8]> {
    packets.iter().map(|packet| &packet[12..]).collect()
}

/// The packets are these, in this order, with numbers and times that go on as the camera's do.
pub(crate) fn assert_whole(media: &[rtp::Packet], sent: &[Vec<u8>]) {
    let payloads: Vec<&[u8]> = media.iter().map(|packet| &packet.payload[..]).collect();
    assert_eq!(payloads.len(), sent.len());
    assert_eq!(payloads, sent_payloads(sent));
    let timestamp =
        |packet: &[u8]| u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    let first = &media[0].header;
    for (n, (packet, original)) in media.iter().zip(sent).enumerate() {
        let header = &packet.header;
        let number = header.sequence_number.wrapping_sub(first.sequence_number);
        assert_eq!(usize::from(number), n);
        let since = timestamp(original).wrapping_sub(timestamp(&sent[0]));
        assert_eq!(header.timestamp.wrapping_sub(first.timestamp), since);
        assert_eq!(header.marker, original[1] & 0x80 != 0);
    }
}
