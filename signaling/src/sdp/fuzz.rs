//! One body for the tests with mutated offers and for the fuzz targets: no text makes the parsers
//! panic, and what we write can be read.

use super::{Answer, Candidate, Decision, Fragment, IceCredentials, Offer, Outgoing, Section};

/// An answer that accepts everything that an offer allows.
#[must_use]
pub fn accept_all(offer: &Offer) -> Answer {
    let address = ([192, 0, 2, 7], 3478).into();
    let accept = |(index, section): (u32, &Section)| match section.data {
        Some(_) => Decision::AcceptData {
            message_bytes_max: 65_536,
        },
        None => Decision::Accept {
            receive: section.direction.sends(),
            send: section.direction.receives().then(|| Outgoing {
                ssrc: 1000 + 2 * index,
                rtx: Some(1001 + 2 * index),
                cname: "millrace".to_owned(),
                stream: "meeting".to_owned(),
                track: format!("track-{index}"),
            }),
            codecs: section.answerable_codecs(&[]),
            extensions: section.known_extensions(),
        },
    };
    Answer {
        session_id: 4_611_686_018_427_387_904,
        version: 1,
        ice: IceCredentials {
            ufrag: "mill".to_owned(),
            pwd: "race0race0race0race0race".to_owned(),
        },
        fingerprint: std::array::from_fn(|index| index as u8),
        candidates: vec![
            Candidate {
                address,
                tcp: false,
            },
            Candidate { address, tcp: true },
        ],
        sections: (0..).zip(&offer.sections).map(accept).collect(),
    }
}

/// Reads `text` as an offer and answers it. Whether it was an offer.
///
/// # Panics
/// When the answer does not read back with the offer's sections.
pub fn offer(text: &str) -> bool {
    let Ok(offer) = Offer::parse(text) else {
        return false;
    };
    let answer = accept_all(&offer).to_sdp(&offer);
    // An answer is SDP with the sections of its offer, so our own parser has to read it too. Only
    // an answer that accepts nothing has no transport that it could find.
    let accepted = offer
        .sections
        .iter()
        .any(|section| section.data.is_some() || (!section.rejected && !section.codecs.is_empty()));
    let read = match Offer::parse(&answer) {
        Ok(read) => read,
        Err(error) => {
            assert!(!accepted, "{error} in the answer\n{answer}\nto\n{text}");
            return true;
        }
    };
    let mids = |offer: &Offer| -> Vec<String> {
        offer
            .sections
            .iter()
            .map(|section| section.mid.clone())
            .collect()
    };
    assert_eq!(
        mids(&read),
        mids(&offer),
        "the answer has the offer's sections in their order"
    );
    assert_eq!(read.setup, offer.setup.answer());
    true
}

/// Reads `text` as a trickle-ICE fragment. Whether it was one.
#[must_use]
pub fn fragment(text: &str) -> bool {
    Fragment::parse(text).is_ok()
}
