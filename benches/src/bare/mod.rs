//! A bare forwarder behind WHIP and WHEP: what forwarding costs where a server does nothing else.
//!
//! It answers connectivity checks and handshakes, opens each packet, and seals it for everybody else in
//! the room: one datagram a send ([`Manner::Datagrams`], what a straightforward server pays), or one
//! burst a send ([`Manner::Bursts`], the floor). No RTCP, no retransmission, no statistics, no
//! renumbering, nobody ever leaves. The comparison with other servers runs both.
//!
//! In reading order:

pub mod door;

mod forwarder;
mod session;

pub use forwarder::Manner;
