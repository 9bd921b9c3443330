//! Which quality of a picture goes to whom, and what its publisher is told.

use dataplane::event::Sent;
use dataplane::id::SenderId;
use signaling::node::ResourceId;
use signaling::quality::Preference;

use super::*;
use crate::room::effect::EndReason;

const SIMULCAST: [&str; 1] = ["c simulcast sendonly"];

impl World {
    fn prefer(&mut self, person: &PersonId, track: &str, most: Quality) {
        let preference = Preference { most, priority: 1 };
        self.rooms.handle_prefer(person, track, preference);
    }

    /// Ann sends a camera in three encodings, Bob watches it.
    fn pair() -> (World, PersonId, PersonId) {
        let mut world = World::new();
        let (ann, bob) = (world.entered("r", "Ann"), world.entered("r", "Bob"));
        let answer = world.offer(&ann, &ANN.page(&SIMULCAST, &[]));
        assert!(answer.contains("a=simulcast:recv q;h;f"), "{answer}");
        world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t1")]));
        world.effects();
        (world, ann, bob)
    }
}

#[test]
fn a_preference_reaches_the_engine_once_and_stays_with_its_track() {
    let (mut world, _, bob) = World::pair();
    world.prefer(&bob, "t1", Quality::Layer(1));
    assert_eq!(world.commands(), ["#0 prefer Layer(1) at 1"]);
    world.prefer(&bob, "t1", Quality::Layer(1));
    world.prefer(&bob, "t9", Quality::OFF);
    assert!(world.commands().is_empty());
    // The next offer changes nothing; another track in the section is another wish.
    world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", "t1")]));
    assert!(world.commands().is_empty());
    let eve = world.entered("r", "Eve");
    world.offer(&eve, &EVE.page(&SIMULCAST, &[]));
    world.effects();
    let track = world.track(&eve, 0);
    world.offer(&bob, &BOB.page(&["a video recvonly"], &[("a", &track)]));
    let commands = world.commands();
    assert!(
        commands.contains(&"#0 prefer Best at 0".to_owned()),
        "{commands:?}"
    );
}

#[test]
fn a_publisher_is_told_what_the_best_is_that_anybody_wants() {
    let (mut world, _, bob) = World::pair();
    world.reports([0, 0]);
    assert!(
        world.effects().is_empty(),
        "everything is wanted, as it was"
    );
    world.prefer(&bob, "t1", Quality::Layer(1));
    world.effects();
    world.reports([0, 0]);
    assert_eq!(world.effects(), ["tell wanted Camera Layer(1)"]);
    world.reports([0, 0]);
    assert!(world.effects().is_empty(), "once");
    // Somebody else wants more.
    let eve = world.entered("r", "Eve");
    world.offer(&eve, &EVE.page(&["a video recvonly"], &[("a", "t1")]));
    world.effects();
    world.reports([0, 0]);
    assert_eq!(world.effects(), ["tell wanted Camera Named(Best)"]);
    world.rooms.handle_leave(&eve, EndReason::Left);
    world.rooms.handle_leave(&bob, EndReason::Left);
    world.effects();
    world.reports([0, 0]);
    assert_eq!(
        world.effects(),
        ["tell wanted Camera Layer(0)"],
        "who comes next sees something at once"
    );
}

#[test]
fn a_person_is_told_what_they_are_sent() {
    let (mut world, _, _) = World::pair();
    let sender = SenderId(world.rooms.next_id - 1);
    let session = *world.rooms.sessions.keys().last().unwrap();
    for (sent, told) in [
        (
            Sent::Layers {
                encoding: 1,
                spatial: 7,
                temporal: 7,
            },
            "tell layer t1 Some(1) None",
        ),
        (Sent::NoRoom, "tell layer t1 None Some(NoRoom)"),
        (Sent::Unwanted, "tell layer t1 None Some(Unwanted)"),
    ] {
        let sender = world.rooms.sessions[&session].receives["a"].sender();
        let event = Event::Chosen {
            session,
            sender,
            sent,
        };
        world.rooms.handle_event(world.now, 0, &event);
        assert_eq!(world.effects(), [told]);
    }
    let estimate = Event::Downlink {
        session,
        estimate_bps: 700_000,
        loss_permille: 0,
        rtt_us: None,
    };
    world.rooms.handle_event(world.now, 0, &estimate);
    assert_eq!(world.effects(), ["tell estimate 700000"]);
    let event = Event::Chosen {
        session,
        sender: SenderId(sender.0 + 100),
        sent: Sent::NoRoom,
    };
    world.rooms.handle_event(world.now, 0, &event);
    assert!(world.effects().is_empty(), "a sender that is gone");
}

#[test]
fn a_person_who_is_back_is_told_how_things_stand_by_now() {
    let mut world = World::new();
    let ann = world.enter("r", "Ann").unwrap();
    world.offer(&ann.person, &ANN.page(&SIMULCAST, &[]));
    let bob = world.enter("r", "Bob").unwrap();
    let wants = [("a", "t1")];
    world.offer(&bob.person, &BOB.page(&["a video recvonly"], &wants));
    let session = *world.rooms.sessions.keys().last().unwrap();
    let sender = world.rooms.sessions[&session].receives["a"].sender();
    let all = Sent::Layers {
        encoding: 1,
        spatial: 7,
        temporal: 7,
    };
    // What is told while their WebSockets are broken reaches nobody.
    for entry in [&ann, &bob] {
        world.suspend(entry);
    }
    for sent in [Sent::NoRoom, all] {
        let event = Event::Chosen {
            session,
            sender,
            sent,
        };
        world.rooms.handle_event(world.now, 0, &event);
    }
    world.prefer(&bob.person, "t1", Quality::Layer(1));
    world.reports([0, 0]);
    world.effects();
    world.rooms.handle_resume(&bob.resume_token).unwrap();
    assert_eq!(world.effects(), ["tell layer t1 Some(1) None"]);
    world.rooms.handle_resume(&ann.resume_token).unwrap();
    assert_eq!(world.effects(), ["tell wanted Camera Layer(1)"]);
}

#[test]
fn a_player_chooses_when_it_comes_and_later() {
    let (mut world, ..) = World::pair();
    let connected = world.rooms.handle_connect(&Connect {
        door: Door::Whep,
        room: room_name("r"),
        name: PersonName::new(""),
        offer: Offer::parse(&EVE.sdp(&["v video recvonly"])).unwrap(),
        watch: None,
        most: Quality::Layer(0),
        from: caller(),
    });
    let resource = connected.unwrap().resource;
    let commands = world.commands();
    assert!(
        commands.contains(&"#0 prefer Layer(0) at 0".to_owned()),
        "{commands:?}"
    );
    world.rooms.handle_layer(&resource, Quality::BEST).unwrap();
    assert_eq!(world.commands(), ["#0 prefer Best at 0"]);
    let unknown = ResourceId("other".to_owned());
    let refused = world.rooms.handle_layer(&unknown, Quality::OFF);
    assert!(matches!(refused, Err(Refusal::UnknownSession)));
}
