//! Rooms that documents made on this node: broadcasters' and members', and what members read of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use signaling::firestore::{Fields, Kind, Value};
use signaling::name::RoomName;

use super::outbox::{Outcome, Pending, Purpose};
use super::reads::Question;
use super::{Desk, Effect, RequestId, RoomView, limits, paper};
use crate::firestore::message::{Change, Document, Path, Precondition, Stamp, Write};
use crate::firestore::registry::text;

/// A room of this node.
#[derive(Debug)]
pub(super) struct Room {
    /// Who made it.
    pub(super) origin: Origin,
    /// Whether people can come in.
    pub(super) state: RoomState,
    /// Sessions of documents in it.
    pub(super) seats: BTreeSet<RequestId>,
    /// Until when it waits for its broadcaster, whose media was lost.
    pub(super) orphaned_until: Option<Instant>,
    /// Since when nobody has come or gone.
    pub(super) empty_since: Option<Instant>,
    /// Whether it has a document of its own, because members are in it.
    shared: bool,
    /// The version of that document.
    version: Option<Stamp>,
    /// What was last given to it.
    written: Option<RoomView>,
}

/// Who made a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The broadcaster whose document names it.
    Broadcast(RequestId),
    /// Members.
    Members,
}

/// Whether people can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomState {
    /// Not before the database says that it is ours.
    Claiming,
    /// Yes.
    Open,
    /// It is being given back.
    Closing,
}

/// Whose other rooms are, as read not long ago.
#[derive(Debug, Default)]
pub(super) struct RoomOwners {
    owners: BTreeMap<RoomName, (String, Instant)>,
}

impl RoomOwners {
    fn remember(&mut self, now: Instant, room: &RoomName, owner: &str) {
        if self.owners.len() >= limits::ROOM_OWNERS_MAX {
            self.owners
                .retain(|_, (_, read)| now < *read + limits::ROOM_OWNER_AGE_MAX);
        }
        if self.owners.len() >= limits::ROOM_OWNERS_MAX {
            self.owners.clear();
        }
        self.owners.insert(room.clone(), (owner.to_owned(), now));
    }
}

impl Room {
    /// A room that is about to be ours.
    pub(super) fn new(origin: Origin) -> Room {
        Room {
            shared: origin == Origin::Members,
            origin,
            state: RoomState::Claiming,
            seats: BTreeSet::new(),
            orphaned_until: None,
            empty_since: None,
            version: None,
            written: None,
        }
    }
}

impl Desk {
    /// Whether another node has this room, as far as we read.
    pub(super) fn room_is_anothers(&self, now: Instant, room: &RoomName) -> bool {
        let Some((owner, read)) = self.owners.owners.get(room) else {
            return false;
        };
        // An empty owner is a broadcaster's who is not served yet.
        let stands = owner.is_empty() || self.is_anothers(now, owner);
        stands && now < *read + limits::ROOM_OWNER_AGE_MAX
    }

    /// Begins to make a members' room ours.
    pub(super) fn claim_room(&mut self, now: Instant, name: &RoomName) {
        if self.rooms.contains_key(name) {
            return;
        }
        self.rooms.insert(name.clone(), Room::new(Origin::Members));
        if self.is_local(name) {
            // Our people are in it already: be the first.
            self.write_room(now, name, Precondition::Absent);
        } else {
            self.reads.push(Question::RoomOwner(name.clone()));
        }
    }

    /// Whether somebody is in the room here, whatever door they took.
    pub(super) fn is_local(&self, name: &RoomName) -> bool {
        self.views.get(name).is_some_and(|view| view.present > 0)
    }

    /// A room's document was read.
    pub(super) fn on_room_read(
        &mut self,
        now: Instant,
        name: &RoomName,
        document: Option<&Document>,
    ) {
        let Some(state) = self.rooms.get(name).map(|room| room.state) else {
            return;
        };
        let Some(document) = document else {
            match state {
                RoomState::Claiming if !self.is_local(name) => {
                    self.reads.push(Question::RoomParent(name.clone()));
                }
                RoomState::Claiming | RoomState::Open => {
                    self.write_room(now, name, Precondition::Absent);
                }
                RoomState::Closing => {}
            }
            return;
        };
        let owner = text(&document.fields, "owner");
        if self.is_anothers(now, owner) {
            self.owners.remember(now, name, owner);
            self.lose_room(now, name);
        } else {
            self.keep_gap(now, document);
            self.write_room(now, name, Precondition::Updated(document.updated));
        }
    }

    /// The request document of a room's name was read: the room may be a broadcaster's.
    pub(super) fn on_room_parent_read(
        &mut self,
        now: Instant,
        name: &RoomName,
        document: Option<&Document>,
    ) {
        let state = self.rooms.get(name).map(|room| room.state);
        if state != Some(RoomState::Claiming) {
            return;
        }
        let broadcast = document.filter(|document| {
            text(&document.fields, "kind") == Kind::Broadcaster.as_str()
                && !paper::is_over(&document.fields)
        });
        let Some(document) = broadcast else {
            self.write_room(now, name, Precondition::Absent);
            return;
        };
        let owner = paper::owner(&document.fields);
        if paper::is_work(&document.fields) || self.is_anothers(now, owner) {
            let owner = if paper::is_work(&document.fields) {
                ""
            } else {
                owner
            };
            self.owners.remember(now, name, owner);
            self.lose_room(now, name);
        } else {
            self.write_room(now, name, Precondition::Absent);
        }
    }

    /// The room is another node's.
    fn lose_room(&mut self, now: Instant, name: &RoomName) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        if room.state == RoomState::Claiming {
            self.rooms.remove(name);
        } else if room.origin == Origin::Members {
            room.version = None;
            self.close_room(now, name, "this room moved to another node; offer again");
        } else {
            room.shared = false;
            room.version = None;
        }
        self.cases.look_at_room(now, name);
    }

    /// A write of a room's document came to an end.
    pub(super) fn on_room_written(&mut self, now: Instant, name: &RoomName, outcome: &Outcome) {
        let Some(version) = outcome.done else {
            if self.rooms.contains_key(name) {
                self.reads.push(Question::RoomOwner(name.clone()));
            }
            return;
        };
        let Some(room) = self.rooms.get_mut(name) else {
            // Given up meanwhile.
            self.delete_room(name, version);
            return;
        };
        room.version = Some(version);
        if room.state == RoomState::Claiming && room.origin == Origin::Members {
            room.state = RoomState::Open;
            room.empty_since = Some(now);
            self.owners.owners.remove(name);
            self.cases.look_at_room(now, name);
        }
    }

    /// The end of a room's document came to an end.
    pub(super) fn on_room_closed(&mut self, now: Instant, name: &RoomName) {
        let closing = self
            .rooms
            .get(name)
            .is_some_and(|room| room.state == RoomState::Closing);
        if closing {
            self.rooms.remove(name);
        }
        self.cases.look_at_room(now, name);
    }

    /// Members are in the room: it gets a document.
    pub(super) fn share_room(&mut self, now: Instant, name: &RoomName) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.shared = true;
        }
        self.show_room(now, name);
    }

    /// Shows members what the room looks like, if that has changed.
    pub(super) fn show_room(&mut self, now: Instant, name: &RoomName) {
        let (Some(room), Some(view)) = (self.rooms.get(name), self.views.get(name)) else {
            return;
        };
        let texts = |view: &RoomView| {
            [&view.people, &view.speaking, &view.chat].map(|text: &String| text.clone())
        };
        let same = room.written.as_ref().map(texts) == Some(texts(view));
        if !room.shared || room.state != RoomState::Open || same {
            return;
        }
        let precondition = room
            .version
            .map_or(Precondition::Absent, Precondition::Updated);
        self.write_room(now, name, precondition);
    }

    fn write_room(&mut self, now: Instant, name: &RoomName, precondition: Precondition) {
        let view = self.views.get(name).cloned().unwrap_or_default();
        let lease_end = self.at(now).after(self.config.lease);
        let list = |text: &str| {
            let text = if text.is_empty() { "[]" } else { text };
            Value::from(text)
        };
        let fields: Fields = [
            ("owner", Value::from(self.config.node.as_str())),
            ("lease_until", Value::Time(lease_end.0)),
            ("people", list(&view.people)),
            ("speaking", list(&view.speaking)),
            ("chat", list(&view.chat)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(room) = self.rooms.get_mut(name) {
            room.written = Some(view);
        }
        self.outbox.push(Pending {
            write: Write {
                path: Path::room(name.as_str()),
                change: Change::Set(fields),
                precondition,
            },
            purpose: Purpose::Room(name.clone()),
            follows: true,
        });
    }

    fn delete_room(&mut self, name: &RoomName, version: Stamp) {
        self.outbox.push(Pending {
            write: Write {
                path: Path::room(name.as_str()),
                change: Change::Delete,
                precondition: Precondition::Updated(version),
            },
            purpose: Purpose::CloseRoom(name.clone()),
            follows: true,
        });
    }

    /// What time alone brings to rooms.
    pub(super) fn tick_rooms(&mut self, now: Instant) {
        let mut orphans = Vec::new();
        let mut empty = Vec::new();
        for (name, room) in &self.rooms {
            let over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
            let rested = room.empty_since.map(|at| at + limits::EMPTY_ROOM_GRACE);
            if over(room.orphaned_until) {
                orphans.push(name.clone());
            } else if room.origin == Origin::Members
                && room.state == RoomState::Open
                && room.seats.is_empty()
                && over(rested)
                && !self.is_local(name)
            {
                empty.push(name.clone());
            }
        }
        for name in orphans {
            self.close_room(now, &name, "the broadcaster did not come back");
            self.reads.push(Question::Request(RequestId(name.into())));
        }
        for name in empty {
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            match room.version {
                Some(version) => {
                    room.state = RoomState::Closing;
                    self.delete_room(&name, version);
                }
                None => {
                    self.rooms.remove(&name);
                }
            }
        }
    }

    /// Ends a room and every session in it, for this reason.
    pub(super) fn close_room(&mut self, now: Instant, name: &RoomName, error: &str) {
        let Some(seats) = self.forget_room(name) else {
            return;
        };
        self.effects.push_back(Effect::CloseRoom(name.clone()));
        for id in seats {
            self.cases.set_claiming(&id, false);
            if let Some(seat) = self.seats.remove(&id) {
                self.finish_seat(now, &id, &seat, "", error);
            }
        }
    }

    /// Forgets a room and deletes its document. Who sat in it.
    pub(super) fn forget_room(&mut self, name: &RoomName) -> Option<BTreeSet<RequestId>> {
        let room = self.rooms.remove(name)?;
        if let Some(version) = room.version {
            self.delete_room(name, version);
        }
        Some(room.seats)
    }

    /// Rooms of ours that have a document: what an audit expects to find.
    pub(super) fn shared_rooms(&self) -> impl Iterator<Item = &RoomName> {
        let open = |room: &Room| room.shared && room.state == RoomState::Open;
        self.rooms
            .iter()
            .filter(move |(_, room)| open(room))
            .map(|(name, _)| name)
    }

    /// Whether the document is that of a broadcaster whose room waits for them.
    pub(super) fn is_awaited(&self, id: &RequestId) -> bool {
        let origin = Origin::Broadcast(id.clone());
        let name: Result<RoomName, _> = id.0.parse();
        name.is_ok_and(|name| {
            self.rooms
                .get(&name)
                .is_some_and(|room| room.origin == origin)
        })
    }
}
