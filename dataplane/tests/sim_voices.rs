//! A large meeting in virtual time, of which a few speak: who is heard, and what that costs.

use std::time::Duration;

use dataplane::id::{SenderId, TrackId};
use dataplane::sim::meeting::PublishOptions;
use dataplane::sim::network::LinkSpec;
use dataplane::sim::source::{Frame, MediaSource, Shape, Synthetic};
use dataplane::sim::world::{SeatId, World, WorldConfig};

const SEED: u64 = 0x766f_6963_6573;

const PEOPLE: u64 = 50;

/// So many voices are forwarded.
const SPEAKERS: usize = 5;

/// The first person begins to speak so long after the beginning of time, the next a second later..
const FIRST_TALK: Duration = Duration::from_secs(4);

/// ..and each speaks for so long: three at a time.
const TALK: Duration = Duration::from_secs(3);

/// Packets of 20 ms.
const PACKETS_PER_SECOND: u64 = 50;

/// A person's voice: a murmur, and a talk with its syllables.
struct Voice {
    person: u64,
    frames: Synthetic,
    level: u8,
}

impl MediaSource for Voice {
    fn next_frame(&mut self, sent_us: u64, key_wanted: bool) -> Frame {
        let at = Duration::from_micros(sent_us);
        let talk = talk_of(self.person)..talk_of(self.person) + TALK;
        let beat = (sent_us / 20_000 + self.person) % 7;
        self.level = if !talk.contains(&at) {
            62 + beat as u8
        } else if beat == 6 {
            58
        } else {
            22 + beat as u8
        };
        self.frames.next_frame(sent_us, key_wanted)
    }

    fn audio_level(&self) -> u8 {
        self.level
    }
}

/// When a person begins to speak.
fn talk_of(person: u64) -> Duration {
    FIRST_TALK + Duration::from_secs(person)
}

struct Meeting {
    world: World,
    /// For each person, what the others are sent of them.
    sent: Vec<Vec<SenderId>>,
}

impl Meeting {
    fn new() -> Meeting {
        let config = WorldConfig {
            audio_speakers: SPEAKERS,
            ..WorldConfig::new(SEED)
        };
        let mut world = World::new(config);
        let people: Vec<(SeatId, TrackId)> = (0..PEOPLE)
            .map(|person| {
                let seat = world.join(LinkSpec::default());
                let voice = Box::new(Voice {
                    person,
                    frames: Synthetic::new(person as u32 + 1, Shape::AUDIO),
                    level: 127,
                });
                let track = world.publish_source(seat, PublishOptions::AUDIO, voice);
                (seat, track)
            })
            .collect();
        let sent = people.iter().map(|&(speaker, track)| {
            let others = people.iter().filter(|(seat, _)| *seat != speaker);
            let senders = others.map(|&(seat, _)| world.subscribe(seat, track));
            senders.collect()
        });
        let sent = sent.collect();
        world.connect_all();
        Meeting { world, sent }
    }

    /// Packets of a person that each of the others has.
    fn packets(&self, person: u64) -> Vec<u64> {
        let senders = self.sent[person as usize].iter();
        let packets = senders.map(|sender| self.world.reception(*sender).counts().packets);
        packets.collect()
    }

    fn run_until(&mut self, time: Duration) {
        let elapsed = self.world.elapsed();
        self.world.run_for(time.saturating_sub(elapsed));
    }
}

#[test]
fn in_a_room_of_fifty_where_three_speak_these_are_heard_from_their_first_word_on() {
    let mut meeting = Meeting::new();
    meeting.run_until(FIRST_TALK - Duration::from_millis(100));
    let murmur_before: u64 = (40..PEOPLE).flat_map(|p| meeting.packets(p)).sum();
    for person in 0..6 {
        meeting.run_until(talk_of(person));
        let before = meeting.packets(person);
        meeting.run_until(talk_of(person) + Duration::from_millis(500));
        let after = meeting.packets(person);
        // 25 packets, of which one or two are still in the network, and three may be lost: 60 ms.
        for (before, after) in before.iter().zip(&after) {
            assert!(
                after - before >= 25 - 2 - 3,
                "person {person}: {before} {after}"
            );
        }
    }
    meeting.run_until(talk_of(6));
    let end = FIRST_TALK + Duration::from_secs(6);
    for person in 0..4 {
        let heard = meeting.packets(person);
        let talk = TALK.as_secs() * PACKETS_PER_SECOND;
        assert!(
            heard.iter().all(|packets| *packets >= talk - 3),
            "person {person}: {heard:?}"
        );
    }
    // Who never spoke has no seat since the first talk.
    let murmur: u64 = (40..PEOPLE).flat_map(|p| meeting.packets(p)).sum();
    assert!(
        murmur - murmur_before <= 10 * (PEOPLE - 1) * 5,
        "{murmur_before} {murmur}"
    );
    // No more is forwarded than the seats take, of a tenth of what all would be.
    meeting.world.run_for(Duration::from_secs(1));
    let counters = meeting.world.counters();
    let most = (end.as_secs() + 2) * PACKETS_PER_SECOND * SPEAKERS as u64 * (PEOPLE - 1);
    assert!(counters.rtp_forwarded <= most, "{counters:?}");
    assert!(
        counters.voice_not_heard * 10 >= counters.rtp_received * 8,
        "{counters:?}"
    );
    assert!(
        counters.speaker_changes <= 16,
        "nothing flaps: {counters:?}"
    );
    assert_eq!(
        counters.drop_subscriber_behind + counters.drop_late_audio,
        0
    );
    // Nobody sees a gap in the numbers, nor a wrong time.
    meeting.world.assert_lossless();
}
