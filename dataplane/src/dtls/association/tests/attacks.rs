//! What strangers send from the client's own address, and clients that are not who they say.

use super::*;
use crate::dtls::record::{APPLICATION_DATA, CERTIFICATE_VERIFY, CHANGE_CIPHER_SPEC};
use crate::limits::{ASSOCIATIONS_MAX, HANDSHAKE_FRAGMENT_BYTES_MAX};
use crate::sim::network::Rng;
use webrtc_dtls::crypto::Certificate as DtlsCertificate;

/// A record of any kind, version 1.2.
fn any_record(kind: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xfe, 0xfd];
    record.extend(epoch.to_be_bytes());
    record.extend(&number.to_be_bytes()[2..]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// Both ends of a handshake, both told the same lies at every step.
fn converges_among(mut lies: impl FnMut(u64) -> Vec<Vec<u8>>) {
    for seed in 0..4 {
        let mut pair = Pair::new(LinkSpec::default(), seed);
        for round in 0.. {
            for lie in lies(round) {
                pair.server.handle_datagram(pair.now, &lie);
                pair.client.handle_datagram(pair.now, &lie);
            }
            if !pair.step() || (pair.keys().is_some() && round > 100) {
                break;
            }
        }
        let (client, server) = pair.keys().unwrap_or_else(|| {
            panic!("{:?} {:?}", pair.client_events, pair.server_events);
        });
        assert_eq!(client.send.key, server.receive.key);
        pair.client.handle_close(pair.now);
        pair.run();
        assert!(is_closed(&pair.server_events, CloseReason::PeerClosed));
    }
}

#[test]
fn t_04_forged_encrypted_records_do_not_keep_the_client_out() {
    // A length that a Finished could have, and all others; 40 of them before each genuine datagram.
    converges_among(|round| {
        let record = |index: u64| {
            let kind = [HANDSHAKE, ALERT, APPLICATION_DATA][(index % 3) as usize];
            let len = if index < 20 { 40 } else { index as usize };
            any_record(kind, 1, round * 40 + index, &vec![0x5a; len])
        };
        (0..40).map(record).collect()
    });
}

#[test]
fn x_02_a_change_of_ciphers_that_calls_itself_encrypted_ends_nothing() {
    // rtc-dtls decrypts every record but this kind, and takes it as authentic.
    converges_among(|round| {
        let bodies: [&[u8]; 3] = [&[1], &[0xff; 40], &[2]];
        let forged = bodies.map(|body| any_record(CHANGE_CIPHER_SPEC, 1, round, body));
        forged.to_vec()
    });
}

#[test]
fn t_18_records_of_other_epochs_and_of_no_length_are_dropped() {
    converges_among(|round| {
        let mut lies: Vec<Vec<u8>> = (2..40)
            .map(|epoch| any_record(HANDSHAKE, epoch * 1_600, round, &[1; 40]))
            .collect();
        lies.extend((20..24).map(|kind| any_record(kind, 0, round, &[])));
        lies.extend((20..24).map(|kind| any_record(kind, 1, round, &[])));
        lies
    });
}

#[test]
fn x_03_encrypted_records_too_short_for_their_tag_are_dropped() {
    for with_data in [false, true] {
        let mut pair = Pair::connected(LinkSpec::default(), 5);
        if with_data {
            pair.server.handle_open_data(pair.now, 65_536);
        }
        for kind in 20..=24 {
            for len in 0..64 {
                let record = any_record(kind, 1, 1_000 + len, &vec![7; len as usize]);
                pair.server.handle_datagram(pair.now, &record);
            }
        }
        assert!(!pair.server.is_closed());
        pair.client.handle_close(pair.now);
        for _ in 0..10 {
            pair.step();
        }
        assert!(is_closed(&pair.server_events, CloseReason::PeerClosed));
    }
    // During the handshake too.
    converges_among(|round| {
        let records = (0..32).map(|len| any_record(HANDSHAKE, 1, round, &vec![7; len]));
        records.collect()
    });
}

#[test]
fn t_11_who_has_a_certificate_and_not_its_key_gets_no_key() {
    let victim = Certificate::generate().unwrap();
    let own = Certificate::generate().unwrap();
    let stolen = DtlsCertificate {
        certificate: victim.to_dtls().certificate,
        private_key: own.to_dtls().private_key,
    };
    let client = || bare(&victim).with_certificates(vec![stolen.clone()]);
    let signed_wrongly = run_bare_client(client(), &victim);
    assert!(is_closed(&signed_wrongly, CloseReason::HandshakeFailed));
    assert_eq!(profile(&signed_wrongly), None);

    let is_proof = |record: &Record<'_>| {
        record.epoch == 0
            && record.content_type == HANDSHAKE
            && record.body.first() == Some(&CERTIFICATE_VERIFY)
    };
    let without_proof = |datagram: &[u8]| -> Vec<u8> {
        let kept = records(datagram).filter(|record| !is_proof(record));
        kept.flat_map(|record| record.bytes.to_vec()).collect()
    };
    let unsigned = run_bare_client_through(client(), &victim, without_proof);
    assert!(is_closed(&unsigned, CloseReason::HandshakeFailed));
    assert_eq!(profile(&unsigned), None);
}

#[test]
fn t_18_half_open_handshakes_take_bounded_memory() {
    let now = start();
    let own = Certificate::generate().unwrap();
    let mut rng = Rng::new(18);
    // What ten thousand could take together is what one can, ten thousand times.
    let mut most = 0;
    for _ in 0..50 {
        let mut server = Association::new(now, &own, spec(DtlsRole::Server, &own));
        for _ in 0..400 {
            let length = HANDSHAKE_FRAGMENT_BYTES_MAX;
            let offset = rng.below(length as u64) as usize;
            let part = (length - offset).min(1_100);
            let [_, _, l1, l2] = (length as u32).to_be_bytes();
            let [_, o0, o1, o2] = (offset as u32).to_be_bytes();
            let [_, _, p1, p2] = (part as u32).to_be_bytes();
            let sequence = rng.below(2) as u8;
            let mut body = vec![1, 0, l1, l2, 0, sequence, o0, o1, o2, 0, p1, p2];
            body.resize(12 + part, 0);
            server.handle_datagram(now, &any_record(HANDSHAKE, 0, 0, &body));
            while server.poll_transmit().is_some() {}
        }
        let State::Greeting { reassembly, .. } = &server.state else {
            panic!("no hello was whole");
        };
        most = most.max(size_of::<Association>() + reassembly.held_bytes());
    }
    assert!(most > 4_000, "{most}: some of it was kept");
    let all = most * ASSOCIATIONS_MAX;
    assert!(
        all < 100 << 20,
        "{all} bytes for all that a worker may have"
    );
}
