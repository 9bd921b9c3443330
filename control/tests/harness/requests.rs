//! Requests as pages write them into documents.

use std::fmt::Write as _;

use firestore::gcloud_sdk::google::firestore::v1::Value;
use signaling::firestore::encode_offer;

use super::emulator::{Found, boolean, text};

/// An offer with these sections, each `kind direction`, like no other; without a candidate, as pages
/// send it.
pub fn sdp(sections: &[&str]) -> String {
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let session = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut sdp = format!(
        "v=0\r\no=- {session} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    for (mid, section) in sections.iter().enumerate() {
        let (kind, direction) = section.split_once(' ').unwrap();
        let (format, codec) = match kind {
            "audio" => ("111", "a=rtpmap:111 opus/48000/2\r\n"),
            _ => ("96", "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\n"),
        };
        let _ = write!(
            sdp,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {format}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
             a={direction}\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:{}\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:actpass\r\n{codec}",
            "p".repeat(22),
            ["AB"; 32].join(":"),
        );
    }
    sdp
}

/// The same, as it stands in a document.
pub fn offer(sections: &[&str]) -> String {
    encode_offer(&sdp(sections))
}

/// The six fields of the contract, with whatever in `offer`.
pub fn document(kind: &str, parent: &str, offer: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("requestor", text("Ann")),
        ("kind", text(kind)),
        ("parent", text(parent)),
        ("offer", offer),
        ("answer", text("")),
        ("abort", boolean(false)),
    ]
}

/// A broadcaster's request.
pub fn broadcaster() -> Vec<(&'static str, Value)> {
    let offer = offer(&["audio sendrecv", "video sendrecv"]);
    document("broadcaster", "", text(&offer))
}

/// A participant's request, for the broadcaster's document `parent`.
pub fn participant(parent: &str) -> Vec<(&'static str, Value)> {
    let offer = offer(&["video recvonly"]);
    document("participant", parent, text(&offer))
}

/// Whether a node answered.
pub fn is_answered(found: &Found) -> bool {
    !found.text("answer").is_empty()
}

/// Whether it says why it is not served.
pub fn is_refused(found: &Found) -> bool {
    !found.text("error").is_empty()
}
