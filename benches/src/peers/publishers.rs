//! When each picture left whom, so that a receiver in the same process knows how long it took.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Pictures remembered of a publisher: more than two minutes at 30 a second.
const PICTURES: usize = 4_096;

/// When a publisher's last pictures left, by picture id.
#[derive(Debug)]
pub(crate) struct SentTimes {
    /// In microseconds of the meeting, plus 1; 0 is never.
    pictures: Box<[AtomicU64]>,
}

impl Default for SentTimes {
    fn default() -> SentTimes {
        SentTimes {
            pictures: (0..PICTURES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl SentTimes {
    /// A picture leaves.
    pub(crate) fn note(&self, picture_id: u16, sent_us: u64) {
        if let Some(slot) = self.pictures.get(usize::from(picture_id) % PICTURES) {
            slot.store(sent_us + 1, Ordering::Relaxed);
        }
    }

    /// When a picture left, in microseconds of the meeting.
    pub(crate) fn sent_us(&self, picture_id: u16) -> Option<u64> {
        let slot = self.pictures.get(usize::from(picture_id) % PICTURES)?;
        slot.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// The publishers of this process, by their ids in the room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publishers {
    by_person: Arc<Mutex<HashMap<String, Arc<SentTimes>>>>,
}

impl Publishers {
    /// A person is known from now on.
    pub(crate) fn insert(&self, person: &str, sent: Arc<SentTimes>) {
        if let Ok(mut people) = self.by_person.lock() {
            people.insert(person.to_owned(), sent);
        }
    }

    /// A person's pictures, if that person is in this process.
    pub(crate) fn find(&self, person: &str) -> Option<Arc<SentTimes>> {
        self.by_person.lock().ok()?.get(person).cloned()
    }
}
