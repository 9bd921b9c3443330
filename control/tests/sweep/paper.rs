//! Pages with a document in the database: broadcasters, participants and members.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::firestore::message::{Change, Collection, Path, Precondition, Write};
use serde_json::Value as Json;
use signaling::firestore::{Fields, Kind, Value, encode_offer, field};

use crate::chaos::Act;
use crate::database::text;
use crate::person::{Door, Paper, tracks_of};
use crate::world::{Event, World};

impl World {
    pub(crate) fn paper(&mut self, person: usize) -> Option<&mut Paper> {
        match &mut self.people.get_mut(&person)?.door {
            Door::Paper(paper) => Some(paper),
            Door::Page(_) | Door::Encoder(_) | Door::Player(_) => None,
        }
    }

    /// A page writes an offer of a new connection, or of the one that it has.
    pub(crate) fn write_offer(&mut self, person: usize, is_new: bool) {
        let now = self.now;
        if is_new {
            self.renew_call(person);
        }
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let room = state.room.as_str().to_owned();
        let (Door::Paper(paper), Some(call)) = (&mut state.door, &mut state.call) else {
            return;
        };
        let sends = match paper.kind {
            Kind::Broadcaster => Some([true, true]),
            Kind::Member => Some(state.sends),
            Kind::Participant | Kind::Camera => None,
        };
        if paper.kind == Kind::Participant && call.receivers.is_empty() {
            call.want_whatever_comes();
        }
        if paper.kind == Kind::Member {
            call.want(&tracks_of(&paper.roster, &paper.id));
            paper.is_dirty = false;
        }
        let sdp = call.offer(now, sends);
        let map = |entries: Vec<(String, String)>| -> Value {
            let entries = entries.into_iter().map(|(key, value)| (key, value.into()));
            Value::Map(entries.collect())
        };
        let wants = call
            .receivers
            .iter()
            .filter_map(|known| Some((known.mid.clone(), known.want.clone()?)));
        let parent = match paper.kind {
            Kind::Broadcaster => String::new(),
            Kind::Participant | Kind::Member | Kind::Camera => room,
        };
        paper.offer = encode_offer(&sdp);
        let mut fields: Fields = [
            (field::REQUESTOR, Value::from("Ada")),
            (field::KIND, paper.kind.as_str().into()),
            (field::PARENT, parent.as_str().into()),
            (field::OFFER, paper.offer.as_str().into()),
            (field::ANSWER, "".into()),
            (field::ABORT, false.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if paper.kind == Kind::Member {
            let sources = [("0", "microphone"), ("1", "camera")];
            let sources = sources.map(|(mid, source)| (mid.to_owned(), source.to_owned()));
            fields.insert(field::SOURCES.to_owned(), map(sources.into()));
            fields.insert(field::WANTS.to_owned(), map(wants.collect()));
        }
        paper.offered_at = Some(now);
        paper.answered.clear();
        let id = paper.id.clone();
        self.tally.offers += 1;
        self.write_fields(&id, fields);
    }

    /// A page changes some fields of its document.
    pub(crate) fn write_fields(&mut self, id: &str, fields: Fields) {
        self.page_writes(Write {
            path: Path::request(id),
            change: Change::Set(fields),
            precondition: Precondition::None,
        });
    }

    /// A page hangs up.
    pub(crate) fn hang_up(&mut self, person: usize) {
        if let Some(id) = self.paper(person).map(|paper| paper.id.clone()) {
            let fields = [(field::ABORT.to_owned(), true.into())];
            self.write_fields(&id, fields.into());
            self.expire_document(&id);
        }
        self.forget_person(person);
    }

    /// Pages hear of changes of their own document and, members, of their room's.
    pub(crate) fn tell_pages(&mut self, changed: &[Path]) {
        let mut heard = Vec::new();
        for (person, state) in &self.people {
            let Door::Paper(paper) = &state.door else {
                continue;
            };
            for path in changed {
                let is_heard = match path.collection {
                    Collection::Requests => path.id == paper.id,
                    Collection::Rooms => {
                        paper.kind == Kind::Member && path.id == state.room.as_str()
                    }
                    Collection::Nodes => false,
                };
                if is_heard {
                    heard.push((*person, paper.id.clone()));
                }
            }
        }
        for (person, id) in heard {
            let delay = Duration::from_millis(2 + self.rng.below(20));
            self.queue
                .push(self.now + delay, Event::Document(person, id));
        }
    }

    /// A page reads its document and its room's, as they are now.
    pub(crate) fn on_document(&mut self, person: usize, id: &str) {
        let Some(room) = self.people.get(&person).map(|its| its.room.clone()) else {
            return;
        };
        if self.paper(person).is_none_or(|paper| paper.id != id) {
            return;
        }
        let document = self.database.documents.get(&Path::request(id)).cloned();
        let shown = self
            .database
            .documents
            .get(&Path::room(room.as_str()))
            .cloned();
        if let Some(document) = document {
            let answer = text(&document.fields, field::ANSWER).to_owned();
            let error = text(&document.fields, field::ERROR).to_owned();
            let offer = text(&document.fields, field::OFFER);
            // Each refusal has a time of its own, by which it is told from an older one.
            let refusal = (!error.is_empty()).then(|| {
                let said_at = document.fields.get(field::EXPIRE_AT);
                format!(
                    "{error} {} {said_at:?}",
                    text(&document.fields, field::OWNER)
                )
            });
            // What is said of an older offer is of no interest, and goes on for a moment.
            if let Some(paper) = self.paper(person).filter(|paper| paper.offer == offer) {
                error.clone_into(&mut paper.error);
                let is_new = refusal.is_some() && paper.refusal != refusal;
                paper.refusal = refusal;
                self.on_fields(person, &answer, is_new.then_some(&error));
            }
        }
        let people = shown.map(|shown| text(&shown.fields, "people").to_owned());
        if let (Some(people), Some(paper)) = (people, self.paper(person)) {
            let people: Vec<Json> = serde_json::from_str(&people).expect("people are JSON");
            let known = |known: Json| Some((known["id"].as_str()?.to_owned(), known));
            let roster: BTreeMap<String, Json> = people.into_iter().filter_map(known).collect();
            paper.is_dirty |= paper.roster != roster;
            paper.roster = roster;
        }
        self.renegotiate_paper(person);
    }

    fn on_fields(&mut self, person: usize, answer: &str, error: Option<&String>) {
        let (now, epoch, pace) = (self.now, self.epoch, self.plan.pace);
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let (Door::Paper(paper), Some(call)) = (&mut state.door, &mut state.call) else {
            return;
        };
        if !answer.is_empty() && *answer != paper.answered && paper.offered_at.is_some() {
            paper.offered_at = None;
            answer.clone_into(&mut paper.answered);
            call.handle_answer(now, epoch, &pace, &decode(answer));
            self.drain_peer(person);
            return;
        }
        let Some(error) = error else { return };
        self.tally.refused += 1;
        paper.offered_at = None;
        call.pending = None;
        call.is_over = true;
        let ends = ["over", "did not come back", "there is no meeting"];
        if ends.iter().any(|end| error.contains(end)) {
            self.hang_up(person);
        } else {
            let wait = self.soon(1_500, 4_000);
            self.plan_act(person, wait, Act::Enter);
        }
    }

    /// A member whose room has other tracks than it wants offers again, not too often.
    fn renegotiate_paper(&mut self, person: usize) {
        let Some(state) = self.people.get(&person) else {
            return;
        };
        let (Door::Paper(paper), Some(call)) = (&state.door, &state.call) else {
            return;
        };
        let may_offer = paper.kind == Kind::Member
            && paper.is_dirty
            && paper.offered_at.is_none()
            && !state.has_plan;
        let mut wanted: Vec<String> = tracks_of(&paper.roster, &paper.id)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        let mut known: Vec<String> = call
            .receivers
            .iter()
            .filter_map(|receiver| receiver.want.clone())
            .collect();
        wanted.sort();
        known.sort();
        if may_offer && wanted != known {
            let wait = self.soon(1_500, 2_500);
            self.plan_act(person, wait, Act::Offer);
        }
    }
}

/// The SDP of an answer as it stands in a document.
fn decode(answer: &str) -> String {
    let json = STANDARD.decode(answer).expect("an answer is base64");
    let read: Json = serde_json::from_slice(&json).expect("of JSON");
    assert_eq!(read["type"], "answer");
    read["sdp"].as_str().expect("with a text").to_owned()
}
