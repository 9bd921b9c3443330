//! The server's answers: the few lines of them that a client needs.

use std::net::{IpAddr, SocketAddr};

use dataplane::command::Fingerprint;

/// What a client needs of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// UDP candidates of component 1, the best first.
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) sections: Vec<AnsweredSection>,
    /// Whether the other begins the handshake (RFC 8842 section 5.3); ours never do.
    pub(crate) is_active: bool,
}

/// A section of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnsweredSection {
    pub(crate) mid: String,
    /// Whether it was accepted: its port is not 0.
    pub(crate) accepted: bool,
    /// Whether the server sends on it.
    pub(crate) sends: bool,
    /// Its SSRC and that of its retransmissions.
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx_ssrc: Option<u32>,
    /// Header extension id of the MID.
    pub(crate) mid_id: Option<u8>,
    /// Header extension id of the RTP stream id, which tells encodings apart.
    pub(crate) rid_id: Option<u8>,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the answer has no {0}")]
pub struct AnswerError(&'static str);

impl Answer {
    /// Reads an answer (RFC 8829 section 5.11).
    pub(crate) fn parse(sdp: &str) -> Result<Answer, AnswerError> {
        let mut answer = Answer::default();
        let mut candidates = Vec::new();
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                answer.sections.push(AnsweredSection {
                    accepted: media.split(' ').nth(1) != Some("0"),
                    ..AnsweredSection::default()
                });
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else {
                continue;
            };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => value.clone_into(&mut answer.ufrag),
                "setup" => answer.is_active = value == "active",
                "ice-pwd" => value.clone_into(&mut answer.pwd),
                "fingerprint" => answer.fingerprints.extend(parse_fingerprint(value)),
                "candidate" => candidates.extend(parse_candidate(value)),
                _ => {
                    if let Some(section) = answer.sections.last_mut() {
                        section.note(name, value);
                    }
                }
            }
        }
        candidates.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        answer.candidates = candidates.into_iter().map(|(_, address)| address).collect();
        answer.candidates.dedup();
        answer.check()
    }

    /// The section with this MID.
    pub(crate) fn section(&self, mid: &str) -> Option<&AnsweredSection> {
        self.sections.iter().find(|section| section.mid == mid)
    }

    fn check(self) -> Result<Answer, AnswerError> {
        let missing = [
            (
                self.ufrag.is_empty() || self.pwd.is_empty(),
                "ICE credentials",
            ),
            (self.fingerprints.is_empty(), "fingerprint"),
            (self.candidates.is_empty(), "UDP candidate"),
        ];
        match missing.into_iter().find(|(is_missing, _)| *is_missing) {
            Some((_, what)) => Err(AnswerError(what)),
            None => Ok(self),
        }
    }
}

impl AnsweredSection {
    fn note(&mut self, name: &str, value: &str) {
        match name {
            "mid" => value.clone_into(&mut self.mid),
            "sendonly" | "sendrecv" => self.sends = self.accepted,
            "extmap" => match value.split_once(' ') {
                Some((id, "urn:ietf:params:rtp-hdrext:sdes:mid")) => self.mid_id = id.parse().ok(),
                Some((id, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id")) => {
                    self.rid_id = id.parse().ok();
                }
                _ => {}
            },
            "ssrc-group" => {
                let mut words = value.split(' ');
                if words.next() == Some("FID") {
                    self.ssrc = words.next().and_then(|ssrc| ssrc.parse().ok());
                    self.rtx_ssrc = words.next().and_then(|ssrc| ssrc.parse().ok());
                }
            }
            "ssrc" if self.ssrc.is_none() => {
                let ssrc = value.split(' ').next();
                self.ssrc = ssrc.and_then(|ssrc| ssrc.parse().ok());
            }
            _ => {}
        }
    }
}

/// A candidate's priority and address (RFC 8839 section 5.1), if it is UDP and for RTP.
fn parse_candidate(value: &str) -> Option<(u32, SocketAddr)> {
    let words: Vec<&str> = value.split(' ').collect();
    let [_, "1", transport, priority, address, port, ..] = words.as_slice() else {
        return None;
    };
    let ip: IpAddr = address.parse().ok()?;
    let address = SocketAddr::new(ip, port.parse().ok()?);
    let is_udp = transport.eq_ignore_ascii_case("udp");
    is_udp.then_some((priority.parse().ok()?, address))
}

/// A fingerprint (RFC 8122 section 5) of a hash that DTLS here can check.
fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    let bytes: Option<Vec<u8>> = digits
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let bytes = bytes?;
    match hash.to_ascii_lowercase().as_str() {
        "sha-256" => Some(Fingerprint::Sha256(bytes.try_into().ok()?)),
        "sha-384" => Some(Fingerprint::Sha384(bytes.try_into().ok()?)),
        "sha-512" => Some(Fingerprint::Sha512(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
        m=audio 3478 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:mill\r\na=ice-pwd:race\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=mid:0\r\na=recvonly\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host\r\n\
        a=candidate:2 1 tcp 1520434943 192.0.2.7 3478 typ host tcptype passive\r\n\
        m=video 3478 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:2\r\na=sendonly\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=ssrc-group:FID 1000 1001\r\na=ssrc:1000 cname:x\r\na=ssrc:1001 cname:x\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:3\r\na=inactive\r\n";

    #[test]
    fn what_a_client_needs_is_found() {
        let answer = Answer::parse(ANSWER).unwrap();
        assert_eq!(
            (answer.ufrag.as_str(), answer.pwd.as_str()),
            ("mill", "race")
        );
        let candidate: SocketAddr = "192.0.2.7:3478".parse().unwrap();
        assert_eq!(answer.candidates, vec![candidate]);
        assert!(matches!(answer.fingerprints[..], [Fingerprint::Sha256(_)]));
        assert!(answer.section("0").is_some_and(|s| s.accepted && !s.sends));
        let video = answer.section("2").unwrap();
        assert_eq!((video.ssrc, video.rtx_ssrc), (Some(1_000), Some(1_001)));
        assert_eq!((video.sends, video.mid_id), (true, Some(4)));
        assert_eq!(video.rid_id, Some(10));
        assert!(!answer.section("3").unwrap().accepted);
    }

    #[test]
    fn an_answer_without_a_way_in_is_refused() {
        let without = ANSWER.replace(" udp ", " tcp ");
        let error = Answer::parse(&without).unwrap_err().to_string();
        assert_eq!(error, "the answer has no UDP candidate");
    }
}
