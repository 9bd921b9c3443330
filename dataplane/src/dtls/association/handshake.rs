//! What of a handshake reaches the crate, and what it sends.

use std::collections::VecDeque;

use bytes::BytesMut;
use webrtc_dtls::endpoint::Endpoint;

use super::drain;
use crate::dtls::reassembly::Reassembly;
use crate::dtls::record::{
    self, ALERT, CERTIFICATE_VERIFY, CHANGE_CIPHER_SPEC, CLIENT_HELLO, Fragment, HANDSHAKE,
    SERVER_HELLO_DONE, fragments, records,
};

/// Handshake messages of one handshake that reach the crate; a full one has seven.
const MESSAGES_MAX: u16 = 16;

/// Encrypted records that reach the crate before it can read them: it keeps them all, and a genuine
/// peer sends one or two too early at most.
const EARLY_RECORDS_MAX: u16 = 64;

/// How often our flight is sent again because the peer repeated its own.
const REPEATS_MAX: u8 = 8;

/// A handshake that the crate runs.
pub(super) struct Handshake {
    /// The crate's.
    pub(super) endpoint: Endpoint,
    reassembly: Reassembly,
    /// The number of the next message that the crate may see.
    next_message: u16,
    /// The number of the next plaintext record that the crate sees: ours, so that a forged one
    /// cannot move the crate's replay window away from the peer's.
    next_record: u64,
    early_records: u16,
    /// Whether the crate has all that its keys are made of.
    has_keys: bool,
    /// Whether the peer's ChangeCipherSpec reached the crate: one does.
    is_changed: bool,
    /// What was sent last, and how often it may be sent again when the peer repeats itself.
    pub(super) flight: Vec<Box<[u8]>>,
    repeats_left: u8,
}

impl Handshake {
    /// Goes on with an endpoint that has seen so many messages, in so many plaintext records.
    pub(super) fn new(endpoint: Endpoint, next_message: u16, next_record: u64) -> Handshake {
        Handshake {
            endpoint,
            reassembly: Reassembly::default(),
            next_message,
            next_record,
            early_records: 0,
            has_keys: false,
            is_changed: false,
            flight: Vec::new(),
            repeats_left: REPEATS_MAX,
        }
    }

    /// What of a datagram the crate may see: whole messages in order, each once, under record
    /// numbers of our own; ChangeCipherSpec, once; encrypted messages and alerts. Alerts in plaintext
    /// are dropped, for anyone can send them, and so is a ChangeCipherSpec that calls itself encrypted:
    /// the crate takes it for authentic, and ends the handshake if it is odd.
    pub(super) fn filter(
        &mut self,
        datagram: &[u8],
        transmits: &mut VecDeque<Box<[u8]>>,
    ) -> BytesMut {
        let mut input = Vec::new();
        let mut repeated = false;
        for record in records(datagram) {
            match (record.epoch, record.content_type) {
                (0, HANDSHAKE) => {
                    for fragment in fragments(record.body) {
                        repeated |= self.is_repeated_hello(&fragment);
                        self.on_fragment(&fragment, &mut input);
                    }
                }
                (0, CHANGE_CIPHER_SPEC) if record.body == [1] && !self.is_changed => {
                    self.is_changed = true;
                    let sequence = self.take_record_number();
                    record::write_record(CHANGE_CIPHER_SPEC, sequence, &[1], &mut input);
                }
                (1, HANDSHAKE | ALERT) if self.takes_encrypted() => {
                    input.extend_from_slice(record.bytes);
                }
                _ => {}
            }
        }
        if repeated && input.is_empty() && self.repeats_left > 0 {
            // The peer repeats itself because it did not hear us (RFC 6347 section 4.2.4), and it
            // does so sooner than the crate's timer of one second.
            self.repeats_left -= 1;
            transmits.extend(self.flight.iter().cloned());
        }
        BytesMut::from(&input[..])
    }

    fn on_fragment(&mut self, fragment: &Fragment<'_>, input: &mut Vec<u8>) {
        let ahead = fragment.sequence.checked_sub(self.next_message);
        if ahead.is_none_or(|ahead| ahead >= MESSAGES_MAX) {
            return;
        }
        self.reassembly.insert(fragment);
        while self.next_message < MESSAGES_MAX {
            let Some(message) = self.reassembly.take(self.next_message) else {
                return;
            };
            self.next_message += 1;
            // The last that a client sends in plaintext, and the last that a server does.
            self.has_keys |= matches!(message.kind, CERTIFICATE_VERIFY | SERVER_HELLO_DONE);
            let sequence = self.take_record_number();
            message.write_record(sequence, input);
        }
    }

    /// Whether this begins the hello that started this handshake.
    fn is_repeated_hello(&self, fragment: &Fragment<'_>) -> bool {
        fragment.kind == CLIENT_HELLO
            && fragment.offset == 0
            && fragment.sequence == 1
            && self.next_message == 2
    }

    /// Whether the crate may see another encrypted record. What it can decrypt it need not keep: a flood
    /// of forged ones keeps the peer's own out no longer than until then.
    fn takes_encrypted(&mut self) -> bool {
        if self.has_keys && self.is_changed {
            return true;
        }
        self.early_records = self.early_records.saturating_add(1);
        self.early_records <= EARLY_RECORDS_MAX
    }

    fn take_record_number(&mut self) -> u64 {
        let number = self.next_record;
        self.next_record += 1;
        number
    }

    /// Sends what the crate has to send and remembers it.
    pub(super) fn send(&mut self, transmits: &mut VecDeque<Box<[u8]>>) {
        let before = transmits.len();
        drain(&mut self.endpoint, transmits);
        if transmits.len() > before {
            self.flight = transmits.iter().skip(before).cloned().collect();
        }
    }
}
