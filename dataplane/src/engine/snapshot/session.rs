//! Sessions in a snapshot: those that are connected.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Age, RestoreError};
use crate::command::{DtlsRole, DtlsSpec, IceSpec, MediaKind, SessionSpec, SrtpKeys};
use crate::engine::Engine;
use crate::engine::arrivals::{Arrivals, ArrivalsSnapshot};
use crate::engine::clock::RemoteClock;
use crate::engine::downlink::{Downlink, DownlinkSnapshot};
use crate::engine::ice::{Ice, IceSnapshot};
use crate::engine::intake::Intake;
use crate::engine::nack::{NackList, NackSnapshot};
use crate::engine::sender::{Sender, SenderSnapshot};
use crate::engine::session::{Keys, Session, SessionKey};
use crate::engine::source::Source;
use crate::engine::statistics::{Reception, ReceptionSnapshot};
use crate::id::{SessionId, Ssrc, TrackId};
use crate::limits::RTCP_INTERVAL;
use crate::srtp::{RtcpProgress, SequenceWindow};

/// A client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionSnapshot {
    session: SessionId,
    opened: Age,
    ice: IceSnapshot,
    role: DtlsRole,
    keys: SrtpKeys,
    rtcp: RtcpProgress,
    rtcp_ssrc: Ssrc,
    clock: RemoteClock,
    arrivals: Option<ArrivalsSnapshot>,
    rtt_us: Option<u64>,
    retired_sources: VecDeque<(Ssrc, SequenceWindow)>,
    retired_senders: Vec<(Ssrc, u64)>,
    media: MediaSnapshot,
}

/// What of a session refers to streams.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MediaSnapshot {
    sources: Vec<SourceSnapshot>,
    senders: Vec<SenderSnapshot>,
    downlink: Option<DownlinkSnapshot>,
}

/// One SSRC that it sends.
#[derive(Debug, Serialize, Deserialize)]
struct SourceSnapshot {
    ssrc: Ssrc,
    stream: TrackId,
    encoding: u8,
    window: SequenceWindow,
    reception: ReceptionSnapshot,
    missing: Option<NackSnapshot>,
    is_repair: bool,
}

impl SessionSnapshot {
    /// Its id.
    pub(super) fn id(&self) -> SessionId {
        self.session
    }
}

impl Session {
    /// Whether it goes on in another process: a handshake that is not done begins anew.
    pub(super) fn is_carried(&self) -> bool {
        self.is_connected && self.keys.is_some()
    }
}

impl Engine {
    /// `None` for a session that is not connected.
    pub(super) fn session_snapshot(
        &self,
        now: Instant,
        key: SessionKey,
    ) -> Option<SessionSnapshot> {
        let session = self.sessions.get(key).filter(|its| its.is_carried())?;
        let keys = session.keys.as_ref()?;
        Some(SessionSnapshot {
            session: session.id,
            opened: Age::of(now, session.opened_at),
            ice: session.ice.snapshot(now),
            role: session.dtls.role,
            keys: (*keys.master).clone(),
            rtcp: keys.rtcp.progress(),
            rtcp_ssrc: session.rtcp_ssrc,
            clock: session.remote_clock,
            arrivals: session.arrivals.as_ref().map(|its| its.snapshot(now)),
            rtt_us: session.rtt.map(|rtt| rtt.as_micros() as u64),
            retired_sources: session.retired_sources.clone(),
            retired_senders: session.retired_senders.clone(),
            media: self.media_snapshot(now, session),
        })
    }

    fn media_snapshot(&self, now: Instant, session: &Session) -> MediaSnapshot {
        let source = |source: &Source| {
            let track = self.tracks.get(source.track)?;
            Some(SourceSnapshot {
                ssrc: source.ssrc,
                stream: track.spec.track,
                encoding: track.encoding,
                window: source.window.clone(),
                reception: source.reception.snapshot(),
                missing: source.missing.as_ref().map(NackList::snapshot),
                is_repair: source.is_repair,
            })
        };
        let senders = session.senders.iter().filter_map(|(key, _)| {
            let sender = self.senders.get(*key)?;
            let track = sender
                .source
                .as_ref()
                .and_then(|its| self.tracks.get(its.track));
            Some(sender.snapshot(now, track))
        });
        MediaSnapshot {
            sources: session.sources.iter().filter_map(source).collect(),
            senders: senders.collect(),
            downlink: session.downlink.as_ref().map(|its| its.snapshot()),
        }
    }

    /// Opens the session as it was; what refers to streams comes later.
    pub(super) fn restore_session(
        &mut self,
        now: Instant,
        snapshot: SessionSnapshot,
    ) -> Result<(SessionKey, MediaSnapshot), RestoreError> {
        let id = snapshot.session;
        if self.names.sessions.contains_key(&id) {
            return Err(RestoreError::Inconsistent("a session is there twice"));
        }
        let refused = |_| RestoreError::Inconsistent("a session's keys are of the wrong length");
        let mut keys = Keys::new(&snapshot.keys).map_err(refused)?;
        keys.rtcp.resume(snapshot.rtcp);
        let spec = SessionSpec {
            session: id,
            ice: IceSpec {
                local_ufrag: String::new(),
                local_pwd: String::new(),
                remote_ufrag: String::new(),
            },
            dtls: DtlsSpec {
                role: snapshot.role,
                fingerprints: Vec::new(),
            },
            cname: String::new(),
        };
        let (opened_at, ssrc) = (snapshot.opened.before(now), snapshot.rtcp_ssrc);
        let intake = Intake::new(now, self.intake_max);
        let mut session = Session::new(opened_at, spec, ssrc, intake);
        session.ice = Ice::restore(now, snapshot.ice);
        session.keys = Some(keys);
        session.is_connected = true;
        session.remote_clock = snapshot.clock;
        let arrivals = snapshot.arrivals.as_ref();
        session.arrivals = arrivals.map(|its| Box::new(Arrivals::restore(now, its)));
        session.rtt = snapshot.rtt_us.map(Duration::from_micros);
        session.retired_sources = snapshot.retired_sources;
        session.retired_senders = snapshot.retired_senders;
        let paths: Vec<_> = session.ice.paths().collect();
        let ufrags: Vec<Box<[u8]>> = session
            .ice
            .local_ufrags()
            .map(|its| its.as_bytes().into())
            .collect();
        let key = self.sessions.insert(session);
        self.names.sessions.insert(id, key);
        for path in paths {
            self.paths.insert(path, key);
        }
        for ufrag in ufrags {
            self.ufrags.insert(ufrag, key);
        }
        let phase = RTCP_INTERVAL.mul_f64((self.random.next() % 512) as f64 / 512.0);
        self.schedule_tick(now + phase, key);
        Ok((key, snapshot.media))
    }

    /// Gives the session its sources and senders back.
    pub(super) fn restore_media(
        &mut self,
        now: Instant,
        key: SessionKey,
        media: MediaSnapshot,
    ) -> Result<(), RestoreError> {
        for carried in media.sources {
            let track = self.names.encoding(carried.stream, carried.encoding);
            let unknown = RestoreError::Inconsistent("a source's stream is missing");
            let source = Source {
                ssrc: carried.ssrc,
                track: track.ok_or(unknown)?,
                window: carried.window,
                reception: Reception::restore(&carried.reception),
                missing: carried.missing.map(|its| NackList::restore(now, &its)),
                is_repair: carried.is_repair,
            };
            if let Some(session) = self.sessions.get_mut(key) {
                session.sources.push(source);
            }
        }
        for sender in media.senders {
            self.restore_sender(now, key, sender)?;
        }
        if let Some(session) = self.sessions.get_mut(key) {
            let downlink = media.downlink.as_ref();
            session.downlink = downlink.map(|its| Box::new(Downlink::restore(now, its)));
        }
        self.watch_missing(key);
        self.allocate(now, key);
        Ok(())
    }

    fn restore_sender(
        &mut self,
        now: Instant,
        session_key: SessionKey,
        snapshot: SenderSnapshot,
    ) -> Result<(), RestoreError> {
        let (sender, feed) = Sender::restore(now, session_key, snapshot);
        let (id, ssrc, kind) = (sender.spec.sender, sender.spec.ssrc, sender.spec.kind);
        if self.names.senders.contains_key(&id) {
            return Err(RestoreError::Inconsistent("a sender is there twice"));
        }
        let key = self.senders.insert(sender);
        self.names.senders.insert(id, key);
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.senders.push((key, ssrc));
            session.pending.reserve(session.senders.len());
        }
        // A stream whose publisher was not connected is not carried: control hears that it ended.
        let track = feed
            .as_ref()
            .and_then(|feed| self.names.encoding(feed.stream, feed.encoding));
        let (Some(feed), Some(track_key)) = (feed, track) else {
            return Ok(());
        };
        let (is_off, is_broken) = (feed.is_off, feed.is_broken);
        if let (Some(sender), Some(track)) =
            (self.senders.get_mut(key), self.tracks.get_mut(track_key))
        {
            sender.resume(track_key, track, feed);
            if !is_off {
                track.subscribers.push((key, session_key));
            }
        }
        if is_broken && kind == MediaKind::Video {
            self.request_keyframe(now, track_key);
        }
        Ok(())
    }
}
