//! A person's offers: one audio and one video section that send, and those that receive.

use std::fmt::Write as _;

use dataplane::command::MediaKind;

use super::encodings::RIDS;
use super::sections::{Sections, mid_of_receiver};

/// Payload types and extension ids, as Chromium numbers them.
pub(crate) const OPUS: u8 = 111;
pub(crate) const VP8: u8 = 96;
pub(crate) const VP8_RTX: u8 = 97;
pub(crate) const AUDIO_LEVEL_ID: u8 = 1;
pub(crate) const MID_ID: u8 = 4;
pub(crate) const RID_ID: u8 = 10;

/// MIDs of the sections that send.
pub(crate) const MICROPHONE_MID: &str = "0";
pub(crate) const CAMERA_MID: &str = "1";

/// The SSRCs that a person sends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ssrcs {
    pub(crate) audio: u32,
    pub(crate) video: u32,
    pub(crate) video_rtx: u32,
    /// Of the encodings of simulcast, in the order of [`RIDS`]; no offer names them.
    pub(crate) encodings: [u32; RIDS.len()],
}

/// What an offer says of its transport and its own media.
#[derive(Clone, Debug)]
pub(crate) struct OfferSpec {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// SHA-256 of the certificate.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) ssrcs: Ssrcs,
    /// Whether the camera is sent in several encodings.
    pub(crate) simulcast: bool,
    pub(crate) session_id: u64,
    pub(crate) cname: String,
}

impl OfferSpec {
    /// The offer (RFC 8829 section 5.2).
    pub(super) fn to_sdp(&self, version: u64, sections: &Sections) -> String {
        let receivers = sections.receivers.len();
        let mids = (0..receivers).map(mid_of_receiver);
        let mids: Vec<String> = [MICROPHONE_MID, CAMERA_MID]
            .map(str::to_owned)
            .into_iter()
            .chain(mids)
            .collect();
        let mut sdp = format!(
            "v=0\r\no=- {} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
            self.session_id,
            mids.join(" ")
        );
        self.section(&mut sdp, MediaKind::Audio, MICROPHONE_MID, "sendonly");
        self.sources(&mut sdp, "microphone", &[self.ssrcs.audio]);
        self.section(&mut sdp, MediaKind::Video, CAMERA_MID, "sendonly");
        if self.simulcast {
            self.sources(&mut sdp, "camera", &[]);
            write_simulcast(&mut sdp);
        } else {
            let video = [self.ssrcs.video, self.ssrcs.video_rtx];
            self.sources(&mut sdp, "camera", &video);
        }
        for (index, receiver) in sections.receivers.iter().enumerate() {
            let direction = match receiver.wants {
                Some(_) => "recvonly",
                None => "inactive",
            };
            self.section(&mut sdp, receiver.kind, &mid_of_receiver(index), direction);
        }
        sdp
    }

    fn section(&self, sdp: &mut String, kind: MediaKind, mid: &str, direction: &str) {
        let media = match kind {
            MediaKind::Audio => format!("audio 9 UDP/TLS/RTP/SAVPF {OPUS}"),
            MediaKind::Video => format!("video 9 UDP/TLS/RTP/SAVPF {VP8} {VP8_RTX}"),
        };
        let hex: Vec<String> = self
            .fingerprint
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        let (ufrag, pwd, hex) = (&self.ufrag, &self.pwd, hex.join(":"));
        let _ = write!(
            sdp,
            "m={media}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {hex}\r\n\
             a=setup:actpass\r\na=mid:{mid}\r\n\
             a=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
        );
        if kind == MediaKind::Audio {
            let _ = write!(
                sdp,
                "a=extmap:{AUDIO_LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
            );
        }
        let _ = write!(sdp, "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
        sdp.push_str(&match kind {
            MediaKind::Audio => format!(
                "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
            ),
            MediaKind::Video => format!(
                "a=rtpmap:{VP8} VP8/90000\r\na=rtcp-fb:{VP8} nack\r\na=rtcp-fb:{VP8} nack pli\r\n\
                 a=rtcp-fb:{VP8} ccm fir\r\na=rtpmap:{VP8_RTX} rtx/90000\r\n\
                 a=fmtp:{VP8_RTX} apt={VP8}\r\n"
            ),
        });
    }

    /// The streams of a section that sends, the first and its retransmissions; none where packets say
    /// by their stream id what they are.
    fn sources(&self, sdp: &mut String, track: &str, ssrcs: &[u32]) {
        let cname = &self.cname;
        let _ = write!(sdp, "a=msid:{cname} {track}\r\n");
        if let [media, rtx] = ssrcs {
            let _ = write!(sdp, "a=ssrc-group:FID {media} {rtx}\r\n");
        }
        for ssrc in ssrcs {
            let _ = write!(sdp, "a=ssrc:{ssrc} cname:{cname}\r\n");
        }
    }
}

/// The encodings of a section that sends several (RFC 8853 section 5.1), and how packets name theirs.
fn write_simulcast(sdp: &mut String) {
    let _ = write!(
        sdp,
        "a=extmap:{RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    );
    for rid in RIDS {
        let _ = write!(sdp, "a=rid:{rid} send\r\n");
    }
    let _ = write!(sdp, "a=simulcast:send {}\r\n", RIDS.join(";"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(simulcast: bool) -> String {
        let spec = OfferSpec {
            ufrag: "mill".to_owned(),
            pwd: "race".to_owned(),
            fingerprint: [0; 32],
            ssrcs: Ssrcs {
                audio: 1,
                video: 2,
                video_rtx: 3,
                encodings: [4, 5, 6],
            },
            simulcast,
            session_id: 7,
            cname: "ada".to_owned(),
        };
        spec.to_sdp(1, &Sections::default())
    }

    #[test]
    fn encodings_are_named_by_stream_id_and_not_by_ssrc() {
        let three = offer(true);
        assert!(three.contains("a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\n"));
        assert!(three.ends_with("a=simulcast:send q;h;f\r\n"), "{three}");
        assert!(!three.contains("a=ssrc-group"), "{three}");
        let one = offer(false);
        assert!(one.contains("a=ssrc-group:FID 2 3\r\n"), "{one}");
        assert!(!one.contains("a=rid"), "{one}");
    }
}
