//! Two peers back to back, without an engine.

use super::*;
use crate::command::{DtlsRole, Fingerprint};
use crate::sim::network::{Link, LinkSpec};
use crate::sim::source::{Shape, Synthetic};

const ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        5_000,
    ),
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
        5_000,
    ),
];

struct Couple {
    now: Instant,
    peers: [Peer; 2],
    links: [Link<Vec<u8>>; 2],
}

#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
fn couple(network: LinkSpec) -> Couple {
    let now = Instant::now();
    let certificates = [(); 2].map(|()| Certificate::generate().unwrap());
    let peer = |own: usize, role: DtlsRole| {
        let other = 1 - own;
        let (ufrag, pwd) = (
            |i: usize| format!("ufrag{i}"),
            |i: usize| format!("{i:0>24}"),
        );
        let config = PeerConfig {
            ice: PeerIce {
                local_ufrag: ufrag(own),
                local_pwd: pwd(own),
                remote_ufrag: ufrag(other),
                remote_pwd: pwd(other),
            },
            dtls: DtlsSpec {
                role,
                fingerprints: vec![Fingerprint::Sha256(certificates[other].fingerprint())],
            },
            certificate: certificates[own].clone(),
            epoch: now,
            seed: own as u64,
            cname: format!("peer{own}"),
            report_interval: Duration::from_secs(1),
        };
        Peer::new(now, config)
    };
    let peers = [peer(0, DtlsRole::Client), peer(1, DtlsRole::Server)];
    Couple {
        now,
        peers,
        links: [Link::new(network, 3), Link::new(network, 4)],
    }
}

impl Couple {
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for (from, address) in ADDRESSES.into_iter().enumerate() {
                while let Some(datagram) = self.links[from].poll_datagram(self.now) {
                    self.peers[1 - from].handle_datagram(self.now, address, &datagram);
                }
            }
            for from in 0..2 {
                self.peers[from].handle_timeout(self.now);
                while let Some(datagram) = self.peers[from].poll_transmit() {
                    self.links[from].handle_datagram(self.now, datagram.len(), datagram);
                }
            }
            let due = self.peers.iter().filter_map(Peer::poll_timeout);
            let due = due
                .chain(self.links.iter().filter_map(Link::poll_timeout))
                .min();
            self.now = due.unwrap_or(end).max(self.now + Duration::from_micros(1));
        }
    }
}

fn publish_video(couple: &mut Couple) {
    let spec = PublicationSpec {
        ssrc: 77,
        rtx: Some((78, 97)),
        payload_type: 96,
        clock_rate: 90_000,
        mid: Some((1, Mid::new(b"v").unwrap())),
        rid: None,
        audio_level: None,
        first_sequence: 65_500,
        first_timestamp: u32::MAX - 5_000,
    };
    couple.peers[1].receive(ReceptionSpec {
        ssrc: 77,
        payload_type: 96,
        rtx: Some((78, 97)),
        clock_rate: 90_000,
        mid: spec.mid,
        nack: true,
        pli: true,
    });
    couple.peers[0].publish(couple.now, spec, Box::new(Synthetic::new(9, Shape::VIDEO)));
}

#[test]
fn two_peers_on_a_good_network_lose_nothing() {
    let mut couple = couple(LinkSpec::default());
    publish_video(&mut couple);
    couple.run_for(Duration::from_secs(10));
    assert!(
        couple
            .peers
            .iter()
            .all(|peer| peer.connected_at().is_some())
    );
    let reception = couple.peers[1].reception(77).unwrap();
    let counts = reception.counts();
    assert!(counts.frames >= 290, "{counts:?}");
    assert_eq!(
        (reception.lost(), counts.duplicates, counts.freezes),
        (0, 0, 0)
    );
    assert_eq!(
        (
            counts.timestamp_errors,
            counts.format_errors,
            counts.damaged
        ),
        (0, 0, 0)
    );
    assert_eq!(counts.latency_min, Some(LinkSpec::default().latency));
    assert!(counts.latency_max < LinkSpec::default().latency + Duration::from_millis(1));
    assert!(counts.sender_reports >= 8);
    assert_eq!(couple.peers[1].counts().unreadable, 0);
    assert!(couple.peers[0].publication(77).unwrap().reports >= 8);
}

#[test]
fn retransmission_repairs_a_bad_network() {
    let mut couple = couple(LinkSpec {
        loss: 0.05,
        ..LinkSpec::default()
    });
    publish_video(&mut couple);
    couple.run_for(Duration::from_secs(60));
    let reception = couple.peers[1].reception(77).unwrap();
    let counts = reception.counts();
    assert!(counts.recovered > 200, "{counts:?}");
    assert!(
        reception.lost() <= 10,
        "{} lost, {counts:?}",
        reception.lost()
    );
    assert!(counts.frames > 1_700, "{counts:?}");
}

#[test]
fn a_goodbye_is_heard() {
    let mut couple = couple(LinkSpec::default());
    couple.run_for(Duration::from_secs(2));
    let now = couple.now;
    couple.peers[0].handle_close(now);
    couple.run_for(Duration::from_secs(1));
    assert_eq!(couple.peers[1].closed(), Some(CloseReason::PeerClosed));
}
