//! One client: its connectivity, its keys, what it publishes and what it is sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::clock::RemoteClock;
use super::downlink::{Budget, Downlink};
use super::hold::{Soon, Wait};
use super::ice::{Credentials, Ice};
use super::intake::Intake;
use super::resend::ResendQueue;
use super::sender::{Sender, SenderKey};
use super::slab::{Key, Slab};
use super::source::Source;
use super::track::TrackKey;
use crate::command::{DtlsRole, DtlsSpec, IceSpec, MediaKind, SessionSpec, SrtpKeys, TrackSpec};
use crate::id::{SessionId, Ssrc};
use crate::limits::{
    CONNECT_TIMEOUT, CONSENT_TIMEOUT, SENDERS_PER_SESSION_MAX, SENDERS_RETIRED_MAX,
    SOURCES_RETIRED_MAX,
};
use crate::srtp::{KeyError, OpenKey, RtcpKeys, SealKey, SequenceWindow};

/// Names a session within the engine.
pub(super) type SessionKey = Key<Session>;

/// What a round trip is taken to be before one was measured.
const RTT_ASSUMED: Duration = Duration::from_millis(80);

/// A client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) opened_at: Instant,
    pub(super) ice: Ice,
    pub(super) dtls: DtlsSpec,
    /// The longest message that the client takes on data channels, in bytes; 0 without channels.
    pub(super) data_bytes_max: u32,
    /// There once the handshake is done.
    pub(super) keys: Option<Keys>,
    /// How much it may send for now.
    pub(super) intake: Intake,
    /// Whether control knows that media can flow.
    pub(super) is_connected: bool,
    /// Whether it has no transport: its packets come from this process, in the clear, and nothing is sent to it.
    pub(super) is_feed: bool,
    /// Our SSRC in RTCP that belongs to no sender.
    pub(super) rtcp_ssrc: Ssrc,
    /// What it publishes, encoding by encoding.
    pub(super) tracks: Vec<TrackKey>,
    pub(super) sources: Vec<Source>,
    /// Windows of sources whose track was removed.
    pub(super) retired_sources: VecDeque<(Ssrc, SequenceWindow)>,
    pub(super) senders: Vec<(SenderKey, Ssrc)>,
    /// SSRCs of removed senders, each with the first packet index that is free.
    pub(super) retired_senders: Vec<(Ssrc, u64)>,
    /// Senders with packets to send, video first: an audio packet rides at the end of a burst.
    pub(super) pending: Vec<SenderKey>,
    pub(super) resends: ResendQueue,
    /// Whether it waits in the engine's queue of sessions to send to.
    pub(super) is_ready: bool,
    /// Whether its video waits for its pace: it has an entry among the timers.
    pub(super) is_paced: bool,
    /// What its network carries, where it says what arrives.
    pub(super) downlink: Option<Box<Downlink>>,
    /// How long its audio may wait for company..
    pub(super) audio_wait: Wait,
    /// ..and its video.
    pub(super) video_wait: Wait,
    pub(super) remote_clock: RemoteClock,
    /// When its packets arrived, if it numbers them for feedback.
    pub(super) arrivals: Option<Box<Arrivals>>,
    /// Measured by report blocks.
    pub(super) rtt: Option<Duration>,
}

/// The keys of a session's media and control packets.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) open: OpenKey,
    pub(super) seal: SealKey,
    pub(super) rtcp: RtcpKeys,
    /// What they were derived from, for a process that takes over.
    pub(super) master: Box<SrtpKeys>,
}

impl Keys {
    /// Derives everything from what the handshake exported.
    ///
    /// # Errors
    /// A key or salt of the wrong length.
    pub(super) fn new(keys: &SrtpKeys) -> Result<Keys, KeyError> {
        Ok(Keys {
            open: OpenKey::new(keys.profile, &keys.receive)?,
            seal: SealKey::new(keys.profile, &keys.send)?,
            rtcp: RtcpKeys::new(keys)?,
            master: Box::new(keys.clone()),
        })
    }
}

impl Session {
    /// Whether something must leave by `soon`.
    pub(super) fn has_due(&self, senders: &Slab<Sender>, soon: Soon) -> bool {
        let kind = |key: Option<&SenderKey>| Some(senders.get(*key?)?.spec.kind);
        // Video comes first in the list, audio last.
        let has_video = kind(self.pending.first()) == Some(MediaKind::Video);
        let has_audio = kind(self.pending.last()) == Some(MediaKind::Audio);
        !self.resends.is_empty()
            || (has_video && !self.is_paced && self.video_wait.is_due(soon.of(MediaKind::Video)))
            || (has_audio && self.audio_wait.is_due(soon.of(MediaKind::Audio)))
    }

    /// Reads a little of everything that a burst to it needs. The value means nothing.
    pub(super) fn touch(&self) -> u64 {
        let path = self.ice.media_path().map_or(0, |path| path.remote.port());
        let overhead = self.keys.as_ref().map_or(0, |keys| keys.seal.overhead());
        let flags = [
            self.is_ready,
            self.resends.is_empty(),
            self.pending.is_empty(),
            self.audio_wait.is_held(),
            self.video_wait.is_held(),
        ];
        let flags = flags.into_iter().filter(|flag| *flag).count();
        u64::from(path) ^ overhead as u64 ^ flags as u64
    }

    /// Whether it is to enter the engine's queue because it has media of this kind to send.
    pub(super) fn becomes_ready(&self, kind: MediaKind) -> bool {
        let must_wait = self.is_paced && kind == MediaKind::Video;
        !self.is_ready && !must_wait
    }

    /// How long its media of this kind may wait for company.
    pub(super) fn wait(&mut self, kind: MediaKind) -> &mut Wait {
        match kind {
            MediaKind::Audio => &mut self.audio_wait,
            MediaKind::Video => &mut self.video_wait,
        }
    }

    /// A session that waits for its first check.
    pub(super) fn new(now: Instant, spec: SessionSpec, rtcp_ssrc: Ssrc, intake: Intake) -> Session {
        Session {
            id: spec.session,
            opened_at: now,
            ice: Ice::new(Credentials::new(spec.ice)),
            dtls: spec.dtls,
            data_bytes_max: 0,
            keys: None,
            intake,
            is_connected: false,
            is_feed: false,
            rtcp_ssrc,
            tracks: Vec::new(),
            sources: Vec::new(),
            retired_sources: VecDeque::new(),
            senders: Vec::new(),
            retired_senders: Vec::new(),
            pending: Vec::new(),
            resends: ResendQueue::new(now),
            is_ready: false,
            is_paced: false,
            downlink: None,
            audio_wait: Wait::default(),
            video_wait: Wait::default(),
            remote_clock: RemoteClock::default(),
            arrivals: None,
            rtt: None,
        }
    }

    /// A feed: nobody can validate a path to it or give it keys, so there is no way to send it anything.
    pub(super) fn feed(now: Instant, session: SessionId, intake: Intake) -> Session {
        let nothing = String::new;
        let spec = SessionSpec {
            session,
            ice: IceSpec {
                local_ufrag: nothing(),
                local_pwd: nothing(),
                remote_ufrag: nothing(),
            },
            dtls: DtlsSpec {
                role: DtlsRole::Server,
                fingerprints: Vec::new(),
            },
            cname: nothing(),
        };
        Session {
            is_connected: true,
            is_feed: true,
            ..Session::new(now, spec, Ssrc(0), intake)
        }
    }

    /// What its network carries, where that is known.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.downlink.as_ref()?.budget()
    }

    /// The round trip to the client, measured or assumed.
    pub(super) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(RTT_ASSUMED)
    }

    /// Until when the client must have been heard.
    pub(super) fn deadline(&self) -> Instant {
        self.ice
            .heard_at()
            .map_or(self.opened_at + CONNECT_TIMEOUT, |heard_at| {
                heard_at + CONSENT_TIMEOUT
            })
    }

    /// What is remembered of sources and of senders that are gone.
    #[cfg(feature = "sim")]
    pub(super) fn retired(&self) -> (usize, usize) {
        (self.retired_sources.len(), self.retired_senders.len())
    }

    /// The sender with this SSRC.
    pub(super) fn sender(&self, ssrc: Ssrc) -> Option<SenderKey> {
        self.senders
            .iter()
            .find(|(_, its)| *its == ssrc)
            .map(|(key, _)| *key)
    }

    /// Whether one more sender is within the limit.
    pub(super) fn has_sender_room(&self) -> bool {
        self.senders.len() < SENDERS_PER_SESSION_MAX
            && self.retired_senders.len() + 2 <= SENDERS_RETIRED_MAX
    }

    /// Forgets a track's sources but for their packet indices.
    pub(super) fn retire_sources(&mut self, track: TrackKey) {
        let (gone, kept) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|source| source.track == track);
        self.sources = kept;
        let gone: Vec<Source> = gone;
        for source in gone {
            if self.retired_sources.len() >= SOURCES_RETIRED_MAX {
                self.retired_sources.pop_front();
            }
            self.retired_sources.push_back((source.ssrc, source.window));
        }
    }

    /// Forgets the sources of a feed's track that its description no longer names: no others are heard.
    pub(super) fn forget_unsignalled(&mut self, track: TrackKey, spec: &TrackSpec) {
        let is_named = |ssrc| spec.sources.iter().any(|source| source.ssrc == ssrc);
        if self.is_feed {
            self.sources
                .retain(|source| source.track != track || is_named(source.ssrc));
        }
    }

    /// The window of a source that was heard before under another track.
    pub(super) fn retired_window(&self, ssrc: Ssrc) -> Option<SequenceWindow> {
        let known = self.retired_sources.iter().find(|(its, _)| *its == ssrc);
        known.map(|(_, window)| window.clone())
    }

    /// A source is heard, under whatever track.
    pub(super) fn revive_source(&mut self, ssrc: Ssrc) {
        self.retired_sources.retain(|(its, _)| *its != ssrc);
    }

    /// Forgets a sender's SSRC but for the first packet index of it that is free.
    pub(super) fn retire_ssrc(&mut self, ssrc: Ssrc, next: u64) {
        self.retired_senders.push((ssrc, next));
    }

    /// The first free packet index of an SSRC that had a sender before.
    pub(super) fn revive_ssrc(&mut self, ssrc: Ssrc) -> Option<u64> {
        let index = self
            .retired_senders
            .iter()
            .position(|(its, _)| *its == ssrc)?;
        Some(self.retired_senders.swap_remove(index).1)
    }
}
