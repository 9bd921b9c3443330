//! In place of `wide.rs` on other processors: every tag is made alone.

/// Messages at once.
pub(super) const LANES: usize = 16;

/// There is none.
pub(super) enum WideKey {}

/// Where the messages are, as in `wide.rs`.
#[derive(Clone, Copy)]
#[expect(dead_code, reason = "nobody looks at them here")]
pub(super) struct Messages<'a> {
    /// All of them.
    pub(super) bytes: &'a [u8],
    /// From one to the next.
    pub(super) stride: usize,
    /// Bytes of each, without its trailer.
    pub(super) len: usize,
    /// One for each message.
    pub(super) trailers: &'a [[u8; 4]],
}

impl WideKey {
    /// None.
    pub(super) fn new(_: &[u8; 20]) -> Option<WideKey> {
        None
    }

    /// Nothing.
    pub(super) fn sign(&self, _: Messages<'_>) -> Option<[[u8; 20]; LANES]> {
        match *self {}
    }
}
