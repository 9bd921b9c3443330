//! Pages with a WebSocket: what `signaling/web/js` does, as far as the node can see it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::Act;
use crate::person::{Door, Page, tracks_of};
use crate::socket::Frame;
use crate::world::World;

/// Close codes after which a page does not come back by itself.
const ENDS: [u16; 6] = [4002, 4004, 4005, 4006, 4009, 4010];

impl World {
    fn page(&mut self, person: usize) -> Option<&mut Page> {
        match &mut self.people.get_mut(&person)?.door {
            Door::Page(page) => Some(page),
            Door::Encoder(_) | Door::Player(_) | Door::Paper(_) => None,
        }
    }

    /// A page opens its WebSocket and says who it is.
    pub(crate) fn enter_page(&mut self, person: usize) {
        let Some(state) = self.people.get(&person) else {
            return;
        };
        let (node, room) = (state.node, state.room.clone());
        let socket = self.open_socket(person, node);
        let Some(page) = self.page(person) else {
            return;
        };
        page.socket = Some(socket);
        page.is_joined = false;
        let first = match &page.token {
            Some(token) => json!({"type": "resume", "token": token}),
            None => json!({"type": "join", "room": room.as_str(), "name": format!("p{person}")}),
        };
        self.send_frame(socket, Frame::Text(first.to_string()));
    }

    /// A frame arrives at a page, if it is still there to read it.
    pub(crate) fn on_client_frame(&mut self, socket: usize, frame: Frame) {
        let Some(person) = self.clients.get(&socket).copied() else {
            return;
        };
        if matches!(frame, Frame::Broken) {
            self.clients.remove(&socket);
        }
        if self
            .page(person)
            .is_none_or(|page| page.socket != Some(socket))
        {
            return;
        }
        match frame {
            Frame::Text(text) => self.on_text(person, &text),
            Frame::Ping => self.send_frame(socket, Frame::Pong),
            Frame::Pong => {}
            Frame::Close(code) => self.on_closed(person, code),
            Frame::Broken => self.on_closed(person, None),
        }
    }

    /// The WebSocket is closed, or broke: the page comes back, as the same person if it can.
    pub(crate) fn on_closed(&mut self, person: usize, code: Option<u16>) {
        let Some(page) = self.page(person) else {
            return;
        };
        let was_resuming = page.token.is_some() && !page.is_joined;
        page.socket = None;
        page.is_joined = false;
        if code == Some(4006) && was_resuming {
            page.token = None;
            let wait = self.soon(100, 500);
            self.plan_act(person, wait, Act::Enter);
        } else if code.is_some_and(|code| ENDS.contains(&code)) {
            self.tally.refused += 1;
            self.forget_person(person);
        } else {
            let wait = self.soon(375, 3_000);
            self.plan_act(person, wait, Act::Enter);
        }
    }

    fn on_text(&mut self, person: usize, text: &str) {
        let message: Value = serde_json::from_str(text).expect("messages are JSON");
        let word = |name: &str| {
            message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match word("type") {
            "joined" => self.on_joined(person, &message),
            "person-joined" => {
                let Some(page) = self.page(person) else {
                    return;
                };
                let newcomer = message["person"].clone();
                let id = newcomer["id"].as_str().expect("people have ids").to_owned();
                let before = page.roster.insert(id, newcomer);
                assert_eq!(before, None, "somebody joins who is there already");
            }
            "person-left" => {
                let Some(page) = self.page(person) else {
                    return;
                };
                let left = page.roster.remove(word("id"));
                assert!(left.is_some(), "somebody leaves who was not there: {text}");
            }
            "tracks" => {
                let Some(page) = self.page(person) else {
                    return;
                };
                let known = page.roster.get_mut(word("id"));
                let known = known.expect("tracks are of people who are there");
                known["tracks"] = message["tracks"].clone();
            }
            "answer" => self.on_answer(person, message["id"].as_u64(), word("sdp")),
            "refused" => self.on_refused(person),
            "media-lost" => {
                if let Some(call) = self
                    .people
                    .get_mut(&person)
                    .and_then(|its| its.call.as_mut())
                {
                    call.is_over = true;
                }
                let wait = self.soon(1, 1_000);
                self.plan_act(person, wait, Act::Offer);
                return;
            }
            // The close code that follows says what to do.
            _ => return,
        }
        self.negotiate(person);
    }

    fn on_joined(&mut self, person: usize, message: &Value) {
        let Some(page) = self.page(person) else {
            return;
        };
        let resumed = page.token.is_some();
        page.token = message["token"].as_str().map(str::to_owned);
        page.you = message["you"].as_str().map(str::to_owned);
        let everybody = message["people"].as_array().into_iter().flatten();
        page.roster = everybody
            .map(|known| {
                (
                    known["id"].as_str().unwrap_or_default().to_owned(),
                    known.clone(),
                )
            })
            .collect();
        page.is_joined = true;
        page.is_dirty = true;
        let state = self.people.get_mut(&person);
        if let Some(call) = state.and_then(|state| state.call.as_mut()) {
            // What was asked over the old connection is asked again.
            call.pending = None;
        }
        if resumed {
            self.tally.resumed += 1;
        }
        let has_call = self
            .people
            .get(&person)
            .and_then(|state| state.call.as_ref())
            .is_some_and(|call| !call.is_over);
        if !resumed || !has_call {
            self.renew_call(person);
        }
    }

    fn on_answer(&mut self, person: usize, id: Option<u64>, sdp: &str) {
        let (now, epoch, pace) = (self.now, self.epoch, self.plan.pace);
        let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        else {
            return;
        };
        if call.pending.as_ref().map(|pending| pending.id) != id {
            return;
        }
        call.handle_answer(now, epoch, &pace, sdp);
        self.drain_peer(person);
    }

    fn on_refused(&mut self, person: usize) {
        self.tally.refused += 1;
        let Some(call) = self
            .people
            .get_mut(&person)
            .and_then(|its| its.call.as_mut())
        else {
            return;
        };
        call.pending = None;
        let wait = self.soon(1_000, 4_000);
        self.plan_act(person, wait, Act::Offer);
    }

    /// Offers again when the sections are not what they should be, one offer at a time.
    pub(crate) fn negotiate(&mut self, person: usize) {
        let now = self.now;
        let Some(state) = self.people.get_mut(&person) else {
            return;
        };
        let (Door::Page(page), Some(call)) = (&mut state.door, &mut state.call) else {
            return;
        };
        let Some(socket) = page.socket.filter(|_| page.is_joined && !call.is_over) else {
            return;
        };
        if call.pending.is_some() {
            return;
        }
        let tracks = tracks_of(&page.roster, page.you.as_deref().unwrap_or_default());
        page.is_dirty |= call.want(&tracks);
        if !page.is_dirty || call.is_empty(state.sends) {
            return;
        }
        page.is_dirty = false;
        let sdp = call.offer(now, Some(state.sends));
        let wants: serde_json::Map<String, Value> = call
            .receivers
            .iter()
            .filter_map(|known| Some((known.mid.clone(), known.want.clone()?.into())))
            .collect();
        let message = json!({
            "type": "offer",
            "id": call.offers,
            "sdp": sdp,
            "sources": { "0": "microphone", "1": "camera" },
            "wants": wants,
        });
        self.tally.offers += 1;
        self.send_frame(socket, Frame::Text(message.to_string()));
    }

    /// Says something over a page's WebSocket.
    pub(crate) fn say_to_server(&mut self, person: usize, message: &Value) {
        if let Some(page) = self.page(person).filter(|page| page.is_joined)
            && let Some(socket) = page.socket
        {
            self.send_frame(socket, Frame::Text(message.to_string()));
        }
    }

    /// A page leaves, with a goodbye or without; its WebSocket breaks then if the system closes it.
    pub(crate) fn leave_page(&mut self, person: usize, goodbye: Option<Frame>) {
        let socket = self.page(person).and_then(|page| page.socket);
        if let (Some(socket), Some(frame)) = (socket, goodbye) {
            self.send_frame(socket, frame);
        }
        self.forget_person(person);
    }

    /// A connection is cut: both sides learn of it.
    pub(crate) fn break_socket(&mut self, person: usize) {
        if let Some(socket) = self.page(person).and_then(|page| page.socket) {
            self.send_frame(socket, Frame::Broken);
            self.on_closed(person, None);
        }
    }

    /// A connection carries nothing for a while.
    pub(crate) fn stick_socket(&mut self, person: usize, time: Duration) {
        let until = self.now + time;
        if let Some(socket) = self.page(person).and_then(|page| page.socket)
            && let Some(open) = self.sockets.get_mut(&socket)
        {
            open.stuck_until = Some(until);
        }
    }
}
