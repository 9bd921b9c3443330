//! The doors through which clients come: what they have in common, and which there are.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use dataplane::command::{DtlsRole, DtlsSpec, MediaKind};
use dataplane::dtls::Certificate;
use dataplane::sim::network::Rng;
use dataplane::sim::peer::PeerIce;

use super::description::{Direction, Identity, Section};
use super::flock::{Flock, LegId};
use super::janus::Janus;
use super::leg::LegSpec;
use super::media::Media;
use super::room::{Person, Rooms};
use super::sent::SentSpec;
use super::whip::Whip;
use crate::peers::answer::{Answer, AnswerError};
use crate::peers::meeting::now;
use crate::peers::offer::AUDIO_LEVEL_ID;
use crate::peers::publishers::SentTimes;

/// Which server is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorSpec {
    /// WHIP and WHEP endpoints, in which `{room}` and `{name}` stand for what they say.
    Whip {
        /// Where publishers post.
        whip: String,
        /// Where viewers post.
        whep: String,
    },
    /// Our room protocol: the address of the node's page.
    Rooms(String),
    /// Janus's videoroom: the address of its WebSocket.
    Janus(String),
}

/// Why somebody could not come in.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// An address of another form.
    #[error(
        "`{0}` is not an address that these clients can use: plain http:// or ws:// with a host"
    )]
    Url(String),
    /// The connection failed.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server's answer is not complete.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// No socket.
    #[error("no UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// A server that has no such door.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Somebody who publishes.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// When its recorded pictures leave.
    pub(super) sent: Arc<SentTimes>,
    pub(super) place: Place,
}

/// What a door remembers of a member.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Whip,
    Person(Person, LegId),
    /// The number of its feed.
    Janus(u64),
}

/// A door in use.
#[derive(Debug)]
pub(super) enum Door {
    Whip(Box<Whip>),
    Rooms(Rooms),
    Janus(Janus),
}

impl Door {
    pub(super) async fn open(spec: &DoorSpec) -> Result<Door, DoorError> {
        Ok(match spec {
            DoorSpec::Whip { whip, whep } => Door::Whip(Box::new(Whip::new(whip, whep))),
            DoorSpec::Rooms(url) => Door::Rooms(Rooms::new(url)?),
            DoorSpec::Janus(url) => Door::Janus(Janus::connect(url).await?),
        })
    }

    /// A publisher comes into the room.
    pub(super) async fn publish(
        &self,
        yard: &Yard,
        room: &str,
        number: usize,
    ) -> Result<Member, DoorError> {
        let comer = Comer::new(yard, room, number, Vec::new());
        match self {
            Door::Whip(whip) => whip.publish(yard, comer).await,
            Door::Rooms(rooms) => rooms.publish(yard, comer).await,
            Door::Janus(janus) => janus.publish(yard, comer).await,
        }
    }

    /// Somebody comes to receive what these members send; in a room, the member `own` does.
    pub(super) async fn watch(
        &self,
        yard: &Yard,
        room: &str,
        number: usize,
        own: Option<&Member>,
        members: &[Member],
    ) -> Result<(), DoorError> {
        let others = members.iter();
        let others = others.filter(|member| own.is_none_or(|own| own.name != member.name));
        let comer = Comer::new(yard, room, number, others.cloned().collect());
        match self {
            Door::Whip(whip) => whip.watch(yard, comer, own).await.map(drop),
            Door::Rooms(_) => match own.map(|own| &own.place) {
                Some(Place::Person(person, _)) => person.watch().await,
                _ => Err(DoorError::Unsupported(
                    "in our rooms everybody sends: let viewers come by WHEP",
                )),
            },
            Door::Janus(janus) => janus.watch(yard, comer).await,
        }
    }
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct Yard {
    pub(super) flock: Flock,
    pub(super) certificate: Certificate,
    /// What each publisher sends.
    pub(super) media: Vec<Media>,
    /// No header extensions.
    pub(super) plain: bool,
    /// Room names begin with it.
    pub(super) seed: u64,
}

/// Somebody at a door.
#[derive(Debug)]
pub(super) struct Comer {
    pub(super) room: String,
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) asked_at: Instant,
    /// Whom it is here to receive.
    pub(super) others: Vec<Member>,
    pub(super) sent: Arc<SentTimes>,
    seed: u64,
}

impl Comer {
    pub(super) fn new(yard: &Yard, room: &str, number: usize, others: Vec<Member>) -> Comer {
        let viewer = u64::from(!others.is_empty());
        Comer {
            room: room.to_owned(),
            name: format!("n{number}"),
            number,
            asked_at: now(),
            others,
            sent: Arc::default(),
            // Everybody's randomness is its own.
            seed: Rng::new(yard.seed ^ (number as u64) << 1 ^ viewer).next_u64(),
        }
    }

    /// A socket on the way to `server`, and who speaks from it.
    pub(super) fn identity(
        &self,
        yard: &Yard,
        server: &str,
    ) -> Result<(Identity, UdpSocket), DoorError> {
        let mut rng = Rng::new(self.seed);
        let server = host_of(server)?;
        let unspecified: SocketAddr = match server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        // Nothing leaves: the system only says which address it would leave from.
        let probe = UdpSocket::bind(unspecified)?;
        probe.connect(server)?;
        let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
        let identity = Identity {
            ufrag: format!("{:08x}", rng.next_u32()),
            pwd: format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()),
            fingerprint: yard.certificate.fingerprint(),
            session_id: rng.next_u64() >> 2,
            cname: format!("{:016x}", rng.next_u64()),
            local: socket.local_addr()?,
            plain: yard.plain,
        };
        Ok((identity, socket))
    }

    /// The sections of what it sends.
    pub(super) fn sending(&self, yard: &Yard) -> Vec<Section> {
        let mut rng = Rng::new(self.seed.rotate_left(32));
        let media = yard.media.iter().enumerate();
        media
            .map(|(mid, media)| {
                Section::new(mid, media.kind(), Direction::Sends(rng.next_u32() | 1))
            })
            .collect()
    }

    /// One section of each kind of media, to receive.
    pub(super) fn receiving(yard: &Yard) -> Vec<Section> {
        let kinds = [MediaKind::Audio, MediaKind::Video];
        let kinds = kinds
            .into_iter()
            .filter(|kind| yard.media.iter().any(|media| media.kind() == *kind));
        kinds
            .enumerate()
            .map(|(mid, kind)| Section::new(mid, kind, Direction::Receives))
            .collect()
    }

    /// The connection that an answer makes possible joins the flock.
    pub(super) fn join(
        &self,
        yard: &Yard,
        identity: &Identity,
        socket: UdpSocket,
        answer: Answer,
        sections: &[Section],
        receives: bool,
    ) -> LegId {
        let sends = sections.iter().zip(&yard.media);
        let sends = sends.filter_map(|(section, media)| {
            let Direction::Sends(ssrc) = section.direction else {
                return None;
            };
            let mid_id = answer
                .section(&section.mid)
                .and_then(|section| section.mid_id);
            let is_audio = section.kind == MediaKind::Audio;
            let spec = SentSpec {
                ssrc,
                payload_type: section.payload_type,
                clock_rate: if is_audio { 48_000 } else { 90_000 },
                mid: mid_id.map(|id| (id, section.mid.clone())),
                audio_level: (is_audio && !yard.plain).then_some(AUDIO_LEVEL_ID),
            };
            Some((spec, media.clone()))
        });
        let watches = match self.others.as_slice() {
            [one] => Some(one.sent.clone()),
            _ => None,
        };
        let spec = LegSpec {
            ice: PeerIce {
                local_ufrag: identity.ufrag.clone(),
                local_pwd: identity.pwd.clone(),
                remote_ufrag: answer.ufrag.clone(),
                remote_pwd: answer.pwd.clone(),
            },
            dtls: DtlsSpec {
                role: if answer.is_active {
                    DtlsRole::Server
                } else {
                    DtlsRole::Client
                },
                fingerprints: answer.fingerprints.clone(),
            },
            certificate: yard.certificate.clone(),
            seed: self.seed,
            cname: identity.cname.clone(),
            sends: sends.collect(),
            number: self.number,
            sent: self.sent.clone(),
            watches,
            receives,
            candidates: answer.candidates,
        };
        yard.flock.join(spec, socket, self.asked_at)
    }

    /// It publishes from now on.
    pub(super) fn into_member(self, place: Place) -> Member {
        Member {
            name: self.name,
            sent: self.sent,
            place,
        }
    }
}

/// The first address of the host in a URL.
fn host_of(url: &str) -> Result<SocketAddr, DoorError> {
    let wrong = || DoorError::Url(url.to_owned());
    let rest = ["http://", "ws://"]
        .into_iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let host = rest
        .and_then(|rest| rest.split('/').next())
        .ok_or_else(wrong)?;
    let host = if host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    host.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        let at = |url: &str| host_of(url).map(|address| address.to_string()).ok();
        assert_eq!(
            at("http://192.0.2.1:8080/a/b").as_deref(),
            Some("192.0.2.1:8080")
        );
        assert_eq!(at("ws://192.0.2.1").as_deref(), Some("192.0.2.1:80"));
        assert_eq!(at("https://192.0.2.1"), None);
    }
}
