//! Handing running workers to another process, which got the sockets from this one.
//!
//! ```text
//!   this process                                          the other
//!   workers ── freeze ──► each stops receiving, sends what waits, and stands still
//!   Frozen ── handover ── state of engines and associations, certificate ──► Heir::prepare
//!   Frozen::end, or Frozen::resume when the other failed                     Heir::start
//! ```
//!
//! While the workers stand still packets wait in the sockets, which both processes have. **The other may start
//! only once this one has been told to end**, and this one may go on only if the other never starts: otherwise one
//! index of a key would be used twice. Who decides is the caller.

use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::clock;
use super::config::{DataplaneConfig, DriverChoice};
use super::dataplane::{Dataplane, Estate, StartError, engine_config};
use super::faults::Faults;
use super::socket::Sockets;
use super::uring::UringSocket;
use crate::dtls::certificates::CertificatesSecret;
use crate::dtls::lane::Carried;
use crate::dtls::{Certificate, Certificates};
use crate::engine::{Engine, EngineSnapshot};
use crate::event::Event;
use crate::id::SessionId;
use crate::limits::FREEZE_TIMEOUT;

/// What a worker is told, one after the other.
#[derive(Debug)]
pub(super) enum Step {
    /// Write the state of that time down. Everybody else has stopped too.
    Snapshot(Instant),
    /// It was all for nothing: go on.
    Resume,
}

/// What a worker answers.
#[derive(Debug)]
pub(super) enum Reply {
    /// It receives no more.
    Stopped,
    /// Its engine's state.
    Snapshot(Vec<u8>),
    /// It does not come to a stop.
    Failed,
}

/// An order to stop, with the line to whoever gave it. Without further word the worker ends.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) steps: Receiver<Step>,
    pub(super) replies: Sender<(usize, Reply)>,
}

/// Why the workers go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// One did not stop in time.
    #[error("a media worker did not stop in time")]
    Worker,
    /// The handshake threads did not answer in time.
    #[error("the handshake threads did not answer in time")]
    Lane,
    /// The certificate's key stays where it is.
    #[error("the DTLS certificate cannot be carried over")]
    Certificate,
}

/// Everything that workers know, for a process that takes over. It holds every key: it goes there and nowhere else.
#[derive(Serialize, Deserialize)]
pub struct Handover {
    /// The time of the snapshots, on the clock that all processes of the machine share.
    at: Duration,
    certificates: CertificatesSecret,
    associations: Carried,
    /// By worker.
    #[serde(skip)]
    engines: Vec<Vec<u8>>,
}

impl Handover {
    /// All but the engines, as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with text for keys can always be written")
    }

    /// The engines, by worker, as bytes.
    #[must_use]
    pub fn engines(&self) -> &[Vec<u8>] {
        &self.engines
    }

    /// Reads what [`Handover::encode`] wrote; the engines come as they were given.
    ///
    /// # Errors
    /// Bytes that are something else.
    pub fn decode(bytes: &[u8], engines: Vec<Vec<u8>>) -> Result<Handover, StartError> {
        let read: Result<Handover, _> = serde_json::from_slice(bytes);
        let read = read.map_err(|error| StartError::Handover {
            reason: error.to_string(),
        })?;
        Ok(Handover { engines, ..read })
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover")
            .field("engines", &self.engines.len())
            .finish_non_exhaustive()
    }
}

/// Workers that stand still. Dropped, they end.
#[derive(Debug)]
pub struct Frozen {
    steps: Vec<Sender<Step>>,
    /// Since when media stands still, at most.
    pub since: Instant,
    /// What they know.
    pub handover: Handover,
}

impl Frozen {
    /// The other process failed, and sent nothing: the workers go on as if nothing had been.
    pub fn resume(self) {
        resume(&self.steps);
    }

    /// The other process has everything, and will send: the workers end and send nothing more.
    pub fn end(self) {
        drop(self);
    }
}

fn resume(steps: &[Sender<Step>]) {
    for step in steps {
        // A worker that is gone does not go on.
        let _ = step.send(Step::Resume);
    }
}

impl Dataplane {
    /// The sockets of the workers, for a process that takes over: UDP and TCP, by worker.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn share_sockets(&self) -> std::io::Result<Vec<(UdpSocket, TcpListener)>> {
        let sockets = self.sockets.iter();
        sockets
            .map(|(udp, tcp)| Ok((udp.try_clone()?, tcp.try_clone()?)))
            .collect()
    }

    /// Stops the workers and writes down what they know; blocks until that is done, at most some
    /// [`FREEZE_TIMEOUT`]. Commands that were given before are carried out first.
    ///
    /// # Errors
    /// When something does not stop in time; then everything goes on.
    pub fn freeze(&self) -> Result<Frozen, FreezeError> {
        let since = clock::now();
        let (replies, inbox) = channel();
        let mut steps = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (step, steps_in) = channel();
            let order = Order {
                steps: steps_in,
                replies: replies.clone(),
            };
            steps.push(step);
            if worker.freeze.try_send(order).is_err() {
                resume(&steps);
                return Err(FreezeError::Worker);
            }
        }
        match self.write_down(&steps, &inbox) {
            Ok(handover) => Ok(Frozen {
                steps,
                since,
                handover,
            }),
            Err(error) => {
                resume(&steps);
                Err(error)
            }
        }
    }

    fn write_down(
        &self,
        steps: &[Sender<Step>],
        inbox: &Receiver<(usize, Reply)>,
    ) -> Result<Handover, FreezeError> {
        for _ in steps {
            match inbox.recv_timeout(FREEZE_TIMEOUT) {
                Ok((_, Reply::Stopped)) => {}
                Ok((_, Reply::Snapshot(_) | Reply::Failed)) | Err(_) => {
                    return Err(FreezeError::Worker);
                }
            }
        }
        let (now, at) = (clock::now(), clock::monotonic());
        for step in steps {
            step.send(Step::Snapshot(now))
                .map_err(|_| FreezeError::Worker)?;
        }
        let associations = self
            .lane
            .snapshot(FREEZE_TIMEOUT)
            .ok_or(FreezeError::Lane)?;
        let certificates = self
            .certificates
            .to_secret()
            .map_err(|_| FreezeError::Certificate)?;
        let mut engines = vec![Vec::new(); steps.len()];
        for _ in steps {
            match inbox.recv_timeout(FREEZE_TIMEOUT) {
                Ok((worker, Reply::Snapshot(state))) => {
                    if let Some(place) = engines.get_mut(worker) {
                        *place = state;
                    }
                }
                Ok((_, Reply::Stopped | Reply::Failed)) | Err(_) => {
                    return Err(FreezeError::Worker);
                }
            }
        }
        Ok(Handover {
            at,
            certificates,
            associations,
            engines,
        })
    }
}

/// What a session takes while it is taken over: as written down, as read, and as it goes on.
const SESSION_MEMORY_BYTES: usize = 48 << 10;

/// Workers that were written down in another process, and do not run yet.
#[derive(Debug)]
pub struct Heir {
    config: DataplaneConfig,
    estate: Estate<Engine>,
    sessions: Vec<Vec<SessionId>>,
}

impl Heir {
    /// Whether this process could run so many workers, before another one stops for it. What takes time once in
    /// a process is done here: cryptography gathers randomness, and rings their memory, on other sockets.
    ///
    /// # Errors
    /// What is missing.
    pub fn rehearse(config: &DataplaneConfig, workers: usize) -> Result<(), StartError> {
        check_workers(config, workers)?;
        Certificate::generate()?;
        if config.driver == DriverChoice::Msg {
            return Ok(());
        }
        let open = |_| -> std::io::Result<UringSocket> {
            let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
            UringSocket::open(&socket, &Faults::default())
        };
        let rings: std::io::Result<Vec<UringSocket>> = (0..workers).map(open).collect();
        match rings {
            Err(error) if config.driver == DriverChoice::Uring => Err(StartError::UringRefused {
                reason: error.to_string(),
            }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Has the system give memory for so many sessions now: later, when media stands still, giving it would take half
    /// of that time. The allocator keeps it for a while.
    pub fn gather_memory(sessions: usize) {
        let piece = |_| vec![1_u8; SESSION_MEMORY_BYTES];
        let pieces: Vec<Vec<u8>> = (0..sessions).map(piece).collect();
        // Written to, so that it is really there.
        std::hint::black_box(pieces);
    }

    /// Makes the workers' engines of what another process wrote down. Nothing is sent or received yet.
    ///
    /// # Errors
    /// A state that cannot be taken up.
    pub fn prepare(
        config: DataplaneConfig,
        sockets: Vec<(UdpSocket, TcpListener)>,
        handover: Handover,
    ) -> Result<Heir, StartError> {
        let sockets = sockets
            .into_iter()
            .map(|(udp, tcp)| Sockets::inherited(udp, tcp));
        let sockets: Vec<Sockets> = sockets.collect();
        let workers = handover.engines.len();
        if workers != sockets.len() {
            return Err(StartError::Handover {
                reason: format!("{workers} workers came with {} sockets", sockets.len()),
            });
        }
        check_workers(&config, workers)?;
        let certificates = Certificates::from_secret(&handover.certificates)?;
        // Both clocks are read here, so that times of the other process mean something in this one.
        let age = clock::monotonic().saturating_sub(handover.at);
        let at = clock::now().checked_sub(age).unwrap_or_else(clock::now);
        let restore = |state: &[u8]| -> Result<(Engine, Vec<SessionId>), StartError> {
            let snapshot = EngineSnapshot::decode(state)?;
            let sessions = snapshot.sessions().collect();
            let engine = engine_config(
                config.sessions_max,
                config.publisher_bitrate_bps_max,
                config.egress_hold,
                config.audio_speakers,
            );
            Ok((Engine::restore(engine, at, snapshot)?, sessions))
        };
        // Media stands still meanwhile: all engines at once.
        let restored: Vec<Result<_, StartError>> = std::thread::scope(|scope| {
            let states = handover.engines.iter();
            let threads: Vec<_> = states.map(|state| scope.spawn(|| restore(state))).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| {
                    let reason = "its engine could not be made".to_owned();
                    Err(StartError::Handover { reason })
                })
            };
            threads.into_iter().map(join).collect()
        });
        let (mut engines, mut sessions) = (Vec::new(), Vec::new());
        for restored in restored {
            let (engine, carried) = restored?;
            engines.push(engine);
            sessions.push(carried);
        }
        let is_known = |worker: usize, session: &SessionId| {
            let known: Option<&Vec<SessionId>> = sessions.get(worker);
            known.is_some_and(|known| known.binary_search(session).is_ok())
        };
        let mut associations = handover.associations;
        associations.retain(|(worker, session, _)| is_known(*worker, session));
        let estate = Estate {
            sockets,
            certificates,
            associations,
            heirs: engines.into_iter().map(Some).collect(),
        };
        Ok(Heir {
            config,
            estate,
            sessions,
        })
    }

    /// The sessions that go on, by worker.
    #[must_use]
    pub fn sessions(&self) -> &[Vec<SessionId>] {
        &self.sessions
    }

    /// SHA-256 fingerprint of the DTLS certificate that new sessions have, which is the other process's.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let newest = SessionId(u64::MAX);
        self.estate.certificates.of(newest).fingerprint()
    }

    /// Runs the workers. To be called only once the other process can send nothing more.
    ///
    /// # Errors
    /// [`StartError`], as for a start without heritage.
    pub fn start(self) -> Result<(Dataplane, mpsc::Receiver<(usize, Event)>), StartError> {
        let mut estate = self.estate;
        let carried = self
            .sessions
            .into_iter()
            .map(|list| list.into_iter().collect());
        Dataplane::launch(&self.config, &mut estate, carried.collect(), Engine::new)
    }
}

/// A session lives on the worker whose port its answer named, so there must be as many.
fn check_workers(config: &DataplaneConfig, running: usize) -> Result<(), StartError> {
    let configured = config.workers;
    if configured == running {
        return Ok(());
    }
    Err(StartError::OtherWorkers {
        running,
        configured,
    })
}
