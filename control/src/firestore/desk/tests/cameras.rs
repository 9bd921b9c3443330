//! Cameras that stand in documents: no page is behind them, so nodes look after them among themselves.

use super::world::{World, field};
use super::{PATIENCE, SECOND};
use crate::firestore::desk::{Desk, limits};
use crate::firestore::message::Path;

impl World {
    /// Somebody wants a camera in a room.
    fn camera_now(&mut self, id: &str, room: &str) {
        let fields = [
            field("requestor", "Gate"),
            field("kind", "camera"),
            field("parent", room),
            field("url", "rtsp://ann:s3cret@192.0.2.7/1"),
            field("offer", ""),
            field("answer", ""),
            field("abort", false),
        ];
        self.page(self.now, Path::request(id), fields.into());
    }

    /// The node that pulls a camera, which others may have pulled before.
    fn puller(&self, id: &str) -> usize {
        let node = self.holder(id).unwrap_or_else(|| panic!("{id} is pulled"));
        assert_eq!(self.text(id, "owner"), self.nodes[node].name);
        node
    }
}

#[test]
fn a_camera_is_where_its_room_is_and_goes_when_it_is_hung_up() {
    let mut world = World::three(60);
    world.offer_now("m", "member", "gate");
    world.run(SECOND * 3);
    for n in 0..4 {
        world.camera_now(&format!("c{n}"), "gate");
    }
    world.offer_now("p", "participant", "gate");
    world.run(SECOND * 3);
    let node = world.server("m");
    for n in 0..4 {
        assert_eq!(world.puller(&format!("c{n}")), node);
        assert_eq!(world.text(&format!("c{n}"), "answer"), format!("c{n}"));
    }
    assert_eq!(world.server("p"), node);
    world.hang_up("c0");
    world.run(SECOND * 3);
    assert_eq!(world.holder("c0"), None);
    assert_eq!(world.text("c0", "owner"), "");
    // Its password changed.
    let fields = [
        field("url", "rtsp://ann:other@192.0.2.7/1"),
        field("answer", ""),
    ];
    world.page(world.now, Path::request("c1"), fields.into());
    world.run(SECOND * 3);
    assert_eq!(world.puller("c1"), node);
}

#[test]
fn what_is_no_camera_is_refused_with_a_sentence_that_does_not_hold_the_address() {
    let mut world = World::three(61);
    world.camera_now("c", "gate");
    world.run(SECOND * 3);
    for wrong in [
        field("mode", "sometimes"),
        field("layers", "rtsp://ann:s3cret@h/"),
    ] {
        world.page(
            world.now,
            Path::request("c"),
            [wrong, field("answer", "")].into(),
        );
        world.run(SECOND * 3);
        let error = world.text("c", "error");
        assert!(error.starts_with("this is no camera: "), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_camera_of_a_node_that_dies_or_ends_is_pulled_by_another_although_no_page_offers_again() {
    for dies in [true, false] {
        let mut world = World::three(62);
        for n in 0..20 {
            world.camera_now(&format!("c{n}"), &format!("room{}", n / 2));
        }
        world.run(SECOND * 5);
        let all = || (0..20).map(|n| format!("c{n}"));
        let victim = world.puller("c0");
        assert!(all().any(|id| world.puller(&id) != victim));
        if dies {
            world.kill(victim);
            world.run(SECOND * 45);
        } else {
            world.with(victim, Desk::handle_drain);
            assert!(
                world.nodes[victim].desk.is_idle(),
                "nobody waits for cameras"
            );
            world.with(victim, Desk::handle_end);
            world.run(SECOND * 10);
            assert!(world.nodes[victim].desk.is_over());
        }
        world.run(PATIENCE);
        for id in all() {
            assert_ne!(world.puller(&id), victim);
            assert_eq!(world.text(&id, "error"), "");
        }
        for n in 0..10 {
            let [one, other] = [2 * n, 2 * n + 1].map(|n| world.puller(&format!("c{n}")));
            assert_eq!(one, other, "a room is on one node");
        }
    }
}

#[test]
fn a_node_that_starts_again_pulls_its_cameras_again() {
    let mut world = World::new(63);
    world.start("a", 1000);
    world.run(SECOND * 20);
    world.camera_now("c", "gate");
    world.run(SECOND * 3);
    world.puller("c");
    world.kill(0);
    world.run(SECOND * 2);
    world.start("a", 1000);
    world.run(SECOND * 12);
    assert_eq!(world.puller("c"), 1);
}

#[test]
fn a_camera_waits_for_a_node_with_room_for_it_as_long_as_it_takes() {
    let mut world = World::new(64);
    let full = world.start("full", 0);
    world.run(SECOND * 20);
    world.camera_now("c", "gate");
    world.run(limits::OFFER_AGE_MAX + SECOND * 20);
    assert_eq!(
        (world.text("c", "error"), world.holder("c")),
        (String::new(), None)
    );
    let free = world.start("free", 10);
    world.run(SECOND * 30);
    assert_eq!(world.puller("c"), free);
    assert_ne!(free, full);
}
