//! A worker's thread: its core, its runtime, and its lives. A panic ends one life, not the worker.

use std::any::Any;
use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender as StdSender;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::alarm::Alarm;
use super::clock;
use super::config::{DriverChoice, DriverKind};
use super::core::Core;
use super::dataplane::{StartError, engine_config};
use super::failures::Failures;
use super::faults::Faults;
use super::feed::Feeds;
use super::lane::LaneSender;
use super::link::{Link, Offloads};
use super::meter::Meter;
use super::msg::MsgLink;
use super::outbox::Outbox;
use super::relay::Relay;
use super::socket::Sockets;
use super::take_over::Order;
use super::tcp::Tcp;
use super::turn::Life;
use super::uring::{UringLink, UringSocket};
use crate::command::Command;
use crate::engine::EngineConfig;
use crate::event::DtlsInput;
use crate::id::SessionId;
use crate::limits::COMMANDS_PER_TURN;

/// Entries of tokio-uring's own ring, which carries no packets.
const RUNTIME_RING_ENTRIES: u32 = 64;

/// The receiving ends of a worker's queues.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) from_lane: mpsc::Receiver<Command>,
    /// Another process is to take over.
    pub(super) freeze: mpsc::Receiver<Order>,
    /// Resolves when the dataplane ends.
    pub(super) stop: oneshot::Receiver<()>,
    /// Failures of the worker that control has not heard of yet.
    unheard: usize,
    /// Commands that were for an engine that is gone.
    pub(super) stale: u64,
}

impl Inputs {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        from_lane: mpsc::Receiver<Command>,
        freeze: mpsc::Receiver<Order>,
        stop: oneshot::Receiver<()>,
    ) -> Inputs {
        Inputs {
            commands,
            from_lane,
            freeze,
            stop,
            unheard: 0,
            stale: 0,
        }
    }

    /// The next command that is waiting. The handshake threads first: a peer waits for each of theirs.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        if let Ok(command) = self.from_lane.try_recv() {
            return Some(command);
        }
        // What is left here when the bound is reached wakes the worker again.
        for _ in 0..COMMANDS_PER_TURN {
            let command = self.commands.try_recv().ok()?;
            if let Some(command) = self.admit(command) {
                return Some(command);
            }
        }
        None
    }

    /// Drops a command of control's that was meant for an engine that is gone: control has forgotten, or
    /// is about to, what it is about.
    pub(super) fn admit(&mut self, command: Command) -> Option<Command> {
        if self.unheard == 0 {
            return Some(command);
        }
        if matches!(command, Command::AfterRestart) {
            self.unheard -= 1;
        } else {
            self.stale += 1;
        }
        None
    }
}

/// What a worker tells `start` when it serves.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) driver: DriverKind,
    pub(super) why_not_uring: Option<String>,
    pub(super) offloads: Offloads,
}

/// Everything of a worker that outlives a panic.
#[derive(Debug)]
pub(super) struct Seat<C> {
    pub(super) index: usize,
    pub(super) sockets: Sockets,
    pub(super) core: Option<usize>,
    pub(super) driver: DriverChoice,
    pub(super) sessions_max: usize,
    pub(super) publisher_bitrate_bps_max: u64,
    pub(super) egress_hold: Duration,
    pub(super) audio_speakers: usize,
    pub(super) make: fn(EngineConfig) -> C,
    /// What its first life drives, if that began in another process.
    pub(super) heir: Option<C>,
    pub(super) inputs: Inputs,
    pub(super) outbox: Outbox,
    pub(super) lane: LaneSender,
    pub(super) relay: Relay,
    pub(super) feeds: Feeds,
    /// Sessions that the engine holds, to be ended in the lane when the engine is lost.
    pub(super) sessions: HashSet<SessionId>,
    pub(super) failures: Failures,
    pub(super) faults: Faults,
}

impl<C: Core> Seat<C> {
    /// The thread's body: serves until stopped.
    pub(super) fn run(mut self, started: StdSender<Result<Started, StartError>>) {
        if let Some(core) = self.core {
            let mut set = CpuSet::new();
            set.set(core);
            if let Err(error) = sched_setaffinity(None, &set) {
                tracing::warn!(worker = self.index, core, %error, "cannot pin the worker to its core");
            }
        }
        let mut started = Some(started);
        loop {
            let life = catch_unwind(AssertUnwindSafe(|| self.live(&mut started)));
            match (life, started.take()) {
                // Stopped; or never began, which dropping `started` unsent tells.
                (Ok(Ok(())), _) | (Err(_), Some(_)) => return,
                (Ok(Err(error)), Some(started)) => {
                    let _ = started.send(Err(error));
                    return;
                }
                (Ok(Err(error)), None) => self.on_failure(&error.to_string()),
                (Err(panic), None) => self.on_failure(said(&*panic)),
            }
        }
    }

    /// The engine is lost: its sessions end, and after a while there is another.
    fn on_failure(&mut self, reason: &str) {
        let pause = self.failures.handle_failure(clock::now());
        tracing::error!(
            worker = self.index,
            sessions = self.sessions.len(),
            reason,
            pause_ms = pause.as_millis(),
            "the worker failed; its sessions end and it starts again"
        );
        for session in self.sessions.drain() {
            self.lane.push(DtlsInput::Close { session });
        }
        self.inputs.unheard += 1;
        self.outbox.push_restarted();
        std::thread::park_timeout(pause);
    }

    /// One life, on io_uring if it is wanted and allowed.
    fn live(
        &mut self,
        started: &mut Option<StdSender<Result<Started, StartError>>>,
    ) -> Result<(), StartError> {
        let worker = self.index;
        let failed = |error: io::Error| StartError::Worker {
            worker,
            reason: error.to_string(),
        };
        let why_not_uring = match self.driver {
            DriverChoice::Msg => None,
            DriverChoice::Auto | DriverChoice::Uring => match self.open_uring() {
                Ok((socket, runtime)) => {
                    return runtime
                        .block_on(async {
                            let link = UringLink::new(socket)?;
                            self.serve(link, DriverKind::Uring, None, started).await
                        })
                        .map_err(failed);
                }
                Err(error) => Some(error.to_string()),
            },
        };
        // A worker that served once serves on, even if io_uring was taken away since.
        if let (DriverChoice::Uring, Some(reason), true) =
            (self.driver, &why_not_uring, started.is_some())
        {
            return Err(StartError::UringRefused {
                reason: reason.clone(),
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let serve = async {
            let link = MsgLink::new(self.sockets.udp.try_clone()?, self.faults.clone())?;
            self.serve(link, DriverKind::Msg, why_not_uring, started)
                .await
        };
        LocalSet::new().block_on(&runtime, serve).map_err(failed)
    }

    fn open_uring(&self) -> io::Result<(UringSocket, tokio_uring::Runtime)> {
        let socket = UringSocket::open(&self.sockets.udp, &self.faults)?;
        // tokio-uring's own ring must have default flags: with SINGLE_ISSUER and DEFER_TASKRUN
        // it hangs.
        let runtime =
            tokio_uring::Runtime::new(tokio_uring::builder().entries(RUNTIME_RING_ENTRIES))?;
        Ok((socket, runtime))
    }

    async fn serve<L: Link>(
        &mut self,
        link: L,
        driver: DriverKind,
        why_not_uring: Option<String>,
        started: &mut Option<StdSender<Result<Started, StartError>>>,
    ) -> io::Result<()> {
        let tcp = Tcp::listen(self.sockets.tcp.try_clone()?)?;
        let core = self.heir.take().unwrap_or_else(|| {
            (self.make)(engine_config(
                self.sessions_max,
                self.publisher_bitrate_bps_max,
                self.egress_hold,
                self.audio_speakers,
            ))
        });
        if let Some(started) = started.take() {
            let offloads = link.offloads();
            let _ = started.send(Ok(Started {
                driver,
                why_not_uring,
                offloads,
            }));
        }
        let now = clock::now();
        let life = Life {
            core,
            link,
            alarm: Alarm::new(now)?,
            meter: Meter::new(now),
            tcp,
            index: self.index,
            inputs: &mut self.inputs,
            outbox: &mut self.outbox,
            lane: &mut self.lane,
            relay: &mut self.relay,
            feeds: &mut self.feeds,
            sessions: &mut self.sessions,
            faults: &self.faults,
            received: false,
            command: None,
        };
        life.run().await
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked")
}

/// The cores that this process may use.
pub(super) fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}
