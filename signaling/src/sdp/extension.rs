//! RTP header extensions (RFC 8285): the ones that we know, and how an offer maps them.

use rtc_sdp::description::common::Attribute;

use super::offer::OfferError;
use super::quote;

/// URIs of the header extensions that we know.
pub mod uri {
    /// Which section a packet belongs to (RFC 9143 section 15.2).
    pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// Which simulcast layer a packet belongs to (RFC 8852).
    pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    /// Which simulcast layer a retransmission repairs (RFC 8852).
    pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    /// How loud it is (RFC 6464).
    pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// When the packet left.
    pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    /// When the frame was captured.
    pub const ABS_CAPTURE_TIME: &str =
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    /// How the camera is held (3GPP TS 26.114 section 7.4.5).
    pub const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
    /// How long the player may delay.
    pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    /// The structure of a scalable stream (AV1 RTP specification, appendix A).
    pub const DEPENDENCY_DESCRIPTOR: &str =
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    /// Numbers across all streams, for feedback to a bandwidth estimator.
    pub const TRANSPORT_CC: &str =
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

    /// All of them: what parsing keeps.
    pub(super) const KNOWN: [&str; 10] = [
        MID,
        RID,
        REPAIRED_RID,
        AUDIO_LEVEL,
        ABS_SEND_TIME,
        ABS_CAPTURE_TIME,
        VIDEO_ORIENTATION,
        PLAYOUT_DELAY,
        DEPENDENCY_DESCRIPTOR,
        TRANSPORT_CC,
    ];
}

/// A header extension offer (RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The client's id.
    pub id: u8,
    /// Its URI; only ones that we know are kept.
    pub uri: String,
}

/// Reads one level's `a=extmap` lines into `extensions`: the ones that we know.
///
/// An extension offered for one direction only is left out: the answer would have to say the
/// opposite direction (RFC 8285 section 6), and no client needs it.
pub(super) fn read(
    attributes: &[Attribute],
    mid: &str,
    extensions: &mut Vec<Extension>,
) -> Result<(), OfferError> {
    for attribute in attributes.iter().filter(|a| a.key == "extmap") {
        let value = attribute.value.as_deref().unwrap_or_default();
        let bad = || OfferError::BadExtension {
            mid: mid.to_owned(),
            line: quote(value),
        };
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else {
            return Err(bad());
        };
        let (id, direction) = id
            .split_once('/')
            .map_or((id, None), |(id, way)| (id, Some(way)));
        let id: u16 = id.parse().map_err(|_| bad())?;
        // Ids from 4096 stand for "any of these, with an id that you choose" (RFC 8285 section 6).
        if (4096..=4351).contains(&id) {
            continue;
        }
        let id = u8::try_from(id)
            .ok()
            .filter(|&id| id != 0 && id != 15)
            .ok_or_else(bad)?;
        if !uri::KNOWN.contains(&uri) || direction.is_some_and(|way| way != "sendrecv") {
            continue;
        }
        match extensions
            .iter()
            .find(|known| known.id == id || known.uri == uri)
        {
            None => extensions.push(Extension {
                id,
                uri: uri.to_owned(),
            }),
            Some(known) if known.id == id && known.uri == uri => {}
            Some(_) => {
                return Err(OfferError::ExtensionTwice {
                    mid: mid.to_owned(),
                    id,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extmap(values: &[&str]) -> Result<Vec<Extension>, OfferError> {
        let attributes: Vec<Attribute> = values
            .iter()
            .map(|value| Attribute::new("extmap".into(), Some((*value).to_owned())))
            .collect();
        let mut extensions = Vec::new();
        read(&attributes, "0", &mut extensions).map(|()| extensions)
    }

    #[test]
    fn known_extensions_are_kept_with_their_ids() {
        let unknown = "7 urn:ietf:params:rtp-hdrext:toffset";
        let read = extmap(&[&format!("4 {}", uri::MID), unknown]).unwrap();
        assert_eq!(
            read,
            [Extension {
                id: 4,
                uri: uri::MID.to_owned()
            }]
        );
    }

    #[test]
    fn one_way_extensions_and_spare_ids_are_left_out() {
        let one_way = format!("4/recvonly {}", uri::PLAYOUT_DELAY);
        let spare = format!("4096 {}", uri::MID);
        assert_eq!(extmap(&[&one_way, &spare]), Ok(vec![]));
    }

    #[test]
    fn ids_out_of_range_and_ids_used_twice_are_refused() {
        for id in ["0", "15", "256", "-1", "x"] {
            assert!(extmap(&[&format!("{id} {}", uri::MID)]).is_err(), "{id}");
        }
        let twice = extmap(&[&format!("4 {}", uri::MID), &format!("4 {}", uri::RID)]);
        assert!(matches!(
            twice,
            Err(OfferError::ExtensionTwice { id: 4, .. })
        ));
    }
}
