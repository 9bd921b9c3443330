//! The body of a test and of a fuzz target: a client and a server of ours, and somebody between them
//! who does to their datagrams whatever the bytes say, and adds its own.
//!
//! What must hold: no panic in ours or in the `webrtc-dtls` crate; who was given keys has the same as
//! the other; what is established ends only because the other end did; nobody who has not brought the
//! cookie back is sent more than came; it is done or given up in time; and without interference it is done.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Association, AssociationEvent, State, plaintext_fragments};
use crate::command::{DtlsRole, DtlsSpec, Fingerprint, SrtpKeys};
use crate::data::{DataRequest, Message as DataMessage, MessageKind};
use crate::dtls::certificate::Certificate;
use crate::dtls::record::{self, HANDSHAKE, Message, records};
use crate::event::CloseReason;
use crate::id::ChannelId;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::sim::script::Script;

/// What is done in one run: more only makes it slow.
const OPERATIONS_MAX: usize = 200;

/// Datagrams that wait for one of the two: the oldest are lost.
const QUEUE_LEN: usize = 32;

/// Datagrams that one input may cause: a flight of small fragments.
const CAUSED_MAX: usize = 64;

/// Repeats, and time lost, that no handshake is given up for.
const REPEATS_MAX: usize = 16;
const PATIENCE: Duration = Duration::from_secs(4);

/// Steps until the two come to rest.
const STEPS_MAX: usize = 3_000;

/// Does what the bytes say. Whether both were given keys.
///
/// # Panics
/// When the association does, or breaks what must hold.
pub fn handshake(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let mut pair = Pair::new(script.byte());
    for _ in 0..OPERATIONS_MAX {
        if script.is_over() {
            break;
        }
        pair.operate(&mut script);
        pair.assert_sound();
    }
    pair.come_to_rest();
    pair.assert_sound();
    pair.ends.iter().all(|end| end.keys.is_some())
}

/// One of the two.
struct End {
    association: Association,
    /// What is on its way to it.
    inbox: VecDeque<Box<[u8]>>,
    keys: Option<Box<SrtpKeys>>,
    /// Bytes that it was sent and that it sent before it had the cookie back.
    greeting: (usize, usize),
}

/// Both, and the time they are told.
struct Pair {
    now: Instant,
    /// The client and the server.
    ends: [End; 2],
    began: Instant,
    /// Datagrams that arrived twice.
    repeats: usize,
    /// Whether their datagrams arrived as they were, and soon.
    is_clean: bool,
}

impl Pair {
    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    fn new(choices: u8) -> Pair {
        let now = Instant::now();
        let [ours, theirs] = certificates();
        let end = |role, own, peer: &Certificate| {
            let fingerprints = vec![Fingerprint::Sha256(peer.fingerprint())];
            End {
                association: Association::new(now, own, DtlsSpec { role, fingerprints }),
                inbox: VecDeque::new(),
                keys: None,
                greeting: (0, 0),
            }
        };
        let mut pair = Pair {
            now,
            ends: [
                end(DtlsRole::Client, theirs, ours),
                end(DtlsRole::Server, ours, theirs),
            ],
            began: now,
            repeats: 0,
            is_clean: true,
        };
        for (end, is_carrying) in pair.ends.iter_mut().zip([choices & 1, choices & 2]) {
            if is_carrying != 0 {
                end.association.handle_open_data(now, 65_536);
            }
        }
        pair.drain(0);
        pair.drain(1);
        pair
    }

    /// Something happens to one of the two.
    fn operate(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let to = usize::from(choice >> 7);
        let inbox = &mut self.ends[to].inbox;
        self.is_clean &= choice & 15 < 6 || choice & 15 == 14;
        match choice & 15 {
            0..=3 => {
                if let Some(datagram) = inbox.pop_front() {
                    self.arrive(to, &datagram);
                }
            }
            4 => {
                if let Some(datagram) = inbox.pop_back() {
                    self.arrive(to, &datagram);
                }
            }
            5 => {
                if let Some(datagram) = inbox.front().cloned() {
                    self.repeats += 1;
                    self.arrive(to, &datagram);
                }
            }
            6 => drop(inbox.pop_front()),
            7 | 8 => self.change(to, script),
            9 | 10 => self.rewrite(to, script),
            11 => self.arrive(to, script.datagram()),
            12 => self.forge_record(to, script),
            13 => self.forge_fragment(to, script),
            14 => self.pass_time(Duration::from_millis(u64::from(script.byte()) * 10)),
            15 => self.ask(to, script),
            _ => unreachable!("four bits have no more"),
        }
    }

    /// The next datagram arrives with something overwritten, cut out or put in.
    fn change(&mut self, to: usize, script: &mut Script<'_>) {
        let Some(datagram) = self.ends[to].inbox.pop_front() else {
            return;
        };
        let datagram = spliced(&datagram, script);
        self.arrive(to, &datagram);
    }

    /// The same to the body of one handshake message, whose lengths are then right.
    fn rewrite(&mut self, to: usize, script: &mut Script<'_>) {
        let Some(datagram) = self.ends[to].inbox.pop_front() else {
            return;
        };
        let chosen = script.below(plaintext_fragments(&datagram).count());
        let mut changed = Vec::new();
        let first = u64::from(script.byte());
        for (place, fragment) in plaintext_fragments(&datagram).enumerate() {
            let body = match place == chosen {
                true => spliced(fragment.part, script),
                false => fragment.part.to_vec(),
            };
            let (kind, sequence) = (fragment.kind, fragment.sequence);
            let message = Message {
                kind,
                sequence,
                body,
            };
            message.write_record(first + place as u64, &mut changed);
        }
        let is_other =
            |record: &record::Record<'_>| (record.epoch, record.content_type) != (0, HANDSHAKE);
        for record in records(&datagram).filter(is_other) {
            changed.extend_from_slice(record.bytes);
        }
        self.arrive(to, &changed);
    }

    /// A record that nobody of the two sent.
    fn forge_record(&mut self, to: usize, script: &mut Script<'_>) {
        let (kind, number) = (20 + script.byte() % 5, u64::from(script.short()));
        let mut datagram = Vec::new();
        record::write_record(kind, number, script.piece(), &mut datagram);
        if let Some(epoch) = datagram.get_mut(4) {
            *epoch = kind_epoch(script.byte());
        }
        self.arrive(to, &datagram);
    }

    /// A part of a handshake message that nobody of the two sent.
    fn forge_fragment(&mut self, to: usize, script: &mut Script<'_>) {
        let (kind, sequence) = (script.byte() % 24, script.byte() % 10);
        let (length, offset) = (script.short(), script.short());
        let part = script.piece();
        let [length_high, length_low] = length.to_be_bytes();
        let [offset_high, offset_low] = offset.to_be_bytes();
        let mut body = vec![kind, 0, length_high, length_low, 0, sequence];
        body.extend_from_slice(&[0, offset_high, offset_low, 0, 0, part.len() as u8]);
        body.extend_from_slice(part);
        let mut datagram = Vec::new();
        record::write_record(HANDSHAKE, u64::from(offset), &body, &mut datagram);
        self.arrive(to, &datagram);
    }

    /// What control asks of an association.
    fn ask(&mut self, to: usize, script: &mut Script<'_>) {
        let association = &mut self.ends[to].association;
        match script.byte() % 4 {
            0 => association.handle_close(self.now),
            1 => association.handle_open_data(self.now, 1 + u32::from(script.short())),
            _ => {
                let bytes = Bytes::copy_from_slice(script.piece());
                let kind = MessageKind::Binary;
                let message = DataMessage { kind, bytes };
                let channel = ChannelId(script.short());
                association.handle_data(self.now, DataRequest::Send { channel, message });
            }
        }
        self.drain(to);
    }

    fn arrive(&mut self, to: usize, datagram: &[u8]) {
        let end = &mut self.ends[to];
        if matches!(end.association.state, State::Greeting { .. }) {
            end.greeting.0 += datagram.len();
        }
        end.association.handle_datagram(self.now, datagram);
        self.drain(to);
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        for to in 0..2 {
            self.ends[to].association.handle_timeout(self.now);
            self.drain(to);
        }
    }

    /// What one has to say is on its way to the other.
    fn drain(&mut self, from: usize) {
        let [client, server] = &mut self.ends;
        let (end, other) = match from {
            0 => (client, server),
            _ => (server, client),
        };
        let is_greeting = matches!(end.association.state, State::Greeting { .. });
        let mut caused = 0;
        while let Some(datagram) = end.association.poll_transmit() {
            caused += 1;
            if is_greeting {
                end.greeting.1 += datagram.len();
            }
            if other.inbox.len() >= QUEUE_LEN {
                self.is_clean = false;
                other.inbox.pop_front();
            }
            other.inbox.push_back(datagram);
        }
        assert!(caused <= CAUSED_MAX, "{caused} datagrams at once");
        while let Some(event) = end.association.poll_event() {
            match event {
                AssociationEvent::Connected(keys) => {
                    assert!(end.keys.is_none(), "keys are given once");
                    end.keys = Some(keys);
                }
                AssociationEvent::Closed(reason) => {
                    assert!(
                        end.keys.is_none()
                            || (reason == CloseReason::PeerClosed && other.association.is_closed()),
                        "what was established ended for {reason:?}"
                    );
                }
            }
        }
        while end.association.poll_data().is_some() {}
    }

    fn assert_sound(&self) {
        let [client, server] = &self.ends;
        if let (Some(client), Some(server)) = (&client.keys, &server.keys) {
            assert_eq!(client.profile, server.profile);
            assert_eq!(client.send.key, server.receive.key);
            assert_eq!(client.send.salt, server.receive.salt);
            assert_eq!(client.receive.key, server.send.key);
            assert_eq!(client.receive.salt, server.send.salt);
        }
        let (received, sent) = server.greeting;
        assert!(sent <= received, "{sent} bytes for {received}");
    }

    /// Nobody interferes any more: what is on its way arrives, and what is due is done.
    fn come_to_rest(&mut self) {
        self.is_clean &= self.now - self.began < PATIENCE;
        let end = self.now + HANDSHAKE_TIMEOUT;
        for _ in 0..STEPS_MAX {
            let next = (0..2).find_map(|to| Some((to, self.ends[to].inbox.pop_front()?)));
            if let Some((to, datagram)) = next {
                self.arrive(to, &datagram);
                continue;
            }
            let due = self
                .ends
                .iter()
                .filter_map(|end| end.association.poll_timeout());
            let Some(due) = due.min().filter(|due| *due <= end) else {
                break;
            };
            self.pass_time(due.saturating_duration_since(self.now));
        }
        for end in &self.ends {
            let is_decided = end.keys.is_some() || end.association.is_closed();
            assert!(is_decided, "neither done nor given up");
        }
        if self.is_clean && self.repeats <= REPEATS_MAX {
            assert!(self.ends.iter().all(|end| end.keys.is_some()), "not done");
        }
    }
}

/// Something overwritten, cut out or put in, as the bytes say.
fn spliced(bytes: &[u8], script: &mut Script<'_>) -> Vec<u8> {
    let (at, cut, put) = (script.short(), script.byte(), script.piece());
    let mut bytes = bytes.to_vec();
    let at = usize::from(at) % bytes.len().max(1);
    let end = (at + usize::from(cut)).min(bytes.len());
    let at = at.min(end);
    bytes.splice(at..end, put.iter().copied());
    bytes
}

fn kind_epoch(choice: u8) -> u8 {
    choice % 3
}

/// Of the server and of the client. Made once: that costs more than a handshake.
fn certificates() -> &'static [Certificate; 2] {
    static CERTIFICATES: OnceLock<[Certificate; 2]> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let make = || Certificate::generate().expect("the system has randomness");
        [make(), make()]
    })
}
