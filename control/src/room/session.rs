//! A media session: one client's ICE and DTLS association, and what its sections carry.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::command::{
    DtlsSpec, IceSpec, MediaKind, Preference, SenderSpec, Simulcast, TrackSpec,
};
use dataplane::event::Sent;
use dataplane::id::{SenderId, TrackId};
use serde::{Deserialize, Serialize};
use signaling::name::RoomName;
use signaling::node::{PersonId, ResourceId, SourceKind, TrackMedia};
use signaling::sdp::{Codec, IceCredentials};

use super::data::Channels;
use super::dominant::Loudness;
use super::effect::ClientKind;

/// A media session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session {
    /// Its room.
    pub(super) room: RoomName,
    /// The worker it lives on.
    pub(super) worker: usize,
    /// Whose it is.
    pub(super) owner: Owner,
    /// Who asked for it.
    pub(super) origin: Origin,
    /// Our ICE credentials.
    pub(super) local: IceCredentials,
    /// The client's ufrag: another one in an offer means an ICE restart (RFC 8839 section 4.4.1.1.1).
    pub(super) remote_ufrag: String,
    /// How DTLS is spoken: other fingerprints in an offer mean another client altogether.
    pub(super) dtls: DtlsSpec,
    /// SHA-256 fingerprint of our certificate.
    pub(super) fingerprint: [u8; 32],
    /// `o=` session id of our answers.
    pub(super) sdp_session_id: u64,
    /// `o=` version of the last answer.
    pub(super) sdp_version: u64,
    /// The section that carries the bundle's transport (RFC 9143 section 7.3.1).
    pub(super) bundle_mid: String,
    /// What it publishes, by `a=mid`.
    pub(super) publishes: BTreeMap<String, TrackId>,
    /// Whom a player asked to watch: nobody else is shown to it.
    #[serde(default)]
    pub(super) chosen: Option<PersonId>,
    /// What it receives, by `a=mid`.
    pub(super) receives: BTreeMap<String, Receiver>,
    /// Its data channels, once they were negotiated. They end with the process.
    #[serde(skip)]
    pub(super) data: Option<Box<Channels>>,
}

impl Session {
    /// What the engine must know of its credentials.
    pub(super) fn ice_spec(&self) -> IceSpec {
        IceSpec {
            local_ufrag: self.local.ufrag.clone(),
            local_pwd: self.local.pwd.clone(),
            remote_ufrag: self.remote_ufrag.clone(),
        }
    }

    /// SSRCs that its outgoing streams use.
    pub(super) fn ssrcs(&self) -> BTreeSet<u32> {
        let specs = self.receives.values().map(|receiver| &receiver.spec);
        specs
            .flat_map(|spec| [Some(spec.ssrc.0), spec.rtx.map(|rtx| rtx.0)])
            .flatten()
            .collect()
    }
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Owner {
    /// Somebody at the page.
    Page(PersonId),
    /// A WHIP encoder: the person that it appears as, and its resource.
    Encoder(PersonId, ResourceId),
    /// A camera: the person that it appears as. Nobody speaks on such a session.
    Camera(PersonId),
    /// A WHEP player: its resource, and whom it watches.
    Viewer(ResourceId, Option<PersonId>),
}

/// Who asked for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// What kind of client.
    pub(super) client: ClientKind,
    /// The document's id, for those that came by one.
    pub(super) request: Option<String>,
}

impl From<ClientKind> for Origin {
    fn from(client: ClientKind) -> Origin {
        Origin {
            client,
            request: None,
        }
    }
}

/// A section on which we send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Receiver {
    /// What the engine knows of it.
    pub(super) spec: SenderSpec,
    /// The codecs that were answered.
    pub(super) codecs: Vec<Codec>,
    /// The track that feeds it now.
    pub(super) track: Option<TrackId>,
    /// What its client wants of that.
    pub(super) preference: Preference,
    /// What it is sent of that, as the engine last chose. It chooses anew in another process.
    #[serde(skip)]
    pub(super) sent: Option<Sent>,
}

impl Receiver {
    /// Its sender in the engine.
    pub(super) fn sender(&self) -> SenderId {
        self.spec.sender
    }

    /// Audio or video.
    pub(super) fn kind(&self) -> MediaKind {
        self.spec.kind
    }
}

/// A published track.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PublishedTrack {
    /// Who publishes it.
    pub(super) owner: PersonId,
    /// The worker it lives on: that of its publisher's session.
    pub(super) worker: usize,
    /// What it shows.
    pub(super) source: SourceKind,
    /// Whether its owner muted it.
    pub(super) muted: bool,
    /// Whether its owner speaks on it now.
    #[serde(skip)]
    pub(super) speaking: bool,
    /// How loud they were on it over the last seconds.
    #[serde(skip)]
    pub(super) loudness: Loudness,
    /// What the engine knows of it.
    pub(super) spec: TrackSpec,
    /// The codecs that were answered, index for index with the formats.
    pub(super) codecs: Vec<Codec>,
    /// What it carries, as the engine last reported.
    pub(super) media: TrackMedia,
    /// The highest of its encodings that its owner was told to be wanted.
    pub(super) wanted: u8,
}

impl PublishedTrack {
    /// Whether it comes in several encodings.
    pub(super) fn is_simulcast(&self) -> bool {
        self.spec.simulcast != Simulcast::None
    }
}
