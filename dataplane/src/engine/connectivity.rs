//! Datagrams that make and keep a connection: checks and the handshake.

use std::time::Instant;

use super::Engine;
use super::session::SessionKey;
use crate::command::DtlsSpec;
use crate::event::{DtlsInput, Event};
use crate::limits::DTLS_QUEUE_LEN;
use crate::transmit::Path;
use crate::wire::{
    BindingRequest, write_binding_error, write_binding_success, write_unknown_attribute,
};

impl Engine {
    /// Answers a connectivity check (RFC 8445 section 7.3). Whoever cannot prove that they know
    /// the password gets nothing: no byte leaves for a forged address.
    pub(super) fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let request = match BindingRequest::parse(datagram) {
            Ok(Some(request)) => request,
            // An indication or a response: as a lite agent we asked for nothing.
            Ok(None) => return,
            Err(_) => {
                self.counters.drop_stun_malformed += 1;
                return;
            }
        };
        let (local, _) = request.username();
        let Some(&key) = self.ufrags.get(local) else {
            self.counters.drop_stun_unknown_user += 1;
            return;
        };
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let Some(integrity) = session.ice.authenticate(&request) else {
            self.counters.drop_stun_integrity += 1;
            return;
        };
        if session.ice.is_replayed(path, &request) {
            self.counters.drop_stun_replayed += 1;
            return;
        }
        if self.is_held(now, key, path) {
            self.counters.drop_stun_path_held += 1;
            return;
        }
        let transaction = request.transaction();
        let is_sound = request.unknown_attribute().is_none() && request.ice_controlled().is_none();
        let queued = self.outbox.push_with(path, |out| {
            if let Some(attribute) = request.unknown_attribute() {
                write_unknown_attribute(out, transaction, attribute, &integrity)
            } else if request.ice_controlled().is_some() {
                // A lite agent is always controlled (RFC 8445 section 6.1.1), so the peer must
                // switch (section 7.3.1.1).
                write_binding_error(out, transaction, 487, "Role Conflict", Some(&integrity))
            } else {
                write_binding_success(out, transaction, path.remote, &integrity)
            }
        });
        if !queued {
            self.counters.drop_control_queue_full += 1;
            return;
        }
        self.counters.stun_answered += 1;
        if is_sound {
            self.handle_valid_check(now, key, path, &request);
        }
    }

    /// Whether another session is connected by this path, and its client is there: anybody may have a
    /// session of their own and send its checks from an address that they forge.
    fn is_held(&self, now: Instant, key: SessionKey, path: Path) -> bool {
        let holder = self.paths.get(&path).filter(|holder| **holder != key);
        let holder = holder.and_then(|holder| self.sessions.get(*holder));
        holder.is_some_and(|holder| holder.is_connected && holder.ice.holds(now, path))
    }

    fn handle_valid_check(
        &mut self,
        now: Instant,
        key: SessionKey,
        path: Path,
        request: &BindingRequest<'_>,
    ) {
        // The last session to prove that it lives behind an address has it, unless somebody is there:
        // a client that was reloaded may come from the same port.
        if let Some(before) = self.paths.insert(path, key).filter(|before| *before != key)
            && let Some(other) = self.sessions.get_mut(before)
        {
            other.ice.forget(path);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let outcome = session.ice.handle_check(now, path, request);
        if let Some(evicted) = outcome.evicted {
            self.paths.remove(&evicted);
        }
        if let Some(ufrag) = outcome.retired_ufrag {
            self.ufrags.remove(ufrag.as_bytes());
        }
        if outcome.is_first {
            let spec = DtlsSpec {
                role: session.dtls.role,
                // Nobody asks for them again.
                fingerprints: std::mem::take(&mut session.dtls.fingerprints),
            };
            let (session, message_bytes_max) = (session.id, session.data_bytes_max);
            self.dtls.push_back(DtlsInput::Open { session, spec });
            if message_bytes_max > 0 {
                self.dtls.push_back(DtlsInput::OpenData {
                    session,
                    message_bytes_max,
                });
            }
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(moved_to) = outcome.moved_to {
            if let Some(downlink) = &mut session.downlink {
                downlink.handle_path_change(now);
            }
            if session.is_connected {
                self.events.push_back(Event::PathChanged {
                    session: session.id,
                    remote: moved_to.remote,
                    transport: moved_to.transport,
                });
            }
            self.note_connected(now, key);
        }
    }

    /// Hands a DTLS datagram to the handshake threads: the path it came by is validated.
    pub(super) fn handle_dtls(&mut self, key: SessionKey, datagram: &[u8]) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if self.dtls.len() >= DTLS_QUEUE_LEN {
            self.counters.drop_dtls_queue_full += 1;
            return;
        }
        let (session, bytes) = (session.id, datagram.into());
        self.dtls.push_back(DtlsInput::Datagram { session, bytes });
    }
}
