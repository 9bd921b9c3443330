//! A camera as it goes to the program that takes over: over a private socket, since credentials are in it.

use serde::{Deserialize, Serialize};
use signaling::name::{PersonName, RoomName};
use signaling::node::PersonId;

use super::cameras::Placed;
use super::order::{CameraSource, CameraSpec, Identity, Mode, Transport, Trust};
use super::url::CameraUrl;

/// A camera, as plain data.
#[derive(Serialize, Deserialize)]
pub struct Carried {
    person: PersonId,
    room: RoomName,
    name: PersonName,
    /// Address and name of each source.
    sources: Vec<(String, Option<String>)>,
    is_listed: bool,
    is_verified: bool,
    is_always_pulled: bool,
    is_tcp: bool,
    is_udp: bool,
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried")
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

impl Carried {
    /// A camera that is this person in its room.
    #[must_use]
    pub fn new(person: &PersonId, placed: &Placed) -> Carried {
        let Placed { room, name, spec } = placed;
        let source = |source: &CameraSource| (source.url.secret().to_string(), source.rid.clone());
        Carried {
            person: person.clone(),
            room: room.clone(),
            name: name.clone(),
            sources: spec.sources.iter().map(source).collect(),
            is_listed: spec.trust == Trust::Operator,
            is_verified: spec.identity == Identity::Verified,
            is_always_pulled: spec.mode == Mode::Always,
            is_tcp: spec.transport == Transport::Tcp,
            is_udp: spec.transport == Transport::Udp,
        }
    }

    /// The camera, and who it is; `None` where an address is none for this program.
    #[must_use]
    pub fn placed(self) -> Option<(PersonId, Placed)> {
        let source = |(url, rid): (String, Option<String>)| {
            let url = CameraUrl::parse(&url).ok()?;
            Some(CameraSource { url, rid })
        };
        let spec = CameraSpec {
            sources: self
                .sources
                .into_iter()
                .map(source)
                .collect::<Option<_>>()?,
            transport: match (self.is_tcp, self.is_udp) {
                (true, _) => Transport::Tcp,
                (_, true) => Transport::Udp,
                _ => Transport::Auto,
            },
            trust: if self.is_listed {
                Trust::Operator
            } else {
                Trust::Request
            },
            identity: if self.is_verified {
                Identity::Verified
            } else {
                Identity::Any
            },
            mode: if self.is_always_pulled {
                Mode::Always
            } else {
                Mode::OnDemand
            },
        };
        let placed = Placed {
            room: self.room,
            name: self.name,
            spec,
        };
        Some((self.person, placed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::description;
    use super::*;

    #[test]
    fn a_camera_arrives_as_it_left() {
        for text in [
            r#"{"room":"gate","name":"Gate","url":"rtsp://ann:s3cret@h/live?x=1"}"#,
            r#"{"room":"gate","verify":false,"mode":"always","transport":"udp",
                "layers":[{"url":"rtsps://h/2","rid":"l"},{"url":"rtsps://h/1","rid":"h"}]}"#,
        ] {
            let placed =
                description::placed(serde_json::from_str(text).unwrap(), Trust::Request).unwrap();
            let person = PersonId("p".to_owned());
            let carried = Carried::new(&person, &placed);
            assert!(!format!("{carried:?}").contains("s3cret"));
            let written = serde_json::to_vec(&carried).unwrap();
            let read: Carried = serde_json::from_slice(&written).unwrap();
            assert_eq!(read.placed(), Some((person, placed)));
        }
    }
}
