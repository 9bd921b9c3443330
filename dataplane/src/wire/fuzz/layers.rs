//! Payload descriptors and the dependency descriptor: any bytes into the readers, and rewriting.

use bytes::Bytes;
use rtp::codec::vp8::Vp8Packet;
use rtp::codec::vp9::Vp9Packet;
use rtp::packetizer::Depacketizer;

use crate::wire::dependency_descriptor::{
    Descriptor, Structure, Targets, rewrite_active, rewrite_frame_number, write_with_active,
};
use crate::wire::{Layer, Malformed, VideoCodec, vp8, vp9};

/// Every reader of layers: the payload by each codec, and the bytes as two dependency descriptors of one
/// stream, of which the first byte says where the second begins.
pub fn layers(bytes: &[u8]) {
    for codec in [
        VideoCodec::Vp8,
        VideoCodec::Vp9,
        VideoCodec::H264,
        VideoCodec::H265,
        VideoCodec::Av1,
    ] {
        let layer = codec.layer(bytes);
        assert!(layer.spatial < 8 && layer.temporal < 8);
        assert!(!layer.keyframe || layer.switches_up);
    }
    agree_on_vp8(bytes);
    agree_on_vp9(bytes);
    let Some((&first_len, values)) = bytes.split_first() else {
        return;
    };
    let (first, second) = values
        .split_at_checked(usize::from(first_len))
        .unwrap_or((values, &[]));
    descriptor(values, None);
    let kept = descriptor(first, None);
    descriptor(second, kept.as_ref());
}

fn agree_on_vp8(bytes: &[u8]) {
    let mut theirs = Vp8Packet::default();
    let content = theirs.depacketize(&Bytes::copy_from_slice(bytes));
    let Ok(ours) = vp8::Descriptor::parse(bytes) else {
        assert!(content.is_err(), "the crate reads what we refuse");
        assert_eq!(vp8::rewrite(&mut bytes.to_vec(), 1, 2), None);
        return;
    };
    let (id, tl0_pic_idx) = (ours.picture.id, ours.picture.tl0_pic_idx);
    keeps_everything_else(bytes, id.map(|id| id.number), tl0_pic_idx, vp8::rewrite);

    // The crate wants at least a byte of video, and four bytes in all.
    let Ok(content) = content else {
        assert!(bytes.len() < 4 || ours.len >= bytes.len());
        return;
    };
    assert_eq!(ours.len + content.len(), bytes.len());
    assert_eq!(ours.starts_frame, theirs.s == 1 && theirs.pid == 0);
    assert_eq!(ours.non_reference, theirs.n == 1);
    assert_eq!(
        (id.map(|id| id.number), tl0_pic_idx),
        (
            (theirs.i == 1).then_some(theirs.picture_id),
            (theirs.l == 1).then_some(theirs.tl0_pic_idx)
        )
    );
    assert_eq!(
        (ours.temporal, ours.layer_sync),
        (theirs.tid, theirs.y == 1)
    );
    assert_eq!(ours.key_idx, (theirs.k == 1).then_some(theirs.key_idx));
}

fn agree_on_vp9(bytes: &[u8]) {
    let mut theirs = Vp9Packet::default();
    let content = theirs.depacketize(&Bytes::copy_from_slice(bytes));
    let Ok(ours) = vp9::Descriptor::parse(bytes) else {
        assert!(content.is_err(), "the crate reads what we refuse");
        assert_eq!(vp9::rewrite(&mut bytes.to_vec(), 1, 2), None);
        return;
    };
    let (id, tl0_pic_idx) = (ours.picture.id, ours.picture.tl0_pic_idx);
    keeps_everything_else(bytes, id.map(|id| id.number), tl0_pic_idx, vp9::rewrite);

    let rest = bytes.get(ours.len..).unwrap_or_default();
    let scalability = ours
        .has_scalability
        .then(|| vp9::Scalability::parse(rest))
        .transpose();
    // The crate refuses more than five spatial layers and a third reference, and takes reserved bits for G.
    let reserved = ours.has_scalability && rest.first().is_some_and(|head| head & 0x06 != 0);
    let Ok(content) = content else {
        let refused = ours.spatial >= 5 || ours.references == 3;
        assert!(refused || reserved || scalability.is_err());
        return;
    };
    assert_eq!((ours.starts_frame, ours.ends_frame), (theirs.b, theirs.e));
    assert_eq!((ours.is_predicted, ours.is_flexible), (theirs.p, theirs.f));
    assert_eq!(ours.unused_above, theirs.z);
    assert_eq!(
        (ours.temporal, ours.spatial, ours.switching_up),
        (theirs.tid, theirs.sid, theirs.u)
    );
    assert_eq!(ours.is_inter_layer, theirs.d);
    assert_eq!(
        id.map(|id| id.number),
        theirs.i.then_some(theirs.picture_id)
    );
    assert_eq!(
        tl0_pic_idx,
        (theirs.l && !theirs.f).then_some(theirs.tl0picidx)
    );
    let differences = ours.differences.get(..usize::from(ours.references));
    assert_eq!(differences, Some(&theirs.pdiff[..]));
    if reserved {
        return;
    }
    let scalability = scalability.expect("the crate reads the whole structure");
    let scalability_len = scalability.map_or(0, |read| read.len);
    assert_eq!(ours.len + scalability_len + content.len(), bytes.len());
    if let Some(read) = scalability {
        assert_eq!((read.layers, read.pictures), (theirs.ns + 1, theirs.ng));
        let sizes = theirs.width.iter().copied().zip(theirs.height);
        let ours = read.sizes.unwrap_or_default();
        assert!(sizes.zip(ours).all(|(theirs, ours)| theirs == ours));
    }
}

/// Rewriting to other numbers and back leaves the payload as it was, and is read as what was written.
fn keeps_everything_else(
    payload: &[u8],
    id: Option<u16>,
    tl0_pic_idx: Option<u8>,
    rewrite: fn(&mut [u8], u16, u8) -> Option<()>,
) {
    let mut rewritten = payload.to_vec();
    let other_id = !id.unwrap_or_default();
    let other_tl0 = !tl0_pic_idx.unwrap_or_default();
    assert_eq!(rewrite(&mut rewritten, other_id, other_tl0), Some(()));
    let changed = payload.iter().zip(&rewritten).filter(|(a, b)| a != b);
    let changed_max = id.map_or(0, |_| 2) + tl0_pic_idx.map_or(0, |_| 1);
    assert!(changed.count() <= changed_max);
    assert_eq!(
        rewrite(
            &mut rewritten,
            id.unwrap_or_default(),
            tl0_pic_idx.unwrap_or_default()
        ),
        Some(())
    );
    assert_eq!(rewritten, payload);
}

/// One dependency descriptor; returns the structure for the next.
fn descriptor(value: &[u8], kept: Option<&Structure>) -> Option<Structure> {
    let attached = Structure::parse(value);
    let read = Descriptor::parse(value, kept);
    let mut rewritten = value.to_vec();
    let Ok(read) = read else {
        assert_eq!(rewrite_active(&mut rewritten, kept, Targets(1)), None);
        assert_eq!(rewritten, value);
        return attached.ok();
    };
    assert_eq!(read.carries_structure, attached.is_ok());
    let attached = attached.ok();
    let structure = attached
        .as_ref()
        .or(kept)
        .expect("a descriptor was read without any structure");
    let layer = Layer::from_descriptor(&read, structure);
    assert_eq!(
        (layer.spatial, layer.temporal),
        (read.spatial, read.temporal)
    );

    let other = !read.frame_number;
    assert_eq!(rewrite_frame_number(&mut rewritten, other), Some(()));
    let mut expected = read;
    expected.frame_number = other;
    assert_eq!(Descriptor::parse(&rewritten, kept), Ok(expected));
    rewrite_frame_number(&mut rewritten, read.frame_number);
    assert_eq!(rewritten, value);

    let done = rewrite_active(&mut rewritten, kept, Targets(0));
    assert_eq!(done.is_some(), read.active.is_some());
    if let Some(active) = read.active {
        expected = read;
        expected.active = Some(Targets(0));
        assert_eq!(Descriptor::parse(&rewritten, kept), Ok(expected));
        assert_eq!(rewrite_active(&mut rewritten, kept, active), Some(()));
    }
    assert_eq!(rewritten, value);

    let mut longer = vec![0xAA; value.len() + 5];
    let len = write_with_active(value, kept, Targets(1), &mut longer);
    longer.truncate(len.expect("what is read has a place for active targets"));
    expected = read;
    expected.active = Some(Targets(1));
    assert_eq!(Descriptor::parse(&longer, kept), Ok(expected));

    truncated(value, kept);
    attached
}

/// A descriptor that ends early within its fields is refused, and a shorter padding changes nothing.
fn truncated(value: &[u8], kept: Option<&Structure>) {
    let whole = Descriptor::parse(value, kept);
    let Some((_, shorter)) = value.split_last() else {
        return;
    };
    let read = Descriptor::parse(shorter, kept);
    // Without its extended fields, a value is a descriptor of another kind.
    if shorter.len() > 3 {
        assert!(read == whole || read == Err(Malformed::Truncated));
    }
}
