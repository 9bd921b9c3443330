//! Data channels inside DTLS: the crates' client and association in the place of a browser's.

use bytes::Bytes;

use super::*;
use crate::command::Command;
use crate::data::tests::browser::Browser;
use crate::data::{ChannelSpec, DataEvent, DataRequest, Message, MessageKind, Reliability};
use crate::dtls::Associations;
use crate::event::DtlsInput;
use crate::id::{ChannelId, SessionId};
use crate::limits::DATA_DROPS_INTERVAL;

const SESSION: SessionId = SessionId(7);

/// A browser and the associations of a handshake thread, on a network that loses nothing.
struct Call {
    now: Instant,
    client: Endpoint,
    browser: Option<Browser>,
    server: Associations,
    told: Vec<DataEvent>,
    dropped: u64,
    closed: Vec<CloseReason>,
    /// The numbers of the encrypted records that the server sent.
    numbers: Vec<Vec<u8>>,
}

fn room() -> ChannelSpec {
    ChannelSpec {
        label: "room".to_owned(),
        protocol: String::new(),
        ordered: true,
        reliability: Reliability::Reliable,
    }
}

fn text(text: &'static str) -> Message {
    Message {
        kind: MessageKind::Text,
        bytes: Bytes::from_static(text.as_bytes()),
    }
}

impl Call {
    fn new() -> Call {
        let now = start();
        let (ours, theirs) = (
            Certificate::generate().unwrap(),
            Certificate::generate().unwrap(),
        );
        let mut client = Endpoint::new(PEER, TransportProtocol::UDP, None);
        let offer = configuration(
            &theirs,
            crypto_provider(),
            &SUITES,
            &PROFILES,
            DtlsRole::Client,
        );
        client.connect(now, PEER, offer.unwrap(), None).unwrap();
        let mut server = Associations::new(ours, 10);
        let spec = spec(DtlsRole::Server, &theirs);
        server.handle_input(
            now,
            DtlsInput::Open {
                session: SESSION,
                spec,
            },
        );
        Call {
            now,
            client,
            browser: None,
            server,
            told: Vec::new(),
            dropped: 0,
            closed: Vec::new(),
            numbers: Vec::new(),
        }
    }

    fn open_data(&mut self) {
        let open = DtlsInput::OpenData {
            session: SESSION,
            message_bytes_max: 65_536,
        };
        self.server.handle_input(self.now, open);
    }

    fn request(&mut self, request: DataRequest) {
        let (session, request) = (SESSION, Box::new(request));
        let input = DtlsInput::Data { session, request };
        self.server.handle_input(self.now, input);
    }

    /// Lets everything happen for so long.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now <= end {
            while self.exchange() {}
            self.now += Duration::from_millis(50);
            if self
                .server
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                self.server.handle_timeout(self.now);
            }
            if let Some(browser) = &mut self.browser {
                browser.handle_timeout(self.now);
            }
        }
    }

    /// Moves what there is; `false` when nothing moved.
    fn exchange(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        if let Some(browser) = &mut self.browser {
            while let Some(packet) = browser.poll_transmit(now) {
                self.client.write(now, PEER, &packet).unwrap();
            }
        }
        while let Some(transmit) = self.client.poll_transmit() {
            moved = true;
            let bytes = transmit.message.to_vec().into_boxed_slice();
            let session = SESSION;
            let input = DtlsInput::Datagram { session, bytes };
            self.server.handle_input(now, input);
        }
        while let Some(command) = self.server.poll_command() {
            moved = true;
            match command {
                Command::DtlsTransmit { bytes, .. } => self.on_datagram(&bytes),
                Command::DtlsConnected { .. } => {}
                Command::DtlsClosed { reason, .. } => self.closed.push(reason),
                Command::DataEvent { event, .. } => self.told.push(*event),
                Command::DataDropped { drops } => self.dropped += drops.malformed,
                other => panic!("unexpected {other:?}"),
            }
        }
        moved
    }

    fn on_datagram(&mut self, datagram: &[u8]) {
        for record in records(datagram).filter(|record| record.epoch == 1) {
            self.numbers.push(record.bytes[3..11].to_vec());
        }
        let datagram = BytesMut::from(datagram);
        // Once it has hung up it takes nothing more.
        let events = self.client.read(self.now, PEER, None, datagram);
        for event in events.unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => self.browser = Some(Browser::new(self.now)),
                EndpointEvent::ApplicationData(packet) => {
                    let browser = self.browser.as_mut().unwrap();
                    browser.handle_packet(self.now, packet.freeze());
                }
                _ => {}
            }
        }
    }

    /// Opens a channel and lets a message go each way.
    fn talk(&mut self) {
        self.run_for(Duration::from_secs(5));
        let now = self.now;
        let browser = self.browser.as_mut().unwrap();
        browser.open(now, 1, &room());
        browser.send(now, 1, &text("to the server"));
        self.run_for(Duration::from_secs(1));
        let channel = ChannelId(1);
        let message = text("to the browser");
        self.request(DataRequest::Send { channel, message });
        self.run_for(Duration::from_secs(1));
        let told = [
            DataEvent::Opened {
                channel,
                spec: room(),
            },
            DataEvent::Received {
                channel,
                message: text("to the server"),
            },
        ];
        assert_eq!(self.told, told);
        let browser = self.browser.as_ref().unwrap();
        assert_eq!(browser.received, [(1, text("to the browser"))]);
    }
}

#[test]
fn a_message_goes_each_way_through_dtls() {
    let mut call = Call::new();
    call.open_data();
    call.talk();
    // Either may close the channel, and then the call.
    let channel = ChannelId(1);
    call.request(DataRequest::Close { channel });
    call.run_for(Duration::from_secs(5));
    assert_eq!(call.browser.as_ref().unwrap().lost, [1]);
    let _ = call.client.stop(call.now, PEER);
    call.run_for(Duration::from_secs(1));
    assert_eq!(call.closed, [CloseReason::PeerClosed]);
    assert!(call.server.is_empty());
}

#[test]
fn t_17_channels_may_come_long_after_the_handshake_and_no_record_number_comes_twice() {
    let mut call = Call::new();
    call.run_for(Duration::from_secs(5));
    // Nobody reads what comes before it was negotiated; the client asks again.
    call.open_data();
    call.open_data();
    call.talk();
    let session = SESSION;
    call.server
        .handle_input(call.now, DtlsInput::Close { session });
    call.exchange();
    let mut numbers = call.numbers.clone();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), call.numbers.len(), "T-17");
    assert!(call.numbers.len() > 4);
}

#[test]
fn without_channels_data_has_no_reader_and_a_session_stays_small() {
    let mut call = Call::new();
    call.run_for(Duration::from_secs(5));
    for _ in 0..100 {
        call.client.write(call.now, PEER, &[0x5a; 1_000]).unwrap();
        call.exchange();
    }
    let channel = ChannelId(1);
    call.request(DataRequest::Send {
        channel,
        message: text("nobody is there"),
    });
    assert_eq!((call.told.len(), call.dropped), (0, 0));
    assert_eq!(call.server.poll_timeout(), None);
}

#[test]
fn a_flood_of_what_is_dropped_is_told_once_a_second() {
    let mut call = Call::new();
    call.open_data();
    call.run_for(Duration::from_secs(5));
    for _ in 0..1_000 {
        call.client.write(call.now, PEER, &[0x5a; 100]).unwrap();
    }
    call.exchange();
    assert_eq!(call.dropped, 0);
    assert_eq!(
        call.server.poll_timeout(),
        Some(call.now + DATA_DROPS_INTERVAL)
    );
    call.run_for(DATA_DROPS_INTERVAL * 2);
    assert_eq!(call.dropped, 1_000);
    assert_eq!(call.server.poll_timeout(), None);
}
