//! How much memory a subscriber's packets touch, held to what ARCHITECTURE.md says.

use super::log::Entry;
use super::sender::Sender;
use super::session::Session;
use crate::srtp::SealKey;

/// Bytes of a cache line.
const LINE: usize = 64;

#[test]
fn a_subscriber_fits_in_few_cache_lines() {
    for (what, bytes, lines) in [
        ("a packet in the log", size_of::<Option<Entry>>(), 1),
        ("a stream to one subscriber", size_of::<Sender>(), 10),
        (
            "a session, most of it not for packets",
            size_of::<Session>(),
            13,
        ),
        ("its key: a pointer and a salt", size_of::<SealKey>(), 1),
    ] {
        assert!(bytes.div_ceil(LINE) <= lines, "{what}: {bytes} bytes");
    }
}
