//! For who looks at the media itself: packets as they came, and key frames on request.

use std::collections::VecDeque;

use bytes::Bytes;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use rtp::packet::Packet;

use super::super::reception::Arrived;
use super::Peer;

/// A packet of a stream that the peer receives, decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The stream; a retransmission's is the one it repairs.
    pub ssrc: u32,
    /// Its sequence number, a retransmission's the original one.
    pub sequence: u16,
    /// Its timestamp.
    pub timestamp: u32,
    /// Its marker bit.
    pub marker: bool,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it came again on request.
    pub is_retransmission: bool,
}

impl Peer {
    /// Keeps the packets that come from now on for `poll_arrival`, which then has to be drained.
    pub fn watch(&mut self) {
        self.arrivals.get_or_insert_with(VecDeque::new);
    }

    /// The next packet that came, if it is watched.
    pub fn poll_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.as_mut()?.pop_front()
    }

    pub(super) fn on_arrival(&mut self, ssrc: u32, arrived: &Arrived<'_>, packet: &Packet) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.push_back(Arrival {
                ssrc,
                sequence: arrived.sequence,
                timestamp: arrived.timestamp,
                marker: packet.header.marker,
                payload: packet.payload.slice_ref(arrived.payload),
                is_retransmission: arrived.is_retransmission,
            });
        }
    }

    /// Asks for a key frame of a stream (RFC 4585 section 6.3.1).
    pub fn request_key_frame(&mut self, ssrc: u32) {
        let request = PictureLossIndication {
            sender_ssrc: self.rtcp_ssrc,
            media_ssrc: ssrc,
        };
        self.send_rtcp(&[Box::new(request)]);
    }
}
