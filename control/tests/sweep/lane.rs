//! A worker's handshakes: DTLS itself, or a stand-in of one round trip with the same inputs and outputs, for worlds
//! with so many connections that there would be time for nothing else.
//!
//! The stand-in's datagrams are DTLS by their first byte (RFC 7983), so that the engine treats them as such:
//! `22 fingerprint` from a client, which repeats it, `22 seed` in answer, and `21` for goodbye, both ways.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use dataplane::command::{Command, Fingerprint, MasterKey, SrtpKeys, SrtpProfile};
use dataplane::dtls::{Associations, Certificate};
use dataplane::event::{CloseReason, DtlsInput};
use dataplane::id::SessionId;
use dataplane::limits::HANDSHAKE_TIMEOUT;
use dataplane::sim::network::Rng;

const HELLO: u8 = 22;
const GOODBYE: u8 = 21;

/// Between a client's tries.
pub(crate) const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// Who makes the handshakes of a worker.
pub(crate) enum Lane {
    Real(Box<Associations>),
    StandIn(StandIn),
}

impl Lane {
    pub(crate) fn new(real: Option<&Certificate>, seed: u64) -> Lane {
        match real {
            Some(certificate) => {
                Lane::Real(Box::new(Associations::new(certificate.clone(), 1_000)))
            }
            None => Lane::StandIn(StandIn {
                sessions: BTreeMap::new(),
                waiting: BTreeSet::new(),
                commands: VecDeque::new(),
                rng: Rng::new(seed),
            }),
        }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: DtlsInput) {
        match self {
            Lane::Real(associations) => associations.handle_input(now, input),
            Lane::StandIn(stand_in) => stand_in.handle_input(now, input),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Lane::Real(associations) => associations.handle_timeout(now),
            Lane::StandIn(stand_in) => stand_in.handle_timeout(now),
        }
    }

    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        match self {
            Lane::Real(associations) => associations.poll_command(),
            Lane::StandIn(stand_in) => stand_in.commands.pop_front(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Lane::Real(associations) => associations.poll_timeout(),
            Lane::StandIn(stand_in) => stand_in.poll_timeout(),
        }
    }

    /// Goes on with those of `before` whose handshake is done and that are carried, as another process would.
    pub(crate) fn restore(&mut self, now: Instant, before: Lane, carried: &BTreeSet<SessionId>) {
        match (self, before) {
            (Lane::Real(associations), Lane::Real(before)) => {
                for (session, snapshot) in before.snapshot() {
                    let is_whole = associations.restore(now, session, snapshot);
                    assert!(is_whole, "{session:?} was written down a moment ago");
                    assert!(carried.contains(&session), "{session:?} has keys");
                }
            }
            (Lane::StandIn(stand_in), Lane::StandIn(before)) => {
                let is_up = |(_, half): &(SessionId, Half)| matches!(half, Half::Up { .. });
                stand_in.sessions = before.sessions.into_iter().filter(is_up).collect();
                let known: BTreeSet<SessionId> = stand_in.sessions.keys().copied().collect();
                assert_eq!(known, *carried, "whoever has keys goes on");
            }
            _ => unreachable!("handshakes of a world are of one kind"),
        }
    }

    /// Sessions that it knows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Lane::Real(associations) => associations.len(),
            Lane::StandIn(stand_in) => stand_in.sessions.len(),
        }
    }
}

/// The stand-in.
pub(crate) struct StandIn {
    sessions: BTreeMap<SessionId, Half>,
    /// When handshakes are given up, if they are not over by then.
    waiting: BTreeSet<(Instant, SessionId)>,
    commands: VecDeque<Command>,
    rng: Rng,
}

/// Our half of a handshake.
enum Half {
    Waiting {
        fingerprints: Vec<Fingerprint>,
        until: Instant,
    },
    Up {
        seed: u64,
    },
}

impl StandIn {
    fn handle_input(&mut self, now: Instant, input: DtlsInput) {
        match input {
            DtlsInput::Open { session, spec } => {
                let until = now + HANDSHAKE_TIMEOUT;
                let half = Half::Waiting {
                    fingerprints: spec.fingerprints,
                    until,
                };
                self.waiting.insert((until, session));
                self.sessions.insert(session, half);
            }
            DtlsInput::Datagram { session, bytes } => self.on_datagram(session, &bytes),
            DtlsInput::Close { session } => {
                if let Some(Half::Up { .. }) = self.sessions.remove(&session) {
                    self.transmit(session, vec![GOODBYE]);
                }
            }
            // There are no data channels without DTLS.
            DtlsInput::OpenData { .. } | DtlsInput::Data { .. } => {}
        }
    }

    fn on_datagram(&mut self, session: SessionId, bytes: &[u8]) {
        match (bytes.split_first(), self.sessions.get(&session)) {
            (Some((&HELLO, said)), Some(Half::Waiting { fingerprints, .. })) => {
                let known = fingerprints.iter().any(
                    |known| matches!(known, Fingerprint::Sha256(digest) if digest[..] == *said),
                );
                if !known {
                    self.close(session, CloseReason::FingerprintMismatch);
                    return;
                }
                let seed = self.rng.next_u64();
                self.sessions.insert(session, Half::Up { seed });
                self.transmit(session, hello(seed));
                let keys = Box::new(keys(seed));
                self.commands
                    .push_back(Command::DtlsConnected { session, keys });
            }
            (Some((&HELLO, _)), Some(Half::Up { seed })) => {
                let seed = *seed;
                self.transmit(session, hello(seed));
            }
            (Some((&GOODBYE, _)), Some(Half::Up { .. })) => {
                self.close(session, CloseReason::PeerClosed);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some((until, session)) = self.waiting.first().copied()
            && until <= now
        {
            self.waiting.pop_first();
            let half = self.sessions.get(&session);
            if matches!(half, Some(Half::Waiting { until: its, .. }) if *its == until) {
                self.close(session, CloseReason::HandshakeFailed);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first().map(|(until, _)| *until)
    }

    fn close(&mut self, session: SessionId, reason: CloseReason) {
        self.sessions.remove(&session);
        self.commands
            .push_back(Command::DtlsClosed { session, reason });
    }

    fn transmit(&mut self, session: SessionId, bytes: Vec<u8>) {
        let bytes = bytes.into_boxed_slice();
        self.commands
            .push_back(Command::DtlsTransmit { session, bytes });
    }
}

/// The client's side of the stand-in.
#[derive(Debug)]
pub(crate) enum Hello {
    /// It is said again then.
    Saying(Instant),
    Done,
    /// A real handshake is made instead.
    Real,
}

/// What a client says first.
pub(crate) fn client_hello(fingerprint: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![HELLO];
    bytes.extend_from_slice(fingerprint);
    bytes
}

/// What a client says last.
pub(crate) fn goodbye() -> Vec<u8> {
    vec![GOODBYE]
}

/// What a datagram says to a client.
pub(crate) enum Word {
    Keys(Box<SrtpKeys>),
    Goodbye,
}

/// Reads what was said to a client.
pub(crate) fn read(datagram: &[u8]) -> Option<Word> {
    match datagram {
        [HELLO, seed @ ..] => {
            let SrtpKeys {
                profile,
                receive,
                send,
            } = keys(u64::from_be_bytes(seed.try_into().ok()?));
            // What we send is what they receive.
            let keys = SrtpKeys {
                profile,
                receive: send,
                send: receive,
            };
            Some(Word::Keys(Box::new(keys)))
        }
        [GOODBYE] => Some(Word::Goodbye),
        _ => None,
    }
}

fn hello(seed: u64) -> Vec<u8> {
    let mut bytes = vec![HELLO];
    bytes.extend_from_slice(&seed.to_be_bytes());
    bytes
}

/// The node's keys of a session.
fn keys(seed: u64) -> SrtpKeys {
    let mut rng = Rng::new(seed);
    let (profile, key, salt) = if rng.chance(0.1) {
        (SrtpProfile::Aes128CmHmacSha1_80, 16, 14)
    } else {
        (SrtpProfile::AeadAes128Gcm, 16, 12)
    };
    let mut bytes = |len: usize| -> Vec<u8> { (0..len).map(|_| rng.next_u32() as u8).collect() };
    let mut master = || MasterKey {
        key: bytes(key),
        salt: bytes(salt),
    };
    SrtpKeys {
        profile,
        receive: master(),
        send: master(),
    }
}
