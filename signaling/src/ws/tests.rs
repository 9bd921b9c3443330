//! The protocol's clock, without a socket: the conversation itself is tested through the doors.

#![expect(
    clippy::disallowed_methods,
    reason = "a start of time for the tests to count from"
)]

use std::time::{Duration, Instant};

use super::protocol::{Action, CloseCode, Joined, Protocol};
use crate::node::{PersonId, Refusal, Visit};

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn actions(protocol: &mut Protocol) -> Vec<Action> {
    std::iter::from_fn(|| protocol.poll_action()).collect()
}

/// Somebody who is in since `start`.
fn joined(start: Instant) -> Protocol {
    let mut protocol = Protocol::new(start, [].into());
    protocol.handle_text(start, r#"{"type":"join","room":"tea","name":"Ada"}"#);
    protocol.handle_entered(Ok(Joined {
        person: PersonId("p1".to_owned()),
        visit: Visit(1),
        room: "tea".parse().unwrap(),
        resume_token: "secret".to_owned(),
        people: Vec::new(),
    }));
    let [Action::Enter { .. }, Action::Send(_)] = actions(&mut protocol)[..] else {
        panic!("entering is asked for, then told");
    };
    protocol
}

#[test]
fn a_silent_socket_is_closed_after_five_seconds() {
    let start = Instant::now();
    let mut protocol = Protocol::new(start, [].into());
    assert_eq!(protocol.poll_timeout(), Some(start + second(5)));
    protocol.handle_timeout(start + second(5));
    let [Action::Send(_), Action::Close(CloseCode::NotJoined, _)] = actions(&mut protocol)[..]
    else {
        panic!("a sentence and a close frame");
    };
    assert!(protocol.is_over());
    assert_eq!(protocol.poll_timeout(), None);
}

#[test]
fn a_client_that_answers_pings_stays_for_ever() {
    let start = Instant::now();
    let mut protocol = joined(start);
    for n in 1..1000 {
        let due = protocol.poll_timeout().unwrap();
        assert_eq!(due, start + second(10) * n);
        protocol.handle_timeout(due);
        assert!(matches!(actions(&mut protocol)[..], [Action::Ping]));
        assert!(protocol.handle_frame(due + second(1)), "a pong");
    }
}

#[test]
fn a_client_that_answers_no_two_pings_is_dropped_and_may_come_back() {
    let start = Instant::now();
    let mut protocol = joined(start);
    for n in 1..=2 {
        protocol.handle_timeout(start + second(10) * n);
        assert!(matches!(actions(&mut protocol)[..], [Action::Ping]));
    }
    protocol.handle_timeout(start + second(30));
    assert!(matches!(
        actions(&mut protocol)[..],
        [Action::Suspend(..), Action::Drop]
    ));
    assert!(protocol.is_over());
}

#[test]
fn fifty_frames_in_any_second_are_the_most() {
    let start = Instant::now();
    let mut protocol = joined(start);
    // One every 20 ms is fifty a second, for as long as one likes.
    for n in 1..500 {
        assert!(protocol.handle_frame(start + Duration::from_millis(20) * n));
    }
    let last = start + Duration::from_millis(20) * 499;
    assert!(!protocol.handle_frame(last + Duration::from_millis(10)));
    let [
        Action::Leave(..),
        Action::Send(_),
        Action::Close(CloseCode::TooMuch, _),
    ] = actions(&mut protocol)[..]
    else {
        panic!("the person is let out, told why, and closed");
    };
}

#[test]
fn nothing_follows_the_end() {
    let start = Instant::now();
    let mut protocol = joined(start);
    protocol.handle_close(Some(1000));
    assert!(matches!(actions(&mut protocol)[..], [Action::Leave(..)]));
    protocol.handle_text(start, r#"{"type":"chat","text":"hello?"}"#);
    protocol.handle_binary(start);
    protocol.handle_answered(&Err(Refusal::ShuttingDown));
    protocol.handle_events_ended();
    protocol.handle_timeout(start + second(100));
    protocol.handle_broken();
    assert!(actions(&mut protocol).is_empty());
}
