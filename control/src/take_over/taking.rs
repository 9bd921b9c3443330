//! The new program's side: it takes sockets and state, and runs only once the old one has ended.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane::driver::{Dataplane, DataplaneConfig, Handover, Heir, StartError};
use dataplane::event::Event;
use dataplane::id::SessionId;
use tokio::sync::mpsc;

use super::line::{Broken, Line, Tag};
use super::{Hello, Terms};
use crate::room::{RoomsSnapshot, UnreadableRooms};

/// How long each answer of the running program may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why this program did not take over. The running one goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// Nobody to take over from.
    #[error(
        "no node answers at {path} ({source}): start one with --upgrade-socket, as the user that this one runs as"
    )]
    Nobody {
        /// Where it was sought.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The running node said no, or went on without this one.
    #[error("the running node goes on: {0}")]
    Refused(#[from] Broken),
    /// Clients know the running node by its addresses.
    #[error(
        "the running node has {what} {running}, and this one is to have {configured}: give both the same"
    )]
    OtherAddress {
        /// Which address.
        what: &'static str,
        /// Of the running node.
        running: SocketAddr,
        /// Of the configuration.
        configured: SocketAddr,
    },
    /// The rooms cannot be taken up.
    #[error(transparent)]
    Rooms(#[from] UnreadableRooms),
    /// The workers cannot be taken up.
    #[error(transparent)]
    Workers(#[from] StartError),
}

/// What was taken over; its workers run.
#[derive(Debug)]
pub struct Taken {
    /// HTTP's listener.
    pub listener: TcpListener,
    /// The workers.
    pub dataplane: Dataplane,
    /// What they tell.
    pub events: mpsc::Receiver<(usize, Event)>,
    /// The rooms.
    pub rooms: RoomsSnapshot,
    /// Sessions that go on.
    pub sessions: BTreeSet<SessionId>,
}

/// Takes over from the node that listens at the path; blocks until its workers run here.
///
/// # Errors
/// Why not. The other node goes on then, and hears why.
pub fn take_over(
    path: &Path,
    http: SocketAddr,
    config: DataplaneConfig,
) -> Result<Taken, TakeOverError> {
    let nobody = |source| TakeOverError::Nobody {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path).map_err(nobody)?;
    let mut line = Line::new(stream, PATIENCE).map_err(Broken::from)?;
    match converse(&mut line, http, config) {
        Ok((listener, heir, rooms)) => {
            let sessions = heir.sessions().iter().flatten().copied().collect();
            let (dataplane, events) = heir.start()?;
            Ok(Taken {
                listener,
                dataplane,
                events,
                rooms,
                sessions,
            })
        }
        Err(error) => {
            line.fail(&error.to_string());
            Err(error)
        }
    }
}

/// Everything up to the word that this program may run.
fn converse(
    line: &mut Line,
    http: SocketAddr,
    config: DataplaneConfig,
) -> Result<(TcpListener, Heir, RoomsSnapshot), TakeOverError> {
    let hello =
        serde_json::to_vec(&Hello::ours()).map_err(|error| Broken::from(io::Error::from(error)))?;
    line.send(Tag::Hello, &hello).map_err(Broken::from)?;
    let terms = line.expect(Tag::Terms)?;
    let terms: Terms = serde_json::from_slice(&terms).map_err(|_| Broken::Unexpected)?;
    let mut descriptors = line.receive_descriptors(2 * terms.workers + 1)?;
    check(&terms, http, &config)?;
    Heir::rehearse(&config, terms.workers)?;
    let listener: TcpListener = descriptors.pop().ok_or(Broken::Unexpected)?.into();
    let sockets = pairs(descriptors);

    line.send(Tag::Begin, &[]).map_err(Broken::from)?;
    let rooms = RoomsSnapshot::decode(&line.expect(Tag::Rooms)?)?;
    Heir::gather_memory(rooms.sessions());
    line.send(Tag::Freeze, &[]).map_err(Broken::from)?;
    let state = line.expect(Tag::State)?;
    let mut engines = Vec::with_capacity(terms.workers);
    for _ in 0..terms.workers {
        engines.push(line.expect(Tag::Engine)?);
    }
    let handover = Handover::decode(&state, engines)?;
    let heir = Heir::prepare(config, sockets, handover)?;

    line.send(Tag::Ready, &[]).map_err(Broken::from)?;
    // However long it takes: the other says it at once, or has gone on and closes the line.
    line.set_patience(None).map_err(Broken::from)?;
    line.expect(Tag::Yours)?;
    Ok((listener, heir, rooms))
}

/// Clients come back to the addresses that they know.
fn check(terms: &Terms, http: SocketAddr, config: &DataplaneConfig) -> Result<(), TakeOverError> {
    for (what, running, configured) in [
        ("HTTP at", terms.http, http),
        ("media at", terms.media, config.media),
    ] {
        let is_same =
            configured == running || (configured.port() == 0 && configured.ip() == running.ip());
        if !is_same {
            return Err(TakeOverError::OtherAddress {
                what,
                running,
                configured,
            });
        }
    }
    Ok(())
}

/// UDP and TCP of each worker.
fn pairs(descriptors: Vec<OwnedFd>) -> Vec<(UdpSocket, TcpListener)> {
    let mut pairs = Vec::with_capacity(descriptors.len() / 2);
    let mut descriptors = descriptors.into_iter();
    while let (Some(udp), Some(tcp)) = (descriptors.next(), descriptors.next()) {
        pairs.push((udp.into(), tcp.into()));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd as _;

    use dataplane::driver::DriverChoice;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Rooms with nobody in them.
    const ROOMS: &[u8] = br#"{"version":1,"next_id":1,"groups":0,"rooms":{},"people":{},"sessions":{},"tracks":{},"relays":[]}"#;

    fn config() -> DataplaneConfig {
        DataplaneConfig {
            media: (Ipv4Addr::LOCALHOST, 0).into(),
            workers: 1,
            driver: DriverChoice::Msg,
            sessions_max: 10,
            publisher_bitrate_bps_max: 1_000_000,
            egress_hold: Duration::ZERO,
            audio_speakers: 0,
            dtls_threads: 1,
            pin: false,
        }
    }

    /// What comes of taking over from a node that goes as far as `tell` and then hangs up.
    fn take_from(
        tell: impl FnOnce(&mut Line) -> Result<(), Broken> + Send,
    ) -> Result<(), TakeOverError> {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = Line::new(here, SOON).unwrap();
        let mut there = Line::new(there, SOON).unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0);
        let udp = UdpSocket::bind(any).unwrap();
        let (tcp, http) = (
            TcpListener::bind(any).unwrap(),
            TcpListener::bind(any).unwrap(),
        );
        let terms = Terms {
            workers: 1,
            http: http.local_addr().unwrap(),
            media: udp.local_addr().unwrap(),
        };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                there.expect(Tag::Hello)?;
                there.send(Tag::Terms, &serde_json::to_vec(&terms).unwrap())?;
                there.send_descriptors(&[udp.as_fd(), tcp.as_fd(), http.as_fd()])?;
                there.expect(Tag::Begin)?;
                tell(&mut there)
            });
            converse(&mut here, any.into(), config()).map(drop)
        })
    }

    #[test]
    fn rooms_that_are_cut_short_are_not_taken() {
        let torn = take_from(|line| Ok(line.send(Tag::Rooms, &ROOMS[..40])?));
        let malformed =
            |error| matches!(error, TakeOverError::Rooms(UnreadableRooms::Malformed(_)));
        assert!(torn.is_err_and(malformed));
    }

    #[test]
    fn workers_that_are_cut_short_are_not_taken() {
        let torn = take_from(|line| {
            line.send(Tag::Rooms, ROOMS)?;
            line.expect(Tag::Freeze)?;
            line.send(Tag::State, b"{\"at\":{\"secs\":1,")?;
            Ok(line.send(Tag::Engine, b"{}")?)
        });
        let malformed =
            |error| matches!(error, TakeOverError::Workers(StartError::Handover { .. }));
        assert!(torn.is_err_and(malformed));
    }

    #[test]
    fn a_node_that_is_gone_half_way_is_not_taken_over() {
        let gone = take_from(|line| {
            line.send(Tag::Rooms, ROOMS)?;
            line.expect(Tag::Freeze)?;
            Ok(())
        });
        assert!(gone.is_err_and(|error| matches!(error, TakeOverError::Refused(Broken::Line(_)))));
    }
}
