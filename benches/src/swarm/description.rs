//! What clients say of themselves in SDP: offers to WHIP, WHEP and rooms, and answers to Janus.

use std::fmt::Write as _;
use std::net::SocketAddr;

use dataplane::command::MediaKind;

use crate::peers::offer::{AUDIO_LEVEL_ID, MID_ID, OPUS, VP8};

/// A section of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) mid: String,
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
    pub(super) payload_type: u8,
}

/// Which way the media of a section flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the server, with this SSRC.
    Sends(u32),
    /// From the server.
    Receives,
}

/// Who describes itself.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) ufrag: String,
    pub(super) pwd: String,
    /// SHA-256 of the certificate.
    pub(super) fingerprint: [u8; 32],
    pub(super) session_id: u64,
    pub(super) cname: String,
    /// Its one candidate.
    pub(super) local: SocketAddr,
    /// No header extensions at all.
    pub(super) plain: bool,
}

/// What is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An offer.
    Offer,
    /// An answer that begins the handshake.
    Answer,
}

/// The payload type of a kind in our offers.
pub(super) fn payload_type(kind: MediaKind) -> u8 {
    match kind {
        MediaKind::Audio => OPUS,
        MediaKind::Video => VP8,
    }
}

impl Section {
    pub(super) fn new(mid: usize, kind: MediaKind, direction: Direction) -> Section {
        Section {
            mid: mid.to_string(),
            kind,
            direction,
            payload_type: payload_type(kind),
        }
    }
}

impl Identity {
    /// The whole description (RFC 8829 sections 5.2 and 5.3).
    pub(super) fn describe(&self, role: Role, version: u64, sections: &[Section]) -> String {
        let mids: Vec<&str> = sections
            .iter()
            .map(|section| section.mid.as_str())
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- {} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             a=group:BUNDLE {}\r\na=msid-semantic: WMS\r\n",
            self.session_id,
            mids.join(" ")
        );
        for section in sections {
            self.section(&mut sdp, role, section);
        }
        sdp
    }

    fn section(&self, sdp: &mut String, role: Role, section: &Section) {
        let payload_type = section.payload_type;
        let (name, codec) = match section.kind {
            MediaKind::Audio => ("audio", "opus/48000/2"),
            MediaKind::Video => ("video", "VP8/90000"),
        };
        let setup = match role {
            Role::Offer => "actpass",
            Role::Answer => "active",
        };
        let hex: Vec<String> = self
            .fingerprint
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let (ufrag, pwd, hex) = (&self.ufrag, &self.pwd, hex.join(":"));
        let (ip, port, mid) = (self.local.ip(), self.local.port(), &section.mid);
        let _ = write!(
            sdp,
            "m={name} 9 UDP/TLS/RTP/SAVPF {payload_type}\r\nc=IN IP4 0.0.0.0\r\n\
             a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
             a=fingerprint:sha-256 {hex}\r\na=setup:{setup}\r\na=mid:{mid}\r\n\
             a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\na=end-of-candidates\r\n"
        );
        if !self.plain {
            let _ = write!(
                sdp,
                "a=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
            );
            if section.kind == MediaKind::Audio {
                let _ = write!(
                    sdp,
                    "a=extmap:{AUDIO_LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
                );
            }
        }
        let direction = match section.direction {
            Direction::Sends(_) => "sendonly",
            Direction::Receives => "recvonly",
        };
        let _ = write!(
            sdp,
            "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:{payload_type} {codec}\r\n"
        );
        if section.kind == MediaKind::Video {
            let _ = write!(
                sdp,
                "a=rtcp-fb:{payload_type} nack pli\r\na=rtcp-fb:{payload_type} ccm fir\r\n"
            );
        }
        if let Direction::Sends(ssrc) = section.direction {
            let cname = &self.cname;
            let _ = write!(
                sdp,
                "a=msid:{cname} {name}\r\na=ssrc:{ssrc} cname:{cname}\r\n"
            );
        }
    }
}

/// The sections of an offer of the server that send: their MIDs, kinds and first payload types.
pub(super) fn offered(sdp: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            let words: Vec<&str> = media.split(' ').collect();
            let kind = match words.first() {
                Some(&"audio") => MediaKind::Audio,
                Some(&"video") => MediaKind::Video,
                _ => continue,
            };
            let number = words.get(3).and_then(|number| number.parse().ok());
            sections.push(Section {
                mid: String::new(),
                kind,
                direction: Direction::Receives,
                payload_type: number.unwrap_or_else(|| payload_type(kind)),
            });
        } else if let (Some(mid), Some(section)) =
            (line.strip_prefix("a=mid:"), sections.last_mut())
        {
            mid.clone_into(&mut section.mid);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_be_read_again() {
        let identity = Identity {
            ufrag: "uuuu".to_owned(),
            pwd: "p".repeat(24),
            fingerprint: [7; 32],
            session_id: 1,
            cname: "c".to_owned(),
            local: "192.0.2.1:5000".parse().unwrap(),
            plain: true,
        };
        let sections = [
            Section::new(0, MediaKind::Audio, Direction::Receives),
            Section::new(1, MediaKind::Video, Direction::Receives),
        ];
        let sdp = identity.describe(Role::Offer, 1, &sections);
        assert_eq!(offered(&sdp), sections);
        assert!(!sdp.contains("extmap"));
        let answer = crate::peers::answer::Answer::parse(&sdp).unwrap();
        let candidate: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        assert_eq!(answer.candidates, [candidate]);
    }
}
