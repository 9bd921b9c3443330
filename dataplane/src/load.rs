//! How busy a worker is.

/// The share of a worker's time that its turns take, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(pub u16);

impl Load {
    /// A worker that never waits.
    pub const FULL: Load = Load(1_000);
}
