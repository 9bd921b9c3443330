//! Recorded Opus that goes round and round: an Ogg file, and the source that plays it.

use std::sync::Arc;
use std::time::Duration;

use dataplane::sim::source::{Frame, MediaSource};

/// The recording in `benches/media/`.
const PEOPLE: &[u8] = include_bytes!("../../media/people.opus");

/// A page's header up to its segment table (RFC 3533 section 6).
const PAGE_HEADER: usize = 27;

/// What each packet plays.
const INTERVAL: Duration = Duration::from_millis(20);

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// It is something else.
    #[error("this is no Ogg file with Opus in it")]
    NotOpus,
    /// A packet that plays for another time.
    #[error(
        "the recording has packets of other than 20 ms: make it with `ffmpeg -frame_duration 20`"
    )]
    Duration,
    /// No sound.
    #[error("the Ogg file holds no sound")]
    Empty,
}

/// Opus packets of 20 ms each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tune {
    packets: Vec<Vec<u8>>,
}

impl Tune {
    /// The recording that comes with the program.
    ///
    /// # Panics
    ///
    /// Never: a test reads it.
    #[must_use]
    pub fn people() -> Tune {
        Tune::parse(PEOPLE).expect("the recording that is compiled in is read by a test")
    }

    /// Reads an Ogg file with one Opus stream (RFC 7845).
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot be played.
    pub fn parse(file: &[u8]) -> Result<Tune, TuneError> {
        let mut packets = read_packets(file).into_iter();
        if !packets
            .next()
            .is_some_and(|head| head.starts_with(b"OpusHead"))
        {
            return Err(TuneError::NotOpus);
        }
        let tags = packets.next();
        if !tags.is_some_and(|tags| tags.starts_with(b"OpusTags")) {
            return Err(TuneError::NotOpus);
        }
        let packets: Vec<Vec<u8>> = packets.filter(|packet| !packet.is_empty()).collect();
        if packets.is_empty() {
            return Err(TuneError::Empty);
        }
        if !packets.iter().all(|packet| is_20_ms(packet)) {
            return Err(TuneError::Duration);
        }
        Ok(Tune { packets })
    }
}

/// The packets of an Ogg file, by the lacing of its pages (RFC 3533 section 5).
fn read_packets(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while let Some((header, rest)) = file.split_at_checked(PAGE_HEADER) {
        let count = header.get(26).copied().map_or(0, usize::from);
        let Some((laces, mut body)) = rest
            .split_at_checked(count)
            .filter(|_| header.starts_with(b"OggS"))
        else {
            break;
        };
        for lace in laces {
            let Some((segment, next)) = body.split_at_checked(usize::from(*lace)) else {
                return packets;
            };
            packet.extend_from_slice(segment);
            body = next;
            // A segment of 255 bytes goes on in the next.
            if *lace < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        file = body;
    }
    packets
}

/// Whether a packet is one frame of 20 ms, by its table of contents (RFC 6716 section 3.1).
fn is_20_ms(packet: &[u8]) -> bool {
    let toc = packet.first().copied().unwrap_or_default();
    let config = toc >> 3;
    let is_20_ms = match config {
        0..=11 => config % 4 == 1,
        12..=15 => config % 2 == 1,
        _ => config % 4 == 3,
    };
    is_20_ms && toc & 0x03 == 0
}

/// A tune that is played again and again.
#[derive(Debug)]
pub(crate) struct Microphone {
    tune: Arc<Tune>,
    next: usize,
}

impl Microphone {
    /// Begins at this packet of the tune.
    pub(crate) fn new(tune: Arc<Tune>, start: usize) -> Microphone {
        let next = start % tune.packets.len().max(1);
        Microphone { tune, next }
    }
}

impl MediaSource for Microphone {
    fn next_frame(&mut self, _sent_us: u64, _key_wanted: bool) -> Frame {
        let packet = self.tune.packets.get(self.next).cloned();
        self.next = (self.next + 1) % self.tune.packets.len().max(1);
        Frame {
            payloads: packet.into_iter().collect(),
            duration: INTERVAL,
            is_key: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_three_seconds_and_goes_round() {
        let tune = Arc::new(Tune::people());
        assert!((150..153).contains(&tune.packets.len()));
        let mut microphone = Microphone::new(tune.clone(), 0);
        let first = microphone.next_frame(0, false);
        for _ in 1..tune.packets.len() {
            assert_eq!(microphone.next_frame(0, false).duration, INTERVAL);
        }
        assert_eq!(microphone.next_frame(0, false), first);
    }

    #[test]
    fn what_is_no_recording_is_refused_with_a_reason() {
        assert!(matches!(Tune::parse(b"RIFF"), Err(TuneError::NotOpus)));
        assert!(matches!(Tune::parse(b""), Err(TuneError::NotOpus)));
        let headers = PEOPLE.windows(4).enumerate().filter(|(_, w)| w == b"OggS");
        let third = headers.map(|(at, _)| at).nth(2).unwrap();
        assert!(matches!(
            Tune::parse(&PEOPLE[..third]),
            Err(TuneError::Empty)
        ));
    }
}
