//! DTLS-SRTP (RFC 5763, 5764) in the slow lane.
