//! The body of a test and of a fuzz target: people on two workers who do whatever the bytes say, against a
//! simple model of what each may be sent.
//!
//! What must hold after every operation: nobody is sent a packet that was not published in their room, for
//! the sender that carries it, and whole; no key and index seals two packets; nothing leaves for an address
//! that proved nothing; memory stays within its limits. And at the end: numbers are missing only where the
//! publisher's were, or a drop was counted; and when all have left nothing of them remains.

mod audit;
mod client;
mod control;
mod media;
mod packet;
mod received;
mod sessions;
mod stream;
mod track;
mod world;

use std::ops::AddAssign;

use crate::sim::script::Script;
use world::World;

/// Operations of one run: more only makes it slow.
const OPERATIONS_MAX: usize = 500;

/// What arrived at clients in one run, for who wants to know whether a script does anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets of media.
    pub media: u64,
    /// Retransmissions.
    pub repairs: u64,
    /// Padding that probes.
    pub padding: u64,
    /// Control packets.
    pub control: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.media += other.media;
        self.repairs += other.repairs;
        self.padding += other.padding;
        self.control += other.control;
    }
}

/// Does what the bytes say. What came of it.
///
/// # Panics
/// When the engine does, or breaks what must hold.
pub fn operations(bytes: &[u8]) -> Seen {
    let mut script = Script::new(bytes);
    let mut world = World::new(script.byte());
    for _ in 0..OPERATIONS_MAX {
        if script.is_over() {
            break;
        }
        world.operate(&mut script);
        world.settle();
        world.assert_bounded();
    }
    world.finish();
    world.seen
}

impl World {
    /// One operation.
    fn operate(&mut self, script: &mut Script<'_>) {
        match script.byte() % 40 {
            0 | 1 => self.join(script),
            2 => self.check(script),
            3 => self.install_keys(script),
            4 => self.leave(script),
            5 => self.move_address(script),
            6 => self.restart_ice(script),
            7 => self.close_handshake(script),
            8 | 9 => self.publish(script),
            10 => self.unpublish(script),
            11 => self.republish(script),
            12 | 13 => self.subscribe(script),
            14 => self.unsubscribe(script),
            15 => self.feed(script),
            16 => self.renegotiate(script),
            17 => self.prefer(script),
            18..=22 => self.send_media(script),
            23 => self.deliver_late(script),
            24 => self.send_repair(script),
            25 => self.send_raw_media(script),
            26 => self.send_changed(script),
            27 => self.change_source(script),
            28 => self.send_feedback(script),
            29 | 30 => self.send_nack(script),
            31 => self.send_reports(script),
            32 => self.send_raw_control(script),
            33 => self.send_raw(script),
            34 => self.send_strange(script),
            35 => self.set_limits(script),
            36 => self.misname(script),
            37 | 38 => self.pass_time(script, 1_000),
            39 => self.pass_time(script, 100_000),
            _ => unreachable!("there are no more"),
        }
    }
}

#[cfg(test)]
mod tests;
