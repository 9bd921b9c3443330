//! Whole nodes in virtual time, from one seed: the rooms, the desk of the database, SDP, the WebSocket protocol and the
//! engines are the real ones; people, networks and the database are scripted. docs/simulation.md says what is
//! in a world and what must hold there.
//!
//! `make sweep` lives through many seeds, and `SEED=n make sweep` through one again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod call;
mod chaos;
mod check;
mod cloud;
mod database;
mod description;
mod direct;
mod lane;
mod model;
mod node;
mod page;
mod paper;
mod person;
mod plan;
mod queue;
mod socket;
mod sweep;
mod take_over;
mod world;

/// As the program has it: a sweep is much of making and giving back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
