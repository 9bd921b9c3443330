//! Recorded offers of real clients: what we read in them, and what we answer.
//!
//! `tests/offers/README.md` says where each comes from.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers may panic as the test itself may"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use signaling::sdp::{Codec, Fingerprint, Offer, OfferError, Section, fuzz};

/// Offers that are refused, and why.
const REFUSED: [&str; 1] = ["gstreamer-webrtcbin-unbundled"];

/// The recorded offers by name, in order.
fn recorded() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/offers");
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let offers = files.filter(|path| path.extension().is_some_and(|extension| extension == "sdp"));
    let mut offers: Vec<(String, String)> = offers
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    offers.sort();
    assert!(
        offers.len() >= 20,
        "the recorded offers are in {}",
        folder.display()
    );
    offers
}

fn of(name: &str) -> String {
    recorded()
        .into_iter()
        .find(|(other, _)| other == name)
        .unwrap()
        .1
}

#[test]
fn recorded_offers_are_read_and_answered() {
    for (name, text) in recorded() {
        let snapshot = match Offer::parse(&text) {
            Ok(offer) => {
                assert!(!REFUSED.contains(&name.as_str()), "{name}");
                let answer = fuzz::accept_all(&offer).to_sdp(&offer);
                assert!(fuzz::offer(&text));
                format!("{}\n{}", summary(&offer), answer.replace("\r\n", "\n"))
            }
            Err(error) => {
                assert!(REFUSED.contains(&name.as_str()), "{name}: {error}");
                format!("refused: {error}\n")
            }
        };
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, snapshot);
        });
    }
}

fn summary(offer: &Offer) -> String {
    let hashes: Vec<&str> = offer
        .fingerprints
        .iter()
        .map(|fingerprint| match fingerprint {
            Fingerprint::Sha256(_) => "sha-256",
            Fingerprint::Sha384(_) => "sha-384",
            Fingerprint::Sha512(_) => "sha-512",
        })
        .collect();
    let mut text = format!(
        "ufrag {}, {}, {}, bundle {:?}, mixed {}\n",
        offer.ice.ufrag,
        offer.setup.as_str(),
        hashes.join(" "),
        offer.bundle,
        offer.extmap_allow_mixed
    );
    for section in &offer.sections {
        text += &section_summary(section);
    }
    text
}

fn section_summary(section: &Section) -> String {
    let rejected = if section.rejected { " (rejected)" } else { "" };
    let mut text = format!(
        "{} {:?} {}{rejected} sources {:?} msid {:?}\n",
        section.mid,
        section.kind,
        section.direction.as_str(),
        section.sources,
        section.msid
    );
    for Codec {
        payload_type,
        name,
        clock_rate,
        channels,
        fmtp,
        rtx,
        feedback,
    } in &section.codecs
    {
        let rtx = rtx.map_or(String::new(), |rtx| format!(" rtx {rtx}"));
        let feedback = feedback.join(", ");
        let _ = writeln!(
            text,
            "    {payload_type} {name}/{clock_rate}/{channels}{rtx} [{fmtp}] [{feedback}]"
        );
    }
    for extension in &section.extensions {
        let _ = writeln!(text, "    {} {}", extension.id, extension.uri);
    }
    text
}

/// Whether each text is refused with a sentence that holds its piece, no two with the same.
fn assert_refused(cases: &[(String, &str)]) {
    let mut sentences = std::collections::BTreeSet::new();
    for (text, piece) in cases {
        let error = Offer::parse(text).expect_err(piece).to_string();
        assert!(error.contains(piece), "expected `{piece}`, got `{error}`");
        assert!(
            sentences.insert(error.clone()),
            "`{error}` is said of two mistakes"
        );
    }
}

/// A good offer with one edit.
fn edited(from: &str, to: &str) -> String {
    let good = of("chromium-sendrecv");
    assert!(good.contains(from), "{from}");
    good.replace(from, to)
}

/// A good offer without the attributes of a name.
fn without(name: &str) -> String {
    let good = of("chromium-sendrecv");
    let kept = good
        .lines()
        .filter(|line| !line.starts_with(&format!("a={name}")));
    kept.collect::<Vec<_>>().join("\r\n")
}

#[test]
fn t_12_texts_that_are_no_offer_are_refused_with_a_sentence() {
    let good = of("chromium-sendrecv");
    let section = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
    assert_refused(&[
        (String::new(), "is empty"),
        ("v=0\r\n".repeat(60_000), "at most 262144"),
        (
            good.split("m=audio").next().unwrap().to_owned(),
            "has no `m=` section",
        ),
        (
            "v=0\r\n".to_owned() + &section.repeat(8_000),
            "8000 `m=` sections: at most 256",
        ),
        (
            edited("s=-", "this is no SDP"),
            "line 3 of the offer, `this is no SDP`",
        ),
        (
            edited("t=0 0", "t=0 0\u{7}"),
            "line 4 of the offer holds a control character",
        ),
        (
            edited("a=mid:0", "a=mid:a\rb=c"),
            "holds a control character",
        ),
        (edited("m=video", "m=smell"), "does not read as SDP"),
        (
            edited("a=mid:1", "a=mid:0"),
            "two sections have the mid `0`",
        ),
        (edited("a=mid:1", "a=mid:1 2"), "`a=mid:1 2` is not a mid"),
        (
            edited("a=mid:1", "a=mid:longer-than-16-characters"),
            "is not a mid",
        ),
        (
            good.replace("m=audio 36634", "m=audio 0")
                .replace("m=video 47244", "m=video 0"),
            "every section of the offer is rejected",
        ),
    ]);
}

#[test]
fn t_11_and_t_12_transports_that_cannot_be_served_are_refused_with_a_sentence() {
    let good = of("chromium-sendrecv");
    let fingerprint = good
        .lines()
        .find(|line| line.starts_with("a=fingerprint"))
        .unwrap();
    assert_refused(&[
        (without("ice-pwd"), "has no ICE credentials"),
        (
            edited("a=ice-pwd:", "a=ice-pwd:!"),
            "the ICE credentials of section `0` are malformed",
        ),
        (without("setup"), "has no `a=setup`"),
        (
            edited("setup:actpass", "setup:holdconn"),
            "`a=setup:holdconn` cannot be answered",
        ),
        (without("fingerprint"), "has no `a=fingerprint`"),
        (
            edited(fingerprint, "a=fingerprint:sha-1 AB:CD"),
            "by a sha-1 fingerprint only",
        ),
        (
            edited(fingerprint, "a=fingerprint:sha-256 AB:CD"),
            "is malformed: a hash's name",
        ),
        (without("rtcp-mux"), "has no `a=rtcp-mux`"),
    ]);
}

#[test]
fn t_12_codecs_and_sources_that_conflict_are_refused_with_a_sentence() {
    let good = of("chromium-sendrecv");
    assert_refused(&[
        (
            edited("SAVPF 111 63", "SAVPF 111 128"),
            "`128` in section `0` is not a payload type",
        ),
        (
            edited("SAVPF 111 63", "SAVPF 111 111"),
            "lists payload type 111 twice",
        ),
        (
            edited("a=rtpmap:63 red", "a=rtpmap:111 red"),
            "maps payload type 111 to two codecs",
        ),
        (
            edited("apt=102", "apt=96"),
            "the `apt` of payload type 103 conflicts",
        ),
        (
            edited("apt=96", "apt=97"),
            "the `apt` of payload type 97 conflicts",
        ),
        (
            edited("a=extmap:4 ", "a=extmap:0 "),
            "is malformed: an id from 1",
        ),
        (
            edited("a=extmap:4 ", "a=extmap:2 "),
            "maps header extension id 2 twice",
        ),
        (good.clone() + "a=ssrc:1 msid:s other\r\n", "Plan B"),
        (
            good.clone() + "a=ssrc:x cname:y\r\n",
            "`x` in section `1` is not an SSRC",
        ),
        (
            good + &(0..70)
                .map(|n| format!("a=ssrc:{n} cname:y\r\n"))
                .collect::<String>(),
            "more SSRCs than one track has",
        ),
    ]);
}

#[test]
fn one_transport_is_enough_and_several_are_refused() {
    let good = of("chromium-sendrecv").replace("a=group:BUNDLE 0 1\r\n", "");
    let offer = Offer::parse(&good).unwrap();
    let answer = fuzz::accept_all(&offer).to_sdp(&offer);
    assert!(!answer.contains("a=group"), "no group was offered");
    assert_eq!(
        answer.matches("a=end-of-candidates").count(),
        2,
        "each section stands for itself"
    );

    let (audio, video) = good.split_once("m=video").unwrap();
    let two = format!(
        "{audio}m=video{}",
        video.replace("a=ice-ufrag:", "a=ice-ufrag:x")
    );
    assert_eq!(
        Offer::parse(&two),
        Err(OfferError::Unbundled("0".into(), "1".into()))
    );
    assert!(
        Offer::parse(audio).is_ok(),
        "a single section needs no group"
    );
}

#[test]
fn the_session_speaks_for_its_sections() {
    let good = of("chromium-sendrecv");
    let shared = [
        "a=ice-ufrag",
        "a=ice-pwd",
        "a=fingerprint",
        "a=setup",
        "a=extmap:4 ",
    ];
    let is_shared = |line: &str| shared.iter().any(|name| line.starts_with(name));
    let mut moved: Vec<&str> = good
        .lines()
        .filter(|line| is_shared(line))
        .take(5)
        .collect();
    let rest: Vec<&str> = good.lines().filter(|line| !is_shared(line)).collect();
    let at = rest.iter().position(|line| line.starts_with("m=")).unwrap();
    let mut lines = rest[..at].to_vec();
    lines.append(&mut moved);
    lines.extend(&rest[at..]);
    let mut offer = Offer::parse(&lines.join("\r\n")).unwrap();
    let mut expected = Offer::parse(&good).unwrap();
    for section in offer.sections.iter_mut().chain(&mut expected.sections) {
        section.extensions.sort_by_key(|extension| extension.id);
    }
    assert_eq!(offer, expected);
}

#[test]
fn a_bandwidth_in_an_odd_place_does_not_matter() {
    let good = of("chromium-sendrecv");
    let limited = good.replace("a=mid:1\r\n", "a=mid:1\r\nb=AS:500\r\n");
    assert_eq!(Offer::parse(&limited), Offer::parse(&good));
}

#[test]
fn a_rejected_section_keeps_its_place() {
    let text = of("chromium-data-channel");
    // The form of drafts, and what is not data channels at all.
    for (from, to, line) in [
        ("UDP/DTLS/SCTP", "DTLS/SCTP", "DTLS/SCTP webrtc-datachannel"),
        ("SCTP webrtc-datachannel", "SCTP 5000", "UDP/DTLS/SCTP 5000"),
        ("UDP/DTLS/SCTP", "UDP/DTLS", "UDP/DTLS webrtc-datachannel"),
        (
            "sctp-port:5000",
            "sctp-port:0",
            "UDP/DTLS/SCTP webrtc-datachannel",
        ),
    ] {
        let offer = Offer::parse(&text.replace(from, to)).unwrap();
        let answer = fuzz::accept_all(&offer).to_sdp(&offer);
        assert!(answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
        let rejected = format!("m=application 0 {line}\r\n");
        assert!(answer.contains(&rejected), "{answer}");
        assert!(!answer.contains("a=sctp-port"), "{answer}");
    }
    let offer = Offer::parse(&text).unwrap();
    let mut none = fuzz::accept_all(&offer);
    none.sections.clear();
    assert_eq!(none.to_sdp(&offer).matches("m=").count(), 3);
}

#[test]
fn data_channels_are_answered_in_the_bundle_or_alone() {
    for (name, most) in [
        ("chromium-data-channel", 262_144),
        ("firefox-data-channel", 1_073_741_823),
    ] {
        let text = of(name);
        let offer = Offer::parse(&text).unwrap();
        let data = offer.sections[2].data.unwrap();
        assert_eq!(data.message_bytes_max, most);
        let answer = fuzz::accept_all(&offer).to_sdp(&offer);
        assert!(answer.contains("a=group:BUNDLE 0 1 2\r\n"), "{answer}");
        let section = answer.split("m=application 3478 ").nth(1).unwrap();
        assert!(section.contains("a=mid:2\r\na=sctp-port:5000\r\na=max-message-size:65536\r\n"));
        assert!(!section.contains("a=rtcp-mux"));

        // Without audio and video, and over TCP.
        let start = text.find("m=audio").unwrap();
        let session = text[..start].replace("BUNDLE 0 1 2", "BUNDLE 2");
        let data = &text[text.find("m=application").unwrap()..];
        let alone = format!("{session}{data}").replace("UDP/DTLS", "TCP/DTLS");
        let offer = Offer::parse(&alone).unwrap();
        let answer = fuzz::accept_all(&offer).to_sdp(&offer);
        assert!(answer.contains("a=group:BUNDLE 2\r\n"), "{answer}");
        assert!(answer.contains("m=application 3478 TCP/DTLS/SCTP webrtc-datachannel\r\n"));
        assert!(answer.contains("a=candidate:"), "{answer}");
    }
}

#[test]
fn data_channels_with_a_transport_of_their_own_go_without() {
    let text = of("chromium-data-channel").replace("BUNDLE 0 1 2", "BUNDLE 0 1");
    let same = Offer::parse(&text).unwrap();
    assert!(same.sections[2].data.is_some(), "the same ICE session");
    let at = text.find("m=application").unwrap();
    let (media, data) = text.split_at(at);
    let other = format!(
        "{media}{}",
        data.replace("ice-ufrag:E3J2", "ice-ufrag:othr")
    );
    let offer = Offer::parse(&other).unwrap();
    assert_eq!(offer.sections[2].data, None);
    assert_eq!(offer.ice.ufrag, "E3J2");
}

#[test]
fn what_a_client_takes_is_read() {
    for (line, most) in [
        ("", 65_536),
        ("a=max-message-size:0\r\n", u32::MAX),
        ("a=max-message-size:1000\r\n", 1_000),
        ("a=max-message-size:lots\r\n", 65_536),
    ] {
        let text = of("chromium-data-channel");
        let text = text
            .replace("\r\n", "\n")
            .replace("a=max-message-size:262144\n", line);
        let offer = Offer::parse(&text).unwrap();
        let data = offer.sections[2].data.unwrap();
        assert_eq!(data.message_bytes_max, most, "{line}");
    }
}

#[test]
fn preferences_choose_and_order_the_codecs() {
    let offer = Offer::parse(&of("safari-sendrecv")).unwrap();
    let names = |section: usize, preference: &[&str]| -> Vec<String> {
        let codecs = offer.sections[section].answerable_codecs(preference);
        codecs.into_iter().map(|codec| codec.name).collect()
    };
    let h264 = ["H264"; 4];
    assert_eq!(
        names(1, &[]),
        [&["VP8", "VP9"][..], &h264, &["AV1", "H265"]].concat()
    );
    assert_eq!(names(1, &["H265", "h264"]), [&["H265"][..], &h264].concat());
    assert_eq!(names(0, &[]), ["opus", "red", "G722", "PCMU", "PCMA"]);
    assert_eq!(names(0, &["red", "opus"]), ["red", "opus"]);
    assert!(names(0, &["red"]).is_empty(), "RED goes only with its Opus");
}

/// A small generator, so that a seed repeats its mutations everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        usize::try_from(mixed >> 33).unwrap() % bound.max(1)
    }

    /// One edit of the kinds that trip parsers: lines lost, doubled, moved or cut, words of
    /// another line, numbers too large, odd characters.
    fn mutate(&mut self, lines: &mut Vec<String>, other: &[String]) {
        const WORDS: [&str; 12] = [
            "",
            " ",
            "-1",
            "0",
            "128",
            "4294967296",
            ":",
            "/",
            "é",
            "\t",
            "a=mid:0",
            "*",
        ];
        let at = self.below(lines.len());
        match self.below(7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let to = self.below(lines.len());
                lines.swap(at, to);
            }
            3 => lines.insert(at, other[self.below(other.len())].clone()),
            4 => {
                let keep = self.below(lines[at].len() + 1);
                lines[at] = lines[at].chars().take(keep).collect();
            }
            5 => {
                let place = self.below(lines[at].chars().count() + 1);
                let mut chars: Vec<char> = lines[at].chars().collect();
                chars.splice(place..place, WORDS[self.below(WORDS.len())].chars());
                lines[at] = chars.into_iter().collect();
            }
            _ => {
                let mut words: Vec<&str> = lines[at].split(' ').collect();
                let word = self.below(words.len());
                words[word] = WORDS[self.below(WORDS.len())];
                lines[at] = words.join(" ");
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
}

#[test]
fn t_12_mutated_offers_never_panic_and_are_answered_readably() {
    const SEED: u64 = 0x5eed_0ffe_4a11_ed00;
    const ROUNDS: usize = 150;
    let offers: Vec<Vec<String>> = recorded()
        .into_iter()
        .map(|(_, text)| text.lines().map(str::to_owned).collect())
        .collect();
    let mut random = Random(SEED);
    let (mut read, mut refused) = (0_usize, 0_usize);
    for original in &offers {
        for _ in 0..ROUNDS {
            let mut lines = original.clone();
            for _ in 0..=random.below(6) {
                let other = &offers[random.below(offers.len())];
                random.mutate(&mut lines, other);
            }
            let text = lines.join("\r\n");
            if fuzz::offer(&text) {
                read += 1;
            } else {
                refused += 1;
            }
            let _ = fuzz::fragment(&text);
        }
    }
    assert!(
        read > 500 && refused > 500,
        "both ways were tried: {read} read, {refused} refused"
    );
}
