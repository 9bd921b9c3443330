//! What somebody is found by who shows a secret: the token of a page, the URL of a WHIP session.

use aws_lc_rs::digest::{SHA256, digest};

/// A secret's SHA-256, by which it is looked up. Comparing digests may take as long as it likes: whoever
/// guesses cannot choose them byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Proof([u8; 32]);

impl Proof {
    /// Of this secret.
    pub(super) fn of(secret: &str) -> Proof {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Proof(bytes)
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}
