//! What each codec's packets say of layers, and streams whose descriptors are followed.

use super::Layer;
use crate::wire::dependency_descriptor::writer::{
    L1T1, L1T2, L1T3, L2T1, L3T3, L3T3_KEY, Packet, Script,
};
use crate::wire::dependency_descriptor::{Descriptor, Structure, Targets};
use crate::wire::generator::Generator;
use crate::wire::{Picture, PictureId, VideoCodec, fuzz};

const SEED: u64 = 0x4C61_7901;

const CODECS: [VideoCodec; 5] = [
    VideoCodec::Vp8,
    VideoCodec::Vp9,
    VideoCodec::H264,
    VideoCodec::H265,
    VideoCodec::Av1,
];

/// The order of templates in a stream of libwebrtc: the key picture, and what repeats after it.
const ORDER_L1T3: (&[u8], &[u8]) = (&[0], &[3, 2, 4, 1]);
const ORDER_L2T1: (&[u8], &[u8]) = (&[1, 3], &[0, 2]);
const ORDER_L3T3: (&[u8], &[u8]) = (&[1, 6, 11], &[3, 8, 13, 2, 7, 12, 4, 9, 14, 0, 5, 10]);
const ORDER_L3T3_KEY: (&[u8], &[u8]) = (&[0, 5, 10], &[3, 8, 13, 2, 7, 12, 4, 9, 14, 1, 6, 11]);

/// The structure of a script, and the layers of as many frames of its stream.
fn stream(
    script: &Script,
    (key, repeated): (&[u8], &[u8]),
    count: usize,
) -> (Structure, Vec<(Descriptor, Layer)>) {
    let templates = key.iter().chain(repeated.iter().cycle());
    let mut structure = None;
    let mut frames = Vec::new();
    for (number, &template) in templates.take(count).enumerate() {
        let value = script.write(&Packet {
            starts_frame: true,
            ends_frame: true,
            template,
            frame_number: number as u16,
            with_structure: number == 0,
            ..Packet::default()
        });
        let descriptor = Descriptor::parse(&value, structure.as_ref()).unwrap();
        let known = structure.get_or_insert_with(|| Structure::parse(&value).unwrap());
        frames.push((descriptor, Layer::from_descriptor(&descriptor, known)));
    }
    (structure.unwrap(), frames)
}

#[test]
fn a_key_picture_is_one_in_each_of_its_spatial_layers_and_no_other_is() {
    for (script, order) in [
        (L1T3, ORDER_L1T3),
        (L2T1, ORDER_L2T1),
        (L3T3, ORDER_L3T3),
        (L3T3_KEY, ORDER_L3T3_KEY),
    ] {
        let (_, frames) = stream(&script, order, 60);
        let keys: Vec<_> = frames.iter().map(|(_, layer)| layer.keyframe).collect();
        let (first, later) = keys.split_at(order.0.len());
        assert!(first.iter().all(|&key| key), "{script:?}");
        assert!(later.iter().all(|&key| !key), "{script:?}");
    }
}

#[test]
fn a_key_frame_is_begun_with_its_first_packet() {
    let key = L1T1.write(&Packet {
        ends_frame: true,
        with_structure: true,
        ..Packet::default()
    });
    let structure = Structure::parse(&key).unwrap();
    let layer = Layer::from_descriptor(&Descriptor::parse(&key, None).unwrap(), &structure);
    assert_eq!((layer.keyframe, layer.starts_frame), (false, false));
    assert!(layer.ends_frame);
}

#[test]
fn spatial_layers_depend_on_lower_ones_where_the_mode_says() {
    let (_, frames) = stream(&L3T3, ORDER_L3T3, 30);
    for (_, layer) in &frames {
        assert_eq!(layer.independent, layer.spatial == 0);
    }
    let (_, frames) = stream(&L3T3_KEY, ORDER_L3T3_KEY, 30);
    for (_, layer) in &frames {
        assert_eq!(layer.independent, layer.spatial == 0 || !layer.keyframe);
    }
}

#[test]
fn higher_layers_need_lower_ones_in_every_picture_or_in_key_pictures_only() {
    let (_, frames) = stream(&L3T3, ORDER_L3T3, 30);
    for (_, layer) in &frames {
        assert_eq!(layer.unused_above, layer.spatial == 2);
    }
    let (_, frames) = stream(&L3T3_KEY, ORDER_L3T3_KEY, 30);
    for (_, layer) in &frames {
        assert_eq!(layer.unused_above, layer.spatial == 2 || !layer.keyframe);
    }
    let vp9 = |head: u8| {
        VideoCodec::Vp9
            .layer(&[head, 0x80, 17, 0x02, 0])
            .unused_above
    };
    assert!(vp9(0xA9) && !vp9(0xA8));
}

#[test]
fn a_higher_layer_alone_has_no_key_frames_among_its_others() {
    // Only spatial layer 1 is sent: its frame goes back to the one before, which is its own.
    let (mut structure, _) = stream(&L2T1, ORDER_L2T1, 1);
    let value = L2T1.write(&Packet {
        starts_frame: true,
        template: 3,
        ..Packet::default()
    });
    let descriptor = Descriptor::parse(&value, Some(&structure)).unwrap();
    let with_both = Layer::from_descriptor(&descriptor, &structure);
    assert!(with_both.keyframe && !with_both.independent);
    structure.active = Targets(0b10);
    let alone = Layer::from_descriptor(&descriptor, &structure);
    assert!(!alone.keyframe && alone.independent);
}

#[test]
fn temporal_layers_of_libwebrtc_may_be_joined_from_the_next_lower_at_any_frame() {
    for (script, order) in [
        (L1T3, ORDER_L1T3),
        (L3T3, ORDER_L3T3),
        (L3T3_KEY, ORDER_L3T3_KEY),
    ] {
        let (_, frames) = stream(&script, order, 60);
        assert!(frames.iter().all(|(_, layer)| layer.switches_up));
    }
}

#[test]
fn a_temporal_layer_that_goes_back_to_itself_is_joined_at_a_switch_only() {
    // Frames of layer 1 are predicted from the last of layer 1, but for one that starts anew.
    const CHAINED: Script = Script {
        templates: &[
            (0, 0, "SS", &[], &[0]),
            (0, 0, "SR", &[2], &[2]),
            (0, 1, "-R", &[1, 2], &[1]),
            (0, 1, "-S", &[1], &[1]),
        ],
        ..L1T2
    };
    let (structure, frames) = stream(&CHAINED, (&[0], &[2, 1, 3, 1]), 9);
    assert!(!structure.is_open_from_below(1));
    let joins: Vec<_> = frames.iter().map(|(_, layer)| layer.switches_up).collect();
    assert_eq!(
        joins,
        [true, false, true, true, true, false, true, true, true]
    );
}

#[test]
fn what_no_other_frame_needs_is_discardable() {
    let discardable = |script: &Script, order, highest| {
        let (_, frames) = stream(script, order, 30);
        for (_, layer) in frames {
            let expected = (layer.spatial, layer.temporal) == highest;
            assert_eq!(layer.discardable, expected, "{layer:?}");
        }
    };
    discardable(&L1T3, ORDER_L1T3, (0, 2));
    discardable(&L3T3, ORDER_L3T3, (2, 2));
    let (_, frames) = stream(&L3T3_KEY, ORDER_L3T3_KEY, 30);
    for (_, layer) in frames {
        assert_eq!(layer.discardable, layer.temporal == 2);
    }
}

/// A receiver that changes its layers at random and takes what its references allow.
#[test]
fn one_that_takes_what_its_references_allow_can_always_decode() {
    let mut generator = Generator::new(SEED);
    for (script, order) in [
        (L1T3, ORDER_L1T3),
        (L3T3, ORDER_L3T3),
        (L3T3_KEY, ORDER_L3T3_KEY),
    ] {
        let (_, frames) = stream(&script, order, 600);
        let mut taken = vec![false; frames.len()];
        let mut sent = 0_u64;
        let mut wanted = (2, 2);
        for (number, (descriptor, layer)) in frames.iter().enumerate() {
            if number % 30 == 29 {
                wanted = (generator.below(3) as u8, generator.below(3) as u8);
            }
            let is_wanted = layer.spatial <= wanted.0 && layer.temporal <= wanted.1;
            let takes = is_wanted && descriptor.references.are_among(sent);
            sent = (sent << 1) | u64::from(takes);
            taken[number] = takes;
            let template = script.templates.iter().find(|template| {
                let near = template
                    .3
                    .iter()
                    .fold(0, |near, back| near | 1 << (back - 1));
                (template.0, template.1) == (layer.spatial, layer.temporal)
                    && near == descriptor.references.near
            });
            let differences = template.unwrap().3;
            assert!(
                !takes
                    || differences
                        .iter()
                        .all(|&back| taken[number - usize::from(back)])
            );
            // A round of the stream later, a temporal layer that is wanted comes.
            let has_settled = (number + 1) % 30 >= 12;
            assert!(takes || !is_wanted || layer.spatial > 0 || !has_settled);
        }
    }
}

#[test]
fn vp8_by_its_descriptor() {
    let key = VideoCodec::Vp8.layer(&[0x90, 0xF0, 0x91, 0x22, 0x05, 0x03, 0x50]);
    let expected = Layer {
        starts_frame: true,
        keyframe: true,
        switches_up: true,
        independent: true,
        unused_above: true,
        picture: Picture {
            id: Some(PictureId {
                number: 0x1122,
                is_wide: true,
            }),
            tl0_pic_idx: Some(5),
        },
        ..Layer::default()
    };
    assert_eq!(key, expected);
    let joins = |head, tid_y| {
        let layer = VideoCodec::Vp8.layer(&[head, 0xE0, 0x11, 0x05, tid_y, 0x51]);
        (layer.temporal, layer.switches_up, layer.discardable)
    };
    assert_eq!(joins(0x90, 0x00), (0, true, false));
    assert_eq!(joins(0x90, 0x60), (1, true, false));
    assert_eq!(joins(0xB0, 0x80), (2, false, true));
    assert_eq!(VideoCodec::Vp8.layer(&[0x81, 0x81, 0x94]), Layer::default());
}

#[test]
fn vp9_by_its_descriptor() {
    // The key picture of two spatial layers, its second layer, and later frames of both.
    let read = |payload: &[u8]| {
        let layer = VideoCodec::Vp9.layer(payload);
        (
            (layer.spatial, layer.temporal),
            (layer.starts_frame, layer.ends_frame),
            (layer.keyframe, layer.switches_up, layer.independent),
        )
    };
    assert_eq!(
        read(&[0xA8, 0x11, 0x00, 0x05]),
        ((0, 0), (true, false), (true, true, true))
    );
    assert_eq!(
        read(&[0xAC, 0x11, 0x03, 0x05]),
        ((1, 0), (true, true), (true, true, false))
    );
    assert_eq!(
        read(&[0xEC, 0x12, 0x02, 0x05]),
        ((1, 0), (true, true), (false, true, true))
    );
    assert_eq!(
        read(&[0xE4, 0x12, 0x43, 0x05]),
        ((1, 2), (false, true), (false, false, false))
    );
    assert_eq!(
        read(&[0xE8, 0x12, 0x50, 0x05]),
        ((0, 2), (true, false), (false, true, true))
    );
    // Without layer indices there is one layer.
    assert_eq!(
        read(&[0x8C, 0x11, 0x00]),
        ((0, 0), (true, true), (true, true, true))
    );
    assert_eq!(VideoCodec::Vp9.layer(&[0xA8, 0x11]), Layer::default());
}

#[test]
fn av1_h264_and_h265_by_their_units() {
    let layer = VideoCodec::Av1.layer(&[0x10, 0x34, 0x48, 0]);
    assert_eq!((layer.spatial, layer.temporal), (1, 2));
    assert!(layer.starts_frame && !layer.keyframe && !layer.switches_up && !layer.independent);
    let key = VideoCodec::Av1.layer(&[0x18, 0x08, 0]);
    assert!(key.starts_frame && key.keyframe && key.switches_up && key.independent);

    let droppable = VideoCodec::H264.layer(&[0x01, 0x9A]);
    assert!(droppable.discardable && droppable.starts_frame && droppable.switches_up);
    let key = VideoCodec::H264.layer(&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x65, 0x88]);
    assert!(key.keyframe && key.starts_frame && !key.discardable);

    let upper = VideoCodec::H265.layer(&[0x02, 0x03, 0x80]);
    assert_eq!((upper.temporal, upper.switches_up), (2, false));
    let key = VideoCodec::H265.layer(&[0x26, 0x01, 0x80]);
    assert!(key.keyframe && key.switches_up && key.independent);
}

#[test]
fn a_key_frame_begins_where_the_codec_says_it_does() {
    let mut generator = Generator::new(SEED);
    for _ in 0..40_000 {
        let len = generator.below(12);
        let payload = generator.bytes(len);
        for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::H265] {
            let layer = codec.layer(&payload);
            let is_key = layer.starts_frame && codec.starts_keyframe(&payload);
            assert_eq!(layer.keyframe, is_key);
        }
        let vp9 = VideoCodec::Vp9.layer(&payload);
        if vp9.keyframe && vp9.spatial == 0 {
            assert!(VideoCodec::Vp9.starts_keyframe(&payload));
        }
        if VideoCodec::Av1.layer(&payload).keyframe {
            assert!(VideoCodec::Av1.starts_keyframe(&payload));
        }
    }
}

#[test]
fn bytes_of_every_length_are_survived() {
    let mut generator = Generator::new(SEED);
    for len in 0..400 {
        for _ in 0..20 {
            let bytes = generator.bytes(len);
            fuzz::layers(&bytes);
        }
        fuzz::layers(&vec![0; len]);
        fuzz::layers(&vec![0xFF; len]);
    }
    for codec in CODECS {
        assert_eq!(codec.layer(&[]), Layer::default());
    }
}
