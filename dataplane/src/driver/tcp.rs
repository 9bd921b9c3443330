//! ICE-TCP, passive side (RFC 6544): clients whose network blocks UDP connect to the worker's port.
//!
//! Each connection is a task on the worker's thread. What it reads waits in one bounded queue for
//! the worker's turn; what the worker sends waits in the connection's own bounded buffer, so that a
//! slow reader loses packets and nobody else notices.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::clock;
use super::framing::{LENGTH_BYTES, split_packet, whole_packets};
use super::link::unmapped;
use crate::counters::Counters;
use crate::limits::{
    TCP_CONNECTIONS_MAX, TCP_IDLE_TIMEOUT, TCP_QUEUE_LEN, TCP_READ_BYTES, TCP_UNVALIDATED_MAX,
    TCP_UNVALIDATED_TIMEOUT, TCP_WRITE_BUFFER_BYTES,
};
use crate::transmit::{Path, Transport};

/// After an accept that failed (out of descriptors), the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The ICE-TCP connections of a worker.
#[derive(Debug)]
pub(super) struct Tcp {
    connections: Rc<Connections>,
    arrivals: mpsc::Receiver<Arrival>,
    /// Taken from the queue by `ready`, for the turn that follows.
    first: Option<Arrival>,
    listener: AbortHandle,
    counts: TcpCounts,
}

/// What the TCP side counts.
#[derive(Clone, Debug, Default)]
pub(super) struct TcpCounts {
    /// Packets to readers that were too slow.
    full: u64,
    /// Packets to connections that are gone.
    gone: u64,
}

impl TcpCounts {
    /// Adds these counts to a report.
    pub(super) fn merge_into(&self, counters: &mut Counters) {
        counters.drop_socket_full += self.full;
        counters.drop_socket_refused += self.gone;
    }
}

/// Whole packets, each behind its length, from one connection.
#[derive(Debug)]
struct Arrival {
    path: Path,
    packets: Vec<u8>,
}

#[derive(Debug, Default)]
struct Connections {
    /// By number; the lowest is the oldest.
    open: RefCell<BTreeMap<u32, Rc<Connection>>>,
    accepted: Cell<u32>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Framed packets that wait to be written.
    unsent: RefCell<VecDeque<u8>>,
    /// Something was put into `unsent`, or `closing` was set.
    wake: Notify,
    /// The engine answered over it. It answers only checks that know a session's password.
    validated: Cell<bool>,
    closing: Cell<bool>,
}

impl Tcp {
    /// Starts to accept. Must be called on the worker's runtime, inside its local tasks.
    pub(super) fn listen(listener: std::net::TcpListener) -> io::Result<Tcp> {
        let listener = TcpListener::from_std(listener)?;
        let (to_worker, arrivals) = mpsc::channel(TCP_QUEUE_LEN);
        let connections = Rc::new(Connections::default());
        let accepting = spawn_local(accept(listener, Rc::clone(&connections), to_worker));
        Ok(Tcp {
            connections,
            arrivals,
            first: None,
            listener: accepting.abort_handle(),
            counts: TcpCounts::default(),
        })
    }

    /// Waits until a packet arrived.
    pub(super) async fn ready(&mut self) {
        if self.first.is_none() {
            match self.arrivals.recv().await {
                Some(arrival) => self.first = Some(arrival),
                None => std::future::pending().await,
            }
        }
    }

    /// Hands over the packets of at most `reads_max` reads; returns whether there may be more.
    pub(super) fn receive(
        &mut self,
        reads_max: usize,
        mut take: impl FnMut(Path, &mut [u8]),
    ) -> bool {
        for _ in 0..reads_max {
            let next = self.first.take().or_else(|| self.arrivals.try_recv().ok());
            let Some(Arrival { path, mut packets }) = next else {
                return false;
            };
            let mut left = packets.as_mut_slice();
            while let Some((packet, rest)) = split_packet(left) {
                // RFC 4571 allows empty packets; they mean nothing.
                if !packet.is_empty() {
                    take(path, packet);
                }
                left = rest;
            }
        }
        true
    }

    /// Queues datagrams, laid end to end with the given size, on a connection.
    pub(super) fn send(&mut self, connection: u32, datagrams: &[u8], segment: usize) {
        let count = datagrams.len().div_ceil(segment.max(1)) as u64;
        let open = self.connections.open.borrow();
        let Some(connection) = open.get(&connection) else {
            self.counts.gone += count;
            return;
        };
        connection.validated.set(true);
        let mut unsent = connection.unsent.borrow_mut();
        for datagram in datagrams.chunks(segment.max(1)) {
            // Never half a packet: the stream would lose its step.
            if unsent.len() + LENGTH_BYTES + datagram.len() > TCP_WRITE_BUFFER_BYTES {
                self.counts.full += 1;
                continue;
            }
            unsent.extend((datagram.len() as u16).to_be_bytes());
            unsent.extend(datagram);
        }
        connection.wake.notify_one();
    }

    /// What was counted since the start.
    pub(super) fn counts(&self) -> &TcpCounts {
        &self.counts
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.listener.abort();
        for connection in self.connections.open.borrow().values() {
            connection.close();
        }
    }
}

impl Connection {
    fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }
}

impl Connections {
    /// Takes a new connection in, at the cost of the oldest stranger when there are too many;
    /// `None` when clients fill every place.
    fn admit(&self) -> Option<(u32, Rc<Connection>)> {
        let mut open = self.open.borrow_mut();
        let strangers = open
            .values()
            .filter(|connection| !connection.validated.get())
            .count();
        if strangers >= TCP_UNVALIDATED_MAX || open.len() >= TCP_CONNECTIONS_MAX {
            let oldest = open
                .iter()
                .find(|(_, connection)| !connection.validated.get());
            let number = oldest.map(|(&number, _)| number)?;
            if let Some(connection) = open.remove(&number) {
                connection.close();
            }
        }
        // Numbers are never used twice, so a late packet cannot reach a new client; after 2^32
        // connections there are no more.
        let number = self.accepted.get();
        self.accepted.set(number.checked_add(1)?);
        let connection = Rc::new(Connection::default());
        open.insert(number, Rc::clone(&connection));
        Some((number, connection))
    }
}

async fn accept(
    listener: TcpListener,
    connections: Rc<Connections>,
    to_worker: mpsc::Sender<Arrival>,
) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some((number, connection)) = connections.admit() else {
            continue;
        };
        let path = Path {
            transport: Transport::Tcp(number),
            remote: unmapped(remote),
        };
        let (connections, to_worker) = (Rc::clone(&connections), to_worker.clone());
        spawn_local(async move {
            serve(stream, path, &connection, to_worker).await;
            connections.open.borrow_mut().remove(&number);
        });
    }
}

/// Reads and writes until either ends.
async fn serve(
    mut stream: TcpStream,
    path: Path,
    connection: &Connection,
    to_worker: mpsc::Sender<Arrival>,
) {
    // Media waits for nobody; failing that it is only later.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.split();
    tokio::select! {
        () = read(reader, path, connection, to_worker) => {}
        () = write(writer, connection) => {}
    }
}

async fn read(
    mut reader: ReadHalf<'_>,
    path: Path,
    connection: &Connection,
    to_worker: mpsc::Sender<Arrival>,
) {
    let first_check_by = Instant::from_std(clock::now()) + TCP_UNVALIDATED_TIMEOUT;
    let mut stream = Vec::with_capacity(TCP_READ_BYTES);
    loop {
        let quiet_until = if connection.validated.get() {
            Instant::from_std(clock::now()) + TCP_IDLE_TIMEOUT
        } else {
            first_check_by
        };
        match timeout_at(quiet_until, reader.read_buf(&mut stream)).await {
            Ok(Ok(len)) if len > 0 => {}
            // Became a client while it was read from as a stranger.
            Err(_) if connection.validated.get() && quiet_until == first_check_by => continue,
            // Ended, failed or silent.
            Ok(_) | Err(_) => return,
        }
        let Ok(whole) = whole_packets(&stream) else {
            return;
        };
        if whole > 0 {
            let mut rest = Vec::with_capacity(TCP_READ_BYTES);
            rest.extend_from_slice(stream.get(whole..).unwrap_or_default());
            stream.truncate(whole);
            let packets = std::mem::replace(&mut stream, rest);
            if to_worker.send(Arrival { path, packets }).await.is_err() {
                return;
            }
        }
    }
}

async fn write(writer: WriteHalf<'_>, connection: &Connection) {
    loop {
        connection.wake.notified().await;
        while !connection.unsent.borrow().is_empty() {
            if connection.closing.get() || writer.ready(Interest::WRITABLE).await.is_err() {
                return;
            }
            let written = writer.try_write(connection.unsent.borrow().as_slices().0);
            match written {
                Ok(len) => drop(connection.unsent.borrow_mut().drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        if connection.closing.get() {
            return;
        }
    }
}
