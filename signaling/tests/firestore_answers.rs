//! The contract's pages and what they are answered: the offer as it stands in a document, without a
//! candidate, and the answer as the page decodes it.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers may panic as the test itself may"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signaling::firestore::{Fields, encode_answer, encode_offer, read_offer};
use signaling::sdp::{Answer, Candidate, Decision, IceCredentials, Offer, Outgoing, Section};

/// Microphone and camera as mid 0 and 1, both `sendrecv`.
const BROADCASTER: &str = include_str!("offers/chromium-broadcaster.sdp");
/// One `recvonly` video section.
const PARTICIPANT: &str = include_str!("offers/chromium-participant.sdp");
/// Audio and video, both `recvonly`.
const BOTH: &str = include_str!("offers/chromium-recvonly.sdp");

/// The offer as the node reads it from a page's document, before any candidate was gathered.
fn offered(sdp: &str) -> Offer {
    let lines = sdp.lines().filter(|line| !line.starts_with("a=candidate"));
    let bare: String = lines.flat_map(|line| [line, "\r\n"]).collect();
    let fields: Fields = [("offer".to_owned(), encode_offer(&bare).into())].into();
    read_offer(&fields).unwrap()
}

/// The answer as the page reads it from its document, by the section that each part describes:
/// first the session's, then one for each `m=`.
fn answered(offer: &Offer, decide: impl Fn(&Section) -> Decision) -> Vec<Vec<String>> {
    let candidate = |tcp| Candidate {
        address: ([192, 0, 2, 7], 3478).into(),
        tcp,
    };
    let answer = Answer {
        session_id: 1,
        version: 1,
        ice: IceCredentials {
            ufrag: "mill".to_owned(),
            pwd: "race0race0race0race0race".to_owned(),
        },
        fingerprint: [7; 32],
        candidates: vec![candidate(false), candidate(true)],
        sections: offer.sections.iter().map(decide).collect(),
    };
    let json = STANDARD
        .decode(encode_answer(&answer.to_sdp(offer)))
        .unwrap();
    let description: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(description["type"], "answer");
    let mut parts = vec![Vec::new()];
    for line in description["sdp"].as_str().unwrap().lines() {
        if line.starts_with("m=") {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line.to_owned());
    }
    parts
}

fn receive(section: &Section) -> Decision {
    Decision::Accept {
        receive: true,
        send: None,
        codecs: section.answerable_codecs(&[]),
        extensions: section.known_extensions(),
    }
}

fn send(section: &Section) -> Decision {
    Decision::Accept {
        receive: false,
        send: Some(Outgoing {
            ssrc: 1000,
            rtx: None,
            cname: "millrace".to_owned(),
            stream: "broadcast".to_owned(),
            track: section.line.media.clone(),
        }),
        codecs: section.answerable_codecs(&[]),
        extensions: section.known_extensions(),
    }
}

fn has(part: &[String], line: &str) -> bool {
    part.iter().any(|other| other == line)
}

#[test]
fn a_broadcaster_is_answered_recvonly_on_both_sections() {
    let offer = offered(BROADCASTER);
    let parts = answered(&offer, receive);
    let [session, audio, video] = &parts[..] else {
        panic!("two sections: {parts:?}");
    };
    assert!(has(session, "a=group:BUNDLE 0 1"), "{session:?}");
    assert!(has(session, "a=ice-lite"), "{session:?}");
    for (part, media, mid) in [
        (audio, "m=audio 3478 ", "a=mid:0"),
        (video, "m=video 3478 ", "a=mid:1"),
    ] {
        assert!(part[0].starts_with(media), "{part:?}");
        assert!(has(part, mid) && has(part, "a=recvonly"), "{part:?}");
        assert!(
            has(part, "a=rtcp-mux") && has(part, "a=setup:passive"),
            "{part:?}"
        );
        assert!(
            !part.iter().any(|line| line.starts_with("a=msid:")),
            "{part:?}"
        );
    }
    let candidates = audio.iter().filter(|line| line.starts_with("a=candidate:"));
    assert_eq!(candidates.count(), 2, "all of them: {audio:?}");
    assert!(has(audio, "a=end-of-candidates"), "{audio:?}");
}

#[test]
fn a_participant_that_only_receives_video_is_sent_a_stream() {
    let offer = offered(PARTICIPANT);
    let parts = answered(&offer, send);
    let [session, video] = &parts[..] else {
        panic!("one section: {parts:?}");
    };
    assert!(has(session, "a=group:BUNDLE 0"), "{session:?}");
    assert!(video[0].starts_with("m=video 3478 "), "{video:?}");
    assert!(
        has(video, "a=mid:0") && has(video, "a=sendonly"),
        "{video:?}"
    );
    assert!(has(video, "a=msid:broadcast video"), "{video:?}");
    assert!(has(video, "a=end-of-candidates"), "{video:?}");
}

#[test]
fn a_participant_with_sound_and_picture_is_sent_one_stream() {
    let offer = offered(BOTH);
    let parts = answered(&offer, send);
    let [session, audio, video] = &parts[..] else {
        panic!("two sections: {parts:?}");
    };
    assert!(has(session, "a=group:BUNDLE 0 1"), "{session:?}");
    assert!(has(audio, "a=sendonly") && has(video, "a=sendonly"));
    assert!(has(audio, "a=msid:broadcast audio"), "{audio:?}");
    assert!(has(video, "a=msid:broadcast video"), "{video:?}");
}
