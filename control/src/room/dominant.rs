//! Who dominates a room: the one who has spoken loudest over the last seconds.
//!
//! Whoever begins while nobody else speaks dominates at once. Who takes over from somebody who still
//! speaks must have been clearly louder; who falls silent dominates until another speaks.

use signaling::node::PersonId;

/// A report weighs as much as what was heard before it does after so many of them..
const MEMORY: u16 = 3;

/// ..in parts of a decibel.
const PER_DB: u16 = 16;

/// How loud somebody was over the last seconds, in sixteenths of a decibel above the least of speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loudness(u16);

impl Loudness {
    /// A second passed in which it was this loud on average.
    pub(super) fn handle_second(&mut self, loudness_db: u8) {
        let now = u16::from(loudness_db) * PER_DB;
        self.0 = (self.0 * (MEMORY - 1) + now) / MEMORY;
    }

    /// Whether it is louder by half.
    fn is_clearly_above(self, other: Loudness) -> bool {
        u32::from(self.0) * 2 > u32::from(other.0) * 3
    }
}

/// Somebody who can be heard in a room.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub(super) person: PersonId,
    pub(super) speaks: bool,
    pub(super) loudness: Loudness,
}

/// Who dominates among these voices, after `before` did.
pub(super) fn dominant(before: Option<&PersonId>, voices: &[Voice]) -> Option<PersonId> {
    let before = voices.iter().find(|voice| Some(&voice.person) == before);
    // Of several who are alike the first in the room.
    let speaking = voices.iter().filter(|voice| voice.speaks).rev();
    let loudest = speaking.max_by_key(|voice| voice.loudness);
    let chosen = match (before, loudest) {
        (Some(before), Some(loudest)) => {
            let gives_way = !before.speaks || loudest.loudness.is_clearly_above(before.loudness);
            if gives_way { loudest } else { before }
        }
        (before, loudest) => before.or(loudest)?,
    };
    Some(chosen.person.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(name: &str, speaks: bool, seconds: &[u8]) -> Voice {
        let mut loudness = Loudness::default();
        for loudness_db in seconds {
            loudness.handle_second(*loudness_db);
        }
        Voice {
            person: PersonId(name.to_owned()),
            speaks,
            loudness,
        }
    }

    fn after(before: &str, voices: &[Voice]) -> Option<String> {
        let before = PersonId(before.to_owned());
        dominant(Some(&before), voices).map(|person| person.0)
    }

    #[test]
    fn who_speaks_takes_over_from_who_is_silent_and_nobody_takes_it_back() {
        let [ann, bob] = [voice("ann", false, &[20; 5]), voice("bob", true, &[])];
        assert_eq!(
            after("ann", &[ann.clone(), bob.clone()]).as_deref(),
            Some("bob")
        );
        assert_eq!(after("nobody", &[ann.clone(), bob]).as_deref(), Some("bob"));
        let silent = [ann, voice("bob", false, &[10])];
        assert_eq!(after("bob", &silent).as_deref(), Some("bob"));
        assert_eq!(after("nobody", &silent), None);
    }

    #[test]
    fn of_two_who_speak_the_louder_dominates_after_a_while_and_not_for_a_word() {
        let ann = voice("ann", true, &[8; 10]);
        let takes_over = |seconds: &[u8]| {
            let bob = voice("bob", true, seconds);
            after("ann", &[ann.clone(), bob]).as_deref() == Some("bob")
        };
        let bob = [20; 6];
        let taken: Vec<bool> = (1..=6).map(|n| takes_over(&bob[..n])).collect();
        assert_eq!(taken, [false, false, true, true, true, true]);
        assert!(!takes_over(&[11; 20]), "hardly louder");
    }
}
