//! The real dataplane with one worker, and a call on it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dataplane::command::Command;
use dataplane::counters::Counters;
use dataplane::driver::{Dataplane, DataplaneConfig, DriverChoice};
use dataplane::event::Event;
use dataplane::wire::{Protocol, classify};
use tokio::sync::mpsc::Receiver;

use crate::call::{self, Load};
use crate::cpu;
use crate::socket::{Place, Socket, pause};

/// The name of the only worker's thread.
const NAME: &str = "worker-0";

/// How often something is looked for, and how often at most.
const STEP: Duration = Duration::from_millis(1);
const STEPS: usize = 5_000;

/// A check is repeated this often.
const STEPS_PER_CHECK: usize = 100;

/// A dataplane on the measured core.
#[derive(Debug)]
pub struct Server {
    /// Where clients send.
    pub address: SocketAddr,
    place: Place,
    /// The worker's thread.
    pub thread: cpu::Thread,
    dataplane: Dataplane,
    events: Receiver<(usize, Event)>,
}

impl Server {
    /// Starts it with this driver, which may hold packets for so long.
    ///
    /// # Errors
    /// What the dataplane says.
    pub fn start(driver: DriverChoice, hold: Duration, place: Place) -> io::Result<Server> {
        let before = cpu::Thread::named(NAME);
        // Workers are pinned to the cores that their starter may use.
        cpu::pin(cpu::MEASURED_CORE);
        let started = Dataplane::start(DataplaneConfig {
            media: SocketAddr::from((place.server(), 0)),
            workers: 1,
            driver,
            sessions_max: 1_000,
            publisher_bitrate_bps_max: 1_000_000_000_000,
            egress_hold: hold,
            audio_speakers: 0,
            dtls_threads: 1,
            pin: true,
        });
        cpu::pin(cpu::LOAD_CORE);
        let (dataplane, events) = started.map_err(io::Error::other)?;
        let thread = cpu::Thread::new_since(NAME, &before)
            .ok_or_else(|| io::Error::other("the worker has no thread"))?;
        let port = dataplane.workers().first().map_or(0, |worker| worker.port);
        Ok(Server {
            address: SocketAddr::from((place.server(), port)),
            place,
            thread,
            dataplane,
            events,
        })
    }

    /// Sets the call up; `sockets` are those of clients 0 to n.
    ///
    /// # Errors
    /// When a client is not answered or a command is not taken.
    pub fn set_up(&mut self, load: &Load, sockets: &[&Socket]) -> io::Result<()> {
        for client in 0..sockets.len() {
            self.command(call::open(client))?;
        }
        self.refresh(sockets)?;
        for client in 0..sockets.len() {
            self.command(call::connect(load, client))?;
        }
        for command in call::streams(load) {
            self.command(command)?;
        }
        let mut connected = 0;
        for _ in 0..STEPS {
            while let Ok((_, event)) = self.events.try_recv() {
                connected += usize::from(matches!(event, Event::Connected { .. }));
            }
            if connected == sockets.len() {
                return Ok(());
            }
            pause(STEP);
        }
        Err(io::Error::other("not every session connected"))
    }

    /// Renews every client's consent (RFC 7675), and empties the sockets on the way.
    ///
    /// # Errors
    /// When a client is not answered.
    pub fn refresh(&mut self, sockets: &[&Socket]) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        for (client, socket) in sockets.iter().enumerate() {
            let check = call::check(client);
            let is_answered = (0..STEPS).any(|step| {
                // A full socket loses an answer: what waited there was taken since.
                if step.is_multiple_of(STEPS_PER_CHECK) {
                    socket.send(self.address, &check, check.len()).ok();
                }
                !self.place.arrives() || is_answered(socket, &mut buffer)
            });
            if !is_answered {
                let closed = self.closed();
                let message = format!("client {client}'s check was not answered: {closed:?}");
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    /// Sessions that ended, and workers that failed, as far as nobody asked before.
    fn closed(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        let ends = events
            .filter(|(_, event)| matches!(event, Event::Closed { .. } | Event::WorkerRestarted));
        ends.map(|(_, event)| event).collect()
    }

    /// Waits for the worker's next report: what it counted since its start.
    ///
    /// # Errors
    /// When there is none within seconds.
    pub fn counters(&mut self) -> io::Result<Counters> {
        while self.events.try_recv().is_ok() {}
        for _ in 0..STEPS {
            match self.events.try_recv() {
                Ok((_, Event::Report(report))) => return Ok(report.counters),
                Ok(_) => {}
                Err(_) => pause(STEP),
            }
        }
        Err(io::Error::other("the worker sent no report"))
    }

    fn command(&self, command: Command) -> io::Result<()> {
        self.dataplane
            .try_command(0, command)
            .map_err(io::Error::other)
    }
}

/// Whether the answer is among what waits at the socket.
fn is_answered(socket: &Socket, buffer: &mut [u8]) -> bool {
    let mut found = false;
    while let Ok(run) = socket.receive(buffer) {
        let datagrams = buffer[..run.len].chunks(run.segment);
        found |= datagrams
            .map(classify)
            .any(|protocol| protocol == Some(Protocol::Stun));
    }
    if !found {
        pause(STEP);
    }
    found
}
