//! Desks that share a simulated database.

mod cameras;
mod database;
mod faults;
mod meetings;
mod members;
mod world;

use std::time::Duration;

use signaling::firestore::{Fields, Value, encode_offer};

use super::{RequestId, paper};
use crate::firestore::message::Path;
use crate::firestore::registry::text;
use database::Decision;
use world::{World, field};

const SDP: &str = include_str!("../../../../../signaling/tests/offers/ffmpeg-whip-audio-only.sdp");

const SECOND: Duration = Duration::from_secs(1);

/// The longest that a page waits for an answer or an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// The text of an offer like no other.
fn offer(n: u64) -> String {
    let origin = SDP.lines().nth(1).unwrap();
    encode_offer(&SDP.replace(origin, &format!("o=- {n} 0 IN IP4 127.0.0.1")))
}

/// A request as pages write it, all at once.
fn request(kind: &str, parent: &str, n: u64) -> Fields {
    [
        field("requestor", "Ada"),
        field("kind", kind),
        field("parent", parent),
        field("offer", offer(n)),
        field("answer", ""),
        field("abort", false),
    ]
    .into()
}

impl World {
    /// A page offers now.
    fn offer_now(&mut self, id: &str, kind: &str, parent: &str) {
        let n = self.random();
        self.page(self.now, Path::request(id), request(kind, parent, n));
    }

    /// A page offers anew in its document now.
    fn offer_again(&mut self, id: &str) {
        let n = self.random();
        let fields = [field("offer", offer(n)), field("answer", "")];
        self.page(self.now, Path::request(id), fields.into());
    }

    /// A page hangs up now.
    fn hang_up(&mut self, id: &str) {
        let fields = [field("abort", true)];
        self.page(self.now, Path::request(id), fields.into());
    }

    fn field(&self, id: &str, name: &str) -> Value {
        let document = self.database.document(&Path::request(id));
        let value = document.and_then(|document| document.fields.get(name));
        value.cloned().unwrap_or(Value::Null)
    }

    fn text(&self, id: &str, name: &str) -> String {
        let document = self.database.document(&Path::request(id));
        document.map_or_else(String::new, |document| {
            text(&document.fields, name).to_owned()
        })
    }

    /// What became of the offer that is in a document now: one decision, never two.
    fn decision(&self, id: &str) -> Option<Decision> {
        let document = self.database.document(&Path::request(id))?;
        let key = (id.to_owned(), paper::mark(&document.fields));
        let decisions = self.database.decisions.get(&key)?;
        assert_eq!(decisions.len(), 1, "{id} was decided once: {decisions:?}");
        decisions.first().cloned()
    }

    /// The error of the offer that is in a document now.
    fn error(&self, id: &str) -> String {
        let decision = self.decision(id).expect("the offer is decided");
        assert_ne!(decision.error, "", "{id} is refused");
        decision.error
    }

    /// The node that answered the offer that is in a document now, which has its session.
    fn server(&self, id: &str) -> usize {
        let decision = self.decision(id);
        let decision = decision.unwrap_or_else(|| panic!("{id} is undecided"));
        assert_eq!(decision.error, "", "{id} is answered");
        let holds = self.holder(id);
        assert_eq!(holds, Some(decision.node), "{id} is served by who answered");
        decision.node
    }

    /// The node that has a session of a document.
    fn holder(&self, id: &str) -> Option<usize> {
        let id = RequestId(id.to_owned());
        let holds = |node: &world::Node| node.sessions.contains_key(&id);
        self.nodes.iter().position(holds)
    }

    /// Three nodes that have met.
    fn three(seed: u64) -> World {
        let mut world = World::new(seed);
        for name in ["node-a", "node-b", "node-c"] {
            world.start(name, 1000);
        }
        world.run(SECOND * 20);
        for node in &world.nodes {
            assert_eq!(node.desk.ready(), Ok(()));
        }
        world
    }
}
