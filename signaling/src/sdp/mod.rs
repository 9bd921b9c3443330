//! Offers and answers (RFC 3264, 8829, 9429): what an offer asks for, and the text of our answer.
//!
//! [`Offer::parse`] reads any browser's, encoder's or player's offer; [`Answer`] is our decision,
//! section by section; [`Answer::to_sdp`] writes it down.

use std::net::SocketAddr;

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
}

/// A ufrag and its password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// `a=setup` (RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The client leaves it to us: we answer `passive`.
    ActPass,
    /// The client starts.
    Active,
    /// The client waits: we answer `active`.
    Passive,
}

/// A certificate's digest, by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// `sha-256`
    Sha256([u8; 32]),
    /// `sha-384`
    Sha384([u8; 48]),
    /// `sha-512`
    Sha512([u8; 64]),
}

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
}

/// One `m=` section of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// `a=mid`; the section's index as text where the offer has none.
    pub mid: String,
    /// What it carries.
    pub kind: SectionKind,
    /// Whether it was offered as rejected (port 0 and not `a=bundle-only`).
    pub rejected: bool,
    /// Direction, as the client sees it.
    pub direction: Direction,
    /// The codecs that we can forward, in the client's order.
    pub codecs: Vec<Codec>,
    /// The header extensions that we know, with the client's ids.
    pub extensions: Vec<Extension>,
    /// SSRCs of the client's stream, first one first, each with its retransmission SSRC (`ssrc-group:FID`).
    pub sources: Vec<(u32, Option<u32>)>,
    /// `a=msid`: stream and track.
    pub msid: Option<(String, String)>,
}

/// A codec of a section, with what repairs it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// `a=rtcp-fb` lines that we take: a subset of `nack`, `nack pli`, `ccm fir`, `goog-remb`.
    pub feedback: Vec<String>,
}

/// A header extension offer (RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The client's id.
    pub id: u8,
    /// Its URI; only ones that we know are kept.
    pub uri: String,
}

/// Our decision about an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `o=` session id, the same in every answer of a session.
    pub session_id: u64,
    /// `o=` version: counts the session's answers from 1.
    pub version: u64,
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Our certificate's SHA-256 fingerprint.
    pub fingerprint: [u8; 32],
    /// Where we can be reached.
    pub candidates: Vec<Candidate>,
    /// One decision for each section of the offer, in order.
    pub sections: Vec<Decision>,
}

/// A host candidate of ours (RFC 8839, RFC 6544).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Address and port.
    pub address: SocketAddr,
    /// Passive TCP instead of UDP.
    pub tcp: bool,
}

/// What becomes of one section.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Refused: port 0.
    Reject,
    /// Accepted, in at least one direction unless it is to be `inactive`.
    Accept {
        /// We receive what the client sends.
        receive: bool,
        /// We send it this.
        send: Option<Outgoing>,
        /// The codecs to answer with, in our order of preference: from the offer's section.
        codecs: Vec<Codec>,
        /// The header extensions to answer with: from the offer's section.
        extensions: Vec<Extension>,
    },
}

/// A stream that we send in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Our SSRC.
    pub ssrc: u32,
    /// SSRC of our retransmissions.
    pub rtx: Option<u32>,
    /// `a=ssrc:.. cname:`
    pub cname: String,
    /// `a=msid`: stream id.
    pub stream: String,
    /// `a=msid`: track id.
    pub track: String,
}
