//! The body over generated scripts: what a fuzzer would begin with.

use super::{Seen, operations};
use crate::wire::generator::Generator;

const SEED: u64 = 0x656e_6769_6e65;

/// Two people meet, one publishes a picture, the other sees it, and twelve packets are sent.
const MEETING: [u8; 22] = [
    0, 0, 0, 0, 0, 0, 0, 8, 0, 0xf0, 0, 0, 12, 1, 0, 0, 18, 0, 11, 0, 0, 0,
];

#[test]
fn a_meeting_is_one() {
    let seen = operations(&MEETING);
    assert_eq!((seen.media, seen.repairs), (12, 0));
    assert!(seen.control > 0);
}

#[test]
fn whatever_is_done_the_invariants_hold() {
    let mut generator = Generator::new(SEED);
    let mut all = Seen::default();
    for round in 0..150 {
        let mut script = MEETING.to_vec();
        let len = 200 + 10 * round;
        script.extend((0..len).map(|_| generator.u8()));
        all += operations(&script);
    }
    // Without that much happening the invariants would hold of nothing.
    let is_seen = all.media > 1_800 && all.repairs > 0 && all.padding > 0 && all.control > 0;
    assert!(is_seen, "{all:?}");
}
