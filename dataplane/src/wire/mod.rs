//! Checked views over what peers send, and writers of what we send (RFC 3550, 8285, 4585, 8489, 2198).
