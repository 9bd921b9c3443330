//! What a client offered: [`Offer::parse`], and every reason to refuse an offer.

use std::collections::HashSet;
use std::io::Cursor;

use rtc_sdp::SessionDescription;

use super::extension;
use super::quote;
use super::section::{Direction, Section, SectionKind, SessionDefaults};
use super::transport::{Fingerprint, IceCredentials, Setup, Transport};

/// What a client offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The client's ICE credentials (RFC 8839).
    pub ice: IceCredentials,
    /// Who may start DTLS.
    pub setup: Setup,
    /// Fingerprints of the client's certificate, at least one of a hash we take (RFC 8122).
    pub fingerprints: Vec<Fingerprint>,
    /// The `m=` sections in order.
    pub sections: Vec<Section>,
    /// The mids of `a=group:BUNDLE` (RFC 9143) in the sections' order; empty without such a group.
    pub bundle: Vec<String>,
    /// `a=extmap-allow-mixed` (RFC 8285 section 6).
    pub extmap_allow_mixed: bool,
}

/// Why an offer was refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// No text at all.
    #[error("the offer is empty: send the SDP that `createOffer` gives")]
    Empty,
    /// More than [`Offer::LEN_MAX`] bytes.
    #[error("the offer has {0} bytes: at most {max} are read", max = Offer::LEN_MAX)]
    TooLong(usize),
    /// A control character inside a line.
    #[error(
        "line {0} of the offer holds a control character: SDP is lines of text that end with CRLF"
    )]
    ControlCharacter(usize),
    /// A line that is not SDP.
    #[error(
        "line {line} of the offer, `{written}`, is not SDP: a line is a letter, `=` and a value"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What it says.
        written: String,
    },
    /// Lines in an order, or with values, that SDP does not have.
    #[error(
        "the offer does not read as SDP (RFC 8866), near `{0}`: send it as `createOffer` gave it"
    )]
    Syntax(String),
    /// No `m=` line.
    #[error("the offer has no `m=` section: offer audio or video, to send or to receive")]
    NoSections,
    /// More than [`Offer::SECTIONS_MAX`].
    #[error("the offer has {0} `m=` sections: at most {max} are served", max = Offer::SECTIONS_MAX)]
    TooManySections(usize),
    /// Every section has port 0.
    #[error("every section of the offer is rejected (port 0): offer at least one")]
    AllRejected,
    /// A mid that is no token or too long.
    #[error("`a=mid:{0}` is not a mid: use 1 to 16 letters, digits or `-`, each section its own")]
    BadMid(String),
    /// An RTP stream id that is none, stands twice, or is not described.
    #[error(
        "section `{mid}`: `{written}` is not one of its encodings: each has an `a=rid:.. send` line of its own, with 1 to 16 letters, digits, `-` or `_`"
    )]
    BadRid {
        /// The section.
        mid: String,
        /// What was written.
        written: String,
    },
    /// One mid for two sections.
    #[error("two sections have the mid `{0}`: each needs its own")]
    MidTwice(String),
    /// A section without ICE credentials.
    #[error(
        "section `{0}` has no ICE credentials: `a=ice-ufrag` and `a=ice-pwd` are needed, there or for the session"
    )]
    MissingIce(String),
    /// Credentials outside of RFC 8839's grammar.
    #[error(
        "the ICE credentials of section `{0}` are malformed: 4 to 256 characters of ufrag and 22 to 256 of pwd, letters, digits, `+` and `/`"
    )]
    BadIce(String),
    /// A section without a DTLS role.
    #[error("section `{0}` has no `a=setup`: an offer says `a=setup:actpass`")]
    MissingSetup(String),
    /// A DTLS role that an offer can't have.
    #[error("`a=setup:{0}` cannot be answered: an offer says `actpass`, `active` or `passive`")]
    BadSetup(String),
    /// A section without a certificate's digest.
    #[error(
        "section `{0}` has no `a=fingerprint`: media is served over DTLS-SRTP only, which needs one (sha-256)"
    )]
    MissingFingerprint(String),
    /// Only digests of hashes that we don't take.
    #[error(
        "the certificate is named by a {0} fingerprint only: send a sha-256, sha-384 or sha-512 one"
    )]
    WeakFingerprint(String),
    /// A digest that is none.
    #[error(
        "`a=fingerprint:{0}` is malformed: a hash's name and its bytes in hexadecimal with colons are needed"
    )]
    BadFingerprint(String),
    /// A section whose RTCP wants a port of its own.
    #[error(
        "section `{0}` has no `a=rtcp-mux`: RTP and RTCP are served on one port only (RFC 5761)"
    )]
    MissingRtcpMux(String),
    /// Sections that want a transport each.
    #[error(
        "sections `{0}` and `{1}` want transports of their own: bundle them (`a=group:BUNDLE`, bundlePolicy `max-bundle`)"
    )]
    Unbundled(String, String),
    /// Several tracks in one section.
    #[error(
        "section `{0}` holds several tracks (Plan B): give each track its own section (Unified Plan)"
    )]
    PlanB(String),
    /// A payload type that is no number up to 127.
    #[error("`{written}` in section `{mid}` is not a payload type: they go from 0 to 127")]
    PayloadType {
        /// The section.
        mid: String,
        /// What it says.
        written: String,
    },
    /// A payload type that appears twice in an `m=` line.
    #[error("section `{mid}` lists payload type {payload_type} twice: each stands for one codec")]
    PayloadTypeTwice {
        /// The section.
        mid: String,
        /// Which.
        payload_type: u8,
    },
    /// Two codecs for one payload type.
    #[error("section `{mid}` maps payload type {payload_type} to two codecs: one `a=rtpmap` each")]
    RtpmapTwice {
        /// The section.
        mid: String,
        /// Which.
        payload_type: u8,
    },
    /// Retransmissions that do not pair one to one with what they repair.
    #[error(
        "section `{mid}`: the `apt` of payload type {payload_type} conflicts: each rtx names one codec, and each codec has one rtx at most"
    )]
    ConflictingApt {
        /// The section.
        mid: String,
        /// Of the rtx.
        payload_type: u8,
    },
    /// An `a=extmap` that cannot be read.
    #[error(
        "`a=extmap:{line}` in section `{mid}` is malformed: an id from 1 to 14 or 16 to 255 and a URI are needed"
    )]
    BadExtension {
        /// The section; `session` for the session's lines.
        mid: String,
        /// What it says.
        line: String,
    },
    /// One id for two extensions, or two ids for one.
    #[error("section `{mid}` maps header extension id {id} twice: each id and each URI once")]
    ExtensionTwice {
        /// The section; `session` for the session's lines.
        mid: String,
        /// The id.
        id: u8,
    },
    /// An SSRC that is no 32-bit number.
    #[error("`{written}` in section `{mid}` is not an SSRC: they go from 0 to 4294967295")]
    BadSsrc {
        /// The section.
        mid: String,
        /// What it says.
        written: String,
    },
    /// More SSRCs than a client can send in a section.
    #[error("section `{0}` names more SSRCs than one track has: give each track its own section")]
    TooManySources(String),
}

/// A section's transport and what else decides whether it can share one.
struct Carrier<'a> {
    section: &'a Section,
    transport: Transport,
    rtcp_mux: bool,
}

impl Offer {
    /// The longest text that is read, bytes: a browser's offer with 256 sections fits.
    pub const LEN_MAX: usize = 256 * 1024;

    /// The most sections that are served: two for each of 128 people.
    pub const SECTIONS_MAX: usize = 256;

    /// Reads an offer (RFC 8829 section 5.8).
    ///
    /// # Errors
    /// A sentence that says what is wrong with the offer and what would be right.
    pub fn parse(text: &str) -> Result<Offer, OfferError> {
        check_lines(text)?;
        // The parser's own error names the line or the value that it stumbled over.
        let session = SessionDescription::unmarshal(&mut Cursor::new(lines_that_matter(text)))
            .map_err(|error| OfferError::Syntax(quote(&error.to_string())))?;
        let mut defaults = SessionDefaults {
            direction: Direction::read(&session.attributes),
            extensions: Vec::new(),
        };
        extension::read(&session.attributes, "session", &mut defaults.extensions)?;
        let media = session.media_descriptions.iter().enumerate();
        let sections: Result<Vec<Section>, OfferError> = media
            .map(|(index, media)| Section::read(index, media, &defaults))
            .collect();
        let mut sections = sections?;
        check_mids(&sections)?;
        let bundle = read_bundle(&session, &sections);
        let carriers = carriers(&session, &sections);
        let carrier = shared_carrier(&carriers, &bundle)?;
        let mid = &carrier.section.mid;
        let ice = carrier.transport.ice(mid)?;
        let setup = carrier.transport.setup(mid)?;
        let fingerprints = carrier.transport.fingerprints(mid)?;
        let strangers = data_elsewhere(&carriers, carrier, &bundle);
        for section in &mut sections {
            // Media is worth an error; data channels go without a transport of their own.
            section.data = section.data.filter(|_| !strangers.contains(&section.mid));
        }
        Ok(Offer {
            ice,
            setup,
            fingerprints,
            bundle,
            extmap_allow_mixed: allows_mixed(&session),
            sections,
        })
    }
}

/// Whether one- and two-byte extension headers may mix: said for the session, or in every section
/// (RFC 8285 section 6).
fn allows_mixed(session: &SessionDescription) -> bool {
    let key = "extmap-allow-mixed";
    session.has_attribute(key)
        || session
            .media_descriptions
            .iter()
            .all(|m| m.has_attribute(key))
}

/// The bounds and the shape of the text, before anything is built from it.
fn check_lines(text: &str) -> Result<(), OfferError> {
    if text.len() > Offer::LEN_MAX {
        return Err(OfferError::TooLong(text.len()));
    }
    if text.trim().is_empty() {
        return Err(OfferError::Empty);
    }
    let mut sections = 0_usize;
    for (index, line) in text.lines().enumerate() {
        // A CR inside a line would end it for some parsers and not for others; what we repeat in
        // an answer must not be able to make lines of its own.
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(OfferError::ControlCharacter(index + 1));
        }
        let shaped = line.trim().is_empty()
            || matches!(line.as_bytes(), [letter, b'=', ..] if letter.is_ascii_lowercase());
        if !shaped {
            return Err(OfferError::Line {
                line: index + 1,
                written: quote(line),
            });
        }
        sections += usize::from(line.starts_with("m="));
    }
    match sections {
        0 => Err(OfferError::NoSections),
        1..=Offer::SECTIONS_MAX => Ok(()),
        _ => Err(OfferError::TooManySections(sections)),
    }
}

/// The lines that say something to us. The parser is strict about the order of all of them, and
/// pages that set a bandwidth put their `b=` anywhere.
fn lines_that_matter(text: &str) -> String {
    let matters = |line: &&str| line.starts_with(['v', 'o', 's', 't', 'a', 'm']);
    text.lines()
        .filter(matters)
        .flat_map(|line| [line, "\r\n"])
        .collect()
}

fn check_mids(sections: &[Section]) -> Result<(), OfferError> {
    let mut seen = HashSet::new();
    match sections
        .iter()
        .find(|section| !seen.insert(section.mid.as_str()))
    {
        Some(section) => Err(OfferError::MidTwice(section.mid.clone())),
        None => Ok(()),
    }
}

/// The mids of the first `a=group:BUNDLE`. Further groups would be further transports: their
/// sections count as not bundled.
///
/// A mid that no section has is left out, as FFmpeg's group always names two sections.
fn read_bundle(session: &SessionDescription, sections: &[Section]) -> Vec<String> {
    let groups = session
        .attributes
        .iter()
        .filter(|attribute| attribute.key == "group");
    let mut groups = groups.filter_map(|group| group.value.as_deref()?.strip_prefix("BUNDLE"));
    let written: HashSet<&str> = groups
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    let named = sections.iter().filter(|section| section.has_mid);
    let grouped = named.filter(|section| written.contains(section.mid.as_str()));
    grouped.map(|section| section.mid.clone()).collect()
}

/// The transports of the sections that want one, in order.
fn carriers<'a>(session: &SessionDescription, sections: &'a [Section]) -> Vec<Carrier<'a>> {
    let shared = Transport::read(&session.attributes);
    let session_mux = session.has_attribute("rtcp-mux");
    let pairs = sections.iter().zip(&session.media_descriptions);
    let wanted =
        pairs.filter(|(section, _)| !section.rejected && section.kind != SectionKind::Other);
    wanted
        .map(|(section, media)| Carrier {
            section,
            transport: Transport::read(&media.attributes).or(&shared),
            rtcp_mux: session_mux || media.has_attribute("rtcp-mux"),
        })
        .collect()
}

/// The one carrier whose transport carries everything that we may accept.
///
/// That is the first section of audio, video or data channels (what is never accepted takes its
/// transport with it, RFC 9143 section 7.3.3); sections of the same bundle share it whatever they say,
/// others have to name the same ICE session.
fn shared_carrier<'a, 'b>(
    carriers: &'b [Carrier<'a>],
    bundle: &[String],
) -> Result<&'b Carrier<'a>, OfferError> {
    let bundled: HashSet<&str> = bundle.iter().map(String::as_str).collect();
    let is_bundled = |carrier: &Carrier<'_>| bundled.contains(carrier.section.mid.as_str());
    let served =
        |carrier: &&Carrier<'_>| carrier.section.is_media() || carrier.section.data.is_some();
    let Some(first) = carriers.iter().find(served).or_else(|| carriers.first()) else {
        return Err(OfferError::AllRejected);
    };
    for carrier in carriers.iter().filter(|carrier| carrier.section.is_media()) {
        let together = is_bundled(first) && is_bundled(carrier);
        if !together && !carrier.transport.same_ice(&first.transport) {
            let mids = (first.section.mid.clone(), carrier.section.mid.clone());
            return Err(OfferError::Unbundled(mids.0, mids.1));
        }
        // In a bundle it is the transport's section that says it (RFC 9143 section 9.3), and data
        // channels have nothing to say of it.
        let muxed =
            carrier.rtcp_mux || (together && (first.rtcp_mux || first.section.data.is_some()));
        if !muxed {
            return Err(OfferError::MissingRtcpMux(carrier.section.mid.clone()));
        }
    }
    Ok(first)
}

/// The mids of data channels that want another transport than the shared one.
fn data_elsewhere(
    carriers: &[Carrier<'_>],
    shared: &Carrier<'_>,
    bundle: &[String],
) -> HashSet<String> {
    let is_bundled = |carrier: &Carrier<'_>| bundle.contains(&carrier.section.mid);
    let elsewhere = carriers.iter().filter(|carrier| {
        let together = is_bundled(shared) && is_bundled(carrier);
        carrier.section.data.is_some()
            && !together
            && !carrier.transport.same_ice(&shared.transport)
    });
    elsewhere
        .map(|carrier| carrier.section.mid.clone())
        .collect()
}
