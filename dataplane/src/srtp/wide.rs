//! HMAC-SHA1 (RFC 2104, RFC 3174) of sixteen messages at once, a message in each lane of AVX-512.
//!
//! SHA-1 is one long chain of dependent steps: a core that could do sixteen of them in a register
//! does one. The packets of a burst to one subscriber have one key and one size, so their tags are
//! made side by side. aws-lc has nothing of the kind. `cargo bench -p benches --bench srtp` measures
//! it, docs/decisions/0005-wide-hmac.md gives the reasons.
//!
//! The one file of cryptography with unsafe code: loads and stores by pointer, and the calls of functions
//! that need a feature which was detected.
#![expect(
    unsafe_code,
    reason = "calls of AVX-512 functions after their detection, and its loads and stores"
)]

use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_loadu_si512,
    _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use zeroize::{Zeroize, Zeroizing};

/// Messages at once.
pub(super) const LANES: usize = 16;

/// Bytes of a block of SHA-1.
const BLOCK: usize = 64;

/// Bytes that SHA-1 puts behind a message at least: a bit that ends it, and its length.
const PADDING_MIN: usize = 9;

/// Bytes of a whole SHA-1.
const DIGEST: usize = 20;

/// What SHA-1 begins with (RFC 3174 section 6.1).
const INITIAL: [u32; 5] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// Three words combined bit by bit, as `vpternlog` numbers such functions: RFC 3174 section 5.
const CHOICE: i32 = 0xca;
const PARITY: i32 = 0x96;
const MAJORITY: i32 = 0xe8;

/// A key, as what SHA-1 has come to after the key's block of the inner and the outer hash. Cleared when it
/// is dropped.
pub(super) struct WideKey {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl Drop for WideKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// Where the messages are: message `n` begins at `n * stride`, is `len` bytes long, and is followed by
/// its own trailer, which is not there.
#[derive(Clone, Copy)]
pub(super) struct Messages<'a> {
    /// All of them.
    pub(super) bytes: &'a [u8],
    /// From one to the next.
    pub(super) stride: usize,
    /// Bytes of each, without its trailer.
    pub(super) len: usize,
    /// One for each message; at most [`LANES`].
    pub(super) trailers: &'a [[u8; 4]],
}

impl WideKey {
    /// The key, where the processor has what this takes.
    pub(super) fn new(key: &[u8; DIGEST]) -> Option<WideKey> {
        if !is_supported() {
            return None;
        }
        let midstate = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            // SAFETY: the features were found above.
            unsafe { hash_one_block(&block) }
        };
        Some(WideKey {
            inner: midstate(0x36),
            outer: midstate(0x5c),
        })
    }

    /// The whole HMAC of each message, in the first lanes of the result; `None` for more messages
    /// than lanes, and for bytes that do not hold all of them.
    pub(super) fn sign(&self, messages: Messages<'_>) -> Option<[[u8; DIGEST]; LANES]> {
        let count = messages.trailers.len();
        let last = count.checked_sub(1).filter(|last| *last < LANES)?;
        if last * messages.stride + messages.len > messages.bytes.len() {
            return None;
        }
        // SAFETY: a key is made only where the features are.
        Some(unsafe { sign(self, messages) })
    }
}

fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_one_block(block: &[u8; BLOCK]) -> [u32; 5] {
    let mut state = INITIAL.map(|word| _mm512_set1_epi32(word as i32));
    compress(&mut state, [block; LANES]);
    state.map(|words| store(words)[0])
}

#[target_feature(enable = "avx512f,avx512bw")]
fn sign(key: &WideKey, messages: Messages<'_>) -> [[u8; DIGEST]; LANES] {
    let mut state = key.inner.map(|word| _mm512_set1_epi32(word as i32));
    let rows = rows(messages);
    let whole = messages.len / BLOCK;
    for at in 0..whole {
        compress(&mut state, rows.map(|row| block(row, at)));
    }
    let rest = messages.len % BLOCK;
    let ends = ends(messages, rows, whole * BLOCK);
    let blocks = (rest + 4 + PADDING_MIN).div_ceil(BLOCK);
    for at in 0..blocks {
        compress(&mut state, ends.each_ref().map(|end| block(end, at)));
    }
    let mut digests = [[0; BLOCK]; LANES];
    spread(&state, &mut digests);
    for digest in &mut digests {
        digest[DIGEST] = 0x80;
        digest[BLOCK - 8..].copy_from_slice(&bits(DIGEST));
    }
    let mut state = key.outer.map(|word| _mm512_set1_epi32(word as i32));
    compress(&mut state, digests.each_ref());
    let mut tags = [[0; DIGEST]; LANES];
    spread(&state, &mut tags);
    tags
}

/// Each lane's message; lanes beyond the last message have the first one's, and nobody looks at them.
fn rows<'a>(messages: Messages<'a>) -> [&'a [u8]; LANES] {
    let count = messages.trailers.len();
    std::array::from_fn(|lane| {
        let at = if lane < count { lane } else { 0 } * messages.stride;
        messages
            .bytes
            .get(at..at + messages.len)
            .unwrap_or_default()
    })
}

/// What is left of each message from `from` on, its trailer, and SHA-1's padding: two blocks at most.
fn ends(messages: Messages<'_>, rows: [&[u8]; LANES], from: usize) -> [[u8; 2 * BLOCK]; LANES] {
    let rest = messages.len - from;
    let end = (rest + 4 + PADDING_MIN).next_multiple_of(BLOCK);
    let length = bits(messages.len + 4);
    let mut ends = [[0; 2 * BLOCK]; LANES];
    for (lane, (out, row)) in ends.iter_mut().zip(rows).enumerate() {
        let trailer = messages.trailers.get(lane).copied().unwrap_or_default();
        out[..rest].copy_from_slice(row.get(from..).unwrap_or_default());
        out[rest..rest + 4].copy_from_slice(&trailer);
        out[rest + 4] = 0x80;
        out[end - 8..end].copy_from_slice(&length);
    }
    ends
}

/// The length field of a hash over the key's block and so many bytes.
fn bits(len: usize) -> [u8; 8] {
    ((BLOCK + len) as u64 * 8).to_be_bytes()
}

/// A block of a message; zeros past its end, where nobody asks.
fn block(row: &[u8], at: usize) -> &[u8; BLOCK] {
    row.get(at * BLOCK..)
        .and_then(|rest| rest.first_chunk())
        .unwrap_or(&[0; BLOCK])
}

/// Writes each lane's words to the start of its row.
#[target_feature(enable = "avx512f,avx512bw")]
fn spread<const N: usize>(state: &[__m512i; 5], rows: &mut [[u8; N]; LANES]) {
    for (at, words) in state.iter().enumerate() {
        for (row, word) in rows.iter_mut().zip(store(*words)) {
            row[4 * at..4 * at + 4].copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// One round: the next word and constant go in, and the five words move on by one.
macro_rules! rounds {
    ($function:ident, $constant:literal, $state:ident, $words:ident, $($round:literal)*) => {
        let constant = _mm512_set1_epi32($constant as u32 as i32);
        $(
            let input = word::<$round>(&mut $words);
            let [a, b, c, d, e] = $state;
            let mixed = _mm512_ternarylogic_epi32::<$function>(b, c, d);
            let sum = _mm512_add_epi32(_mm512_add_epi32(e, constant), input);
            let turned = _mm512_add_epi32(_mm512_rol_epi32::<5>(a), mixed);
            $state = [_mm512_add_epi32(sum, turned), a, _mm512_rol_epi32::<30>(b), c, d];
        )*
    };
}

/// SHA-1's compression in every lane (RFC 3174 section 6.2).
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn compress(state: &mut [__m512i; 5], blocks: [&[u8; BLOCK]; LANES]) {
    let mut words = transposed(blocks.map(|block| load(block)));
    let mut work = *state;
    rounds!(CHOICE, 0x5a82_7999_u32, work, words, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
    rounds!(PARITY, 0x6ed9_eba1_u32, work, words, 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
    rounds!(MAJORITY, 0x8f1b_bcdc_u32, work, words, 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
    rounds!(PARITY, 0xca62_c1d6_u32, work, words, 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
    for (sum, word) in state.iter_mut().zip(work) {
        *sum = _mm512_add_epi32(*sum, word);
    }
}

/// The word of a round; from the sixteenth on it is made of four before it, and takes the oldest's place.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn word<const ROUND: usize>(words: &mut [__m512i; 16]) -> __m512i {
    let place = ROUND % 16;
    if ROUND >= 16 {
        let three = _mm512_ternarylogic_epi32::<PARITY>(
            words[(ROUND + 13) % 16],
            words[(ROUND + 8) % 16],
            words[(ROUND + 2) % 16],
        );
        words[place] = _mm512_rol_epi32::<1>(_mm512_xor_si512(three, words[place]));
    }
    words[place]
}

/// Sixteen rows of sixteen words, as sixteen columns.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for at in 0..8 {
        pairs[2 * at] = _mm512_unpacklo_epi32(rows[2 * at], rows[2 * at + 1]);
        pairs[2 * at + 1] = _mm512_unpackhi_epi32(rows[2 * at], rows[2 * at + 1]);
    }
    let mut fours = [_mm512_setzero_si512(); 16];
    for at in 0..4 {
        let [p0, p1, p2, p3] = [0, 1, 2, 3].map(|n| pairs[4 * at + n]);
        fours[4 * at] = _mm512_unpacklo_epi64(p0, p2);
        fours[4 * at + 1] = _mm512_unpackhi_epi64(p0, p2);
        fours[4 * at + 2] = _mm512_unpacklo_epi64(p1, p3);
        fours[4 * at + 3] = _mm512_unpackhi_epi64(p1, p3);
    }
    // Now each 128 bits hold one column of four rows; four such make a column.
    let mut columns = [_mm512_setzero_si512(); 16];
    for at in 0..4 {
        let [f0, f1, f2, f3] = [0, 4, 8, 12].map(|n| fours[at + n]);
        let (low, high) = (
            _mm512_shuffle_i32x4::<0x88>(f0, f1),
            _mm512_shuffle_i32x4::<0x88>(f2, f3),
        );
        columns[at] = _mm512_shuffle_i32x4::<0x88>(low, high);
        columns[at + 8] = _mm512_shuffle_i32x4::<0xdd>(low, high);
        let (low, high) = (
            _mm512_shuffle_i32x4::<0xdd>(f0, f1),
            _mm512_shuffle_i32x4::<0xdd>(f2, f3),
        );
        columns[at + 4] = _mm512_shuffle_i32x4::<0x88>(low, high);
        columns[at + 12] = _mm512_shuffle_i32x4::<0xdd>(low, high);
    }
    columns
}

/// A block as sixteen words, whose bytes SHA-1 reads from the high end.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load(block: &[u8; BLOCK]) -> __m512i {
    let swapped =
        _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    // SAFETY: the block is as long as what is read, and this load asks for no alignment.
    let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    _mm512_shuffle_epi8(words, swapped)
}

/// The lanes, apart.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn store(words: __m512i) -> [u32; LANES] {
    let mut lanes = [0; LANES];
    // SAFETY: the array is as long as what is written, and this store asks for no alignment.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), words) };
    lanes
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;
    use crate::wire::generator::Generator;

    fn hex(digits: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect()
    }

    /// Test cases 1 and 3 of RFC 2202 section 3: those whose key has 20 bytes.
    #[test]
    fn tags_of_rfc_2202() {
        let cases = [
            (
                [0x0b; 20],
                b"Hi There".to_vec(),
                "b617318655057264e28bc0b6fb378c8ef146be00",
            ),
            (
                [0xaa; 20],
                vec![0xdd; 50],
                "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
            ),
        ];
        for (key, message, expected) in cases {
            let Some(key) = WideKey::new(&key) else {
                return;
            };
            let (bytes, trailer) = message.split_last_chunk().unwrap();
            let len = bytes.len();
            let messages = Messages {
                bytes,
                stride: 0,
                len,
                trailers: &[*trailer; LANES],
            };
            let tags = key.sign(messages).unwrap();
            assert!(tags.iter().all(|tag| tag[..] == hex(expected)), "{tags:x?}");
        }
    }

    #[test]
    fn any_length_and_count_beside_aws_lc() {
        let mut generator = Generator::new(0x5749_4445);
        for round in 0..2_000 {
            let key: [u8; 20] = generator.bytes(20).try_into().unwrap();
            let Some(wide) = WideKey::new(&key) else {
                return;
            };
            // Every length of the last block, and packets of any size.
            let len = if round < 200 {
                round
            } else {
                generator.below(1_500)
            };
            let (count, stride) = (1 + generator.below(LANES), len + generator.below(20));
            let bytes = generator.bytes(count * stride + len);
            let trailers: Vec<[u8; 4]> =
                (0..count).map(|_| generator.u32().to_be_bytes()).collect();
            let messages = Messages {
                bytes: &bytes,
                stride,
                len,
                trailers: &trailers,
            };
            let tags = wide.sign(messages).unwrap();
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
            for (lane, trailer) in trailers.iter().enumerate() {
                let mut context = hmac::Context::with_key(&key);
                context.update(&bytes[lane * stride..][..len]);
                context.update(trailer);
                assert_eq!(
                    context.sign().as_ref(),
                    tags[lane],
                    "lane {lane} of {count}, {len} bytes"
                );
            }
        }
    }

    #[test]
    fn too_many_and_too_short_are_refused() {
        let Some(key) = WideKey::new(&[1; 20]) else {
            return;
        };
        let sign = |bytes: &[u8], len, trailers: usize| {
            key.sign(Messages {
                bytes,
                stride: 10,
                len,
                trailers: &vec![[0; 4]; trailers],
            })
            .is_some()
        };
        assert!(sign(&[0; 160], 10, 16));
        assert!(!sign(&[0; 170], 10, 17));
        assert!(!sign(&[0; 159], 10, 16));
        assert!(!sign(&[0; 159], 10, 0));
    }
}
