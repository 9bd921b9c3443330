//! One body for the test with generated documents and for the fuzz target: whatever a document
//! holds, reading it gives a value or a short sentence, and an offer is the same through a document
//! as without one.

use super::request::field;
use super::{
    BadRequest, Fields, Request, Say, Value, encode_offer, read_camera, read_muted, read_offer,
};
use crate::sdp::Offer;

/// Ends a field in the fuzzer's bytes: no UTF-8 has it.
const FIELD_END: u8 = 0xff;
/// Ends a key or a value inside of a map.
const ENTRY_END: u8 = 0xfe;
/// Longest sentence, bytes: four quotations at most, each of 64 characters, and our own words.
const SENTENCE_LEN_MAX: usize = 1024;

/// The fields that pages write; the first byte of a field chooses.
const NAMES: [&str; 15] = [
    field::REQUESTOR,
    field::KIND,
    field::PARENT,
    field::OFFER,
    field::ANSWER,
    field::ABORT,
    field::SOURCES,
    field::WANTS,
    field::MUTED,
    field::SAY,
    field::URL,
    field::LAYERS,
    field::TRANSPORT,
    field::MODE,
    field::VERIFY,
];

/// Makes a document of the bytes: fields that end with `0xff`, each a byte for its name (from `0`
/// on), a letter for its type and the value.
#[must_use]
pub fn document(bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for written in bytes.split(|b| *b == FIELD_END) {
        if let [name, kind, rest @ ..] = written {
            let name = NAMES[usize::from(name.wrapping_sub(b'0')) % NAMES.len()];
            fields.insert(name.to_owned(), value(*kind, rest));
        }
    }
    fields
}

fn value(kind: u8, rest: &[u8]) -> Value {
    let text = || String::from_utf8_lossy(rest).into_owned();
    let number = rest.iter().fold(0_i64, |number, b| {
        number.wrapping_mul(10).wrapping_add(i64::from(*b))
    });
    match kind {
        b'n' => Value::Null,
        b'b' => Value::Bool(number & 1 == 1),
        b'i' => Value::Integer(number),
        b'd' => Value::Double(f64::from_bits(number as u64)),
        b't' => Value::Time(number),
        b'l' => Value::List(vec![Value::Map(map(rest))]),
        b'p' => Value::Other("a place"),
        b'm' => Value::Map(map(rest)),
        // An offer by its SDP, so that the fuzzer need not know base64.
        b'o' => Value::Text(encode_offer(&text())),
        _ => Value::Text(text()),
    }
}

/// Keys and values in turn; a value has a letter for its type too, of those without a map.
fn map(bytes: &[u8]) -> Fields {
    let mut parts = bytes.split(|b| *b == ENTRY_END);
    let mut fields = Fields::new();
    while let (Some(key), Some(written)) = (parts.next(), parts.next()) {
        let inner = match written {
            [b'm', ..] | [] => Value::Null,
            [kind, rest @ ..] => value(*kind, rest),
        };
        fields.insert(String::from_utf8_lossy(key).into_owned(), inner);
    }
    fields
}

/// Reads the document that the bytes make. Whether it was a request with an offer.
///
/// # Panics
/// When a sentence is long or holds control characters, or an offer reads otherwise than its SDP.
pub fn request(bytes: &[u8]) -> bool {
    let fields = document(bytes);
    let read = sentence(Request::read("fuzz", &fields));
    let offer = sentence(read_offer(&fields));
    let _ = (sentence(read_muted(&fields)), sentence(Say::read(&fields)));
    let _ = sentence(read_camera(&fields));

    let text = String::from_utf8_lossy(bytes);
    let through = read_offer(&[(field::OFFER.to_owned(), encode_offer(&text).into())].into());
    if text.len() <= Offer::LEN_MAX {
        assert_eq!(through, Offer::parse(&text).map_err(BadRequest::Sdp));
    }
    read && offer
}

/// Whether it was read; otherwise its sentence has to be fit to be shown.
fn sentence<T>(read: Result<T, BadRequest>) -> bool {
    let Err(error) = read else {
        return true;
    };
    let sentence = error.to_string();
    assert!(sentence.len() <= SENTENCE_LEN_MAX, "{sentence}");
    assert!(!sentence.contains(char::is_control), "{sentence:?}");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = include_str!("../../tests/offers/chromium-participant.sdp");

    /// A member's document as the fuzzer writes it.
    fn good() -> Vec<u8> {
        let mut bytes = b"0sAda\xff1smember\xff2stea\xff4s\xff5b0\xff3o".to_vec();
        bytes.extend_from_slice(SDP.as_bytes());
        bytes.extend_from_slice(
            b"\xff6m0\xfescamera\xff7m2\xfest1\xff8mcamera\xfeb1\xff9mn\xfei1\xfetext\xfeshi",
        );
        bytes
    }

    #[test]
    fn a_good_document_is_made_and_read() {
        assert!(request(&good()));
        let fields = document(&good());
        let asked = Request::read("fuzz", &fields).unwrap();
        assert_eq!(asked.member.sources.len(), 1);
        assert_eq!(asked.member.wants, [("2".to_owned(), "t1".to_owned())]);
        assert_eq!(read_muted(&fields).unwrap().len(), 1);
        assert_eq!(Say::read(&fields).unwrap().unwrap().text, "hi");
    }

    #[test]
    fn a_camera_is_made_and_read() {
        let bytes = b"1scamera\xff2sgate\xff;lurl\xfesrtsp://h/\xferid\xfesl\xff=salways";
        let camera = read_camera(&document(bytes)).unwrap();
        assert_eq!(camera.layers[0].rid, "l");
        assert!(!request(bytes), "it has no offer");
    }

    #[test]
    fn mutated_documents_never_panic() {
        const SEED: u64 = 0xf12e_5702_0000_0001;
        const ROUNDS: usize = 3_000;
        let mut state = SEED;
        // xorshift64: any sequence serves, if it repeats.
        let mut below = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..ROUNDS {
            let mut bytes = good();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(4) {
                    // Most bytes are SDP, so the head with the fields' names has its own turn.
                    0 => bytes[below(48)] = below(256) as u8,
                    1 => bytes[at] = b"0123456789:;<=>nbidtlpmos\xff\xfe"[below(27)],
                    2 => bytes.truncate(at.max(48)),
                    _ => {
                        let from = below(bytes.len());
                        bytes.swap(from, at);
                    }
                }
            }
            if request(&bytes) {
                read += 1;
            } else {
                refused += 1;
            }
        }
        assert!(
            read > 100 && refused > 100,
            "{read} read, {refused} refused"
        );
    }
}
