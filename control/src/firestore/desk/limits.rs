//! The desk's limits and times, each with its reason.

use std::time::Duration;

/// The database takes about one sustained write a second of a document.
pub(super) const WRITE_GAP: Duration = Duration::from_secs(1);

/// The same where only a field of the document tells when another node wrote it: a write's way is
/// added.
pub(super) const FOREIGN_WRITE_GAP: Duration = Duration::from_millis(1500);

/// Writes on their way at once: four requests of two hundred.
pub(super) const WRITES_MAX: usize = 800;

/// Reads and searches on their way at once, of the hundred streams that a channel has.
pub(super) const READS_MAX: usize = 16;

/// Sessions that are being made and not yet written: what is lost if all of them are.
pub(super) const CLAIMS_MAX: usize = 400;

/// Bytes of undecided documents that are kept, whatever is written into the database: those of 10,000 browsers'
/// offers. What does not fit is left to other nodes.
pub(super) const UNDECIDED_BYTES_MAX: usize = 128 << 20;

/// Of so many offers that are looked at one is the oldest, the others the newest.
pub(super) const OLDEST_EACH: u32 = 4;

/// How often a node says that it lives. A third of the shortest sensible lease.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// The first wait after a write or read that reached nobody; it doubles.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest wait between tries.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(30);

/// The wait after a permission was denied: it takes a person to change that.
pub(super) const DENIED_RETRY: Duration = Duration::from_secs(30);

/// How long we are connected before a lapsed lease counts: after an outage of the database all of
/// them have lapsed, and nodes reconnect within 10 s.
pub(super) const SETTLE: Duration = Duration::from_secs(15);

/// When the second choice takes an offer that the first did not.
pub(super) const SECOND_CHOICE: Duration = Duration::from_millis(1500);

/// When all others begin to.
pub(super) const OTHER_CHOICES: Duration = Duration::from_secs(3);

/// Between one of the others and the next, so that they do not race.
pub(super) const CHOICE_STEP: Duration = Duration::from_millis(500);

/// Others beyond these go together with the last: all must have gone before [`GIVE_UP`].
pub(super) const CHOICES_MAX: u32 = 8;

/// When an offer that nobody took is refused: a page waits for 10 s at most.
pub(super) const GIVE_UP: Duration = Duration::from_secs(8);

/// Nodes that give up one after the other, a step apart; more go together.
pub(super) const GIVE_UP_RANKS_MAX: u32 = 3;

/// When an offer is refused although a node lives that should have taken it.
pub(super) const OWNER_PATIENCE: Duration = Duration::from_millis(9500);

/// Offers older than this by the database's clock have nobody waiting for them.
pub(super) const OFFER_AGE_MAX: Duration = Duration::from_secs(600);

/// When the TTL policy may delete a document that is done with. All versions of the program must
/// agree on it: from it others know when a node wrote.
pub(super) const EXPIRE_AFTER: Duration = Duration::from_secs(3600);

/// How long a room waits for its broadcaster, whose media was lost, to offer again.
pub(super) const BROADCASTER_GRACE: Duration = Duration::from_secs(60);

/// How long a members' room with nobody in it stays ours: somebody may be reloading a page.
pub(super) const EMPTY_ROOM_GRACE: Duration = Duration::from_secs(10);

/// How long we believe that a room has the owner that we read.
pub(super) const ROOM_OWNER_AGE_MAX: Duration = Duration::from_secs(10);

/// Rooms of other nodes that we remember the owner of.
pub(super) const ROOM_OWNERS_MAX: usize = 4096;

/// Between one node that may clean up after a dead one and the next.
pub(super) const SWEEP_STEP: Duration = Duration::from_secs(2);

/// When a sweep that has not ended is taken over.
pub(super) const SWEEP_LEASE: Duration = Duration::from_secs(60);

/// How often fresh listens are asked for at most.
pub(super) const RELISTEN_GAP: Duration = Duration::from_secs(5);

/// How long after a listen began the database is asked whether we heard everything: the emulator
/// misses writes that meet the beginning of a listen.
pub(super) const CENSUS_FIRST: Duration = Duration::from_secs(1);

/// Between a count that is not ours and the next.
pub(super) const CENSUS_AGAIN: Duration = Duration::from_millis(1500);

/// How often the work set is counted when nothing is wrong: one read for each thousand documents.
pub(super) const CENSUS_SPAN: Duration = Duration::from_secs(30);

/// Wrong counts in a row, with nothing heard between them, after which we listen afresh: what is on
/// its way to us has arrived by then.
pub(super) const CENSUS_DOUBTS: u32 = 3;

/// The longest that a write or the news of one usually takes; more, and others get more time.
pub(super) const PACE_USUAL: Duration = Duration::from_millis(250);

/// For how long a slow write is remembered, once or twice.
pub(super) const PACE_WINDOW: Duration = Duration::from_secs(5);

/// The most that waits for others grow by: a page's patience has an end, too.
pub(super) const PACE_SLACK_MAX: Duration = Duration::from_secs(20);

/// How often the desk looks around by itself.
pub(super) const TICK: Duration = Duration::from_millis(500);

const _: () = assert!(
    GIVE_UP.as_millis() + CHOICE_STEP.as_millis() * GIVE_UP_RANKS_MAX as u128
        <= OWNER_PATIENCE.as_millis(),
    "all have given up before the last patience ends"
);
const _: () = assert!(
    OTHER_CHOICES.as_millis() + CHOICE_STEP.as_millis() * CHOICES_MAX as u128
        <= GIVE_UP.as_millis(),
    "everybody who could take an offer had a turn"
);
