//! What a camera's description (RFC 4566, RFC 2326 appendix C) offers, and what of it can be forwarded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::limits::{MEDIA_MAX, REMARKS_MAX};
use super::super::repack::{Coding, Sets, Sound};
use super::super::stream::{CameraCodec, Stream};

/// Characters of a format's name in a remark: it is the camera's word.
const NAME_MAX: usize = 20;

/// Clock rate of every picture (RFC 6184 section 8.2.1, RFC 7798 section 7.1).
pub(super) const VIDEO_RATE: u32 = 90_000;

/// One stream of a description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Media {
    is_video: bool,
    is_audio: bool,
    /// The first payload type: the one that is sent.
    pub(super) payload_type: u8,
    /// In lower case.
    encoding: String,
    rate: u32,
    channels: u32,
    parameters: Vec<(String, String)>,
    /// Its `a=control`, relative or whole.
    pub(super) control: Option<String>,
}

/// A description as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    /// Its streams.
    pub(super) media: Vec<Media>,
    /// Its `a=control`.
    pub(super) control: Option<String>,
}

/// What of a description can be forwarded.
#[derive(Clone, Debug, Default)]
pub(super) struct Offering {
    /// The picture.
    pub(super) picture: Option<Picture>,
    /// The sound.
    pub(super) sound: Option<SoundOffer>,
    /// Sentences about what cannot, and why.
    pub(super) remarks: Vec<String>,
}

/// A picture that can be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// Which stream of the description.
    pub(super) index: usize,
    /// The camera's payload type.
    pub(super) payload_type: u8,
    /// How it is coded.
    pub(super) coding: Coding,
    /// The parameter sets of the description.
    pub(super) sets: Sets,
    /// Codec and resolution; `None` where only the pictures will tell.
    pub(super) stream: Option<Stream>,
}

/// A sound that can be forwarded.
#[derive(Clone, Debug)]
pub(super) struct SoundOffer {
    /// Which stream of the description.
    pub(super) index: usize,
    /// The camera's payload type.
    pub(super) payload_type: u8,
    /// How it is coded.
    pub(super) sound: Sound,
    /// The same in full.
    pub(super) stream: Stream,
}

impl Description {
    /// Reads a body. What is not understood is passed over; `None` where there is no stream at all.
    pub(super) fn parse(body: &[u8]) -> Option<Description> {
        let text = String::from_utf8_lossy(body);
        let mut description = Description::default();
        let mut is_kept = true;
        for line in text.lines() {
            let Some((kind, value)) = line.trim_end().split_once('=') else {
                continue;
            };
            match kind {
                "m" => {
                    is_kept = description.media.len() < MEDIA_MAX;
                    if is_kept {
                        description.media.push(Media::parse(value));
                    }
                }
                "a" if is_kept => match description.media.last_mut() {
                    Some(media) => media.on_attribute(value),
                    None => {
                        if let Some(control) = value.strip_prefix("control:") {
                            description.control = Some(control.trim().to_owned());
                        }
                    }
                },
                _ => {}
            }
        }
        (!description.media.is_empty()).then_some(description)
    }

    /// A description of the same streams for the client, in which nothing is a camera's word.
    pub(super) fn for_client(&self) -> String {
        let mut text = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        for (index, media) in self.media.iter().enumerate() {
            let payload_type = media.payload_type;
            text += &format!(
                "m=video 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} X/90000\r\na=control:s{index}\r\n"
            );
        }
        text
    }

    /// What can be forwarded: the first picture and the first sound of which that is true.
    pub(super) fn offering(&self) -> Offering {
        let mut offering = Offering::default();
        for (index, media) in self.media.iter().enumerate() {
            let outcome = match media {
                media if media.is_video && offering.picture.is_none() => media
                    .picture(index)
                    .map(|picture| offering.picture = Some(picture)),
                media if media.is_audio && offering.sound.is_none() => {
                    media.sound(index).map(|sound| offering.sound = Some(sound))
                }
                _ => Ok(()),
            };
            if let Err(remark) = outcome
                && offering.remarks.len() < REMARKS_MAX
                && !offering.remarks.contains(&remark)
            {
                offering.remarks.push(remark);
            }
        }
        offering
    }
}

impl Media {
    /// The value of an `m=` line.
    fn parse(value: &str) -> Media {
        let mut words = value.split_ascii_whitespace();
        let kind = words.next().unwrap_or_default();
        let protocol = words.nth(1).unwrap_or_default();
        let payload_type = words.next().and_then(|number| number.parse().ok());
        let is_rtp = protocol.contains("RTP/");
        let payload_type = payload_type.filter(|number| *number < 128);
        let mut media = Media {
            is_video: kind == "video" && is_rtp && payload_type.is_some(),
            is_audio: kind == "audio" && is_rtp && payload_type.is_some(),
            payload_type: payload_type.unwrap_or(127),
            channels: 1,
            ..Media::default()
        };
        // Without a=rtpmap (RFC 3551 section 6).
        let (encoding, rate) = match (kind, media.payload_type) {
            ("audio", 0) => ("pcmu", 8_000),
            ("audio", 8) => ("pcma", 8_000),
            ("audio", 9) => ("g722", 8_000),
            ("audio", 14) => ("mpa", 90_000),
            ("video", 26) => ("jpeg", VIDEO_RATE),
            ("video", 32) => ("mpv", VIDEO_RATE),
            ("video", 33) => ("mp2t", VIDEO_RATE),
            _ => ("", 0),
        };
        encoding.clone_into(&mut media.encoding);
        media.rate = rate;
        media
    }

    fn on_attribute(&mut self, attribute: &str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let own = || {
            let (number, rest) = value.trim().split_once(' ')?;
            (number.parse() == Ok(self.payload_type)).then_some(rest.trim())
        };
        match name {
            "rtpmap" => {
                let Some(format) = own() else { return };
                let mut parts = format.split('/');
                self.encoding = parts.next().unwrap_or_default().to_ascii_lowercase();
                self.rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
                self.channels = parts
                    .next()
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(1);
            }
            "fmtp" => {
                let Some(parameters) = own() else { return };
                self.parameters = parameters
                    .split(';')
                    .filter_map(|parameter| parameter.trim().split_once('='))
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                    .collect();
            }
            "control" => self.control = Some(value.trim().to_owned()),
            _ => {}
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A format's name as it may be repeated.
    fn name(&self) -> String {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        let name: String = self
            .encoding
            .chars()
            .filter(is_plain)
            .take(NAME_MAX)
            .collect();
        match name.as_str() {
            "" => "an unnamed format".to_owned(),
            _ => name.to_ascii_uppercase(),
        }
    }

    fn picture(&self, index: usize) -> Result<Picture, String> {
        let coding = match self.encoding.as_str() {
            "h264" => Coding::H264,
            "h265" | "hevc" => Coding::H265,
            "jpeg" => {
                return Err("MJPEG is not forwarded, since browsers do not take it by WebRTC: set the camera to H.264".to_owned());
            }
            _ => {
                return Err(format!(
                    "a picture as {} is not forwarded: set the camera to H.264 or H.265",
                    self.name()
                ));
            }
        };
        if self.rate != VIDEO_RATE {
            return Err(format!(
                "a picture whose clock has {} Hz is not forwarded: it has 90000 by its standard",
                self.rate
            ));
        }
        let is_interleaved = match coding {
            Coding::H264 => self.parameter("packetization-mode") == Some("2"),
            Coding::H265 => {
                let most = self.parameter("sprop-max-don-diff");
                most.is_some_and(|most| most.parse() != Ok(0))
            }
        };
        if is_interleaved {
            return Err("a picture whose packets are interleaved is not forwarded: browsers take packetization mode 1 at most, and no decoding order numbers".to_owned());
        }
        let sets = self.sets(coding);
        let stream = match sets.sps() {
            Some(sps) => Some(Stream {
                codec: sps.codec.clone(),
                clock_rate: VIDEO_RATE,
                resolution: Some(sps.resolution),
            }),
            None => self.codec(coding).map(|codec| Stream {
                codec,
                clock_rate: VIDEO_RATE,
                resolution: None,
            }),
        };
        Ok(Picture {
            index,
            payload_type: self.payload_type,
            coding,
            sets,
            stream,
        })
    }

    /// The parameter sets of the description.
    fn sets(&self, coding: Coding) -> Sets {
        let names: &[&str] = match coding {
            Coding::H264 => &["sprop-parameter-sets"],
            Coding::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        };
        let mut sets = Sets::new(coding);
        let listed = names.iter().filter_map(|name| self.parameter(name));
        for unit in listed.flat_map(|list| list.split(',')) {
            if let Ok(unit) = STANDARD.decode(unit.trim()) {
                // Some cameras put a start code before it.
                let unit = unit.strip_prefix(&[0, 0, 0, 1]).unwrap_or(&unit);
                sets.learn(unit);
            }
        }
        sets
    }

    /// The codec by the parameters beside the sets.
    fn codec(&self, coding: Coding) -> Option<CameraCodec> {
        let number = |name| {
            self.parameter(name)
                .and_then(|value| value.parse::<u8>().ok())
        };
        match coding {
            Coding::H264 => {
                let hex = self.parameter("profile-level-id")?;
                let value = u32::from_str_radix(hex, 16)
                    .ok()
                    .filter(|_| hex.len() == 6)?;
                let [_, profile_level_id @ ..] = value.to_be_bytes();
                Some(CameraCodec::H264 { profile_level_id })
            }
            Coding::H265 => Some(CameraCodec::H265 {
                profile_id: number("profile-id")?,
                tier: number("tier-flag") == Some(1),
                level_id: number("level-id")?,
            }),
        }
    }

    fn sound(&self, index: usize) -> Result<SoundOffer, String> {
        let (codec, sound) = match (self.encoding.as_str(), self.rate, self.channels) {
            ("pcmu", 8_000, 1) => (CameraCodec::Pcmu, Sound::G711),
            ("pcma", 8_000, 1) => (CameraCodec::Pcma, Sound::G711),
            ("opus", 48_000, _) => (CameraCodec::Opus, Sound::Opus),
            ("pcmu" | "pcma", rate, channels) => {
                return Err(format!(
                    "sound as G.711 with {rate} Hz and {channels} channels is not forwarded: browsers take 8000 Hz and one channel"
                ));
            }
            ("mpeg4-generic" | "mp4a-latm", ..) => {
                return Err("sound as AAC is not forwarded, since WebRTC has no AAC: set the camera to G.711 or Opus; the picture is not affected".to_owned());
            }
            _ => {
                return Err(format!(
                    "sound as {} is not forwarded: set the camera to G.711 or Opus",
                    self.name()
                ));
            }
        };
        Ok(SoundOffer {
            index,
            payload_type: self.payload_type,
            sound,
            stream: Stream {
                codec,
                clock_rate: self.rate,
                resolution: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(body: &str) -> Offering {
        Description::parse(body.as_bytes()).unwrap().offering()
    }

    #[test]
    fn a_camera_with_picture_sound_and_metadata() {
        let body = "v=0\r\ns=Media\r\na=control:*\r\n\
            m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 packetization-mode=1;profile-level-id=42001E;sprop-parameter-sets=Z2QAKKzZQHgCJ+XARAAAAwAEAAADAMA8YMZY,aOvjyyLA\r\n\
            a=control:trackID=0\r\n\
            m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n\
            m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n";
        let description = Description::parse(body.as_bytes()).unwrap();
        assert_eq!(description.control.as_deref(), Some("*"));
        assert_eq!(description.media[0].control.as_deref(), Some("trackID=0"));
        let offering = description.offering();
        let picture = offering.picture.unwrap().stream.unwrap();
        assert_eq!(picture.resolution, Some((1920, 1080)));
        let profile_level_id = [0x64, 0x00, 0x28];
        let truth = CameraCodec::H264 { profile_level_id };
        assert_eq!(
            picture.codec, truth,
            "as the parameter set says, not the line beside it"
        );
        let sound = offering.sound.unwrap();
        assert_eq!((sound.index, sound.stream.codec), (1, CameraCodec::Pcma));
        assert!(offering.remarks.is_empty());
    }

    #[test]
    fn what_browsers_do_not_take_is_said_and_the_rest_flows() {
        let aac = offering(
            "m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\n\
             m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/16000/1\n",
        );
        let picture = aac.picture.unwrap();
        assert!(picture.coding == Coding::H265 && picture.stream.is_none());
        assert!(aac.sound.is_none() && aac.remarks[0].contains("AAC"));

        let mjpeg = offering("m=video 0 RTP/AVP 26\n");
        assert!(mjpeg.picture.is_none() && mjpeg.remarks[0].contains("MJPEG"));
        for (body, word) in [
            (
                "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=2\n",
                "interleaved",
            ),
            (
                "m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=2\n",
                "interleaved",
            ),
            ("m=audio 0 RTP/AVP 97\na=rtpmap:97 PCMU/16000/2\n", "16000"),
            (
                "m=audio 0 RTP/AVP 97\na=rtpmap:97 G726-32/8000\n",
                "G726-32",
            ),
            (
                "m=video 0 RTP/AVP 98\na=rtpmap:98 VP6<b>\u{7}/90000\n",
                "VP6B",
            ),
            ("m=video 0 RTP/AVP 98\na=rtpmap:98 H264/1000\n", "1000"),
        ] {
            let offering = offering(body);
            assert!(offering.picture.is_none() && offering.sound.is_none());
            assert!(offering.remarks[0].contains(word), "{:?}", offering.remarks);
        }
    }

    #[test]
    fn t_34_descriptions_of_any_shape_are_read_or_passed_over() {
        assert_eq!(Description::parse(b""), None);
        assert_eq!(Description::parse(b"m"), None);
        for body in [
            "m=",
            "m=video",
            "m=video 0 RTP/AVP",
            "m=video 0 RTP/AVP 999",
            "m=audio 0 UDP 0",
        ] {
            let offering = offering(body);
            assert!(offering.picture.is_none() && offering.sound.is_none());
        }
        let many = "m=video 0 RTP/AVP 96\na=rtpmap:96 X/1\n".repeat(1_000);
        let description = Description::parse(many.as_bytes()).unwrap();
        assert_eq!(description.media.len(), MEDIA_MAX);
        assert!(description.offering().remarks.len() <= REMARKS_MAX);
    }
}
