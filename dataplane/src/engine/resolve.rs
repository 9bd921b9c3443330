//! Whose a packet of an unknown source is.

use super::session::Session;
use super::slab::Slab;
use super::track::{Track, TrackKey};
use crate::limits::SSRCS_PER_TRACK_MAX;
use crate::wire::RtpView;

/// Which track a packet of an unknown source is for: by RID, where the stream has several encodings
/// (RFC 8853), by signalled SSRC (RFC 5576), by MID (RFC 9143 section 9.2), or, from encoders that send
/// none of them, by a payload type that only one track uses. A feed's sources are all signalled. `None` too
/// when the track has as many sources as it may.
pub(super) fn resolve(
    session: &Session,
    tracks: &Slab<Track>,
    view: &RtpView<'_>,
) -> Option<TrackKey> {
    let mine = || {
        let tracks = session.tracks.iter().map(|key| (*key, tracks.get(*key)));
        tracks.filter_map(|(key, track)| Some((key, track?)))
    };
    let named = mine().filter(|(_, track)| {
        names_encoding(track, view) == Some(true) && names_section(track, view) != Some(false)
    });
    let signalled = mine().filter(|(_, track)| signals(track, view));
    let in_section = mine().filter(|(_, track)| names_section(track, view) == Some(true));
    let by_format = mine().filter(|(_, track)| track.usage(view.payload_type()).is_some());
    let key = if session.is_feed {
        signalled.clone().next().map(|(key, _)| key)
    } else if mine().any(|(_, track)| names_encoding(track, view).is_some()) {
        only(named)
    } else if let Some((key, _)) = signalled.clone().next() {
        Some(key)
    } else if mine().any(|(_, track)| names_section(track, view).is_some()) {
        only(in_section)
    } else {
        only(by_format)
    }?;
    let known = session.sources.iter().filter(|source| source.track == key);
    (known.count() < SSRCS_PER_TRACK_MAX).then_some(key)
}

/// The only one of them.
fn only<'a>(mut tracks: impl Iterator<Item = (TrackKey, &'a Track)>) -> Option<TrackKey> {
    let (key, _) = tracks.next()?;
    tracks.next().is_none().then_some(key)
}

/// Whether the packet names this track's encoding, or another; `None` when it names none.
fn names_encoding(track: &Track, view: &RtpView<'_>) -> Option<bool> {
    let rid = track.rid?;
    let ids = &track.spec.extensions;
    let named = [ids.rid, ids.repaired_rid].into_iter().flatten();
    let value = named.filter_map(|id| extension(view, id)).next()?;
    Some(value == rid.as_bytes())
}

/// Whether the packet names this track's section, or another; `None` when it names none.
fn names_section(track: &Track, view: &RtpView<'_>) -> Option<bool> {
    let value = extension(view, track.spec.extensions.mid?)?;
    Some(value == track.spec.mid.as_bytes())
}

/// Whether the packet's source was signalled for this track.
fn signals(track: &Track, view: &RtpView<'_>) -> bool {
    let ssrc = view.ssrc();
    let mut sources = track.spec.sources.iter();
    sources.any(|source| source.ssrc == ssrc || source.rtx == Some(ssrc))
}

fn extension<'a>(view: &RtpView<'a>, id: u8) -> Option<&'a [u8]> {
    view.extensions()
        .find_map(|(its, value)| (its == id).then_some(value))
}
