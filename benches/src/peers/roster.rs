//! Who is in the room and what they send, by the server's messages (docs/websocket.md).

use std::collections::BTreeMap;

use dataplane::command::MediaKind;
use serde::Deserialize;

/// What the server says, as far as these people care.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum ServerMessage {
    Joined {
        you: String,
        people: Vec<PersonInfo>,
    },
    Answer {
        id: u64,
        sdp: String,
    },
    Refused {
        id: u64,
        error: String,
    },
    PersonJoined {
        person: PersonInfo,
    },
    PersonLeft {
        id: String,
    },
    Tracks {
        id: String,
        tracks: Vec<TrackInfo>,
    },
    MediaLost {
        reason: String,
    },
    Closed {
        reason: String,
    },
    #[serde(other)]
    Other,
}

/// `PERSON`
#[derive(Debug, Deserialize)]
pub(crate) struct PersonInfo {
    id: String,
    name: String,
    tracks: Vec<TrackInfo>,
}

/// `TRACK`
#[derive(Debug, Deserialize)]
pub(crate) struct TrackInfo {
    id: String,
    kind: KindName,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Audio,
    Video,
}

/// A track of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteTrack {
    pub(crate) id: String,
    pub(crate) kind: MediaKind,
    /// The id of whose it is.
    pub(crate) owner: String,
    /// The name of whose it is.
    pub(crate) name: String,
}

/// Everybody else.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    you: String,
    people: BTreeMap<String, (String, Vec<RemoteTrack>)>,
}

impl Roster {
    /// The room as it was on joining it.
    pub(crate) fn new(you: String, people: Vec<PersonInfo>) -> Roster {
        let mut roster = Roster {
            you,
            people: BTreeMap::new(),
        };
        for person in people {
            roster.add(person);
        }
        roster
    }

    /// Whether the server has said who is here.
    pub(crate) fn is_known(&self) -> bool {
        !self.you.is_empty()
    }

    pub(crate) fn add(&mut self, person: PersonInfo) {
        if person.id != self.you {
            self.people
                .insert(person.id.clone(), (person.name, Vec::new()));
            self.set_tracks(&person.id, person.tracks);
        }
    }

    pub(crate) fn remove(&mut self, person: &str) {
        self.people.remove(person);
    }

    pub(crate) fn set_tracks(&mut self, person: &str, tracks: Vec<TrackInfo>) {
        let Some((name, known)) = self.people.get_mut(person) else {
            return;
        };
        let remote = tracks.into_iter().map(|track| RemoteTrack {
            id: track.id,
            kind: match track.kind {
                KindName::Audio => MediaKind::Audio,
                KindName::Video => MediaKind::Video,
            },
            owner: person.to_owned(),
            name: name.clone(),
        });
        *known = remote.collect();
    }

    /// All tracks of all others.
    pub(crate) fn tracks(&self) -> impl Iterator<Item = &RemoteTrack> {
        self.people.values().flat_map(|(_, tracks)| tracks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ServerMessage {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn people_come_and_go() {
        let joined = parse(
            r#"{"type":"joined","you":"a","room":"R","token":"T","iceServers":[],"people":[
                {"id":"a","name":"Ada","tracks":[]},
                {"id":"b","name":"Bob","tracks":[{"id":"1","source":"camera","kind":"video","muted":false}]}]}"#,
        );
        let ServerMessage::Joined { you, people } = joined else {
            panic!("{joined:?}");
        };
        let mut roster = Roster::new(you, people);
        let ids = |roster: &Roster| -> Vec<String> {
            roster.tracks().map(|track| track.id.clone()).collect()
        };
        assert_eq!(ids(&roster), ["1"]);
        let tracks = parse(
            r#"{"type":"tracks","id":"b","tracks":[{"id":"2","source":"microphone","kind":"audio","muted":true}]}"#,
        );
        let ServerMessage::Tracks { id, tracks } = tracks else {
            panic!("{tracks:?}");
        };
        roster.set_tracks(&id, tracks);
        assert_eq!(ids(&roster), ["2"]);
        roster.remove("b");
        assert!(ids(&roster).is_empty());
        assert!(matches!(
            parse(r#"{"type":"speaking","people":[]}"#),
            ServerMessage::Other
        ));
    }
}
