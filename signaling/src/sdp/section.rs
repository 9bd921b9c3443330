//! One `m=` section of an offer, and what of it an answer may take.

use rtc_sdp::MediaDescription;
use rtc_sdp::description::common::Attribute;

use super::codec::{Codec, VIDEO_PREFERENCE};
use super::extension::{self, Extension};
use super::offer::OfferError;
use super::simulcast::{self, Simulcast};
use super::{formats, is_token, quote, source};

/// What a section carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
    /// `m=application .. webrtc-datachannel`
    Data,
    /// Anything else: always rejected.
    Other,
}

/// Direction attributes (RFC 8866 section 6.7), from the client's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// The client sends.
    SendOnly,
    /// The client receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the client sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the client receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The attribute's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The last direction attribute of a level.
    pub(super) fn read(attributes: &[Attribute]) -> Option<Direction> {
        let all = [
            Direction::SendRecv,
            Direction::SendOnly,
            Direction::RecvOnly,
            Direction::Inactive,
        ];
        let of = |attribute: &Attribute| all.into_iter().find(|d| d.as_str() == attribute.key);
        attributes.iter().rev().find_map(of)
    }
}

/// One `m=` section of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `a=mid`; the section's index as text where the offer has none.
    pub mid: String,
    /// Whether the offer has an `a=mid` here: the answer then has it too.
    pub has_mid: bool,
    /// The `m=` line, to repeat in the answer.
    pub line: MediaLine,
    /// What it carries.
    pub kind: SectionKind,
    /// Whether it was offered as rejected (port 0 and not `a=bundle-only`).
    pub rejected: bool,
    /// Direction, as the client sees it.
    pub direction: Direction,
    /// Whether reduced-size RTCP was offered (RFC 5506).
    pub rtcp_rsize: bool,
    /// The codecs that we can forward, in the client's order.
    pub codecs: Vec<Codec>,
    /// The header extensions that we know, with the client's ids.
    pub extensions: Vec<Extension>,
    /// SSRCs of the client's stream, first one first, each with its retransmission SSRC (`ssrc-group:FID`).
    pub sources: Vec<(u32, Option<u32>)>,
    /// `a=msid`: stream and track.
    pub msid: Option<(String, String)>,
    /// Whether the client's stream comes in several encodings.
    pub simulcast: Simulcast,
    /// The data channels that it asks for, if they can be served.
    pub data: Option<DataChannels>,
}

/// What a section says of its data channels (RFC 8841).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataChannels {
    /// The longest message that the client takes, in bytes.
    pub message_bytes_max: u32,
}

/// An `m=` line without its port (RFC 8866 section 5.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video`, `application` ..
    pub media: String,
    /// Such as `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// The first of its formats.
    pub format: String,
}

/// What a session says for all of its sections.
#[derive(Debug, Default)]
pub(super) struct SessionDefaults {
    /// `a=sendrecv` and its like.
    pub(super) direction: Option<Direction>,
    /// `a=extmap`
    pub(super) extensions: Vec<Extension>,
}

/// Transports of media that carry what we forward: SRTP keyed by DTLS (RFC 5764, RFC 7850). Some
/// encoders name the profile without its transport.
const MEDIA_PROTOCOLS: [&str; 6] = [
    "UDP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "TCP/TLS/RTP/SAVPF",
    "TCP/DTLS/RTP/SAVPF",
    "RTP/SAVPF",
    "RTP/SAVP",
];

/// Transports of data channels (RFC 8841).
const DATA_PROTOCOLS: [&str; 3] = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP", "DTLS/SCTP"];

/// The format of data channels (RFC 8841 section 4.3).
pub(super) const DATA_FORMAT: &str = "webrtc-datachannel";

/// A MID has to fit a one-byte header extension (RFC 8285 section 4.2).
const MID_LEN_MAX: usize = 16;

impl Section {
    pub(super) fn read(
        index: usize,
        media: &MediaDescription,
        session: &SessionDefaults,
    ) -> Result<Section, OfferError> {
        let (mid, has_mid) = read_mid(index, media)?;
        let line = MediaLine::read(media);
        let kind = line.kind();
        let rejected = media.media_name.port.value == 0 && !media.has_attribute("bundle-only");
        let direction = Direction::read(&media.attributes).or(session.direction);
        let mut section = Section {
            mid,
            has_mid,
            line,
            kind,
            rejected,
            direction: direction.unwrap_or(Direction::SendRecv),
            rtcp_rsize: media.has_attribute("rtcp-rsize"),
            codecs: Vec::new(),
            extensions: Vec::new(),
            sources: Vec::new(),
            msid: None,
            simulcast: Simulcast::None,
            data: None,
        };
        if !rejected && kind == SectionKind::Data {
            section.data = DataChannels::read(media, &section.line);
        }
        if !rejected && section.is_media() {
            section.codecs = formats::read(media, kind, &section.mid)?;
            extension::read(&media.attributes, &section.mid, &mut section.extensions)?;
            section.inherit(&session.extensions);
            let sources = source::read(media, &section.mid)?;
            let rids = simulcast::read_rids(media, &section.mid)?;
            section.simulcast = if rids.len() > 1 {
                Simulcast::Rids(rids)
            } else if sources.are_encodings {
                Simulcast::Sources
            } else {
                Simulcast::None
            };
            section.sources = sources.ssrcs;
            section.msid = sources.msid;
        }
        Ok(section)
    }

    /// Whether it is audio or video that we could forward.
    #[must_use]
    pub fn is_media(&self) -> bool {
        matches!(self.kind, SectionKind::Audio | SectionKind::Video)
    }

    /// Takes the session's extensions, where the section maps neither that URI nor that id.
    fn inherit(&mut self, extensions: &[Extension]) {
        for extension in extensions {
            let taken = |own: &Extension| own.id == extension.id || own.uri == extension.uri;
            if !self.extensions.iter().any(taken) {
                self.extensions.push(extension.clone());
            }
        }
    }

    /// The codecs to answer with, best first: those that `preference` names, in its order.
    ///
    /// Without a preference, video is answered in the order of [`VIDEO_PREFERENCE`] and audio in
    /// the client's, where RED comes after its Opus unless the client puts it first of all.
    #[must_use]
    pub fn answerable_codecs(&self, preference: &[&str]) -> Vec<Codec> {
        match self.kind {
            SectionKind::Video if preference.is_empty() => self.ordered(&VIDEO_PREFERENCE),
            SectionKind::Audio if preference.is_empty() => self.client_order(),
            SectionKind::Audio | SectionKind::Video => self.ordered(preference),
            SectionKind::Data | SectionKind::Other => Vec::new(),
        }
    }

    fn ordered(&self, names: &[&str]) -> Vec<Codec> {
        let named = |name: &&str| {
            let name = (*name).to_owned();
            self.codecs
                .iter()
                .filter(move |codec| codec.name.eq_ignore_ascii_case(&name))
                .cloned()
        };
        let mut codecs: Vec<Codec> = names.iter().flat_map(named).collect();
        if !codecs.iter().any(|codec| codec.name == "opus") {
            codecs.retain(|codec| codec.name != "red");
        }
        codecs
    }

    fn client_order(&self) -> Vec<Codec> {
        let mut codecs = self.codecs.clone();
        let red = codecs.iter().position(|codec| codec.name == "red");
        let opus = codecs.iter().position(|codec| codec.name == "opus");
        if let (Some(red), Some(opus)) = (red, opus)
            && red != 0
            && red < opus
        {
            let red = codecs.remove(red);
            codecs.insert(opus, red);
        }
        codecs
    }

    /// The header extensions to answer with: those that we know what to do with, and whose id fits a
    /// one-byte extension header (RFC 8285 section 4.2).
    #[must_use]
    pub fn known_extensions(&self) -> Vec<Extension> {
        let answerable = |e: &&Extension| e.id < 15;
        self.extensions.iter().filter(answerable).cloned().collect()
    }
}

impl DataChannels {
    /// The longest message where nothing is said (RFC 8841 section 6.1).
    const MESSAGE_BYTES_DEFAULT: u32 = 65_536;

    /// `None` for what is not served: data over bare DTLS, formats other than `webrtc-datachannel`
    /// (the form of drafts was a port and `a=sctpmap`), and an association that is to be closed.
    fn read(media: &MediaDescription, line: &MediaLine) -> Option<DataChannels> {
        let protocol = line.protocol.to_ascii_uppercase();
        let is_served = protocol != "DTLS/SCTP" && line.format == DATA_FORMAT;
        let number = |key: &str| -> Option<u32> { media.attribute(key)??.trim().parse().ok() };
        if !is_served || number("sctp-port") == Some(0) {
            return None;
        }
        let message_bytes_max = match number("max-message-size") {
            // Any length (RFC 8841 section 6.1).
            Some(0) => u32::MAX,
            Some(most) => most,
            None => DataChannels::MESSAGE_BYTES_DEFAULT,
        };
        Some(DataChannels { message_bytes_max })
    }
}

impl MediaLine {
    fn read(media: &MediaDescription) -> MediaLine {
        let name = &media.media_name;
        MediaLine {
            media: name.media.clone(),
            protocol: name.protos.join("/"),
            format: name.formats.first().cloned().unwrap_or_default(),
        }
    }

    fn kind(&self) -> SectionKind {
        let protocol = self.protocol.to_ascii_uppercase();
        let media = MEDIA_PROTOCOLS.contains(&protocol.as_str());
        match self.media.as_str() {
            "audio" if media => SectionKind::Audio,
            "video" if media => SectionKind::Video,
            "application" if DATA_PROTOCOLS.contains(&protocol.as_str()) => SectionKind::Data,
            _ => SectionKind::Other,
        }
    }
}

fn read_mid(index: usize, media: &MediaDescription) -> Result<(String, bool), OfferError> {
    let Some(mid) = media.attribute("mid") else {
        return Ok((index.to_string(), false));
    };
    let mid = mid.unwrap_or_default().trim();
    if is_token(mid) && mid.len() <= MID_LEN_MAX {
        Ok((mid.to_owned(), true))
    } else {
        Err(OfferError::BadMid(quote(mid)))
    }
}
