//! Codecs of a section: what we forward, and when two clients' codecs are the same format.

use serde::{Deserialize, Serialize};

/// A codec of a section, with what repairs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// The client's payload type.
    pub payload_type: u8,
    /// Encoding name as written in our answers, such as `VP8` or `opus`.
    pub name: String,
    /// RTP clock rate, Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 where the offer does not say.
    pub channels: u8,
    /// `a=fmtp` as the client wrote it; empty without one.
    pub fmtp: String,
    /// Payload type of retransmissions (RFC 4588), if offered.
    pub rtx: Option<u8>,
    /// `a=rtcp-fb` lines that we take: a subset of `nack`, `nack pli`, `ccm fir`, `goog-remb`,
    /// `transport-cc`.
    pub feedback: Vec<String>,
}

/// Video codecs that we forward, the one we would rather have first: VP8 and VP9 are in every
/// browser and cheap to decode everywhere, H.264 and H.265 depend on the device's hardware.
pub const VIDEO_PREFERENCE: [&str; 5] = ["VP8", "VP9", "H264", "AV1", "H265"];

/// Audio codecs that we forward.
pub const AUDIO_CODECS: [&str; 5] = ["opus", "red", "G722", "PCMU", "PCMA"];

/// Feedback that we take (RFC 4585, RFC 5104), in the order of our answers.
pub(super) const FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", "goog-remb", TRANSPORT_CC];

/// What goes with the extension of transport-wide numbers.
pub(super) const TRANSPORT_CC: &str = "transport-cc";

/// RTP clock rate of every video codec.
const VIDEO_CLOCK_RATE: u32 = 90_000;

/// Where a libwebrtc sender that estimates its bandwidth begins (`x-google-start-bitrate`, which others
/// ignore): by itself it begins at 300 kbit/s and shows a thumbnail for seconds.
const START_BITRATE_KBPS: u32 = 1_500;

/// The clock rate and channels that make a name one of the codecs that we forward. G.722's clock
/// is 8000 by an old mistake that is now law (RFC 3551 section 4.5.2).
pub(super) fn clock_and_channels(name: &str) -> (u32, u8) {
    match name {
        "opus" | "red" => (48_000, 2),
        "G722" | "PCMU" | "PCMA" => (8_000, 1),
        _ => (VIDEO_CLOCK_RATE, 1),
    }
}

impl Codec {
    /// Whether packets of this codec may go, unchanged, to a client that offered `other`.
    #[must_use]
    pub fn same_format(&self, other: &Codec) -> bool {
        let alike = self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels;
        let equal = |name: &str, default: u32| {
            self.number(name).unwrap_or(default) == other.number(name).unwrap_or(default)
        };
        alike
            && match self.name.as_str() {
                // RFC 6184 section 8.2.2: level may differ, mode and profile may not.
                "H264" => {
                    equal("packetization-mode", 0) && self.h264_profile() == other.h264_profile()
                }
                // RFC 9628 section 6.
                "VP9" => equal("profile-id", 0),
                // AV1 RTP specification section 7.2.3.
                "AV1" => equal("profile", 0),
                // RFC 7798 section 7.2.2.
                "H265" => equal("profile-id", 1) && equal("tier-flag", 0),
                _ => true,
            }
    }

    /// A parameter of `a=fmtp`, such as `profile-id`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.fmtp.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.parameter(name)?.parse().ok()
    }

    /// `a=fmtp` for our answer: the client's own parameters, without those that describe the
    /// client's stream rather than what may be sent (RFC 6184 section 8.2.2), with Opus'
    /// in-band redundancy asked for (RFC 7587 section 7.1), and with where an estimate begins.
    pub(super) fn answered_fmtp(&self) -> String {
        let pairs = self
            .fmtp
            .split(';')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let kept = pairs.filter(|pair| !pair.starts_with("sprop-"));
        let mut kept: Vec<String> = kept.map(str::to_owned).collect();
        if self.name == "opus" && self.parameter("useinbandfec").is_none() {
            kept.push("useinbandfec=1".to_owned());
        }
        if self.clock_rate == VIDEO_CLOCK_RATE && self.is_estimated() {
            kept.push(format!("x-google-start-bitrate={START_BITRATE_KBPS}"));
        }
        kept.join(";")
    }

    /// Whether its sender estimates its bandwidth by what we tell it.
    fn is_estimated(&self) -> bool {
        self.feedback
            .iter()
            .any(|feedback| feedback == TRANSPORT_CC)
    }

    /// The profile that `profile-level-id` stands for; without one it is Baseline at level 1
    /// (RFC 6184 section 8.1).
    fn h264_profile(&self) -> H264Profile {
        let id = self
            .parameter("profile-level-id")
            .filter(|id| id.len() == 6);
        let id = id
            .and_then(|id| u32::from_str_radix(id, 16).ok())
            .unwrap_or(0x0042_000a);
        let [_, idc, constraints, _] = id.to_be_bytes();
        H264Profile::of(idc, constraints)
    }
}

/// What a pair of `profile_idc` and constraint flags means (RFC 6184 table 5): several pairs name
/// one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    /// What every decoder can do.
    ConstrainedBaseline,
    /// With flexible macroblock ordering, which no browser does.
    Baseline,
    /// Adds B-frames and CABAC.
    Main,
    /// Adds error resilience to Main.
    Extended,
    /// Adds 8x8 transforms to Main.
    High,
    /// High without interlacing and B-frames.
    ConstrainedHigh,
    /// Any other pair: the same only as itself.
    Other(u8, u8),
}

impl H264Profile {
    fn of(idc: u8, constraints: u8) -> H264Profile {
        match (idc, constraints) {
            (0x42, flags) if flags & 0x4f == 0x40 => H264Profile::ConstrainedBaseline,
            (0x4d, flags) if flags & 0x8f == 0x80 => H264Profile::ConstrainedBaseline,
            (0x58, flags) if flags & 0xcf == 0xc0 => H264Profile::ConstrainedBaseline,
            (0x42, flags) if flags & 0x4f == 0x00 => H264Profile::Baseline,
            (0x58, flags) if flags & 0xcf == 0x80 => H264Profile::Baseline,
            (0x4d, flags) if flags & 0xaf == 0x00 => H264Profile::Main,
            (0x58, flags) if flags & 0xcf == 0x00 => H264Profile::Extended,
            (0x64, 0x00) => H264Profile::High,
            (0x64, 0x0c) => H264Profile::ConstrainedHigh,
            (idc, flags) => H264Profile::Other(idc, flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(name: &str, fmtp: &str) -> Codec {
        let (clock_rate, channels) = clock_and_channels(name);
        Codec {
            payload_type: 96,
            name: name.to_owned(),
            clock_rate,
            channels,
            fmtp: fmtp.to_owned(),
            rtx: None,
            feedback: Vec::new(),
        }
    }

    fn same(name: &str, one: &str, other: &str) -> bool {
        codec(name, one).same_format(&codec(name, other))
    }

    #[test]
    fn h264_levels_may_differ_but_mode_and_profile_may_not() {
        let mode1 = "packetization-mode=1;profile-level-id=";
        let h264 = |one: &str, other: &str| {
            same("H264", &format!("{mode1}{one}"), &format!("{mode1}{other}"))
        };
        assert!(h264("42e01f", "42e034"));
        // Constrained Baseline by either of its names.
        assert!(h264("42e01f", "4d8015"));
        assert!(h264("42C02A", "42e01f"));
        assert!(!h264("42e01f", "42001f"));
        assert!(!h264("64001f", "640c1f"));
        assert!(!h264("4d001f", "64001f"));
        assert!(!same(
            "H264",
            "packetization-mode=1;profile-level-id=42e01f",
            "profile-level-id=42e01f"
        ));
        assert!(same("H264", "packetization-mode=0", ""));
    }

    #[test]
    fn other_codecs_compare_their_profile() {
        assert!(same("VP9", "profile-id=0", ""));
        assert!(!same("VP9", "profile-id=2", ""));
        assert!(same("AV1", "level-idx=5;profile=0;tier=0", ""));
        assert!(!same("AV1", "profile=1", "profile=0"));
        assert!(same(
            "H265",
            "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
            ""
        ));
        assert!(!same("H265", "profile-id=2", "profile-id=1"));
        assert!(same("opus", "minptime=10;useinbandfec=1", "stereo=1"));
        assert!(!codec("VP8", "").same_format(&codec("VP9", "")));
    }

    #[test]
    fn an_answer_echoes_what_may_be_sent_and_not_what_the_client_sends() {
        let h264 = codec(
            "H264",
            "packetization-mode=1; profile-level-id=42e01f;sprop-parameter-sets=Z0I=,aM4=",
        );
        assert_eq!(
            h264.answered_fmtp(),
            "packetization-mode=1;profile-level-id=42e01f"
        );
        assert_eq!(codec("opus", "").answered_fmtp(), "useinbandfec=1");
        assert_eq!(
            codec("opus", "minptime=10").answered_fmtp(),
            "minptime=10;useinbandfec=1"
        );
        assert_eq!(
            codec("opus", "useinbandfec=0").answered_fmtp(),
            "useinbandfec=0"
        );
        assert_eq!(codec("red", "111/111").answered_fmtp(), "111/111");
    }
}
