//! Handshakes in virtual time, against ourselves and against the crate's bare client.

use std::sync::Arc;
use std::time::Duration;

use webrtc_dtls::cipher_suite::CipherSuiteId;
use webrtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use webrtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::*;
use crate::sim::network::{Link, LinkSpec};

mod attacks;
mod data;

/// Where virtual time begins.
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
fn start() -> Instant {
    Instant::now()
}

fn spec(role: DtlsRole, peer: &Certificate) -> DtlsSpec {
    DtlsSpec {
        role,
        fingerprints: vec![Fingerprint::Sha256(peer.fingerprint())],
    }
}

/// A client and a server with a network between them.
struct Pair {
    now: Instant,
    client: Association,
    server: Association,
    up: Link<Box<[u8]>>,
    down: Link<Box<[u8]>>,
    client_events: Vec<AssociationEvent>,
    server_events: Vec<AssociationEvent>,
}

impl Pair {
    fn new(network: LinkSpec, seed: u64) -> Pair {
        let (ours, theirs) = (
            Certificate::generate().unwrap(),
            Certificate::generate().unwrap(),
        );
        let now = start();
        let client = Association::new(now, &theirs, spec(DtlsRole::Client, &ours));
        let server = Association::new(now, &ours, spec(DtlsRole::Server, &theirs));
        Pair::of(now, client, server, network, seed)
    }

    fn of(
        now: Instant,
        client: Association,
        server: Association,
        network: LinkSpec,
        seed: u64,
    ) -> Pair {
        Pair {
            now,
            client,
            server,
            up: Link::new(network, seed),
            down: Link::new(network, seed ^ 0xff),
            client_events: Vec::new(),
            server_events: Vec::new(),
        }
    }

    /// Moves everything that is due, then time to the next thing; `false` when nothing is left.
    fn step(&mut self) -> bool {
        let now = self.now;
        while let Some(datagram) = self.up.poll_datagram(now) {
            self.server.handle_datagram(now, &datagram);
        }
        while let Some(datagram) = self.down.poll_datagram(now) {
            self.client.handle_datagram(now, &datagram);
        }
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        while let Some(datagram) = self.client.poll_transmit() {
            self.up.handle_datagram(now, datagram.len(), datagram);
        }
        while let Some(datagram) = self.server.poll_transmit() {
            self.down.handle_datagram(now, datagram.len(), datagram);
        }
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
        let next = [
            self.up.poll_timeout(),
            self.down.poll_timeout(),
            self.client.poll_timeout(),
            self.server.poll_timeout(),
        ];
        let Some(next) = next.into_iter().flatten().min() else {
            return false;
        };
        self.now = next.max(now);
        true
    }

    fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the two never come to rest");
    }

    fn keys(&self) -> Option<(&SrtpKeys, &SrtpKeys)> {
        match (self.client_events.first()?, self.server_events.first()?) {
            (AssociationEvent::Connected(client), AssociationEvent::Connected(server)) => {
                Some((client, server))
            }
            _ => None,
        }
    }

    fn connected(network: LinkSpec, seed: u64) -> Pair {
        let mut pair = Pair::new(network, seed);
        pair.run();
        assert!(
            pair.keys().is_some(),
            "{:?} {:?}",
            pair.client_events,
            pair.server_events
        );
        pair
    }
}

fn is_closed(events: &[AssociationEvent], expected: CloseReason) -> bool {
    matches!(events.last(), Some(AssociationEvent::Closed(reason)) if *reason == expected)
}

#[test]
fn both_sides_get_the_same_keys_crosswise() {
    let pair = Pair::connected(LinkSpec::default(), 1);
    let (client, server) = pair.keys().unwrap();
    assert_eq!(client.profile, SrtpProfile::AeadAes128Gcm);
    assert_eq!(client.profile, server.profile);
    assert_eq!(client.send.key, server.receive.key);
    assert_eq!(client.send.salt, server.receive.salt);
    assert_eq!(client.receive.key, server.send.key);
    assert_eq!(client.receive.salt, server.send.salt);
    assert_ne!(client.send.key, client.receive.key);
    assert_eq!((client.send.key.len(), client.send.salt.len()), (16, 12));
}

#[test]
fn a_bad_network_only_delays_it() {
    let network = LinkSpec {
        jitter: Duration::from_millis(5),
        loss: 0.15,
        reorder: 0.2,
        duplicate: 0.2,
        ..LinkSpec::default()
    };
    for seed in 0..20 {
        let pair = Pair::connected(network, seed);
        let (client, server) = pair.keys().unwrap();
        assert_eq!(client.send.key, server.receive.key, "seed {seed}");
    }
}

#[test]
fn a_dead_network_ends_it_in_time() {
    let mut pair = Pair::new(
        LinkSpec {
            loss: 1.0,
            ..LinkSpec::default()
        },
        1,
    );
    let began = pair.now;
    pair.run();
    assert!(is_closed(&pair.client_events, CloseReason::HandshakeFailed));
    assert!(is_closed(&pair.server_events, CloseReason::HandshakeFailed));
    assert!(pair.now - began <= HANDSHAKE_TIMEOUT);
}

#[test]
fn t_11_a_foreign_certificate_releases_no_key() {
    let ours = Certificate::generate().unwrap();
    let theirs = Certificate::generate().unwrap();
    let announced = Certificate::generate().unwrap();
    let now = start();

    // The client is not who its SDP said.
    let client = Association::new(now, &theirs, spec(DtlsRole::Client, &ours));
    let server = Association::new(now, &ours, spec(DtlsRole::Server, &announced));
    let mut pair = Pair::of(now, client, server, LinkSpec::default(), 3);
    pair.run();
    assert_eq!(pair.server_events.len(), 1, "{:?}", pair.server_events);
    assert!(is_closed(
        &pair.server_events,
        CloseReason::FingerprintMismatch
    ));
    let keys = |event: &AssociationEvent| matches!(event, AssociationEvent::Connected(_));
    assert!(!pair.client_events.iter().any(keys));

    // The server is not who its SDP said, and we are the client.
    let client = Association::new(now, &theirs, spec(DtlsRole::Client, &announced));
    let server = Association::new(now, &ours, spec(DtlsRole::Server, &theirs));
    let mut pair = Pair::of(now, client, server, LinkSpec::default(), 4);
    pair.run();
    assert_eq!(pair.client_events.len(), 1, "{:?}", pair.client_events);
    assert!(is_closed(
        &pair.client_events,
        CloseReason::FingerprintMismatch
    ));
}

#[test]
fn an_authenticated_close_notify_ends_it() {
    let mut pair = Pair::connected(LinkSpec::default(), 5);
    pair.client.handle_close(pair.now);
    pair.run();
    assert!(is_closed(&pair.server_events, CloseReason::PeerClosed));
    assert!(pair.client.is_closed() && pair.server.is_closed());
}

#[test]
fn t_05_plaintext_alerts_are_nothing_before_and_after() {
    let alerts: [&[u8]; 3] = [&[2, 40], &[1, 0], &[2, 0]];
    let forge = |pair: &mut Pair| {
        for (index, alert) in alerts.iter().enumerate() {
            let mut datagram = Vec::new();
            record::write_record(ALERT, (1 << 40) + index as u64, alert, &mut datagram);
            pair.client.handle_datagram(pair.now, &datagram);
            pair.server.handle_datagram(pair.now, &datagram);
        }
    };
    let mut pair = Pair::new(LinkSpec::default(), 6);
    for _ in 0..30 {
        forge(&mut pair);
        if !pair.step() {
            break;
        }
    }
    pair.run();
    assert!(
        pair.keys().is_some(),
        "{:?} {:?}",
        pair.client_events,
        pair.server_events
    );
    forge(&mut pair);
    pair.run();
    assert_eq!((pair.client_events.len(), pair.server_events.len()), (1, 1));
}

#[test]
fn t_03_a_hello_after_the_handshake_restarts_nothing() {
    let mut pair = Pair::connected(LinkSpec::default(), 7);
    let theirs = Certificate::generate().unwrap();
    let mut stranger = Association::new(pair.now, &theirs, spec(DtlsRole::Client, &theirs));
    let hello = stranger.poll_transmit().unwrap();
    for _ in 0..100 {
        pair.server.handle_datagram(pair.now, &hello);
        assert!(
            pair.server.poll_transmit().is_none(),
            "the forger gets no byte"
        );
    }
    pair.client.handle_close(pair.now);
    pair.run();
    assert!(
        is_closed(&pair.server_events, CloseReason::PeerClosed),
        "still the old association"
    );
}

#[test]
fn t_04_forged_hellos_do_not_keep_the_client_out() {
    let mut pair = Pair::new(LinkSpec::default(), 8);
    let stranger = Certificate::generate().unwrap();
    loop {
        // From the client's own address, without seeing our answers: a fresh hello, and one that
        // guesses a cookie, offering nothing.
        let mut forger = Association::new(pair.now, &stranger, spec(DtlsRole::Client, &stranger));
        let hello = forger.poll_transmit().unwrap();
        pair.server.handle_datagram(pair.now, &hello);
        let mut body = DTLS_NOTHING.to_vec();
        body.extend([7; 32]);
        body.extend([0, 20]);
        body.extend([1; 20]);
        body.extend([0, 2, 0, 0, 1, 0]);
        let mut null = Vec::new();
        Message {
            kind: CLIENT_HELLO,
            sequence: 1,
            body,
        }
        .write_record(1 << 47, &mut null);
        pair.server.handle_datagram(pair.now, &null);
        if !pair.step() {
            break;
        }
    }
    assert!(
        pair.keys().is_some(),
        "{:?} {:?}",
        pair.client_events,
        pair.server_events
    );
}

const DTLS_NOTHING: [u8; 2] = [0xfe, 0xfd];

/// The crate's bare client with a configuration of its own, run against our server to the end.
fn run_bare_client(configuration: ConfigBuilder, own: &Certificate) -> Vec<AssociationEvent> {
    run_bare_client_through(configuration, own, <[u8]>::to_vec)
}

/// The same, with somebody in between who changes what the client sends.
fn run_bare_client_through(
    configuration: ConfigBuilder,
    own: &Certificate,
    change: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<AssociationEvent> {
    let ours = Certificate::generate().unwrap();
    let mut now = start();
    let mut server = Association::new(now, &ours, spec(DtlsRole::Server, own));
    let configuration = configuration
        .with_crypto_provider(crypto_provider())
        .with_insecure_skip_verify(true)
        .with_server_name("webrtc".to_owned())
        .build(true, None)
        .unwrap();
    let mut client = Endpoint::new(PEER, TransportProtocol::UDP, None);
    client
        .connect(now, PEER, Arc::new(configuration), None)
        .unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        while let Some(transmit) = client.poll_transmit() {
            server.handle_datagram(now, &change(&transmit.message));
        }
        while let Some(datagram) = server.poll_transmit() {
            let _ = client.read(now, PEER, None, BytesMut::from(&datagram[..]));
        }
        events.extend(std::iter::from_fn(|| server.poll_event()));
        now += Duration::from_millis(100);
        server.handle_timeout(now);
        let _ = client.handle_timeout(PEER, now);
    }
    events
}

fn bare(own: &Certificate) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_certificates(vec![own.to_dtls()])
        .with_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
        ])
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        ])
}

fn profile(events: &[AssociationEvent]) -> Option<SrtpProfile> {
    match events {
        [AssociationEvent::Connected(keys)] => Some(keys.profile),
        _ => None,
    }
}

#[test]
fn our_order_of_profiles_wins() {
    let own = Certificate::generate().unwrap();
    assert_eq!(
        profile(&run_bare_client(bare(&own), &own)),
        Some(SrtpProfile::AeadAes128Gcm)
    );

    for (only, expected, key_len, salt_len) in [
        (
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProfile::AeadAes256Gcm,
            32,
            12,
        ),
        (
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProfile::Aes128CmHmacSha1_80,
            16,
            14,
        ),
    ] {
        let client = bare(&own).with_srtp_protection_profiles(vec![only]);
        let events = run_bare_client(client, &own);
        let [AssociationEvent::Connected(keys)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(keys.profile, expected);
        assert_eq!(
            (keys.send.key.len(), keys.send.salt.len()),
            (key_len, salt_len)
        );
    }
}

#[test]
fn a_hello_in_many_fragments_is_put_together() {
    let own = Certificate::generate().unwrap();
    let events = run_bare_client(bare(&own).with_mtu(50), &own);
    assert_eq!(profile(&events), Some(SrtpProfile::AeadAes128Gcm));
}

#[test]
fn t_11_and_t_19_what_is_not_good_enough_fails_closed() {
    let own = Certificate::generate().unwrap();
    let failed = |client: ConfigBuilder| {
        is_closed(&run_bare_client(client, &own), CloseReason::HandshakeFailed)
    };
    assert!(
        failed(bare(&own).with_certificates(Vec::new())),
        "no client certificate"
    );
    assert!(
        failed(bare(&own).with_srtp_protection_profiles(Vec::new())),
        "no use_srtp"
    );
    let cbc = vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_256_Cbc_Sha];
    assert!(failed(bare(&own).with_cipher_suites(cbc)), "CBC only");
    let no_ems = bare(&own).with_extended_master_secret(ExtendedMasterSecretType::Disable);
    assert!(failed(no_ems), "no extended master secret");
}

#[test]
fn t_18_random_records_never_panic_and_never_end_it() {
    let mut rng = crate::sim::network::Rng::new(9);
    for seed in 0..8 {
        let mut pair = Pair::new(LinkSpec::default(), seed);
        for _ in 0..seed {
            pair.step();
        }
        for _ in 0..500 {
            let len = rng.below(80) as usize;
            let mut datagram: Vec<u8> = (0..len).map(|_| rng.next_u32() as u8).collect();
            if let Some(first) = datagram.first_mut() {
                *first = 20 + (*first % 4);
            }
            pair.server.handle_datagram(pair.now, &datagram);
            pair.client.handle_datagram(pair.now, &datagram);
        }
        pair.run();
        assert!(pair.keys().is_some(), "seed {seed}");
    }
}

#[test]
fn a_lost_last_flight_is_sent_again_and_not_for_every_request() {
    let mut pair = Pair::new(LinkSpec::default(), 10);
    let mut from_client = Vec::new();
    // Until the server is done, whose last flight is lost.
    while pair.server_events.is_empty() {
        while let Some(datagram) = pair.client.poll_transmit() {
            pair.server.handle_datagram(pair.now, &datagram);
            from_client.push(datagram);
        }
        pair.server_events.extend(pair.server.poll_event());
        while let Some(datagram) = pair.server.poll_transmit() {
            if pair.server_events.is_empty() {
                pair.client.handle_datagram(pair.now, &datagram);
            }
        }
    }
    assert!(pair.client_events.is_empty());
    let last = from_client.last().unwrap();
    let mut answers = 0;
    for _ in 0..100 {
        pair.server.handle_datagram(pair.now, last);
        answers += std::iter::from_fn(|| pair.server.poll_transmit()).count();
    }
    assert_eq!(answers, 1, "a flood of requests is not a flood of answers");
    // The client asks again by itself.
    pair.now += Duration::from_secs(1);
    pair.run();
    let (client, server) = pair.keys().unwrap();
    assert_eq!(client.send.key, server.receive.key);
    // What was kept is enough to hear the end.
    pair.client.handle_close(pair.now);
    pair.run();
    assert!(is_closed(&pair.server_events, CloseReason::PeerClosed));
}

#[test]
fn what_is_kept_of_a_finished_handshake_is_small() {
    let pair = Pair::connected(LinkSpec::default(), 11);
    for association in [&pair.client, &pair.server] {
        let State::Connected(established) = &association.state else {
            panic!("not connected");
        };
        let kept = size_of::<Association>() + size_of::<Established>() + established.heap_bytes();
        assert!(kept < 768, "{kept} bytes");
        assert_eq!(association.transmits.capacity(), 0);
        assert_eq!(association.events.capacity(), 0);
    }
}

#[test]
fn a_slow_network_or_a_busy_server_only_delays_it() {
    for delay_ms in [300, 700, 1_200, 2_000] {
        let network = LinkSpec {
            latency: Duration::from_millis(delay_ms),
            ..LinkSpec::default()
        };
        let mut pair = Pair::new(network, 12);
        pair.run();
        assert!(
            pair.keys().is_some(),
            "{delay_ms} ms: {:?} {:?}",
            pair.client_events,
            pair.server_events
        );
    }
}
