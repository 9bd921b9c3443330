//! Voices: which of a room are forwarded, and what of their silence.

use dataplane::command::{Command, Feed, MediaKind, SenderFormat, TrackSpec};
use dataplane::id::{GroupId, PayloadType, SenderId, TrackId};
use dataplane::relay::RelaySlot;

use crate::world::*;

/// Levels in -dBov.
const LOUD: u8 = 25;
const MURMUR: u8 = 60;
const SILENT: u8 = 127;

/// What an encoder makes of speech, and of digital silence.
const WORD: [u8; 80] = [0x78; 80];
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// People whose voices one listener is sent, each every 20 ms.
struct Room {
    world: World,
    people: Vec<Peer>,
    listener: Peer,
    /// Packets that each has sent.
    sent: u16,
    /// What the listener was sent of each, with the packet that was being sent then.
    heard: Vec<Vec<(u16, rtp::Packet)>>,
}

fn voice_track(id: u64) -> TrackSpec {
    TrackSpec {
        group: Some(GroupId(1)),
        ..audio_track(id)
    }
}

impl Room {
    fn of(people: u64, speakers: usize) -> Room {
        Room::with(people, speakers, voice_track)
    }

    fn with(people: u64, speakers: usize, track: impl Fn(u64) -> TrackSpec) -> Room {
        let mut world = World::with_speakers(speakers);
        let listener = Peer::connect(&mut world, 99);
        let people = (1..=people).map(|number| {
            let person = Peer::connect(&mut world, number);
            let session = person.session;
            let track = Box::new(track(number));
            world.command(Command::Publish { session, track });
            hear(&mut world, &listener, number);
            person
        });
        let people: Vec<Peer> = people.collect();
        Room {
            heard: people.iter().map(|_| Vec::new()).collect(),
            world,
            people,
            listener,
            sent: 0,
        }
    }

    /// Each of them sends a packet of this level; digital silence is small.
    fn say(&mut self, levels: &[u8]) {
        let payload = |level: u8| if level == SILENT { &SILENCE[..] } else { &WORD };
        for (index, level) in levels.iter().enumerate() {
            self.send(index, 111, Some(*level), payload(*level));
        }
        self.collect();
    }

    fn send(&mut self, person: usize, payload_type: u8, level: Option<u8>, payload: &[u8]) {
        let level = level.map(|level| [level]);
        let mut extensions: Vec<(u8, &[u8])> = vec![(PUBLISHER_MID_ID, b"a")];
        extensions.extend(level.iter().map(|level| (1, &level[..])));
        let media = Media {
            ssrc: 100 + person as u32,
            payload_type,
            sequence: self.sent.wrapping_add(65_500),
            timestamp: u32::from(self.sent) * 960,
            marker: false,
            extensions: &extensions,
            payload,
        };
        self.people[person].send(&mut self.world, &media.packet());
    }

    /// The listener takes what came, and 20 ms pass.
    fn collect(&mut self) {
        for packet in self.listener.media(&mut self.world) {
            let person = packet.header.ssrc as usize - 0x5001;
            self.heard[person].push((self.sent, packet));
        }
        self.sent += 1;
        self.world.ms(20);
    }

    /// Which packets of a person the listener was sent since the last look.
    fn take(&mut self, person: usize) -> Vec<u16> {
        let heard = self.heard[person].drain(..);
        heard.map(|(number, _)| number).collect()
    }
}

/// The listener is sent what a person says.
fn hear(world: &mut World, listener: &Peer, number: u64) {
    let (session, sender) = (
        listener.session,
        Box::new(sender(number, MediaKind::Audio, false)),
    );
    world.command(Command::AddSender { session, sender });
    let take = |payload_type| {
        Some(SenderFormat {
            payload_type: PayloadType(payload_type),
            rtx: None,
            red: None,
        })
    };
    world.command(Command::Feed {
        sender: SenderId(number),
        source: Some(Feed {
            track: TrackId(number),
            payload_types: vec![take(111), take(63)],
        }),
    });
}

#[test]
fn of_five_who_send_the_two_loudest_are_forwarded() {
    let mut room = Room::of(5, 2);
    for _ in 0..50 {
        room.say(&[MURMUR, MURMUR, LOUD, MURMUR, LOUD]);
    }
    for person in 0..5 {
        room.take(person);
    }
    for _ in 0..50 {
        room.say(&[MURMUR, MURMUR, LOUD, MURMUR, LOUD]);
    }
    let heard: Vec<usize> = (0..5).map(|person| room.take(person).len()).collect();
    assert_eq!(heard, [0, 0, 50, 0, 50]);
    let counters = room.world.counters();
    assert_eq!(counters.rtp_received, 500);
    assert!(counters.voice_not_heard >= 3 * 90);
    assert_eq!(
        counters.rtp_forwarded + counters.voice_not_heard,
        counters.rtp_received
    );
}

#[test]
fn a_new_voice_is_heard_from_its_third_packet_on_without_a_seam_in_its_numbers() {
    let mut room = Room::of(3, 1);
    for _ in 0..10 {
        room.say(&[LOUD, MURMUR, LOUD]);
    }
    // Everybody is quiet for a while, and then the second speaks.
    for _ in 0..100 {
        room.say(&[MURMUR, MURMUR, MURMUR]);
    }
    assert_eq!((room.take(1), room.take(2)), (vec![], vec![]));
    for _ in 0..20 {
        room.say(&[MURMUR, LOUD, MURMUR]);
    }
    let heard = std::mem::take(&mut room.heard[1]);
    let first = heard[0].0;
    assert!((110..=112).contains(&first), "the first word: {first}");
    assert_eq!(
        heard.len(),
        usize::from(130 - first),
        "and all that follows"
    );
    room.take(0);
    // It falls silent, the first takes the seat, and gives it back.
    for _ in 0..100 {
        room.say(&[LOUD, MURMUR, MURMUR]);
    }
    assert!(room.take(0).len() > 40);
    for _ in 0..150 {
        room.say(&[MURMUR, LOUD, MURMUR]);
    }
    let again = std::mem::take(&mut room.heard[1]);
    let pause = heard.last().unwrap().0;
    let all: Vec<_> = heard.iter().chain(&again).collect();
    for pair in all.windows(2) {
        let ((before, a), (after, b)) = (pair[0], pair[1]);
        let step = b
            .header
            .sequence_number
            .wrapping_sub(a.header.sequence_number);
        assert_eq!(step, 1, "nothing looks lost");
        let time = b.header.timestamp.wrapping_sub(a.header.timestamp);
        assert_eq!(time, u32::from(after - before) * 960);
        let resumes = *after != before + 1;
        assert_eq!(b.header.marker, resumes, "RFC 3551 section 4.1");
    }
    assert!(again.iter().any(|(number, _)| *number > pause + 40));
}

#[test]
fn two_who_talk_at_once_do_not_take_the_seat_from_each_other() {
    let mut room = Room::of(2, 1);
    for n in 0..500u16 {
        // Syllables and the pauses between them, in turn.
        let levels = if (n / 10) % 2 == 0 {
            [LOUD, 70]
        } else {
            [70, LOUD]
        };
        room.say(&levels);
    }
    assert_eq!(room.take(0).len(), 500, "who came first");
    assert_eq!(room.take(1).len(), 0);
    assert_eq!(room.world.counters().speaker_changes, 0);
}

#[test]
fn voices_that_do_not_say_how_loud_they_are_and_those_of_no_group_are_always_forwarded() {
    let mut room = Room::with(3, 1, |number| TrackSpec {
        group: (number != 3).then_some(GroupId(1)),
        ..audio_track(number)
    });
    for _ in 0..10 {
        room.send(0, 111, Some(LOUD), &WORD);
        room.send(1, 111, None, &WORD);
        room.send(2, 111, Some(MURMUR), &WORD);
        room.collect();
    }
    let heard: Vec<usize> = (0..3).map(|person| room.take(person).len()).collect();
    assert_eq!(heard, [10, 10, 10]);
}

#[test]
fn who_leaves_frees_a_seat_and_another_room_has_its_own() {
    let mut room = Room::with(4, 1, |number| TrackSpec {
        group: Some(GroupId(number / 4)),
        ..audio_track(number)
    });
    for _ in 0..10 {
        room.say(&[LOUD, LOUD, LOUD, MURMUR]);
    }
    let heard: Vec<usize> = (0..4).map(|person| room.take(person).len()).collect();
    assert_eq!(heard, [10, 0, 0, 10]);
    let session = room.people[0].session;
    room.world.command(Command::Close { session });
    for _ in 0..10 {
        room.send(1, 111, Some(MURMUR), &WORD);
        room.collect();
    }
    assert_eq!(room.take(1).len(), 10);
}

#[test]
fn a_muted_microphone_sends_a_packet_now_and_then_and_its_first_word_is_whole() {
    let mut room = Room::of(1, 0);
    for _ in 0..20 {
        room.say(&[LOUD]);
    }
    for _ in 0..500 {
        room.say(&[SILENT]);
    }
    for _ in 0..20 {
        room.say(&[LOUD]);
    }
    let heard = std::mem::take(&mut room.heard[0]);
    let silence: Vec<u16> = heard
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| (40..520).contains(number))
        .collect();
    assert!(
        (25..=28).contains(&silence.len()),
        "{} packets",
        silence.len()
    );
    let words = heard.iter().filter(|(number, _)| *number >= 520);
    assert_eq!(words.count(), 20);
    for pair in heard.windows(2) {
        let ((before, a), (after, b)) = (&pair[0], &pair[1]);
        let step = b
            .header
            .sequence_number
            .wrapping_sub(a.header.sequence_number);
        assert_eq!(step, 1);
        assert!(after - before <= 20, "400 ms at most");
        let time = b.header.timestamp.wrapping_sub(a.header.timestamp);
        assert_eq!(time, u32::from(after - before) * 960);
        assert_eq!(b.header.marker, *after == 520 && after - before > 1);
    }
    let counters = room.world.counters();
    assert_eq!(
        counters.silence_not_sent + counters.rtp_forwarded,
        counters.rtp_received
    );
}

#[test]
fn silence_in_redundant_or_large_packets_is_left_alone() {
    for (payload_type, payload) in [(63, &[111, 0xf8, 0xff, 0xfe][..]), (111, &[0xff; 160])] {
        let mut room = Room::of(1, 0);
        for _ in 0..100 {
            room.send(0, payload_type, Some(SILENT), payload);
            room.collect();
        }
        assert_eq!(room.take(0).len(), 100);
    }
}

#[test]
fn who_comes_during_a_pause_hears_what_follows_it() {
    let mut room = Room::of(2, 1);
    for _ in 0..100 {
        room.say(&[LOUD, MURMUR]);
    }
    let mut late = Peer::connect(&mut room.world, 50);
    let (session, spec) = (late.session, sender(50, MediaKind::Audio, false));
    room.world.command(Command::AddSender {
        session,
        sender: Box::new(spec),
    });
    let take = SenderFormat {
        payload_type: PayloadType(100),
        rtx: None,
        red: None,
    };
    room.world.command(Command::Feed {
        sender: SenderId(50),
        source: Some(Feed {
            track: TrackId(2),
            payload_types: vec![Some(take), None],
        }),
    });
    for _ in 0..200 {
        room.say(&[MURMUR, LOUD]);
    }
    let heard = late.media(&mut room.world);
    assert!((120..200).contains(&heard.len()), "{}", heard.len());
    assert!(!heard[0].header.marker, "it begins: nothing paused for it");
    let numbers = heard.windows(2).map(|pair| {
        let [a, b] = [&pair[0].header, &pair[1].header];
        b.sequence_number.wrapping_sub(a.sequence_number)
    });
    assert!(numbers.into_iter().all(|step| step == 1));
}

#[test]
fn voices_from_another_worker_compete_with_those_from_here() {
    let mut room = Room::of(1, 1);
    let mut away = World::with_speakers(1);
    let listener = Peer::connect(&mut away, 98);
    let mut slot = RelaySlot::new();
    for number in 1..=2 {
        let track = TrackId(number);
        if number == 2 {
            let person = Peer::connect(&mut room.world, number);
            let (session, track) = (person.session, Box::new(voice_track(number)));
            room.world.command(Command::Publish { session, track });
            room.people.push(person);
        }
        room.world.command(Command::Export { track, to: 1 });
        away.command(Command::Import {
            track: Box::new(voice_track(number)),
            from: 0,
        });
        hear(&mut away, &listener, number);
    }
    let mut room_away = Room {
        heard: vec![Vec::new(), Vec::new()],
        people: Vec::new(),
        world: away,
        listener,
        sent: 0,
    };
    for n in 0..200 {
        let levels = if n < 100 {
            [LOUD, MURMUR]
        } else {
            [MURMUR, LOUD]
        };
        room.say(&levels);
        while room.world.engine.poll_relay(room.world.now, 1, &mut slot) {
            room_away
                .world
                .engine
                .handle_relay(room_away.world.now, &slot);
        }
        room_away.collect();
    }
    let [first, second] = [0, 1].map(|person| room_away.take(person));
    assert_eq!(first, (0..first.len() as u16).collect::<Vec<_>>());
    assert!((130..180).contains(&first.len()), "{}", first.len());
    // With the first packet that is loud enough, the other's of the same time has left.
    assert_eq!(first.len() + second.len(), 201, "one at a time");
    assert_eq!(room.world.counters().relay_sent, 400, "all of both");
}
