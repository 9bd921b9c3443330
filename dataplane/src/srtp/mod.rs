//! SRTP (RFC 3711, 7714) over aws-lc-rs: no allocation, one pass from one buffer into another.
