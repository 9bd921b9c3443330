//! Changes on a descriptor's way to one subscriber: its frame's number, and which layers come.

use super::bits::{self, Bits};
use super::{Descriptor, Head, MANDATORY_LEN, Structure, Targets};
use crate::wire::Malformed;

/// The five flags behind the mandatory fields, with active decode targets alone.
const ACTIVE_ALONE: u32 = 0b01000;
const FLAG_BITS: u8 = 5;

/// Where `active_decode_targets_present_flag` stands, in bits.
const ACTIVE_FLAG: usize = 25;

/// Puts another frame number in place. `None`, with nothing changed, where the value is cut off.
pub fn rewrite_frame_number(value: &mut [u8], frame_number: u16) -> Option<()> {
    let [_, high, low, ..] = value else {
        return None;
    };
    [*high, *low] = frame_number.to_be_bytes();
    Some(())
}

/// Puts other active decode targets in the place of those that the value names. `structure` is the
/// one kept, as for [`Descriptor::parse`].
///
/// `None`, with nothing changed, where the value names none or is malformed.
pub fn rewrite_active(
    value: &mut [u8],
    structure: Option<&Structure>,
    active: Targets,
) -> Option<()> {
    Descriptor::parse(value, structure).ok()?.active?;
    let (at, count) = place(value, structure).ok()?;
    bits::put(value, at, count, active.0)
}

/// Writes the value with these active decode targets to the start of `out`, whether or not it names any,
/// and returns the length, at most 5 bytes more than before: who sends fewer layers than came has to say so
/// (appendix A.4). `structure` is the one kept, as for [`Descriptor::parse`].
///
/// `None` where the value is malformed or `out` too short.
pub fn write_with_active(
    value: &[u8],
    structure: Option<&Structure>,
    active: Targets,
    out: &mut [u8],
) -> Option<usize> {
    let has_active = Descriptor::parse(value, structure).ok()?.active.is_some();
    let (at, count) = place(value, structure).ok()?;
    let is_short = value.len() == MANDATORY_LEN;
    let added = match (has_active, is_short) {
        (true, _) => 0,
        (false, true) => FLAG_BITS + count,
        (false, false) => count,
    };
    let len = (value.len() * 8 + usize::from(added)).div_ceil(8);
    let out = out.get_mut(..len)?;
    let (start, end) = out.split_at_mut(value.len());
    start.copy_from_slice(value);
    end.fill(0);
    if is_short {
        bits::put(out, at, FLAG_BITS, ACTIVE_ALONE)?;
        bits::put(out, at + usize::from(FLAG_BITS), count, active.0)?;
        return Some(len);
    }
    bits::put(out, ACTIVE_FLAG, 1, 1)?;
    bits::put(out, at, count, active.0)?;
    if !has_active {
        let mut rest = Bits::from(value, at);
        for from in at..value.len() * 8 {
            bits::put(out, from + usize::from(count), 1, rest.take(1).ok()?)?;
        }
    }
    Some(len)
}

/// Where the active decode targets stand or would stand, in bits, and how many there are.
fn place(value: &[u8], structure: Option<&Structure>) -> Result<(usize, u8), Malformed> {
    let mut bits = Bits::new(value);
    let head = Head::parse(&mut bits, value.len())?;
    let count = if head.has_structure {
        Structure::read(&mut bits)?.targets()
    } else {
        structure.ok_or(Malformed::Field)?.targets()
    };
    Ok((bits.position(), count))
}
