//! Data channels as the engine sees them: values that pass through, and counters.

use bytes::Bytes;
use dataplane::command::Command;
use dataplane::data::{
    ChannelSpec, DataDrops, DataEvent, DataRequest, Message, MessageKind, Reliability,
};
use dataplane::event::{DtlsInput, Event};
use dataplane::id::{ChannelId, SessionId};

use crate::world::*;

const CHANNEL: ChannelId = ChannelId(3);

fn open(session: SessionId) -> Command {
    Command::OpenData {
        session,
        message_bytes_max: 65_536,
    }
}

fn message() -> Message {
    Message {
        kind: MessageKind::Text,
        bytes: Bytes::from_static(b"hello"),
    }
}

fn send(session: SessionId) -> Command {
    let (channel, message) = (CHANNEL, message());
    let request = Box::new(DataRequest::Send { channel, message });
    Command::Data { session, request }
}

#[test]
fn channels_are_opened_after_dtls_whenever_they_were_asked_for() {
    for early in [true, false] {
        let mut world = World::new();
        let mut peer = Peer::open(&mut world, 1);
        if early {
            world.command(open(peer.session));
            assert!(world.dtls.is_empty(), "nobody is there yet");
        }
        peer.check(&mut world, false);
        if !early {
            world.command(open(peer.session));
        }
        assert!(
            matches!(
                world.dtls.as_slice(),
                [DtlsInput::Open { .. }, DtlsInput::OpenData { .. }]
            ),
            "{:?}",
            world.dtls
        );
    }
}

#[test]
fn messages_pass_both_ways_and_are_counted() {
    let mut world = World::new();
    let mut peer = Peer::open(&mut world, 1);
    peer.check(&mut world, false);
    let session = peer.session;
    world.command(open(session));
    let spec = ChannelSpec {
        label: "room".to_owned(),
        protocol: String::new(),
        ordered: true,
        reliability: Reliability::Reliable,
    };
    let told = [
        DataEvent::Opened {
            channel: CHANNEL,
            spec,
        },
        DataEvent::Received {
            channel: CHANNEL,
            message: message(),
        },
    ];
    for event in told {
        let event = Box::new(event);
        world.events.clear();
        world.command(Command::DataEvent {
            session,
            event: event.clone(),
        });
        assert_eq!(world.events, [Event::Data { session, event }]);
    }
    world.command(send(session));
    assert!(matches!(world.dtls.last(), Some(DtlsInput::Data { .. })));
    let drops = DataDrops {
        over_rate: 5,
        channels_refused: 2,
        ..DataDrops::default()
    };
    world.command(Command::DataDropped {
        drops: Box::new(drops),
    });
    // Nothing is known of a session that is gone, on either side.
    let gone = world.dtls.len();
    world.command(send(SessionId(99)));
    world.command(open(SessionId(99)));
    assert_eq!(world.dtls.len(), gone);
    let counters = world.counters();
    assert_eq!(
        (
            counters.data_channels_opened,
            counters.data_messages_received,
            counters.data_messages_sent,
        ),
        (1, 1, 1)
    );
    assert_eq!(
        (counters.drop_data_over_rate, counters.data_channels_refused),
        (5, 2)
    );
    assert_eq!(counters.command_stale, 2);
}
