//! The work list against an oracle: a query's true result, told in every way that a listener may.

use std::collections::BTreeMap;

use signaling::firestore::Fields;

use super::{Delta, Worklist};
use crate::firestore::message::{Document, Heard, Path, Stamp, Target};

const TARGET: Target = Target::Work;

fn document(id: u64, updated: i64) -> Document {
    Document {
        path: Path::request(&format!("d{id}")),
        fields: Fields::new(),
        created: Stamp(0),
        updated: Stamp(updated),
    }
}

fn changed(id: u64, updated: i64) -> Heard {
    Heard::Changed(TARGET, document(id, updated))
}

fn gone(id: u64, at: Option<i64>) -> Heard {
    Heard::Gone(TARGET, document(id, 0).path, at.map(Stamp))
}

/// Hears these and gives the differences.
fn hear(list: &mut Worklist, heard: impl IntoIterator<Item = Heard>) -> Vec<Delta> {
    for heard in heard {
        list.handle_heard(heard);
    }
    std::iter::from_fn(|| list.poll_delta()).collect()
}

#[test]
fn a_version_is_told_once() {
    let mut list = Worklist::default();
    let deltas = hear(&mut list, [changed(1, 5), changed(1, 5), changed(1, 4)]);
    assert_eq!(deltas, [Delta::Changed(TARGET, document(1, 5))]);
    let deltas = hear(&mut list, [changed(1, 6), gone(1, None), gone(1, None)]);
    assert_eq!(deltas.len(), 2);
    assert_eq!(list.len(TARGET), 0);
}

#[test]
fn a_replay_removes_what_it_does_not_bring() {
    let mut list = Worklist::default();
    let _ = hear(&mut list, [changed(1, 5), changed(2, 6)]);
    assert!(!list.is_current(TARGET));
    let replay = [Heard::Reset(TARGET), changed(2, 6), changed(3, 7)];
    assert_eq!(
        hear(&mut list, replay),
        [Delta::Changed(TARGET, document(3, 7))]
    );
    let gone = Delta::Gone(TARGET, document(1, 0).path);
    let current = Delta::Current(TARGET, Stamp(9));
    assert_eq!(
        hear(&mut list, [Heard::Current(TARGET, Stamp(9))]),
        [gone, current]
    );
    assert!(list.is_current(TARGET));
}

#[test]
fn late_words_bring_nothing_back_and_take_nothing_away() {
    let mut list = Worklist::default();
    let _ = hear(&mut list, [changed(1, 5), gone(1, Some(8))]);
    assert_eq!(hear(&mut list, [changed(1, 5)]), []);
    // It came back, and the word of its leaving arrives again.
    assert_eq!(hear(&mut list, [changed(1, 9), gone(1, Some(8))]).len(), 1);
    assert_eq!(list.version(TARGET, &document(1, 0).path), Some(Stamp(9)));
}

#[test]
fn a_wrong_count_asks_for_a_fresh_listen_and_a_replay_heals() {
    let mut list = Worklist::default();
    let _ = hear(&mut list, [changed(1, 5), Heard::Current(TARGET, Stamp(5))]);
    assert_eq!(hear(&mut list, [Heard::Count(TARGET, 1)]), []);
    let mismatch = [Delta::Mismatch(TARGET)];
    assert_eq!(hear(&mut list, [Heard::Count(TARGET, 2)]), mismatch);
    // What a wrong removal took away, a replay brings back in the same version.
    let replay = [
        gone(1, Some(7)),
        Heard::Reset(TARGET),
        changed(1, 5),
        Heard::Count(TARGET, 7),
        Heard::Current(TARGET, Stamp(8)),
    ];
    assert_eq!(hear(&mut list, replay).len(), 3);
    assert_eq!(list.len(TARGET), 1);
}

#[test]
fn targets_do_not_mix() {
    let mut list = Worklist::default();
    let other = Heard::Changed(Target::Members, document(1, 5));
    let _ = hear(&mut list, [changed(1, 5), other]);
    let deltas = hear(
        &mut list,
        [
            Heard::Reset(Target::Members),
            Heard::Current(Target::Members, Stamp(6)),
        ],
    );
    assert_eq!(deltas.len(), 2);
    assert_eq!((list.len(TARGET), list.len(Target::Members)), (1, 0));
}

/// A generator that repeats by seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The true result of the query, and how it is told.
struct Oracle {
    dice: Dice,
    clock: i64,
    inside: BTreeMap<u64, i64>,
    /// What was said before, to be said again late.
    said: Vec<Heard>,
    /// What the deltas add up to.
    seen: BTreeMap<Path, Stamp>,
}

impl Oracle {
    /// Changes the truth in one way and tells it in one way.
    fn step(&mut self, list: &mut Worklist) {
        self.clock += 1;
        let id = self.dice.roll(12);
        let heard = match self.dice.roll(10) {
            0..=4 => {
                self.inside.insert(id, self.clock);
                changed(id, self.clock)
            }
            5..=6 if self.inside.remove(&id).is_some() => gone(id, Some(self.clock)),
            7 => {
                self.replay(list);
                return;
            }
            8 => {
                // The connection was lost: what happened meanwhile is told by the replay alone.
                self.inside.remove(&id);
                self.inside.insert(self.dice.roll(12), self.clock);
                self.replay(list);
                return;
            }
            _ => match self.said.len() as u64 {
                0 => return,
                said => self.said[self.dice.roll(said) as usize].clone(),
            },
        };
        self.said.push(heard.clone());
        self.hear(list, heard);
        let count = Heard::Count(TARGET, self.inside.len());
        self.hear(list, count);
    }

    fn replay(&mut self, list: &mut Worklist) {
        self.said.clear();
        self.hear(list, Heard::Reset(TARGET));
        let mut inside: Vec<(u64, i64)> = self.inside.clone().into_iter().collect();
        while !inside.is_empty() {
            let next = self.dice.roll(inside.len() as u64) as usize;
            let (id, updated) = inside.swap_remove(next);
            self.hear(list, changed(id, updated));
            if self.dice.roll(4) == 0 {
                self.hear(list, changed(id, updated));
            }
        }
        self.hear(list, Heard::Current(TARGET, Stamp(self.clock)));
    }

    fn hear(&mut self, list: &mut Worklist, heard: Heard) {
        list.handle_heard(heard);
        while let Some(delta) = list.poll_delta() {
            match delta {
                Delta::Changed(_, document) => {
                    let before = self.seen.insert(document.path, document.updated);
                    assert!(before < Some(document.updated), "each version once");
                }
                Delta::Gone(_, path) => {
                    assert!(self.seen.remove(&path).is_some(), "it was there");
                }
                Delta::Current(..) => {}
                Delta::Mismatch(_) | Delta::Refused(..) => panic!("nothing is wrong"),
            }
        }
    }

    fn check(&self) {
        let truth: BTreeMap<Path, Stamp> = self
            .inside
            .iter()
            .map(|(id, updated)| (document(*id, 0).path, Stamp(*updated)))
            .collect();
        assert_eq!(self.seen, truth);
    }
}

#[test]
fn whatever_is_told_twice_late_or_by_replay_the_set_is_the_true_one() {
    for seed in 0..200 {
        let mut list = Worklist::default();
        let mut oracle = Oracle {
            dice: Dice(seed),
            clock: 0,
            inside: BTreeMap::new(),
            said: Vec::new(),
            seen: BTreeMap::new(),
        };
        for _ in 0..200 {
            oracle.step(&mut list);
            oracle.check();
        }
    }
}
