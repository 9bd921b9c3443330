//! What the desk counts, for metrics.

/// Totals since start, and how long its queues are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offers seen in the work set: new documents and new offers in known ones.
    pub offers: u64,
    /// Offers that were not kept, since undecided ones took all memory that they may.
    pub left: u64,
    /// Answers that are in the database.
    pub answered: u64,
    /// Refusals that are in the database.
    pub refused: u64,
    /// Answers that came too late: another node, or the page, changed the document first.
    pub claims_lost: u64,
    /// Sessions ended because their page hung up.
    pub hung_up: u64,
    /// Sessions that ended by themselves.
    pub ended: u64,
    /// Dead nodes that we cleaned up after.
    pub sweeps: u64,
    /// Documents of dead nodes that we marked.
    pub swept: u64,
    /// Writes handed out.
    pub writes: u64,
    /// Writes that reached nobody or were denied.
    pub writes_failed: u64,
    /// Reads and searches handed out.
    pub reads: u64,
    /// Fresh listens asked for, because a target's count was wrong.
    pub relistens: u64,
    /// Now: documents in the work set.
    pub work: usize,
    /// Now: offers of them that are not decided yet.
    pub undecided: usize,
    /// Now: sessions served for documents.
    pub sessions: usize,
    /// Now: rooms of this node that documents made.
    pub rooms: usize,
    /// Now: writes on their way.
    pub writes_in_flight: usize,
    /// Now: writes that wait for their turn.
    pub writes_waiting: usize,
    /// Now: nodes of the registry whose lease holds.
    pub nodes_live: usize,
}
