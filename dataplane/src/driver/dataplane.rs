//! The handle that control holds: start, commands, end.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as StdReceiver, RecvTimeoutError, Sender as StdSender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::config::{DataplaneConfig, DriverKind};
use super::core::Core;
use super::failures::Failures;
use super::faults::Faults;
use super::feed::{self, FeedDoor};
use super::lane::{self, LaneSender};
use super::outbox::Outbox;
use super::socket::{BindError, Sockets};
use super::take_over::Order;
use super::worker::{Inputs, Seat, Started};
use super::{clock, relay, worker};
use crate::command::Command;
use crate::dtls::certificate::CertificateError;
use crate::dtls::lane::Carried;
use crate::dtls::lane::LaneError;
use crate::dtls::{Certificate, Certificates, Lane};
use crate::engine::{Engine, EngineConfig, RestoreError};
use crate::event::Event;
use crate::id::SessionId;
use crate::limits::{
    COMMAND_QUEUE_LEN, DTLS_QUEUE_LEN, EGRESS_HOLD_MAX, EVENT_QUEUE_LEN, STOP_TIMEOUT,
};

/// Why the dataplane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A media address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Worker n takes port + n, and that is past 65535.
    #[error(
        "media port {port} leaves no room for {workers} workers: each takes the next port, up to 65535"
    )]
    PortRange {
        /// The first port.
        port: u16,
        /// How many were asked for.
        workers: usize,
    },
    /// A dataplane without workers.
    #[error("0 workers were asked for, at least 1 is needed")]
    NoWorkers,
    /// io_uring was demanded and is not to be had.
    #[error("io_uring is refused here ({reason}): allow it, or use the driver auto or msg")]
    UringRefused {
        /// What the kernel said.
        reason: String,
    },
    /// What another process wrote down cannot be taken up.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What another process handed over is not whole.
    #[error("what the running node handed over cannot be used: {reason}")]
    Handover {
        /// What is wrong.
        reason: String,
    },
    /// Sessions live on as many workers as there are.
    #[error(
        "the running node has {running} workers and this one is to have {configured}: give both the same --workers"
    )]
    OtherWorkers {
        /// So many run.
        running: usize,
        /// So many were asked for.
        configured: usize,
    },
    /// The DTLS certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The handshake threads could not be started.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A thread or its runtime could not be made.
    #[error("cannot start worker {worker}: {reason}")]
    Worker {
        /// Which.
        worker: usize,
        /// What the system said.
        reason: String,
    },
}

/// The worker's queue is full: the command was not taken and is handed back.
#[derive(Debug, thiserror::Error)]
#[error("the worker's queue of commands is full")]
pub struct QueueFull(pub Box<Command>);

/// What is known of a worker since its start.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Its number, from 0.
    pub index: usize,
    /// Its port, UDP and TCP.
    pub port: u16,
    /// The driver it runs on.
    pub driver: DriverKind,
    /// Why `auto` did not take io_uring.
    pub why_not_uring: Option<String>,
    /// Receive buffer that was granted, in bytes as asked for: the kernel reports the double (socket(7)).
    pub receive_buffer_bytes: usize,
    /// Send buffer that the kernel granted, in bytes of its accounting.
    pub send_buffer_bytes: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Whether the kernel takes bursts in one send (UDP_SEGMENT).
    pub gso: bool,
    /// Whether the kernel delivers runs of datagrams (UDP_GRO).
    pub gro: bool,
}

/// The running workers. Dropping it ends them.
#[derive(Debug)]
pub struct Dataplane {
    pub(super) workers: Vec<WorkerHandle>,
    infos: Vec<WorkerInfo>,
    /// Closes when the last worker thread is gone, and with it the handshake threads.
    ended: StdReceiver<()>,
    pub(super) certificates: Certificates,
    pub(super) lane: Arc<Lane>,
    /// The workers' sockets once more, for a process that takes over.
    pub(super) sockets: Vec<(UdpSocket, TcpListener)>,
}

#[derive(Debug)]
pub(super) struct WorkerHandle {
    commands: mpsc::Sender<Command>,
    pub(super) freeze: mpsc::Sender<Order>,
    /// Where feeders are announced.
    pub(super) feeds: FeedDoor,
    /// Dropped to stop the worker.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    #[cfg(feature = "sim")]
    faults: Faults,
}

impl Dataplane {
    /// Binds every socket, starts the workers and the handshake threads, and returns when all of
    /// them serve. Events come with the index of their worker.
    ///
    /// # Errors
    ///
    /// [`StartError`] says which address and what to do; nothing is left running.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a configuration is used once"
    )]
    pub fn start(
        config: DataplaneConfig,
    ) -> Result<(Dataplane, mpsc::Receiver<(usize, Event)>), StartError> {
        Dataplane::start_with(&config, Engine::new)
    }

    pub(super) fn start_with<C: Core + Send + 'static>(
        config: &DataplaneConfig,
        make: fn(EngineConfig) -> C,
    ) -> Result<(Dataplane, mpsc::Receiver<(usize, Event)>), StartError> {
        let mut estate = Estate {
            sockets: bind_all(config)?,
            certificates: Certificates::new(Certificate::generate()?),
            associations: Vec::new(),
            heirs: (0..config.workers).map(|_| None).collect(),
        };
        let nobody = vec![HashSet::new(); config.workers];
        Dataplane::launch(config, &mut estate, nobody, make)
    }

    /// Starts the workers with what they begin with, and returns when all of them serve.
    pub(super) fn launch<C: Core + Send + 'static>(
        config: &DataplaneConfig,
        estate: &mut Estate<C>,
        sessions: Vec<HashSet<SessionId>>,
        make: fn(EngineConfig) -> C,
    ) -> Result<(Dataplane, mpsc::Receiver<(usize, Event)>), StartError> {
        let cores = config.pin.then(worker::cores).unwrap_or_default();
        let (to_workers, from_lane): (Vec<_>, Vec<_>) = (0..config.workers)
            .map(|_| mpsc::channel(DTLS_QUEUE_LEN))
            .unzip();
        let associations = std::mem::take(&mut estate.associations);
        let certificates = &estate.certificates;
        let lane = lane::start(config.dtls_threads, certificates, associations, to_workers)?;
        let (events, events_out) = mpsc::channel(EVENT_QUEUE_LEN);
        let (alive, ended) = channel();
        let mut dataplane = Dataplane {
            workers: Vec::new(),
            infos: Vec::new(),
            ended,
            certificates: certificates.clone(),
            lane: Arc::clone(&lane),
            sockets: estate.share_sockets()?,
        };
        // Bound after the dataplane so that an early return drops it first: ending the workers
        // waits for the last sender.
        let alive = alive;
        let mut starting = Vec::new();
        let ends = std::mem::take(&mut estate.sockets)
            .into_iter()
            .zip(std::mem::take(&mut estate.heirs))
            .zip(from_lane)
            .zip(sessions)
            .zip(relay::mesh(config.workers));
        for (index, ((((sockets, heir), from_lane), sessions), relay)) in ends.enumerate() {
            let (commands, commands_in) = mpsc::channel(COMMAND_QUEUE_LEN);
            let (freeze, freeze_in) = mpsc::channel(1);
            let (stop, stopped) = oneshot::channel();
            let (feed_door, feeds) = feed::feeds();
            let core = cores.get(index % cores.len().max(1)).copied();
            let faults = Faults::default();
            dataplane
                .infos
                .push(info_before_start(index, &sockets, core));
            let seat = Seat {
                index,
                sockets,
                core,
                driver: config.driver,
                sessions_max: config.sessions_max,
                publisher_bitrate_bps_max: config.publisher_bitrate_bps_max,
                egress_hold: config.egress_hold.min(EGRESS_HOLD_MAX),
                audio_speakers: config.audio_speakers,
                make,
                heir,
                inputs: Inputs::new(commands_in, from_lane, freeze_in, stopped),
                outbox: Outbox::new(index, events.clone()),
                lane: LaneSender::new(index, Arc::clone(&lane)),
                relay,
                feeds,
                sessions,
                failures: Failures::default(),
                faults: faults.clone(),
            };
            let (started, start) = channel();
            let thread = spawn(seat, started, alive.clone())?;
            dataplane.workers.push(WorkerHandle {
                commands,
                freeze,
                feeds: feed_door,
                stop: Some(stop),
                thread: Some(thread),
                #[cfg(feature = "sim")]
                faults,
            });
            starting.push(start);
        }
        dataplane.await_start(starting)?;
        Ok((dataplane, events_out))
    }

    fn await_start(
        &mut self,
        starting: Vec<StdReceiver<Result<Started, StartError>>>,
    ) -> Result<(), StartError> {
        for (info, start) in self.infos.iter_mut().zip(starting) {
            info.learn(start.recv().map_err(|_| StartError::Worker {
                worker: info.index,
                reason: "its thread ended at once".to_owned(),
            })??);
        }
        Ok(())
    }

    /// The workers, by index.
    #[must_use]
    pub fn workers(&self) -> &[WorkerInfo] {
        &self.infos
    }

    /// Hands a command to a worker. Never waits; commands arrive in the order given.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] gives the command back when the worker is that far behind, or is gone.
    ///
    /// # Panics
    ///
    /// When there is no such worker: indices come from [`Dataplane::workers`].
    pub fn try_command(&self, worker: usize, command: Command) -> Result<(), QueueFull> {
        let handle = self
            .workers
            .get(worker)
            .expect("the index comes from Dataplane::workers");
        handle
            .commands
            .try_send(command)
            .map_err(|refused| QueueFull(Box::new(refused.into_inner())))
    }

    /// What is to go wrong in a worker.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn faults(&self, worker: usize) -> &Faults {
        let handle = self.workers.get(worker);
        &handle
            .expect("the index comes from Dataplane::workers")
            .faults
    }

    /// SHA-256 fingerprint of the DTLS certificate that new sessions have, for `a=fingerprint`.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint_of(SessionId(u64::MAX))
    }

    /// That of the certificate that a session has.
    #[must_use]
    pub fn fingerprint_of(&self, session: SessionId) -> [u8; 32] {
        self.certificates.of(session).fingerprint()
    }

    /// Gives sessions from `from` on a new certificate, whose fingerprint it returns; those with
    /// smaller ids keep what they have.
    ///
    /// # Errors
    ///
    /// Fails when the system gives no randomness; then everything stays as it was.
    pub fn renew_certificate(&self, from: SessionId) -> Result<[u8; 32], CertificateError> {
        let certificate = Certificate::generate()?;
        let fingerprint = certificate.fingerprint();
        self.certificates.renew(from, certificate);
        Ok(fingerprint)
    }

    /// Ends the workers and the handshake threads and waits for them, at most [`STOP_TIMEOUT`]. Peers are not told: close
    /// the sessions first.
    pub fn shutdown(self) {
        drop(self);
    }

    fn stop(&mut self) {
        for worker in &mut self.workers {
            worker.stop = None;
        }
        // Nothing is ever sent on it: it ends when the last thread drops its end.
        if self.ended.recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a worker did not end in time; it is left behind");
            return;
        }
        for thread in self
            .workers
            .iter_mut()
            .filter_map(|worker| worker.thread.take())
        {
            // A panic in a worker was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is known of a worker before its thread runs.
fn info_before_start(index: usize, sockets: &Sockets, core: Option<usize>) -> WorkerInfo {
    WorkerInfo {
        index,
        port: sockets.port,
        driver: DriverKind::Msg,
        why_not_uring: None,
        receive_buffer_bytes: sockets.receive_buffer_bytes,
        send_buffer_bytes: sockets.send_buffer_bytes,
        core,
        gso: false,
        gro: false,
    }
}

impl WorkerInfo {
    fn learn(&mut self, started: Started) {
        self.driver = started.driver;
        self.why_not_uring = started.why_not_uring;
        self.gso = started.offloads.gso;
        self.gro = started.offloads.gro;
    }
}

/// What workers begin with.
#[derive(Debug)]
pub(super) struct Estate<C> {
    pub(super) sockets: Vec<Sockets>,
    pub(super) certificates: Certificates,
    pub(super) associations: Carried,
    /// What each drives, where that was made elsewhere.
    pub(super) heirs: Vec<Option<C>>,
}

impl<C> Estate<C> {
    fn share_sockets(&self) -> Result<Vec<(UdpSocket, TcpListener)>, StartError> {
        let share = |(worker, sockets): (usize, &Sockets)| {
            let failed = |error: std::io::Error| StartError::Worker {
                worker,
                reason: error.to_string(),
            };
            let udp = sockets.udp.try_clone().map_err(failed)?;
            Ok((udp, sockets.tcp.try_clone().map_err(failed)?))
        };
        self.sockets.iter().enumerate().map(share).collect()
    }
}

/// The sockets of all workers, or none.
fn bind_all(config: &DataplaneConfig) -> Result<Vec<Sockets>, StartError> {
    let (port, workers) = (config.media.port(), config.workers);
    if workers == 0 {
        return Err(StartError::NoWorkers);
    }
    if port != 0 && usize::from(port) + workers - 1 > usize::from(u16::MAX) {
        return Err(StartError::PortRange { port, workers });
    }
    let address = |worker: usize| {
        let own = if port == 0 { 0 } else { port + worker as u16 };
        SocketAddr::new(config.media.ip(), own)
    };
    (0..workers)
        .map(|worker| Ok(Sockets::bind(address(worker))?))
        .collect()
}

fn spawn<C: Core + Send + 'static>(
    seat: Seat<C>,
    started: StdSender<Result<Started, StartError>>,
    alive: StdSender<()>,
) -> Result<JoinHandle<()>, StartError> {
    let worker = seat.index;
    std::thread::Builder::new()
        .name(format!("worker-{worker}"))
        .spawn(move || {
            let _alive = alive;
            seat.run(started);
        })
        .map_err(|error| StartError::Worker {
            worker,
            reason: error.to_string(),
        })
}

/// An engine's configuration, with a fresh seed.
pub(super) fn engine_config(
    sessions_max: usize,
    publisher_bitrate_bps_max: u64,
    hold_max: Duration,
    audio_speakers: usize,
) -> EngineConfig {
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed)
        .expect("the system's generator works, or TLS could not either");
    EngineConfig {
        epoch: clock::epoch(),
        seed: u64::from_ne_bytes(seed),
        sessions_max,
        publisher_bitrate_bps_max,
        hold_max,
        audio_speakers,
    }
}
