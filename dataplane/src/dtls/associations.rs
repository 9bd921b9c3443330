//! All associations of one owner, without IO: what a handshake thread drives, and the simulator.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::association::{Association, AssociationEvent, AssociationSnapshot};
use super::certificates::Certificates;
use crate::command::{Command, DtlsSpec};
use crate::data::DataDrops;
use crate::event::{CloseReason, DtlsInput};
use crate::id::SessionId;
use crate::limits::DATA_DROPS_INTERVAL;

/// The associations, by session.
///
/// Call order: any `handle_*`, then drain `poll_command`, then wait until `poll_timeout` or the
/// next input.
pub struct Associations {
    certificates: Certificates,
    count_max: usize,
    associations: HashMap<SessionId, Entry>,
    deadlines: BTreeSet<(Instant, SessionId)>,
    commands: VecDeque<Command>,
    /// What the data channels of all of them dropped, and when that is told.
    drops: DataDrops,
    drops_due: Option<Instant>,
}

struct Entry {
    association: Association,
    /// What `deadlines` holds for it.
    deadline: Option<Instant>,
}

impl Associations {
    /// None yet, and at most `count_max` at once.
    #[must_use]
    pub fn new(certificates: impl Into<Certificates>, count_max: usize) -> Associations {
        Associations {
            certificates: certificates.into(),
            count_max,
            associations: HashMap::new(),
            deadlines: BTreeSet::new(),
            commands: VecDeque::new(),
            drops: DataDrops::default(),
            drops_due: None,
        }
    }

    /// Takes what an engine gave. A datagram for a session that is not open is ignored: it closed
    /// while the datagram was on its way.
    pub fn handle_input(&mut self, now: Instant, input: DtlsInput) {
        match input {
            DtlsInput::Open { session, spec } => self.open(now, session, spec),
            DtlsInput::Datagram { session, bytes } => self.drive(now, session, |association| {
                association.handle_datagram(now, &bytes);
            }),
            DtlsInput::OpenData {
                session,
                message_bytes_max,
            } => self.drive(now, session, |association| {
                association.handle_open_data(now, message_bytes_max);
            }),
            DtlsInput::Data { session, request } => self.drive(now, session, |association| {
                association.handle_data(now, *request);
            }),
            DtlsInput::Close { session } => {
                self.drive(now, session, |association| association.handle_close(now));
            }
        }
    }

    /// What another process goes on with: those whose handshake is done.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(SessionId, AssociationSnapshot)> {
        let done = self.associations.iter();
        done.filter_map(|(session, entry)| Some((*session, entry.association.snapshot()?)))
            .collect()
    }

    /// Goes on with a session's association where another process ended; `false` when nothing can be made of it.
    #[must_use]
    pub fn restore(
        &mut self,
        now: Instant,
        session: SessionId,
        snapshot: AssociationSnapshot,
    ) -> bool {
        let Some(association) = Association::restore(now, &self.certificates.of(session), snapshot)
        else {
            return false;
        };
        let entry = Entry {
            association,
            deadline: None,
        };
        self.associations.insert(session, entry);
        true
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.drops_due.is_some_and(|due| due <= now) {
            self.drops_due = None;
            let drops = Box::new(std::mem::take(&mut self.drops));
            self.commands.push_back(Command::DataDropped { drops });
        }
        while let Some((deadline, session)) = self.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            let Some(entry) = self.associations.get_mut(&session) else {
                self.deadlines.pop_first();
                continue;
            };
            entry.association.handle_timeout(now);
            self.drain(now, session);
            if self.deadlines.first() == Some(&(deadline, session)) {
                // Still due: it will not change by asking again at the same instant.
                return;
            }
        }
    }

    /// The next command for the engine.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When the first of them wants to be driven on, or there are drops to tell.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        first.into_iter().chain(self.drops_due).min()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.associations.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.associations.is_empty()
    }

    /// Drops a session's association as it is, after a panic in it; the engine is told.
    pub(super) fn abandon(&mut self, session: SessionId) {
        if let Some(entry) = self.associations.remove(&session) {
            if let Some(deadline) = entry.deadline {
                self.deadlines.remove(&(deadline, session));
            }
            let reason = CloseReason::NodeFault;
            self.commands
                .push_back(Command::DtlsClosed { session, reason });
        }
    }

    /// The session that `handle_timeout` would drive first.
    pub(super) fn first_due(&self) -> Option<SessionId> {
        self.deadlines.first().map(|(_, session)| *session)
    }

    fn open(&mut self, now: Instant, session: SessionId, spec: DtlsSpec) {
        if self.associations.contains_key(&session) {
            // ICE came up again on another path: the association outlives it (RFC 8842 section 5.5).
            return;
        }
        if self.associations.len() >= self.count_max {
            let reason = CloseReason::AtLimit;
            self.commands
                .push_back(Command::DtlsClosed { session, reason });
            return;
        }
        let association = Association::new(now, &self.certificates.of(session), spec);
        self.associations.insert(
            session,
            Entry {
                association,
                deadline: None,
            },
        );
        self.drain(now, session);
    }

    /// Lets a session's association take something in, if there is one.
    fn drive(&mut self, now: Instant, session: SessionId, take: impl FnOnce(&mut Association)) {
        if let Some(entry) = self.associations.get_mut(&session) {
            take(&mut entry.association);
            self.drain(now, session);
        }
    }

    /// Moves an association's output to the commands, its deadline to the set, and a dead one out.
    fn drain(&mut self, now: Instant, session: SessionId) {
        let Some(entry) = self.associations.get_mut(&session) else {
            return;
        };
        while let Some(bytes) = entry.association.poll_transmit() {
            self.commands
                .push_back(Command::DtlsTransmit { session, bytes });
        }
        while let Some(event) = entry.association.poll_event() {
            self.commands.push_back(match event {
                AssociationEvent::Connected(keys) => Command::DtlsConnected { session, keys },
                AssociationEvent::Closed(reason) => Command::DtlsClosed { session, reason },
            });
        }
        while let Some(event) = entry.association.poll_data() {
            let event = Box::new(event);
            self.commands
                .push_back(Command::DataEvent { session, event });
        }
        let drops = entry.association.take_drops();
        if !drops.is_empty() {
            // Together with those of others: a flood of what is dropped is not a flood of commands.
            self.drops.add(drops);
            self.drops_due.get_or_insert(now + DATA_DROPS_INTERVAL);
        }
        let deadline = entry.association.poll_timeout();
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, session));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, session));
            }
            entry.deadline = deadline;
        }
        if entry.association.is_closed() {
            self.associations.remove(&session);
        }
    }
}

impl std::fmt::Debug for Associations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Associations")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
mod tests {
    use super::*;
    use crate::command::{DtlsRole, Fingerprint};
    use crate::dtls::Certificate;
    use crate::limits::HANDSHAKE_TIMEOUT;

    fn open(session: u64) -> DtlsInput {
        let spec = DtlsSpec {
            role: DtlsRole::Server,
            fingerprints: Vec::new(),
        };
        DtlsInput::Open {
            session: SessionId(session),
            spec,
        }
    }

    fn closed(associations: &mut Associations) -> Vec<(u64, CloseReason)> {
        let commands = std::iter::from_fn(|| associations.poll_command());
        let closed = commands.filter_map(|command| match command {
            Command::DtlsClosed { session, reason } => Some((session.0, reason)),
            _ => None,
        });
        closed.collect()
    }

    #[test]
    fn one_too_many_is_refused_with_a_reason() {
        let now = Instant::now();
        let mut associations = Associations::new(Certificate::generate().unwrap(), 3);
        for session in 0..5 {
            associations.handle_input(now, open(session));
            associations.handle_input(now, open(session));
        }
        assert_eq!(associations.len(), 3);
        let refused = closed(&mut associations);
        assert_eq!(refused.len(), 4);
        assert!(
            refused
                .iter()
                .all(|(session, why)| *session >= 3 && *why == CloseReason::AtLimit)
        );
    }

    /// Whether a client that was told of `announced` ends its handshake with the session.
    fn connects(associations: &mut Associations, session: u64, announced: &Certificate) -> bool {
        let (now, session) = (Instant::now(), SessionId(session));
        let own = Certificate::generate().unwrap();
        let spec = |role, peer: &Certificate| DtlsSpec {
            role,
            fingerprints: vec![Fingerprint::Sha256(peer.fingerprint())],
        };
        let server = spec(DtlsRole::Server, &own);
        let mut client = Association::new(now, &own, spec(DtlsRole::Client, announced));
        let spec = server;
        associations.handle_input(now, DtlsInput::Open { session, spec });
        loop {
            while let Some(bytes) = client.poll_transmit() {
                associations.handle_input(now, DtlsInput::Datagram { session, bytes });
            }
            while let Some(command) = associations.poll_command() {
                if let Command::DtlsTransmit { bytes, .. } = command {
                    client.handle_datagram(now, &bytes);
                }
            }
            match client.poll_event() {
                Some(AssociationEvent::Connected(_)) => return true,
                Some(AssociationEvent::Closed(reason)) => {
                    assert_eq!(reason, CloseReason::FingerprintMismatch);
                    return false;
                }
                None => {}
            }
        }
    }

    #[test]
    fn clients_see_the_certificate_that_was_current_when_their_session_was_made() {
        let [first, second] = [(); 2].map(|()| Certificate::generate().unwrap());
        let certificates = Certificates::new(first.clone());
        let mut associations = Associations::new(&certificates, 100);
        assert!(connects(&mut associations, 1, &first));
        certificates.renew(SessionId(10), second.clone());
        // Session 9 was made before, and its client is only here now.
        assert!(connects(&mut associations, 9, &first));
        assert!(connects(&mut associations, 10, &second));
        assert!(!connects(&mut associations, 11, &first));
    }

    #[test]
    fn who_says_nothing_is_given_up_and_leaves_no_timer() {
        let now = Instant::now();
        let mut associations = Associations::new(Certificate::generate().unwrap(), 100);
        for session in 0..50 {
            associations.handle_input(now, open(session));
        }
        for session in 0..10 {
            associations.handle_input(
                now,
                DtlsInput::Close {
                    session: SessionId(session),
                },
            );
        }
        let bytes = Box::from(&[22_u8, 0xfe, 0xfd][..]);
        let late = DtlsInput::Datagram {
            session: SessionId(3),
            bytes,
        };
        associations.handle_input(now, late);
        assert_eq!(associations.len(), 40);
        assert_eq!(associations.poll_timeout(), Some(now + HANDSHAKE_TIMEOUT));
        associations.handle_timeout(now + HANDSHAKE_TIMEOUT);
        let given_up = closed(&mut associations);
        assert_eq!(given_up.len(), 40);
        assert!(
            given_up
                .iter()
                .all(|(_, why)| *why == CloseReason::HandshakeFailed)
        );
        assert_eq!((associations.len(), associations.poll_timeout()), (0, None));
    }
}
