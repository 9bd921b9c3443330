//! Offers and answers (RFC 3264, 8829, 9429): what an offer asks for, and the text of our answer.
//!
//! ```text
//!  text ──► Offer::parse ──► Offer ──► (control decides) ──► Answer ──► Answer::to_sdp ──► text
//!  PATCH ─► Fragment::parse                                  restart_fragment ──► text
//! ```
//!
//! [`Offer::parse`] reads any browser's, encoder's or player's offer, `rtc-sdp` doing the syntax;
//! [`Answer`] is our decision, section by section; [`Answer::to_sdp`] writes it down.
//! Nothing here looks at the client's candidates: an ICE-lite agent learns addresses from checks.
//!
//! In reading order:

mod offer;
mod section;
mod transport;

mod codec;
mod extension;
mod formats;
mod simulcast;
mod source;

mod answer;
mod candidate;
mod fragment;

#[doc(hidden)]
#[cfg(feature = "fuzz")]
pub mod fuzz;

pub use answer::{Answer, Decision, Outgoing};
pub use candidate::Candidate;
pub use codec::{AUDIO_CODECS, Codec, VIDEO_PREFERENCE};
pub use extension::{Extension, uri};
pub use fragment::{Fragment, FragmentError, restart_fragment};
pub use offer::{Offer, OfferError};
pub use section::{DataChannels, Direction, MediaLine, Section, SectionKind};
pub use simulcast::Simulcast;
pub use transport::{Fingerprint, IceCredentials, Setup};

/// Where a text stops being quoted in an error's sentence.
const QUOTE_CHARS: usize = 64;

/// The beginning of something a client wrote, for an error's sentence.
pub(crate) fn quote(text: &str) -> String {
    text.chars()
        .take(QUOTE_CHARS)
        .flat_map(char::escape_debug)
        .collect()
}

/// Whether `text` is a token of SDP's grammar (RFC 8866 section 9, `token-char`).
fn is_token(text: &str) -> bool {
    let token = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'{'..=b'~')
    };
    !text.is_empty() && text.bytes().all(token)
}
