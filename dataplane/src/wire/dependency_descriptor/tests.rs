//! What encoders write is read, and nothing else.

use super::writer::{L1T1, L1T2, L1T3, L2T1, L3T3, L3T3_KEY, Packet, SCRIPTS, Script};
use super::{
    Descriptor, Indication, References, Structure, Targets, rewrite_active, rewrite_frame_number,
    write_with_active,
};
use crate::wire::generator::{Generator, short_datagrams};
use crate::wire::{Malformed, fuzz};

const SEED: u64 = 0x4445_5001;

/// Chrome's descriptors of an L3T3 stream that had bandwidth for two of its spatial layers; from
/// LiveKit's tests, `pkg/sfu/rtpextension/dependencydescriptor`, "hex bytes from traffic capture".
const CAPTURED_STRUCTURE: &str = "c1017280081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a0941b820ac1282503157f974000ca864330e222222eca8655304224230eca877530077004200ef008601df010d";
const CAPTURED: [&str; 6] = [
    "86017340fc",
    "46017340fc",
    "c3017540fc",
    "88017640fc",
    "48017640fc",
    "c2017840fc",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The packet that begins a stream: the template without references, with the structure.
fn first_packet(script: &Script) -> Packet {
    let key = script
        .templates
        .iter()
        .position(|(.., differences, _)| differences.is_empty());
    Packet {
        starts_frame: true,
        ends_frame: true,
        template: key.unwrap() as u8,
        frame_number: 65_535,
        with_structure: true,
        ..Packet::default()
    }
}

fn structure(script: &Script) -> Structure {
    Structure::parse(&script.write(&first_packet(script))).unwrap()
}

fn indication(symbol: u8) -> Indication {
    match symbol {
        b'D' => Indication::Discardable,
        b'S' => Indication::Switch,
        b'R' => Indication::Required,
        _ => Indication::NotPresent,
    }
}

#[test]
fn what_chrome_writes_is_read() {
    let value = bytes(CAPTURED_STRUCTURE);
    let structure = Structure::parse(&value).unwrap();
    let sizes: Vec<_> = (0..4).filter_map(|layer| structure.size(layer)).collect();
    assert_eq!(sizes, [(120, 67), (240, 135), (480, 270)]);
    let script = Script {
        sizes: &[(120, 67), (240, 135), (480, 270)],
        ..L3T3
    };
    let key = Packet {
        starts_frame: true,
        ends_frame: true,
        template: 1,
        frame_number: 0x172,
        with_structure: true,
        ..Packet::default()
    };
    assert_eq!(
        script.write(&key),
        value,
        "the writer writes as Chrome does"
    );
    let read = Descriptor::parse(&value, None).unwrap();
    assert!(read.carries_structure);
    assert_eq!((read.spatial, read.temporal), (0, 0));

    let layers: Vec<_> = CAPTURED
        .iter()
        .map(|value| Descriptor::parse(&bytes(value), Some(&structure)).unwrap())
        .map(|read| {
            assert_eq!(read.active, Some(Targets(0b000_111_111)));
            (read.frame_number, read.spatial, read.temporal)
        })
        .collect();
    assert_eq!(
        layers,
        [
            (0x173, 1, 0),
            (0x173, 1, 0),
            (0x175, 0, 2),
            (0x176, 1, 2),
            (0x176, 1, 2),
            (0x178, 0, 1)
        ]
    );
}

#[test]
fn what_encoders_write_is_read_back() {
    for script in SCRIPTS {
        let structure = structure(&script);
        assert_eq!(structure.targets(), script.targets());
        for (target, &chain) in script.protected_by.iter().enumerate() {
            assert_eq!(structure.protecting_chain(target as u8), Some(chain));
        }
        for (layer, &size) in script.sizes.iter().enumerate() {
            assert_eq!(structure.size(layer as u8), Some(size));
        }
        assert_eq!(structure.size(script.sizes.len() as u8), None);
        for (index, &(spatial, temporal, symbols, differences, _)) in
            script.templates.iter().enumerate()
        {
            let packet = Packet {
                ends_frame: true,
                template: index as u8,
                frame_number: 0xABCD,
                ..Packet::default()
            };
            let value = script.write(&packet);
            assert_eq!(value.len(), 3, "a template's packets need three bytes");
            let read = Descriptor::parse(&value, Some(&structure)).unwrap();
            assert_eq!((read.starts_frame, read.ends_frame), (false, true));
            assert_eq!(read.frame_number, 0xABCD);
            assert_eq!((read.spatial, read.temporal), (spatial, temporal));
            for (target, symbol) in symbols.bytes().enumerate() {
                assert_eq!(read.indications.of(target as u8), indication(symbol));
            }
            let near = differences
                .iter()
                .fold(0, |near, back| near | 1 << (back - 1));
            assert_eq!(read.references, References { near, far: false });
            assert_eq!((read.carries_structure, read.active), (false, None));
        }
    }
}

#[test]
fn a_decode_target_is_named_by_its_highest_layers() {
    let layers = |script: &Script| {
        let structure = structure(script);
        let all = (0..=32).map_while(|target| structure.target_layer(target));
        for (target, (spatial, temporal)) in all.clone().enumerate() {
            assert_eq!(structure.target(spatial, temporal), Some(target as u8));
        }
        all.collect::<Vec<_>>()
    };
    assert_eq!(layers(&L1T1), [(0, 0)]);
    assert_eq!(layers(&L1T2), [(0, 0), (0, 1)]);
    assert_eq!(layers(&L1T3), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(layers(&L2T1), [(0, 0), (1, 0)]);
    let nine: Vec<_> = (0..9).map(|target| (target / 3, target % 3)).collect();
    assert_eq!(layers(&L3T3), nine);
    assert_eq!(layers(&L3T3_KEY), nine);
}

#[test]
fn a_packet_may_differ_from_its_template() {
    let structure = structure(&L3T3);
    let packet = Packet {
        starts_frame: true,
        template: 10,
        frame_number: 7,
        active: Some(Targets(0b101_000_001)),
        indications: Some("DSR-DSR-D"),
        differences: Some(&[1, 16, 17, 64, 256, 257, 4_096]),
        chains: Some(&[255, 0, 1]),
        ..Packet::default()
    };
    let value = L3T3.write(&packet);
    let read = Descriptor::parse(&value, Some(&structure)).unwrap();
    assert_eq!((read.spatial, read.temporal), (2, 0));
    assert_eq!(read.active, Some(Targets(0b101_000_001)));
    for (target, symbol) in "DSR-DSR-D".bytes().enumerate() {
        assert_eq!(read.indications.of(target as u8), indication(symbol));
    }
    let near = 1 | 1 << 15 | 1 << 16 | 1 << 63;
    assert_eq!(read.references, References { near, far: true });
    for len in 0..value.len() {
        let cut = Descriptor::parse(&value[..len], Some(&structure));
        assert_eq!(cut.is_ok(), len == 3, "{len}");
    }
}

#[test]
fn references_are_held_against_what_was_sent() {
    let references = References {
        near: 0b1001,
        far: false,
    };
    assert!(references.are_among(0b1001) && references.are_among(u64::MAX));
    assert!(!references.are_among(0b1000) && !references.are_among(0));
    assert!(references.are_within(4) && !references.are_within(3));
    assert!(references.have_any_within(1) && !references.have_any_within(0));
    assert!(references.are_within(64) && references.are_within(255));
    let none = References::default();
    assert!(none.are_among(0) && none.are_within(0));
    let far = References { near: 0, far: true };
    assert!(!far.are_among(u64::MAX) && !far.are_within(255));
}

#[test]
fn t_23_a_template_outside_the_structure_is_refused() {
    for script in SCRIPTS {
        let structure = structure(&script);
        for number in 0..64_u8 {
            let value = [0xC0 | number, 0, 1];
            let index = (number + 64 - script.offset) % 64;
            let read = Descriptor::parse(&value, Some(&structure));
            if usize::from(index) < script.templates.len() {
                assert_eq!(
                    read.unwrap().spatial,
                    script.templates[usize::from(index)].0
                );
            } else {
                assert_eq!(read, Err(Malformed::Field));
            }
        }
        let mut value = script.write(&first_packet(&script));
        value[0] = (script.offset + script.templates.len() as u8) % 64;
        assert_eq!(
            Descriptor::parse(&value, Some(&structure)),
            Err(Malformed::Field),
            "its own structure counts, not the one before"
        );
    }
    assert_eq!(Descriptor::parse(&[0, 0, 1], None), Err(Malformed::Field));
}

#[test]
fn t_23_a_truncated_structure_is_refused() {
    for script in SCRIPTS {
        let value = script.write(&first_packet(&script));
        let structure = structure(&script);
        for len in (0..value.len()).filter(|&len| len != 3) {
            let cut = &value[..len];
            assert_eq!(Descriptor::parse(cut, None), Err(Malformed::Truncated));
            assert_eq!(
                Descriptor::parse(cut, Some(&structure)),
                Err(Malformed::Truncated)
            );
            assert!(Structure::parse(cut).is_err());
        }
        let padded = [&value[..], &[0xFF, 0]].concat();
        assert_eq!(
            Descriptor::parse(&padded, None),
            Descriptor::parse(&value, None)
        );
    }
}

#[test]
fn t_23_more_templates_or_layers_than_there_can_be_are_refused() {
    // A key frame's head, offset 0, one decode target, then only "the same layer again" (0), "the next
    // temporal" (1) or "the next spatial layer" (2).
    for (step, allowed) in [(0_u8, 64), (1, 8), (2, 4)] {
        for count in 1..70 {
            let mut bits = String::from("10000000000000000000000010000");
            bits += "00000000000";
            bits += &format!("{step:02b}").repeat(count - 1);
            bits += "11";
            bits += &"0".repeat(3 * count + 24);
            let padded = format!("{bits:0<2048}");
            let value: Vec<u8> = padded
                .as_bytes()
                .chunks(8)
                .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
                .collect();
            let read = Structure::parse(&value).map(|_| ());
            let expected = if count <= allowed {
                Ok(())
            } else {
                Err(Malformed::Length)
            };
            assert_eq!(read, expected, "{step} {count}");
        }
    }
}

#[test]
fn damage_is_survived() {
    let mut generator = Generator::new(SEED);
    for script in SCRIPTS {
        let first = Packet {
            active: Some(Targets(1)),
            ..first_packet(&script)
        };
        let value = script.write(&first);
        let second = script.write(&Packet {
            indications: Some("S"),
            active: Some(Targets(1)),
            differences: Some(&[1, 300]),
            ..Packet::default()
        });
        let both = [&[value.len() as u8], &value[..], &second].concat();
        generator.torment(&both, 3_000, fuzz::layers);
    }
    short_datagrams(&mut generator, fuzz::layers);
}

#[test]
fn a_frame_number_is_replaced_in_place() {
    let mut value = bytes(CAPTURED[0]);
    assert_eq!(rewrite_frame_number(&mut value, 0xFEDC), Some(()));
    assert_eq!(value, bytes("86fedc40fc"));
    assert_eq!(rewrite_frame_number(&mut value[..2], 1), None);
}

#[test]
fn active_decode_targets_are_replaced_in_place() {
    let structure = Structure::parse(&bytes(CAPTURED_STRUCTURE)).unwrap();
    let mut value = bytes(CAPTURED[0]);
    assert_eq!(
        rewrite_active(&mut value, Some(&structure), Targets(0b111)),
        Some(())
    );
    assert_eq!(value, bytes("860173401c"));
    assert_eq!(rewrite_active(&mut value, None, Targets(0)), None);
    assert_eq!(value, bytes("860173401c"));

    let mut bare = bytes("860173");
    assert_eq!(
        rewrite_active(&mut bare, Some(&structure), Targets(1)),
        None
    );
    assert_eq!(bare, bytes("860173"));

    for script in SCRIPTS {
        let packet = Packet {
            active: Some(Targets::first(script.targets())),
            ..first_packet(&script)
        };
        let mut value = script.write(&packet);
        let expected = script.write(&Packet {
            active: Some(Targets(1)),
            ..packet
        });
        assert_eq!(rewrite_active(&mut value, None, Targets(1)), Some(()));
        assert_eq!(value, expected);
        assert_eq!(Structure::parse(&value).unwrap().active, Targets(1));
    }
}

#[test]
fn active_decode_targets_are_said_where_the_packet_did_not() {
    let written = |value: &[u8], structure: Option<&Structure>, active: Targets| {
        let mut out = [0xAA; 300];
        let len = write_with_active(value, structure, active, &mut out).unwrap();
        assert!(len <= value.len() + 5);
        assert_eq!(
            write_with_active(value, structure, active, &mut out[..len - 1]),
            None
        );
        out[..len].to_vec()
    };
    let active = Targets(0b111);
    let structure = Structure::parse(&bytes(CAPTURED_STRUCTURE)).unwrap();
    let bare = written(&bytes("860173"), Some(&structure), active);
    assert_eq!(bare, bytes("860173401c"));
    assert_eq!(written(&bare, Some(&structure), active), bare);
    assert_eq!(
        written(&bytes(CAPTURED[0]), Some(&structure), active),
        bytes("860173401c")
    );
    for script in SCRIPTS {
        let packet = Packet {
            indications: Some(script.templates[0].2),
            differences: Some(&[1, 300]),
            ..first_packet(&script)
        };
        let value = script.write(&packet);
        let said = written(&value, None, Targets(1));
        let expected = script.write(&Packet {
            active: Some(Targets(1)),
            ..packet
        });
        assert!(said.starts_with(&expected));
        assert!(said[expected.len()..].iter().all(|&padding| padding == 0));
    }
    assert_eq!(
        write_with_active(&[0, 0, 1], None, active, &mut [0; 9]),
        None
    );
}

#[test]
fn what_is_kept_for_a_stream_and_a_packet_is_small() {
    assert!(size_of::<Structure>() <= 2_304);
    assert!(size_of::<Descriptor>() <= 40);
}

#[test]
fn targets_are_bits() {
    assert_eq!(Targets::first(0), Targets(0));
    assert_eq!(Targets::first(9), Targets(0x1FF));
    assert_eq!(Targets::first(32), Targets(u32::MAX));
    assert!(Targets(0b10).contains(1) && !Targets(0b10).contains(0));
    assert!(!Targets(u32::MAX).contains(32));
}
