//! What an offer would change: worked out in full before anything is touched, so that a refused
//! offer leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{MediaKind, SenderSpec, TrackSpec};
use dataplane::id::{Mid, SenderId, Ssrc, TrackId};
use dataplane::limits::{DATA_MESSAGE_BYTES_MAX, SENDERS_PER_SESSION_MAX};
use signaling::node::{Refusal, SourceKind, TrackMedia};
use signaling::sdp::{Codec, Decision, Extension, Offer, Outgoing, Section};

use super::random::{self, Random};
use super::session::{Receiver, Session};
use super::translate;

/// What a section is to become, as far as the client's codecs and directions allow.
#[derive(Clone, Debug, Default)]
pub(super) struct Intent {
    /// Take what the client sends, as this.
    pub(super) publish: Option<SourceKind>,
    /// Send this to the client.
    pub(super) watch: Option<Watch>,
}

/// What is to be sent in a section.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// The track; `None` where nothing is to be seen yet.
    pub(super) track: Option<TrackId>,
    /// `a=msid`: stream.
    pub(super) stream: String,
    /// `a=msid`: track.
    pub(super) msid_track: String,
    /// Streams to be played in sync share it.
    pub(super) cname: String,
}

/// What an offer changes in a session.
#[derive(Debug)]
pub(super) struct Plan {
    /// The answer, section by section.
    pub(super) decisions: Vec<Decision>,
    /// What is published after it, by `a=mid`.
    pub(super) publishes: BTreeMap<String, PlannedTrack>,
    /// What is received after it, by `a=mid`.
    pub(super) receives: BTreeMap<String, Receiver>,
    /// Data channels, and the longest message that the client takes on them, in bytes.
    pub(super) data_bytes_max: Option<u32>,
}

/// A track that is published after the offer.
#[derive(Debug)]
pub(super) struct PlannedTrack {
    /// What it shows.
    pub(super) source: SourceKind,
    /// What the engine is to know.
    pub(super) spec: TrackSpec,
    /// The codecs of the answer.
    pub(super) codecs: Vec<Codec>,
}

/// Numbers for what an offer makes.
pub(super) struct Numbers<'a> {
    /// The process's one counter of ids.
    pub(super) next_id: &'a mut u64,
    /// For SSRCs.
    pub(super) random: &'a mut dyn Random,
}

impl Numbers<'_> {
    /// The next id.
    pub(super) fn id(&mut self) -> u64 {
        let id = *self.next_id;
        *self.next_id += 1;
        id
    }
}

impl Plan {
    /// Works out what `offer` makes of `session`, or of none; `intents` has one for each section.
    ///
    /// # Errors
    /// What cannot be served, in a sentence.
    pub(super) fn new(
        session: Option<&Session>,
        offer: &Offer,
        intents: &[Intent],
        tracks_max: usize,
        numbers: &mut Numbers<'_>,
    ) -> Result<Plan, Refusal> {
        let mut planner = Planner {
            session,
            numbers,
            ssrcs: session.map(Session::ssrcs).unwrap_or_default(),
            plan: Plan {
                decisions: Vec::with_capacity(offer.sections.len()),
                publishes: BTreeMap::new(),
                receives: BTreeMap::new(),
                data_bytes_max: None,
            },
        };
        for (section, intent) in offer.sections.iter().zip(intents) {
            let decision = planner.section(section, intent);
            planner.plan.decisions.push(decision);
        }
        let plan = planner.plan;
        plan.check_limits(tracks_max)?;
        Ok(plan)
    }

    /// Whether any section was accepted.
    pub(super) fn accepts_any(&self) -> bool {
        self.decisions.iter().any(Decision::accepts)
    }

    fn check_limits(&self, tracks_max: usize) -> Result<(), Refusal> {
        let published = self.publishes.len();
        if published > tracks_max {
            return Err(Refusal::Unservable(format!(
                "it publishes {published} tracks, and a session may publish {tracks_max}"
            )));
        }
        let received = self.receives.len();
        if received > SENDERS_PER_SESSION_MAX {
            return Err(Refusal::Unservable(format!(
                "it receives {received} tracks, and a session may receive {SENDERS_PER_SESSION_MAX}"
            )));
        }
        Ok(())
    }
}

/// A plan in the making.
struct Planner<'a, 'b> {
    session: Option<&'a Session>,
    numbers: &'a mut Numbers<'b>,
    ssrcs: BTreeSet<u32>,
    plan: Plan,
}

impl Planner<'_, '_> {
    fn section(&mut self, section: &Section, intent: &Intent) -> Decision {
        // One SCTP association is all that a bundle has room for (RFC 8841 section 10.2).
        if let (Some(data), None) = (section.data, self.plan.data_bytes_max) {
            self.plan.data_bytes_max = Some(data.message_bytes_max);
            return Decision::AcceptData {
                message_bytes_max: DATA_MESSAGE_BYTES_MAX as u32,
            };
        }
        let (Some(kind), Some(mid), false) = (
            translate::media_kind(section.kind),
            Mid::new(section.mid.as_bytes()),
            section.rejected,
        ) else {
            return Decision::Reject;
        };
        let codecs = translate::answered_codecs(section);
        if codecs.is_empty() {
            return Decision::Reject;
        }
        let publish = intent.publish.filter(|_| section.direction.sends());
        let watch = intent
            .watch
            .as_ref()
            .filter(|_| section.direction.receives());
        let extensions = translate::answered_extensions(
            section,
            watch.is_some(),
            translate::needs_descriptor(&codecs),
        );
        if let Some(source) = publish {
            let track = self.track(section, mid, kind, source, &codecs, &extensions);
            self.plan.publishes.insert(section.mid.clone(), track);
        }
        let send = watch.map(|watch| {
            let receiver = self.receiver(section, mid, kind, watch, &codecs, &extensions);
            let outgoing = Outgoing {
                ssrc: receiver.spec.ssrc.0,
                rtx: receiver.spec.rtx.map(|rtx| rtx.0),
                cname: watch.cname.clone(),
                stream: watch.stream.clone(),
                track: watch.msid_track.clone(),
            };
            self.plan.receives.insert(section.mid.clone(), receiver);
            outgoing
        });
        Decision::Accept {
            receive: publish.is_some(),
            send,
            codecs,
            extensions,
        }
    }

    fn track(
        &mut self,
        section: &Section,
        mid: Mid,
        kind: MediaKind,
        source: SourceKind,
        codecs: &[Codec],
        extensions: &[Extension],
    ) -> PlannedTrack {
        let known = self
            .session
            .and_then(|session| session.publishes.get(&section.mid).copied());
        let spec = TrackSpec {
            track: known.unwrap_or_else(|| TrackId(self.numbers.id())),
            kind,
            mid,
            sources: translate::sources(section),
            formats: translate::formats(codecs),
            extensions: translate::extension_ids(extensions),
            nack: translate::nack(codecs),
            simulcast: translate::simulcast(section),
            // Whose voices it competes with is for the room to say.
            group: None,
            keeps_group: false,
        };
        PlannedTrack {
            source,
            spec,
            codecs: codecs.to_vec(),
        }
    }

    fn receiver(
        &mut self,
        section: &Section,
        mid: Mid,
        kind: MediaKind,
        watch: &Watch,
        codecs: &[Codec],
        extensions: &[Extension],
    ) -> Receiver {
        let known = self
            .session
            .and_then(|session| session.receives.get(&section.mid));
        let sender = known.map(Receiver::sender);
        let ssrc = known.map(|known| known.spec.ssrc);
        let rtx = known.and_then(|known| known.spec.rtx);
        let repaired = codecs.iter().any(|codec| codec.rtx.is_some());
        let spec = SenderSpec {
            sender: sender.unwrap_or_else(|| SenderId(self.numbers.id())),
            kind,
            mid,
            ssrc: ssrc.unwrap_or_else(|| self.ssrc()),
            rtx: repaired.then(|| rtx.unwrap_or_else(|| self.ssrc())),
            extensions: translate::extension_ids(extensions),
            cname: watch.cname.clone(),
        };
        Receiver {
            spec,
            codecs: codecs.to_vec(),
            track: watch.track,
            // Another track in the same section is another wish.
            preference: known
                .filter(|known| known.track == watch.track || watch.track.is_none())
                .map(|known| known.preference)
                .unwrap_or_default(),
            sent: known
                .filter(|known| known.track == watch.track)
                .and_then(|known| known.sent),
        }
    }

    fn ssrc(&mut self) -> Ssrc {
        let ssrc = random::ssrc(self.numbers.random, &self.ssrcs);
        self.ssrcs.insert(ssrc);
        Ssrc(ssrc)
    }
}

/// Nothing measured yet.
pub(super) fn no_media(id: String) -> TrackMedia {
    TrackMedia {
        id,
        bitrate_bps: 0,
        packets: 0,
        lost: 0,
    }
}
