//! The sections of a person's session: two that send, and one for each track that is received.

use dataplane::command::MediaKind;

use super::roster::RemoteTrack;

/// Sections that send: microphone and camera.
pub(super) const SENDING: usize = 2;

/// A section that receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receiver {
    pub(super) kind: MediaKind,
    /// What it is for; `None` while it waits for the next track of its kind.
    pub(super) wants: Option<RemoteTrack>,
}

/// The sections that receive, in the order of the offer; they only ever become more (RFC 8829
/// section 5.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    pub(super) receivers: Vec<Receiver>,
}

impl Sections {
    /// Gives each track a section; says whether something changed.
    pub(super) fn assign<'a>(&mut self, tracks: impl Iterator<Item = &'a RemoteTrack>) -> bool {
        let tracks: Vec<&RemoteTrack> = tracks.collect();
        let mut changed = false;
        for receiver in &mut self.receivers {
            let is_gone = receiver
                .wants
                .as_ref()
                .is_some_and(|wanted| !tracks.contains(&wanted));
            if is_gone {
                receiver.wants = None;
                changed = true;
            }
        }
        for track in tracks {
            if self
                .receivers
                .iter()
                .any(|r| r.wants.as_ref() == Some(track))
            {
                continue;
            }
            changed = true;
            let mut idle = self.receivers.iter_mut();
            let idle = idle.find(|r| r.wants.is_none() && r.kind == track.kind);
            match idle {
                Some(receiver) => receiver.wants = Some(track.clone()),
                None => self.receivers.push(Receiver {
                    kind: track.kind,
                    wants: Some(track.clone()),
                }),
            }
        }
        changed
    }
}

/// The MID of the receiver at `index`.
pub(super) fn mid_of_receiver(index: usize) -> String {
    (SENDING + index).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(id: &str, kind: MediaKind) -> RemoteTrack {
        RemoteTrack {
            id: id.to_owned(),
            kind,
            owner: "b".to_owned(),
            name: "Bob".to_owned(),
        }
    }

    #[test]
    fn a_section_is_used_again_by_the_next_track_of_its_kind() {
        let (sound, picture) = (track("1", MediaKind::Audio), track("2", MediaKind::Video));
        let mut sections = Sections::default();
        assert!(sections.assign([&sound, &picture].into_iter()));
        assert!(!sections.assign([&picture, &sound].into_iter()));
        assert!(sections.assign([&sound].into_iter()));
        assert_eq!(sections.receivers[1].wants, None);
        let (more_sound, again) = (track("3", MediaKind::Audio), track("4", MediaKind::Video));
        assert!(sections.assign([&sound, &more_sound, &again].into_iter()));
        let wanted: Vec<_> = sections.receivers.iter().map(|r| r.wants.clone()).collect();
        assert_eq!(wanted, [Some(sound), Some(again), Some(more_sound)]);
    }
}
