//! RTP header extension elements on their way out (RFC 8285).

/// Room for elements, in bytes as encoded: a dependency descriptor with its template structure, and
/// every small element beside it.
const CAPACITY: usize = 384;

/// Profile number of the one-byte form (RFC 8285 section 4.2).
pub(super) const ONE_BYTE_PROFILE: u16 = 0xBEDE;

/// Profile number of the two-byte form without its four application bits (RFC 8285 section 4.3).
pub(super) const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Header extension elements, encoded as they are pushed and without allocation.
///
/// The one-byte form is used as long as every id is 1 to 14 and every element 1 to 16 bytes long;
/// the first element that does not fit it turns the whole block into the two-byte form.
#[derive(Clone, Debug)]
pub struct ExtensionBlock {
    /// Encoded elements without the four-byte header and trailing padding.
    elements: [u8; CAPACITY],
    /// Bytes used of `elements`.
    used: usize,
    /// Which element header they carry.
    form: Form,
}

/// How an element begins (RFC 8285 sections 4.2 and 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Four bits of id, four bits of length less one.
    OneByte,
    /// A byte of id, a byte of length.
    TwoByte,
}

impl Default for ExtensionBlock {
    fn default() -> ExtensionBlock {
        ExtensionBlock::new()
    }
}

impl ExtensionBlock {
    /// A block without elements, which is encoded as no extension at all.
    #[must_use]
    pub const fn new() -> ExtensionBlock {
        ExtensionBlock {
            elements: [0; CAPACITY],
            used: 0,
            form: Form::OneByte,
        }
    }

    /// Forgets all elements.
    pub fn clear(&mut self) {
        self.used = 0;
        self.form = Form::OneByte;
    }

    /// Adds an element. `false`, with nothing changed, when the id is 0, the element is longer than
    /// 255 bytes, or there is no room.
    #[inline]
    pub fn push(&mut self, id: u8, value: &[u8]) -> bool {
        let Ok(len) = u8::try_from(value.len()) else {
            return false;
        };
        if id == 0 {
            return false;
        }
        let fits_one_byte = id <= 14 && (1..=16).contains(&len);
        if self.form == Form::OneByte && !fits_one_byte && !self.widen(value.len()) {
            return false;
        }
        let header_len = if self.form == Form::OneByte { 1 } else { 2 };
        let end = self.used + header_len + value.len();
        let Some(room) = self.elements.get_mut(self.used..end) else {
            return false;
        };
        // Nearly every element is a few bytes long: moving those one by one spares a call.
        match (self.form, room, value) {
            (Form::OneByte, [header, a], &[x]) => (*header, *a) = (id << 4, x),
            (Form::OneByte, [header, a, b], &[x, y]) => (*header, *a, *b) = ((id << 4) | 1, x, y),
            (Form::OneByte, [header, a, b, c], &[x, y, z]) => {
                (*header, *a, *b, *c) = ((id << 4) | 2, x, y, z);
            }
            (Form::OneByte, [header, room @ ..], value) => {
                *header = (id << 4) | (len - 1);
                room.copy_from_slice(value);
            }
            (Form::TwoByte, [id_room, len_room, room @ ..], value) => {
                (*id_room, *len_room) = (id, len);
                room.copy_from_slice(value);
            }
            (Form::OneByte | Form::TwoByte, _, _) => unreachable!("room for the header was taken"),
        }
        self.used = end;
        true
    }

    /// Changes the value of the first element, which must be of two bytes.
    #[inline]
    pub fn set_first(&mut self, value: [u8; 2]) {
        let at = match self.form {
            Form::OneByte => 1,
            Form::TwoByte => 2,
        };
        debug_assert!(self.used >= at + 2, "there is an element of two bytes");
        if let Some(room) = self.elements.get_mut(at..at + 2) {
            room.copy_from_slice(&value);
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes that the encoded extension takes in a packet: its header, the elements and the padding;
    /// 0 without elements.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            4 + self.used.next_multiple_of(4)
        }
    }

    /// Writes the extension to the start of `out` and returns its length; `None` without room.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.len();
        if len == 0 {
            return Some(0);
        }
        let (header, body) = out.get_mut(..len)?.split_first_chunk_mut::<4>()?;
        let profile = match self.form {
            Form::OneByte => ONE_BYTE_PROFILE,
            Form::TwoByte => TWO_BYTE_PROFILE,
        };
        let words = (body.len() / 4) as u16;
        *header = ((u32::from(profile) << 16) | u32::from(words)).to_be_bytes();
        let (elements, padding) = body.split_at_mut_checked(self.used)?;
        elements.copy_from_slice(self.elements.get(..self.used)?);
        padding.fill(0);
        Some(len)
    }

    /// Turns the elements so far into the two-byte form, if a further one of `next` bytes fits then.
    fn widen(&mut self, next: usize) -> bool {
        let mut wide = [0; CAPACITY];
        let mut end = 0;
        let mut rest = self.elements.get(..self.used).unwrap_or_default();
        while let Some((&header, after)) = rest.split_first() {
            let len = header & 0x0F;
            let Some((value, after)) = after.split_at_checked(usize::from(len) + 1) else {
                return false;
            };
            let Some(room) = wide.get_mut(end..end + 2 + value.len()) else {
                return false;
            };
            let (header_room, value_room) = room.split_at_mut(2);
            header_room.copy_from_slice(&[header >> 4, len + 1]);
            value_room.copy_from_slice(value);
            end += 2 + value.len();
            rest = after;
        }
        if end + 2 + next > CAPACITY {
            return false;
        }
        *self = ExtensionBlock {
            elements: wide,
            used: end,
            form: Form::TwoByte,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(block: &ExtensionBlock) -> Vec<u8> {
        let mut out = vec![0xAA; CAPACITY + 8];
        let len = block.write(&mut out).unwrap();
        assert_eq!(len, block.len());
        out.truncate(len);
        out
    }

    #[test]
    fn small_elements_take_the_one_byte_form() {
        let mut block = ExtensionBlock::new();
        assert!(block.is_empty());
        assert_eq!(encoded(&block), [0_u8; 0]);
        assert!(block.push(1, b"0"));
        assert!(block.push(14, &[7; 16]));
        let mut expected = vec![0xBE, 0xDE, 0, 5, 0x10, b'0', 0xEF];
        expected.extend([7; 16]);
        expected.push(0);
        assert_eq!(encoded(&block), expected);
    }

    #[test]
    fn a_large_id_or_an_odd_length_turns_everything_into_the_two_byte_form() {
        for (id, value) in [(15, &b"x"[..]), (2, &[9; 17]), (2, &[])] {
            let mut block = ExtensionBlock::new();
            assert!(block.push(1, b"mid"));
            assert!(block.push(id, value));
            let mut expected = vec![1, 3, b'm', b'i', b'd', id, value.len() as u8];
            expected.extend(value);
            expected.resize(expected.len().next_multiple_of(4), 0);
            let words = (expected.len() / 4) as u8;
            assert_eq!(
                encoded(&block),
                [&[0x10, 0, 0, words], &expected[..]].concat()
            );
            block.clear();
            assert!(block.push(1, b"0"));
            assert_eq!(encoded(&block), [0xBE, 0xDE, 0, 1, 0x10, b'0', 0, 0]);
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut block = ExtensionBlock::new();
        assert!(!block.push(0, b"x"));
        assert!(!block.push(1, &[0; 256]));
        assert!(!block.push(1, &[0; 400]));
        assert!(block.is_empty());
        for _ in 0..22 {
            assert!(block.push(3, &[1; 16]));
        }
        let before = encoded(&block);
        assert!(
            !block.push(15, &[2; 16]),
            "22 elements in the two-byte form leave no room"
        );
        assert!(!block.push(3, &[2; 200]));
        assert_eq!(encoded(&block), before);
        assert!(block.write(&mut [0; 16]).is_none());
    }
}
