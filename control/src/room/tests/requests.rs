//! Pages that meet in a database: broadcasters, participants and members.

use super::super::{EndReason, Request, RequestKind, Sight};
use super::*;

const CONTRACT_BROADCASTER: [&str; 2] = ["0 audio sendrecv", "1 video sendrecv"];
const CONTRACT_PARTICIPANT: [&str; 1] = ["0 video recvonly"];

fn request(kind: RequestKind, id: &str, room: &str, page: PageOffer) -> Request {
    Request {
        id: id.to_owned(),
        kind,
        room: room_name(room),
        name: PersonName::new(id),
        page,
    }
}

fn broadcaster(client: Client) -> Request {
    let page = client.page(&CONTRACT_BROADCASTER, &[]);
    request(RequestKind::Broadcaster, "b1", "b1", page)
}

fn participant(id: &str, client: Client) -> Request {
    let page = client.page(&CONTRACT_PARTICIPANT, &[]);
    request(RequestKind::Participant, id, "b1", page)
}

fn member(id: &str, client: Client, wants: &[(&str, &str)]) -> Request {
    let sections = ["0 audio sendonly", "1 video sendonly", "2 video recvonly"];
    request(RequestKind::Member, id, "m", client.page(&sections, wants))
}

fn sight(world: &World, room: &str) -> Sight {
    world.rooms.sight(&room_name(room)).unwrap()
}

#[test]
fn the_contracts_two_pages_get_what_they_offer_for() {
    let mut world = World::new();
    let answer = world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "recvonly"]);
    assert!(world.effects().contains(&"opened broadcaster".to_owned()));
    let answer = world.rooms.handle_request(&participant("p1", BOB)).unwrap();
    assert_eq!(directions(&answer), ["sendonly"]);
    assert_eq!(attribute(&answer, "msid"), "millrace video");
    let commands = world.commands();
    assert!(
        commands.iter().any(|line| line.starts_with("#0 feed t")),
        "{commands:?}"
    );
    let totals = world.rooms.totals();
    assert_eq!(totals.sessions, [0, 0, 0, 1, 0, 0, 1]);
}

#[test]
fn a_participant_may_come_before_its_broadcaster_and_gets_sound_and_picture_in_one_stream() {
    let mut world = World::new();
    let page = BOB.page(&["0 audio recvonly", "1 video recvonly"], &[]);
    let request = request(RequestKind::Participant, "p1", "b1", page);
    let answer = world.rooms.handle_request(&request).unwrap();
    let streams: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("a=msid:")?.split(' ').next())
        .collect();
    assert_eq!(streams, ["millrace", "millrace"]);
    world.effects();
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    let commands = world.commands();
    let feeds = commands.iter().filter(|line| line.contains("feed t"));
    assert_eq!(feeds.count(), 2, "{commands:?}");
}

#[test]
fn a_broadcaster_that_comes_back_keeps_its_participants() {
    let mut world = World::new();
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    world.rooms.handle_request(&participant("p1", BOB)).unwrap();
    world.effects();
    let first = world.rooms.requests["b1"].0;
    world.engine_closes(first, CloseReason::ConsentExpired);
    let effects = world.effects();
    assert!(
        effects.contains(&"request b1 ended consent_expired".to_owned()),
        "{effects:?}"
    );
    assert_eq!(sight(&world, "b1").present, 1);
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    let commands = world.commands();
    assert!(
        commands.iter().any(|line| line.contains("feed t")),
        "{commands:?}"
    );
    world.rooms.handle_broadcast_over(&room_name("b1"));
    // The desk ended it, and is told nothing.
    let effects = world.effects();
    assert!(!effects.iter().any(|line| line.starts_with("request")));
    world.assert_empty();
}

#[test]
fn an_offer_of_the_same_connection_renegotiates_and_of_another_replaces() {
    let mut world = World::new();
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    world.effects();
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    assert!(!world.effects().iter().any(|line| line.contains("open")));
    let restarted = Client {
        ufrag: "ann2",
        ..ANN
    };
    world.rooms.handle_request(&broadcaster(restarted)).unwrap();
    assert_eq!(world.commands(), ["#0 restart"]);
    let reloaded = Client {
        certificate: "CC",
        ..ANN
    };
    world.rooms.handle_request(&broadcaster(reloaded)).unwrap();
    let effects = world.effects();
    assert!(
        effects.contains(&"ended replaced".to_owned()),
        "{effects:?}"
    );
    assert!(!effects.iter().any(|line| line.starts_with("request")));
    assert_eq!(world.rooms.totals().people, 1);
}

#[test]
fn a_refused_request_leaves_nothing_behind() {
    let mut world = World::new();
    let idle = ANN.page(&["0 audio inactive"], &[]);
    // More than a session may publish.
    let cameras: Vec<String> = (0..5).map(|mid| format!("{mid} video sendonly")).collect();
    let cameras: Vec<&str> = cameras.iter().map(String::as_str).collect();
    let cameras = ANN.page(&cameras, &[]);
    for (kind, page) in [
        (RequestKind::Broadcaster, &idle),
        (RequestKind::Participant, &idle),
        (RequestKind::Member, &cameras),
    ] {
        let refused = world
            .rooms
            .handle_request(&request(kind, "x", "r", page.clone()));
        assert!(matches!(refused, Err(Refusal::Unservable(_))), "{kind:?}");
        assert!(world.effects().is_empty());
        world.assert_empty();
    }
}

#[test]
fn members_meet_people_of_the_page_under_their_documents_ids() {
    let mut world = World::new();
    let ann = world.entered("m", "Ann");
    assert!(sight(&world, "m").members.is_none());
    world.rooms.handle_request(&member("d1", BOB, &[])).unwrap();
    assert_eq!(world.effects()[0], "tell joined d1");
    world.rooms.handle_say(&ann, "hello");
    let seen = sight(&world, "m").members.unwrap();
    assert_eq!(seen.people[1].id, PersonId("d1".to_owned()));
    assert_eq!(seen.people[1].tracks.len(), 2);
    assert_eq!((seen.chat[0].n, seen.chat[0].text.as_str()), (1, "hello"));
    for _ in 0..30 {
        world.rooms.handle_say(&ann, "and");
    }
    let chat = sight(&world, "m").members.unwrap().chat;
    assert_eq!((chat.len(), chat.last().unwrap().n), (20, 31));
    world.rooms.handle_request_over("d1");
    assert_eq!(sight(&world, "m").present, 1);
}

#[test]
fn x_06_a_member_cannot_be_somebody_else() {
    let mut world = World::new();
    let ann = world.entered("m", "Ann");
    let refused = world.rooms.handle_request(&member(&ann.0, BOB, &[]));
    assert!(matches!(refused, Err(Refusal::Unservable(_))));
    world.rooms.handle_request_over(&ann.0);
    assert_eq!(world.rooms.totals().people, 1);
}

#[test]
fn a_member_whose_media_is_lost_may_offer_again_for_the_grace_time() {
    let mut world = World::new();
    world.rooms.handle_request(&member("d1", BOB, &[])).unwrap();
    world.effects();
    let first = world.rooms.sessions.keys().next().unwrap().0;
    world.engine_closes(first, CloseReason::ConsentExpired);
    assert!(
        world
            .effects()
            .contains(&"request d1 ended consent_expired".to_owned())
    );
    world.wait(Duration::from_secs(10));
    let other = Client {
        certificate: "CC",
        ..BOB
    };
    world
        .rooms
        .handle_request(&member("d1", other, &[]))
        .unwrap();
    world.wait(Duration::from_secs(60));
    assert_eq!(world.rooms.totals().people, 1);
    let second = world.rooms.sessions.keys().next().unwrap().0;
    world.engine_closes(second, CloseReason::PeerClosed);
    world.wait(Duration::from_secs(16));
    world.assert_empty();
}

#[test]
fn a_member_that_closes_its_connection_has_left() {
    let mut world = World::new();
    world.rooms.handle_request(&member("d1", BOB, &[])).unwrap();
    world.effects();
    let session = world.rooms.sessions.keys().next().unwrap().0;
    world.engine_closes(session, CloseReason::PeerClosed);
    let ended = "request d1 ended peer_closed".to_owned();
    assert!(world.effects().contains(&ended));
    world.assert_empty();
}

#[test]
fn a_draining_node_makes_no_rooms_and_lets_people_into_those_it_has() {
    let mut world = World::new();
    world.rooms.handle_request(&broadcaster(ANN)).unwrap();
    world.rooms.handle_drain();
    assert_eq!(world.rooms.ready(), Err(Refusal::ShuttingDown));
    assert!(world.rooms.handle_request(&participant("p1", BOB)).is_ok());
    let refused = world.rooms.handle_request(&member("d1", BOB, &[]));
    assert_eq!(refused, Err(Refusal::ShuttingDown));
    assert_eq!(
        world.enter("elsewhere", "Ann").unwrap_err(),
        Refusal::ShuttingDown
    );
}

#[test]
fn rooms_that_changed_are_named_once() {
    let mut world = World::new();
    world.entered("a", "Ann");
    world.entered("b", "Bob");
    let changed = world.rooms.take_changed();
    let changed: Vec<&str> = changed.iter().map(RoomName::as_str).collect();
    assert_eq!(changed, ["a", "b"]);
    assert!(world.rooms.take_changed().is_empty());
    world.rooms.handle_close_room(&room_name("b"));
    assert_eq!(world.rooms.take_changed().len(), 1);
    assert_eq!(world.rooms.sight(&room_name("b")).map(|_| ()), None);
    assert_eq!(
        EndReason::BroadcastOver.to_string(),
        "the broadcast is over"
    );
}
