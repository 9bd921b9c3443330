//! The numbers by which VP8 and VP9 payloads name pictures (RFC 7741 section 4.2, RFC 9628 section 4.2).

/// Says that the number has 15 bits, in the first of its bytes.
const WIDE: u8 = 0x80;

/// What a payload says of its picture's place in the stream; nothing where its descriptor leaves it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The picture's number.
    pub id: Option<PictureId>,
    /// TL0PICIDX: the number of the newest picture of temporal layer 0, this one included.
    pub tl0_pic_idx: Option<u8>,
}

/// A picture's number, which counts modulo its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits.
    pub number: u16,
    /// Whether it has 15 bits. A stream does not change this while it runs.
    pub is_wide: bool,
}

impl PictureId {
    /// The largest number of this width; numbers go on with 0 behind it.
    #[must_use]
    pub const fn max(self) -> u16 {
        if self.is_wide { 0x7FFF } else { 0x7F }
    }

    /// Bytes that it takes in a descriptor.
    pub(super) const fn len(self) -> usize {
        if self.is_wide { 2 } else { 1 }
    }

    /// The number at the start of `bytes`, or `None` where it is cut off.
    pub(super) fn parse(bytes: &[u8]) -> Option<PictureId> {
        let (&first, rest) = bytes.split_first()?;
        let high = u16::from(first & !WIDE);
        if first & WIDE == 0 {
            return Some(PictureId {
                number: high,
                is_wide: false,
            });
        }
        Some(PictureId {
            number: (high << 8) | u16::from(*rest.first()?),
            is_wide: true,
        })
    }

    /// Puts `number`, cut to the width that is there, in the place of the number at the start of `bytes`.
    pub(super) fn rewrite(bytes: &mut [u8], number: u16) {
        match bytes {
            [first, second, ..] if *first & WIDE != 0 => {
                let [high, low] = number.to_be_bytes();
                (*first, *second) = (WIDE | high, low);
            }
            [first, ..] if *first & WIDE == 0 => *first = (number & 0x7F) as u8,
            _ => {}
        }
    }
}
