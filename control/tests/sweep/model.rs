//! What a node's engines would hold, had they carried out every command: no command may name what is not there.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{Command, MediaKind};
use dataplane::id::{SenderId, SessionId, TrackId};

/// The engines of one node, as far as its rooms can know them.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sessions: BTreeMap<SessionId, usize>,
    pub(crate) tracks: BTreeMap<TrackId, (SessionId, MediaKind, usize)>,
    pub(crate) senders: BTreeMap<SenderId, (SessionId, MediaKind)>,
    pub(crate) feeds: BTreeMap<SenderId, TrackId>,
    exports: BTreeSet<(TrackId, usize)>,
    imports: BTreeSet<(TrackId, usize)>,
}

impl Model {
    /// A command leaves for a worker.
    pub(crate) fn carry_out(&mut self, worker: usize, command: &Command) {
        match command {
            Command::Open(spec) => {
                let before = self.sessions.insert(spec.session, worker);
                assert_eq!(before, None, "{:?} is opened twice", spec.session);
            }
            Command::OpenFeed(spec) => {
                let before = self.sessions.insert(spec.session, worker);
                assert_eq!(before, None, "{:?} is opened twice", spec.session);
            }
            Command::Close { session } => {
                self.on_worker(worker, *session);
                self.forget(*session);
            }
            Command::RestartIce { session, .. }
            | Command::OpenData { session, .. }
            | Command::Data { session, .. } => self.on_worker(worker, *session),
            Command::Publish { session, track } => {
                self.on_worker(worker, *session);
                let known = (*session, track.kind, track.formats.len());
                let before = self.tracks.insert(track.track, known);
                let is_own = before.is_none_or(|(owner, ..)| owner == *session);
                assert!(is_own, "{:?} changes its publisher", track.track);
            }
            Command::Unpublish { track } => self.unpublish(worker, *track),
            Command::Export { track, to } => {
                self.on_worker(worker, self.publisher(*track));
                assert!(
                    self.imports.contains(&(*track, *to)),
                    "it is expected there"
                );
                assert!(worker != *to && self.exports.insert((*track, *to)));
            }
            Command::EndExport { track, to } => {
                self.on_worker(worker, self.publisher(*track));
                assert!(self.exports.remove(&(*track, *to)), "{track:?} to {to}");
            }
            Command::Import { track, from } => {
                self.on_worker(*from, self.publisher(track.track));
                self.imports.insert((track.track, worker));
            }
            Command::AddSender { session, sender } => {
                self.on_worker(worker, *session);
                let known = (*session, sender.kind);
                let before = self.senders.insert(sender.sender, known);
                assert!(before.is_none_or(|before| before == known));
            }
            Command::RemoveSender { sender } => {
                let known = self.senders.remove(sender);
                let (session, _) = known.expect("a sender is removed that was added");
                self.on_worker(worker, session);
                self.feeds.remove(sender);
            }
            Command::Prefer { sender, .. } => self.on_worker(worker, self.receiver(*sender).0),
            Command::Feed { sender, source } => {
                let track = source
                    .as_ref()
                    .map(|feed| (feed.track, feed.payload_types.len()));
                self.feed(worker, *sender, track);
            }
            // The world has told the model when the worker failed.
            Command::AfterRestart => {}
            Command::DataEvent { .. }
            | Command::DataDropped { .. }
            | Command::DtlsTransmit { .. }
            | Command::DtlsConnected { .. }
            | Command::DtlsClosed { .. } => unreachable!("these are the handshake threads' own"),
        }
    }

    /// A session is over, with all that it published and received.
    pub(crate) fn forget(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        self.tracks.retain(|_, (owner, ..)| *owner != session);
        self.senders.retain(|_, (owner, _)| *owner != session);
        let Model {
            sessions,
            tracks,
            senders,
            feeds,
            exports,
            imports,
        } = self;
        exports.retain(|(track, _)| tracks.contains_key(track));
        // Elsewhere a track that is gone is silent, but not forgotten.
        feeds.retain(|sender, track| {
            let worker = senders
                .get(sender)
                .and_then(|(owner, _)| sessions.get(owner));
            worker.is_some_and(|worker| {
                tracks.contains_key(track) || imports.contains(&(*track, *worker))
            })
        });
    }

    /// A worker has forgotten everything.
    pub(crate) fn restart(&mut self, worker: usize) {
        let lives = |(id, on): (&SessionId, &usize)| (*on == worker).then_some(*id);
        let lost: Vec<SessionId> = self.sessions.iter().filter_map(lives).collect();
        self.imports.retain(|(_, on)| *on != worker);
        for session in lost {
            self.forget(session);
        }
    }

    /// Nothing is left of anybody.
    pub(crate) fn assert_empty(&self) {
        let Model {
            sessions,
            tracks,
            senders,
            feeds,
            exports,
            imports,
        } = self;
        assert!(sessions.is_empty() && tracks.is_empty(), "{self:?}");
        assert!(senders.is_empty() && feeds.is_empty(), "{self:?}");
        assert!(exports.is_empty() && imports.is_empty(), "{self:?}");
    }

    fn unpublish(&mut self, worker: usize, track: TrackId) {
        if !self.imports.remove(&(track, worker)) {
            self.on_worker(worker, self.publisher(track));
            self.tracks.remove(&track);
            self.exports.retain(|(exported, _)| *exported != track);
        }
        let Model {
            sessions,
            senders,
            feeds,
            ..
        } = self;
        let on_it = |sender: &SenderId| sessions[&senders[sender].0] == worker;
        feeds.retain(|sender, fed| *fed != track || !on_it(sender));
    }

    fn feed(&mut self, worker: usize, sender: SenderId, source: Option<(TrackId, usize)>) {
        let (session, kind) = self.receiver(sender);
        self.on_worker(worker, session);
        let Some((track, formats)) = source else {
            self.feeds.remove(&sender);
            return;
        };
        let publisher = self.publisher(track);
        if !self.imports.contains(&(track, worker)) {
            self.on_worker(worker, publisher);
        }
        let (_, published, known) = self.tracks[&track];
        assert_eq!(
            (kind, formats),
            (published, known),
            "{sender:?} of {track:?}"
        );
        self.feeds.insert(sender, track);
    }

    fn on_worker(&self, worker: usize, session: SessionId) {
        let there = self.sessions.get(&session);
        assert_eq!(
            there,
            Some(&worker),
            "{session:?} is not on worker {worker}"
        );
    }

    fn publisher(&self, track: TrackId) -> SessionId {
        let known = self.tracks.get(&track);
        known
            .unwrap_or_else(|| panic!("{track:?} is not published"))
            .0
    }

    fn receiver(&self, sender: SenderId) -> (SessionId, MediaKind) {
        let known = self.senders.get(&sender);
        *known.unwrap_or_else(|| panic!("{sender:?} was never added"))
    }
}
