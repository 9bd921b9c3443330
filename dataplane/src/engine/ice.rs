//! Connectivity of one session: who may speak for it, from where, and where its media goes
//! (RFC 8445 with us as the lite agent, RFC 7675).

use std::collections::VecDeque;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::snapshot::Age;
use crate::command::IceSpec;
use crate::limits::{NOMINATIONS_REMEMBERED_MAX, PATH_HELD, PATHS_PER_SESSION_MAX};
use crate::transmit::{Path, Transport};
use crate::wire::{BindingRequest, IntegrityKey};

/// The ICE state of a session.
#[derive(Debug)]
pub(super) struct Ice {
    current: Credentials,
    /// After a restart, until the peer nominates with them: both pairs are good.
    next: Option<Credentials>,
    paths: Vec<ValidPath>,
    /// How many paths there were, to number the next.
    paths_seen: u32,
    media: Option<Path>,
    /// The transactions that nominated, each with the number of the path that it came by, the
    /// latest last.
    nominations: VecDeque<([u8; 12], u32)>,
    heard_at: Option<Instant>,
}

/// A pair of credentials. The key is made of the password for each check: it is 1.2 kB, of which
/// ten thousand sessions would keep twelve megabytes to save 0.2 us every few seconds.
#[derive(Debug)]
pub(super) struct Credentials {
    /// Our ufrag.
    pub(super) local_ufrag: Box<str>,
    remote_ufrag: Box<str>,
    local_pwd: Secret,
}

/// A password, which shows itself to nobody.
struct Secret(Box<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Credentials {
    /// What control chose.
    pub(super) fn new(spec: IceSpec) -> Credentials {
        Credentials {
            local_ufrag: spec.local_ufrag.into(),
            remote_ufrag: spec.remote_ufrag.into(),
            local_pwd: Secret(spec.local_pwd.into()),
        }
    }

    fn to_spec(&self) -> IceSpec {
        IceSpec {
            local_ufrag: self.local_ufrag.to_string(),
            local_pwd: self.local_pwd.0.to_string(),
            remote_ufrag: self.remote_ufrag.to_string(),
        }
    }
}

/// A path from which a valid check came.
#[derive(Clone, Copy, Debug)]
struct ValidPath {
    path: Path,
    /// No other path of the session ever has it.
    number: u32,
    checked_at: Instant,
}

/// What goes on in another process. Connections of ICE-TCP end with this one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IceSnapshot {
    current: IceSpec,
    next: Option<IceSpec>,
    paths: Vec<(Path, u32, Age)>,
    paths_seen: u32,
    media: Option<Path>,
    nominations: VecDeque<([u8; 12], u32)>,
    heard: Option<Age>,
}

/// What a valid check changed.
#[derive(Debug, Default)]
pub(super) struct CheckOutcome {
    /// It was the session's first.
    pub(super) is_first: bool,
    /// A path that had to make room.
    pub(super) evicted: Option<Path>,
    /// Media moved to this path.
    pub(super) moved_to: Option<Path>,
    /// The restart is complete: this ufrag of ours is over.
    pub(super) retired_ufrag: Option<Box<str>>,
}

impl Ice {
    /// Waits for checks with these credentials.
    pub(super) fn new(credentials: Credentials) -> Ice {
        Ice {
            current: credentials,
            next: None,
            // Most come by one path, whatever others are allowed.
            paths: Vec::with_capacity(1),
            paths_seen: 0,
            media: None,
            nominations: VecDeque::new(),
            heard_at: None,
        }
    }

    /// What another process goes on with.
    pub(super) fn snapshot(&self, now: Instant) -> IceSnapshot {
        let is_udp = |path: &Path| path.transport == Transport::Udp;
        let paths = self.paths.iter().filter(|known| is_udp(&known.path));
        IceSnapshot {
            current: self.current.to_spec(),
            next: self.next.as_ref().map(Credentials::to_spec),
            paths: paths
                .map(|known| (known.path, known.number, Age::of(now, known.checked_at)))
                .collect(),
            paths_seen: self.paths_seen,
            media: self.media.filter(is_udp),
            nominations: self.nominations.clone(),
            heard: self.heard_at.map(|at| Age::of(now, at)),
        }
    }

    /// Goes on where another process ended.
    pub(super) fn restore(now: Instant, snapshot: IceSnapshot) -> Ice {
        let path = |(path, number, age): (Path, u32, Age)| ValidPath {
            path,
            number,
            checked_at: age.before(now),
        };
        Ice {
            current: Credentials::new(snapshot.current),
            next: snapshot.next.map(Credentials::new),
            paths: snapshot.paths.into_iter().map(path).collect(),
            paths_seen: snapshot.paths_seen,
            media: snapshot.media,
            nominations: snapshot.nominations,
            heard_at: snapshot.heard.map(|age| age.before(now)),
        }
    }

    /// Accepts new credentials beside the current ones (RFC 8445 section 9). Returns our ufrag of
    /// an earlier restart that never completed.
    pub(super) fn restart(&mut self, credentials: Credentials) -> Option<Box<str>> {
        self.next
            .replace(credentials)
            .map(|abandoned| abandoned.local_ufrag)
    }

    /// The key of a check that is authentic: it names credentials of both sides, and its
    /// integrity holds.
    pub(super) fn authenticate(&self, request: &BindingRequest<'_>) -> Option<IntegrityKey> {
        let (local, remote) = request.username();
        let credentials = self.credentials(local)?;
        if credentials.remote_ufrag.as_bytes() != remote {
            return None;
        }
        let key = IntegrityKey::new(&credentials.local_pwd.0);
        request.verify(&key).then_some(key)
    }

    /// Whether a check repeats a nomination that came by another path: somebody recorded it and
    /// sends it from where they are, to have the media sent there.
    pub(super) fn is_replayed(&self, path: Path, request: &BindingRequest<'_>) -> bool {
        let transaction = request.transaction();
        let known = self.paths.iter().find(|known| known.path == path);
        let number = known.map(|known| known.number);
        self.nominations
            .iter()
            .any(|(known, by)| *known == transaction && Some(*by) != number)
    }

    /// Whether the session's media goes by this path and a check came by it lately: its client is there.
    pub(super) fn holds(&self, now: Instant, path: Path) -> bool {
        let known = self.paths.iter().find(|known| known.path == path);
        self.media == Some(path)
            && known
                .is_some_and(|known| now.saturating_duration_since(known.checked_at) < PATH_HELD)
    }

    /// An authentic check arrived from `path`, and was not replayed.
    pub(super) fn handle_check(
        &mut self,
        now: Instant,
        path: Path,
        request: &BindingRequest<'_>,
    ) -> CheckOutcome {
        let mut outcome = CheckOutcome {
            is_first: self.heard_at.is_none(),
            ..CheckOutcome::default()
        };
        self.heard_at = Some(now);
        let number = match self.paths.iter_mut().find(|known| known.path == path) {
            Some(known) => {
                known.checked_at = now;
                known.number
            }
            None => {
                if self.paths.len() >= PATHS_PER_SESSION_MAX {
                    outcome.evicted = self.evict();
                }
                let number = self.paths_seen;
                self.paths_seen = number.wrapping_add(1);
                self.paths.push(ValidPath {
                    path,
                    number,
                    checked_at: now,
                });
                number
            }
        };
        if request.use_candidate() {
            if self.nominations.len() >= NOMINATIONS_REMEMBERED_MAX {
                self.nominations.pop_front();
            }
            self.nominations.push_back((request.transaction(), number));
            let (local, _) = request.username();
            if let Some(next) = self
                .next
                .take_if(|next| next.local_ufrag.as_bytes() == local)
            {
                let retired = std::mem::replace(&mut self.current, next);
                outcome.retired_ufrag = Some(retired.local_ufrag);
            }
            // The controlling side decides, and its latest word counts (RFC 8445 section 8.1.1).
            if self.media != Some(path) {
                self.media = Some(path);
                outcome.moved_to = Some(path);
            }
        }
        outcome
    }

    /// Another session proved that the path is its own.
    pub(super) fn forget(&mut self, path: Path) {
        self.paths.retain(|known| known.path != path);
        if self.media == Some(path) {
            self.media = None;
        }
    }

    /// Where media goes: only a nomination says so.
    pub(super) fn media_path(&self) -> Option<Path> {
        self.media
    }

    /// Where DTLS goes: it may begin before the nomination, on the path heard from last.
    pub(super) fn handshake_path(&self) -> Option<Path> {
        let latest = self.paths.iter().max_by_key(|known| known.checked_at);
        self.media.or(latest.map(|known| known.path))
    }

    /// When the last authentic check came.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Every path that checks came from.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> {
        self.paths.iter().map(|known| known.path)
    }

    /// Our ufrags: one, or two during a restart.
    pub(super) fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current)
            .chain(&self.next)
            .map(|c| &*c.local_ufrag)
    }

    fn credentials(&self, local: &[u8]) -> Option<&Credentials> {
        std::iter::once(&self.current)
            .chain(&self.next)
            .find(|credentials| credentials.local_ufrag.as_bytes() == local)
    }

    /// The path that was silent longest makes room, but not the one that carries the media.
    fn evict(&mut self) -> Option<Path> {
        let media = self.media;
        let (index, _) = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, known)| Some(known.path) != media)
            .min_by_key(|(_, known)| known.checked_at)?;
        Some(self.paths.swap_remove(index).path)
    }
}
