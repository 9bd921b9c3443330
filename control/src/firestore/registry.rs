//! The registry: which nodes there are, which of them live, and which of them shall take a room.

use std::collections::BTreeMap;
use std::time::Duration;

use signaling::firestore::{Fields, Value};

use super::message::{Document, Stamp};

/// How long a node is believed in that does not say how long.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The longest lease that a node can ask for: its pages wait that long if it dies.
const LEASE_S_MAX: i64 = 600;

/// Headroom is compared in so many steps: the numbers are up to a heartbeat old, and an exact
/// comparison would send everything to one node until the next.
const HEADROOM_STEPS: i64 = 8;

/// A node as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Tells a process from an earlier or second one of the same id.
    pub incarnation: String,
    /// When it last wrote, or was last written about.
    pub updated: Stamp,
    /// How long after that it is believed in.
    pub lease: Duration,
    /// Rooms that it took from the database, and how many it takes.
    pub broadcasts: i64,
    /// How many it takes.
    pub capacity_broadcasts: i64,
    /// Media sessions through all doors.
    pub sessions: i64,
    /// How many it takes.
    pub capacity_sessions: i64,
    /// Whether it takes no new rooms.
    pub draining: bool,
    /// Who cleans up after it; empty while it lives.
    pub swept_by: String,
}

/// What can be said of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its lease holds.
    Live,
    /// Its lease is over, but it may be as late as we are.
    Lapsed,
    /// It is gone: its rooms are anybody's.
    Gone,
}

/// All nodes by id.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<String, Node>,
}

impl Node {
    fn read(document: &Document) -> Node {
        let fields = &document.fields;
        let integer = |name| fields.get(name).and_then(Value::as_integer);
        let lease_s = integer("lease_s").map(|lease| lease.clamp(1, LEASE_S_MAX));
        let lease_s = lease_s.and_then(|lease| u64::try_from(lease).ok());
        Node {
            incarnation: text(fields, "incarnation").to_owned(),
            updated: document.updated,
            lease: lease_s.map_or(LEASE_DEFAULT, Duration::from_secs),
            broadcasts: integer("broadcasts").unwrap_or(0),
            capacity_broadcasts: integer("capacity_broadcasts").unwrap_or(0),
            sessions: integer("sessions").unwrap_or(0),
            capacity_sessions: integer("capacity_sessions").unwrap_or(0),
            draining: matches!(fields.get("draining"), Some(Value::Bool(true))),
            swept_by: text(fields, "swept_by").to_owned(),
        }
    }

    /// When it stops being believed in.
    #[must_use]
    pub fn lease_end(&self) -> Stamp {
        self.updated.after(self.lease)
    }

    /// How much more it could take, in steps; 0 when it takes nothing.
    fn headroom(&self) -> i64 {
        let steps = |used: i64, most: i64| {
            let free = most.saturating_sub(used.max(0)).max(0);
            // Rounded up: who can take one more is not full.
            free.saturating_mul(HEADROOM_STEPS).saturating_add(most - 1) / most
        };
        if self.draining || self.capacity_broadcasts < 1 || self.capacity_sessions < 1 {
            return 0;
        }
        steps(self.broadcasts, self.capacity_broadcasts)
            .min(steps(self.sessions, self.capacity_sessions))
    }
}

impl Registry {
    /// A node's document is like this.
    pub fn handle_changed(&mut self, document: &Document) {
        let id = document.path.id.clone();
        self.nodes.insert(id, Node::read(document));
    }

    /// A node's document is gone.
    pub fn handle_gone(&mut self, id: &str) {
        self.nodes.remove(id);
    }

    /// The node of this id.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// How long a claim of this node lasts.
    #[must_use]
    pub fn lease(&self, id: &str) -> Duration {
        self.node(id).map_or(LEASE_DEFAULT, |node| node.lease)
    }

    /// All nodes by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(id, node)| (id.as_str(), node))
    }

    /// What can be said of a node at this moment. `settled`: we have been connected for so long that
    /// nodes that live have been heard.
    #[must_use]
    pub fn standing(&self, id: &str, at: Stamp, settled: bool) -> Standing {
        match self.nodes.get(id) {
            None => Standing::Gone,
            Some(node) if !node.swept_by.is_empty() => Standing::Gone,
            Some(node) if at <= node.lease_end() => Standing::Live,
            Some(_) if settled => Standing::Gone,
            Some(_) => Standing::Lapsed,
        }
    }

    /// How many leases hold.
    #[must_use]
    pub fn live(&self, at: Stamp) -> usize {
        self.by_hash("", at).len()
    }

    /// The live nodes in an order that all nodes agree on and that differs for each subject.
    #[must_use]
    pub fn by_hash(&self, subject: &str, at: Stamp) -> Vec<&str> {
        let live = self.nodes.iter().filter(|(id, _)| {
            // Settled or not: who is not live has no say.
            self.standing(id, at, false) == Standing::Live
        });
        let mut ranked: Vec<(u64, &str)> = live
            .map(|(id, _)| (hash(&[subject, id]), id.as_str()))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    /// The live nodes that could take a room named by this subject: of the first two by hash the one
    /// with more headroom, the other, and then the rest by hash.
    #[must_use]
    pub fn candidates(&self, subject: &str, at: Stamp) -> Vec<&str> {
        let headroom = |id: &&str| self.nodes.get(*id).map_or(0, Node::headroom);
        let mut ranked = self.by_hash(subject, at);
        ranked.retain(|id| headroom(id) > 0);
        if let [first, second, ..] = ranked.as_mut_slice()
            && headroom(second) > headroom(first)
        {
            std::mem::swap(first, second);
        }
        ranked
    }
}

/// A text field, or nothing.
pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    let text = fields.get(name).and_then(Value::as_text);
    text.unwrap_or_default()
}

/// FNV-1a, 64 bits, with the finish of SplitMix so that nearby texts fall apart. All nodes of all
/// versions must agree on it.
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firestore::message::Path;

    const NOW: Stamp = Stamp(1_700_000_000_000_000);

    fn node(id: &str, broadcasts: i64, capacity: i64) -> Document {
        let fields = [
            ("broadcasts", Value::Integer(broadcasts)),
            ("capacity_broadcasts", Value::Integer(capacity)),
            // JavaScript and hands write doubles.
            ("capacity_sessions", Value::Double(5000.0)),
        ];
        Document {
            path: Path::node(id),
            fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
            created: NOW,
            updated: NOW,
        }
    }

    fn registry(nodes: &[Document]) -> Registry {
        let mut registry = Registry::default();
        for node in nodes {
            registry.handle_changed(node);
        }
        registry
    }

    #[test]
    fn a_node_lives_as_long_as_its_lease_and_dies_only_before_witnesses() {
        let mut swept = node("c", 0, 9);
        swept.fields.insert("swept_by".to_owned(), "a".into());
        let registry = registry(&[node("a", 0, 9), swept]);
        let standing = |id, after, settled| {
            registry.standing(id, NOW.after(Duration::from_secs(after)), settled)
        };
        assert_eq!(standing("a", 30, true), Standing::Live);
        assert_eq!(standing("a", 31, false), Standing::Lapsed);
        assert_eq!(standing("a", 31, true), Standing::Gone);
        assert_eq!(standing("b", 0, false), Standing::Gone);
        assert_eq!(standing("c", 0, false), Standing::Gone);
    }

    #[test]
    fn rooms_spread_over_equals_and_avoid_the_busy_and_the_full() {
        let equal = registry(&[node("a", 1, 100), node("b", 3, 100), node("c", 0, 100)]);
        let mut taken = BTreeMap::new();
        for n in 0..600 {
            let room = format!("room{n}");
            let first = equal.candidates(&room, NOW)[0].to_owned();
            *taken.entry(first).or_insert(0) += 1;
        }
        assert!(
            taken.values().all(|count| (150..250).contains(count)),
            "{taken:?}"
        );
        let unequal = registry(&[node("a", 90, 100), node("b", 10, 100), node("c", 100, 100)]);
        for n in 0..50 {
            let room = format!("room{n}");
            assert_eq!(unequal.candidates(&room, NOW), ["b", "a"]);
        }
    }

    #[test]
    fn a_draining_node_is_no_candidate_and_the_last_place_is_one() {
        let mut draining = node("a", 0, 100);
        draining.fields.insert("draining".to_owned(), true.into());
        let registry = registry(&[draining, node("b", 2, 3), node("c", 3, 3)]);
        assert_eq!(registry.candidates("room", NOW), ["b"]);
        assert_eq!(registry.live(NOW), 3);
    }
}
