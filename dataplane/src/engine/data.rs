//! Data channels pass through: what is said on them is the handshake threads' business, and the
//! engine only knows whose they are, and counts.

use super::Engine;
use crate::data::{DataDrops, DataEvent, DataRequest};
use crate::event::{DtlsInput, Event};
use crate::id::SessionId;
use crate::limits::DTLS_QUEUE_LEN;

impl Engine {
    /// Lets a session have data channels, at the latest when its DTLS opens.
    pub(super) fn open_data(&mut self, session: SessionId, message_bytes_max: u32) -> Option<()> {
        let key = *self.names.sessions.get(&session)?;
        let known = self.sessions.get_mut(key)?;
        if known.is_feed {
            self.counters.command_refused += 1;
            return Some(());
        }
        known.data_bytes_max = message_bytes_max.max(1);
        if known.ice.handshake_path().is_some() {
            self.dtls.push_back(DtlsInput::OpenData {
                session,
                message_bytes_max: known.data_bytes_max,
            });
        }
        Some(())
    }

    /// Hands a request to whoever speaks with the client.
    pub(super) fn request_data(
        &mut self,
        session: SessionId,
        request: Box<DataRequest>,
    ) -> Option<()> {
        self.names.sessions.get(&session)?;
        match *request {
            DataRequest::Send { .. } if self.dtls.len() >= DTLS_QUEUE_LEN => {
                self.counters.drop_dtls_queue_full += 1;
                return Some(());
            }
            DataRequest::Send { .. } => self.counters.data_messages_sent += 1,
            DataRequest::Close { .. } => {}
        }
        self.dtls.push_back(DtlsInput::Data { session, request });
        Some(())
    }

    /// Tells control what happened.
    pub(super) fn tell_data(&mut self, session: SessionId, event: Box<DataEvent>) -> Option<()> {
        self.names.sessions.get(&session)?;
        match *event {
            DataEvent::Opened { .. } => self.counters.data_channels_opened += 1,
            DataEvent::Received { .. } => self.counters.data_messages_received += 1,
            DataEvent::Closed { .. } => {}
        }
        self.events.push_back(Event::Data { session, event });
        Some(())
    }

    pub(super) fn count_data_drops(&mut self, drops: DataDrops) {
        self.counters.drop_data_malformed += drops.malformed;
        self.counters.drop_data_over_limit += drops.over_limit;
        self.counters.drop_data_over_rate += drops.over_rate;
        self.counters.drop_data_buffer_full += drops.buffer_full;
        self.counters.data_channels_refused += drops.channels_refused;
    }
}
