//! Offers as clients write them, and what they need of the answers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use dataplane::command::{Fingerprint, MediaKind};
use signaling::sdp::uri;

/// How a client numbers things: no two kinds of client agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) opus: u8,
    pub(crate) vp8: u8,
    pub(crate) rtx: u8,
    /// Header extensions.
    pub(crate) mid: u8,
    pub(crate) level: u8,
    /// None for who gives no transport-wide feedback.
    pub(crate) transport: Option<u8>,
}

/// Chromium's, Firefox's, and somebody's.
pub(crate) const NUMBERS: [Numbers; 3] = [
    Numbers {
        opus: 111,
        vp8: 96,
        rtx: 97,
        mid: 4,
        level: 1,
        transport: Some(3),
    },
    Numbers {
        opus: 109,
        vp8: 120,
        rtx: 124,
        mid: 3,
        level: 1,
        transport: Some(7),
    },
    Numbers {
        opus: 96,
        vp8: 100,
        rtx: 101,
        mid: 9,
        level: 8,
        transport: Some(5),
    },
];

/// A section of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) mid: String,
    pub(crate) kind: MediaKind,
    pub(crate) direction: &'static str,
    /// What is sent: media and its retransmissions, if the offer names them.
    pub(crate) ssrcs: Vec<u32>,
}

/// What stands in an offer beside its sections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) numbers: Numbers,
}

impl Transport {
    /// The offer.
    pub(crate) fn offer(&self, version: u64, sections: &[Section]) -> String {
        let mids: Vec<&str> = sections
            .iter()
            .map(|section| section.mid.as_str())
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        let digits: Vec<String> = self
            .fingerprint
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let Transport { ufrag, pwd, .. } = self;
        let _ = write!(
            sdp,
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n",
            digits.join(":")
        );
        for section in sections {
            self.section(&mut sdp, section);
        }
        sdp
    }

    fn section(&self, sdp: &mut String, section: &Section) {
        let Numbers {
            opus,
            vp8,
            rtx,
            mid,
            level,
            transport,
        } = self.numbers;
        let (media, codecs) = match section.kind {
            MediaKind::Audio => (
                format!("audio 9 UDP/TLS/RTP/SAVPF {opus}"),
                format!(
                    "a=extmap:{level} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
                     a=rtpmap:{opus} opus/48000/2\r\n"
                ),
            ),
            MediaKind::Video => (
                format!("video 9 UDP/TLS/RTP/SAVPF {vp8} {rtx}"),
                format!(
                    "a=rtpmap:{vp8} VP8/90000\r\na=rtcp-fb:{vp8} nack\r\na=rtcp-fb:{vp8} nack pli\r\n\
                     a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={vp8}\r\n"
                ),
            ),
        };
        let _ = write!(
            sdp,
            "m={media}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na={}\r\na=rtcp-mux\r\n\
             a=extmap:{mid} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             {codecs}",
            section.mid, section.direction
        );
        if let Some(id) = transport {
            let _ = write!(sdp, "a=extmap:{id} {}\r\n", uri::TRANSPORT_CC);
        }
        if let [media, repair] = section.ssrcs[..] {
            let _ = write!(sdp, "a=ssrc-group:FID {media} {repair}\r\n");
        }
        for ssrc in &section.ssrcs {
            let _ = write!(sdp, "a=ssrc:{ssrc} cname:c\r\n");
        }
    }
}

/// What a client needs of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprint: [u8; 32],
    /// The node's address over UDP: which worker it is.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) sections: Vec<Answered>,
}

/// A section of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    pub(crate) mid: String,
    pub(crate) accepted: bool,
    /// Whether the node sends there, and takes what is sent.
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx: Option<u32>,
}

impl Answer {
    /// Reads one. Whatever a client could not work with is a failure of the node's.
    pub(crate) fn read(sdp: &str) -> Answer {
        let mut answer = Answer::default();
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                answer.sections.push(Answered {
                    accepted: media.split(' ').nth(1) != Some("0"),
                    ..Answered::default()
                });
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else {
                continue;
            };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => value.clone_into(&mut answer.ufrag),
                "ice-pwd" => value.clone_into(&mut answer.pwd),
                "fingerprint" => answer.fingerprint = digest(value),
                "candidate" => answer.address = answer.address.or(udp_address(value)),
                _ => {
                    if let Some(section) = answer.sections.last_mut() {
                        section.note(name, value);
                    }
                }
            }
        }
        assert!(
            answer.ufrag.len() >= 4 && answer.pwd.len() >= 22 && answer.address.is_some(),
            "an answer that nobody can connect by: {sdp}"
        );
        answer
    }

    pub(crate) fn section(&self, mid: &str) -> Option<&Answered> {
        self.sections.iter().find(|section| section.mid == mid)
    }

    pub(crate) fn fingerprints(&self) -> Vec<Fingerprint> {
        vec![Fingerprint::Sha256(self.fingerprint)]
    }
}

impl Answered {
    fn note(&mut self, name: &str, value: &str) {
        match name {
            "mid" => value.clone_into(&mut self.mid),
            "sendonly" => self.sends = self.accepted,
            "recvonly" => self.receives = self.accepted,
            "sendrecv" => (self.sends, self.receives) = (self.accepted, self.accepted),
            "ssrc-group" => {
                let mut numbers = value
                    .split(' ')
                    .skip(1)
                    .filter_map(|ssrc| ssrc.parse().ok());
                (self.ssrc, self.rtx) = (numbers.next(), numbers.next());
            }
            "ssrc" if self.ssrc.is_none() => {
                self.ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
            }
            _ => {}
        }
    }
}

fn udp_address(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split(' ').collect();
    let [_, "1", transport, _, address, port, ..] = words.as_slice() else {
        return None;
    };
    let is_udp = transport.eq_ignore_ascii_case("udp");
    let address = SocketAddr::new(address.parse().ok()?, port.parse().ok()?);
    is_udp.then_some(address)
}

fn digest(value: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    let digits = value.split(' ').nth(1).unwrap_or_default().split(':');
    for (byte, digits) in digest.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    digest
}
