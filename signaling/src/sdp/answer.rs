//! Our decision about an offer, and its text (RFC 3264 section 6, RFC 8829 section 5.3).

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::candidate::{Candidate, write_candidates};
use super::codec::Codec;
use super::extension::Extension;
use super::offer::Offer;
use super::section::{Direction, MediaLine, Section};
use super::simulcast::Simulcast;
use super::transport::IceCredentials;

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
    /// Data channels are served (RFC 8841).
    AcceptData {
        /// The longest message that we take, in bytes.
        message_bytes_max: u32,
    },
}

impl Decision {
    /// Whether the section is accepted.
    #[must_use]
    pub fn accepts(&self) -> bool {
        match self {
            Decision::Reject => false,
            Decision::Accept { .. } | Decision::AcceptData { .. } => true,
        }
    }
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

/// Where SCTP is spoken inside DTLS: everybody's number, which means nothing (RFC 8841 section 5.1).
const SCTP_PORT: u16 = 5000;

/// An accepted section, borrowed from the decision and the offer.
struct Accepted<'a> {
    section: &'a Section,
    receive: bool,
    send: Option<&'a Outgoing>,
    codecs: &'a [Codec],
    extensions: &'a [Extension],
    /// For data channels, the longest message that we take.
    data: Option<u32>,
}

impl<'a> Accepted<'a> {
    /// What can be accepted of a decision: never what the client did not offer (RFC 3264 section 6).
    fn of(section: &'a Section, decision: Option<&'a Decision>) -> Option<Accepted<'a>> {
        if let Some(Decision::AcceptData { message_bytes_max }) = decision {
            return section.data.map(|_| Accepted {
                section,
                receive: false,
                send: None,
                codecs: &[],
                extensions: &[],
                data: Some(*message_bytes_max),
            });
        }
        let Some(Decision::Accept {
            receive,
            send,
            codecs,
            extensions,
        }) = decision
        else {
            return None;
        };
        let possible = !section.rejected && section.is_media() && !codecs.is_empty();
        possible.then_some(Accepted {
            section,
            receive: *receive && section.direction.sends(),
            send: send.as_ref().filter(|_| section.direction.receives()),
            codecs,
            extensions,
            data: None,
        })
    }

    /// Our point of view, which is the opposite of the offer's.
    fn direction(&self) -> Direction {
        match (self.send.is_some(), self.receive) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }
}

impl Answer {
    /// Writes the answer to `offer`, which has to be the one that it was made for: the sections'
    /// order and mids are the offer's. A section that cannot be accepted is rejected, whatever the
    /// decision says.
    ///
    /// The list of candidates is complete, on the first section of the bundle.
    #[must_use]
    pub fn to_sdp(&self, offer: &Offer) -> String {
        let accepted: Vec<Option<Accepted<'_>>> = offer
            .sections
            .iter()
            .enumerate()
            .map(|(index, section)| Accepted::of(section, self.sections.get(index)))
            .collect();
        let bundled: HashSet<&str> = offer.bundle.iter().map(String::as_str).collect();
        let is_bundled = |accepted: &Accepted<'_>| bundled.contains(accepted.section.mid.as_str());

        let mut text = String::with_capacity(1024 * (1 + offer.sections.len()));
        self.write_session(&mut text, offer, &accepted, &bundled);
        let mut tagged = false;
        for (section, accepted) in offer.sections.iter().zip(&accepted) {
            let Some(accepted) = accepted else {
                write_rejected(&mut text, section);
                continue;
            };
            // A bundle's later sections use the first one's transport (RFC 9143 section 7.3).
            let with_candidates = !(is_bundled(accepted) && tagged);
            tagged |= is_bundled(accepted);
            self.write_accepted(&mut text, offer, accepted, with_candidates);
        }
        text
    }

    fn write_session(
        &self,
        text: &mut String,
        offer: &Offer,
        accepted: &[Option<Accepted<'_>>],
        bundled: &HashSet<&str>,
    ) {
        let (id, version) = (self.session_id, self.version);
        let _ = write!(
            text,
            "v=0\r\no=- {id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        );
        let mids = accepted
            .iter()
            .flatten()
            .map(|accepted| accepted.section.mid.as_str());
        let mids: Vec<&str> = mids.filter(|mid| bundled.contains(mid)).collect();
        if !mids.is_empty() {
            line(text, "group:BUNDLE", &format!(" {}", mids.join(" ")));
        }
        line(text, "ice-lite", "");
        if offer.extmap_allow_mixed {
            line(text, "extmap-allow-mixed", "");
        }
        line(text, "msid-semantic:", " WMS *");
    }

    fn write_accepted(
        &self,
        text: &mut String,
        offer: &Offer,
        accepted: &Accepted<'_>,
        with_candidates: bool,
    ) {
        let section = accepted.section;
        write_media_line(text, &section.line, self.default_address(), accepted.codecs);
        line(text, "ice-ufrag:", &self.ice.ufrag);
        line(text, "ice-pwd:", &self.ice.pwd);
        let digest: Vec<String> = self
            .fingerprint
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        line(text, "fingerprint:sha-256 ", &digest.join(":"));
        line(text, "setup:", offer.setup.answer().as_str());
        if section.has_mid {
            line(text, "mid:", &section.mid);
        }
        if let Some(message_bytes_max) = accepted.data {
            line(text, "sctp-port:", &SCTP_PORT.to_string());
            line(text, "max-message-size:", &message_bytes_max.to_string());
            if with_candidates {
                write_candidates(text, &self.candidates);
            }
            return;
        }
        line(text, accepted.direction().as_str(), "");
        for extension in accepted.extensions {
            line(
                text,
                "extmap:",
                &format!("{} {}", extension.id, extension.uri),
            );
        }
        line(text, "rtcp-mux", "");
        if section.rtcp_rsize {
            line(text, "rtcp-rsize", "");
        }
        for codec in accepted.codecs {
            write_codec(text, codec);
        }
        if let Simulcast::Rids(rids) = &section.simulcast
            && accepted.receive
        {
            write_simulcast(text, rids);
        }
        if let Some(outgoing) = accepted.send {
            let rtx = accepted.codecs.iter().any(|codec| codec.rtx.is_some());
            write_outgoing(text, outgoing, outgoing.rtx.filter(|_| rtx));
        }
        if with_candidates {
            write_candidates(text, &self.candidates);
        }
    }

    /// The address for clients that do not speak ICE's language: the best candidate's, or none
    /// (RFC 8829 section 5.3.1).
    fn default_address(&self) -> SocketAddr {
        let udp = self.candidates.iter().find(|candidate| !candidate.tcp);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);
        udp.map_or(nowhere, |candidate| candidate.address)
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    for part in ["a=", name, value, "\r\n"] {
        text.push_str(part);
    }
}

/// A rejected section: port 0, and a format because the grammar wants one (RFC 3264 section 6).
fn write_rejected(text: &mut String, section: &Section) {
    let MediaLine {
        media,
        protocol,
        format,
    } = &section.line;
    let format = if format.is_empty() { "0" } else { format };
    let _ = write!(
        text,
        "m={media} 0 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\n"
    );
    if section.has_mid {
        line(text, "mid:", &section.mid);
    }
    line(text, Direction::Inactive.as_str(), "");
}

fn write_media_line(text: &mut String, media: &MediaLine, default: SocketAddr, codecs: &[Codec]) {
    let _ = write!(
        text,
        "m={} {} {}",
        media.media,
        default.port(),
        media.protocol
    );
    if codecs.is_empty() {
        // Data channels, whose one format the offer has.
        let _ = write!(text, " {}", media.format);
    }
    for codec in codecs {
        let _ = write!(text, " {}", codec.payload_type);
        if let Some(rtx) = codec.rtx {
            let _ = write!(text, " {rtx}");
        }
    }
    let family = if default.is_ipv6() { "IP6" } else { "IP4" };
    let _ = write!(text, "\r\nc=IN {family} {}\r\n", default.ip());
}

fn write_codec(text: &mut String, codec: &Codec) {
    let Codec {
        payload_type,
        name,
        clock_rate,
        channels,
        feedback,
        ..
    } = codec;
    let channels = if *channels > 1 {
        format!("/{channels}")
    } else {
        String::new()
    };
    line(
        text,
        "rtpmap:",
        &format!("{payload_type} {name}/{clock_rate}{channels}"),
    );
    for feedback in feedback {
        line(text, "rtcp-fb:", &format!("{payload_type} {feedback}"));
    }
    let fmtp = codec.answered_fmtp();
    if !fmtp.is_empty() {
        line(text, "fmtp:", &format!("{payload_type} {fmtp}"));
    }
    if let Some(rtx) = codec.rtx {
        line(text, "rtpmap:", &format!("{rtx} rtx/{clock_rate}"));
        line(text, "fmtp:", &format!("{rtx} apt={payload_type}"));
    }
}

/// The client's encodings, all of which we take (RFC 8853 section 5.3).
fn write_simulcast(text: &mut String, rids: &[String]) {
    for rid in rids {
        line(text, "rid:", &format!("{rid} recv"));
    }
    line(text, "simulcast:", &format!("recv {}", rids.join(";")));
}

/// The stream that we send: `a=msid` (RFC 8830), so that a browser's `track` event has a stream,
/// and its SSRCs (RFC 5576).
fn write_outgoing(text: &mut String, outgoing: &Outgoing, rtx: Option<u32>) {
    let Outgoing {
        ssrc,
        cname,
        stream,
        track,
        ..
    } = outgoing;
    line(text, "msid:", &format!("{stream} {track}"));
    if let Some(rtx) = rtx {
        line(text, "ssrc-group:FID ", &format!("{ssrc} {rtx}"));
    }
    for ssrc in std::iter::once(*ssrc).chain(rtx) {
        line(text, "ssrc:", &format!("{ssrc} cname:{cname}"));
        line(text, "ssrc:", &format!("{ssrc} msid:{stream} {track}"));
    }
}
