//! Workers over loopback.
