//! The handshake threads: the shell around [`Associations`] that has queues and reads the clock.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::association::AssociationSnapshot;
use super::associations::Associations;
use super::certificates::Certificates;
use crate::command::Command;
use crate::data::DataRequest;
use crate::event::DtlsInput;
use crate::id::SessionId;
use crate::limits::{ASSOCIATIONS_MAX, DTLS_QUEUE_LEN};

/// How long an idle thread waits before it looks at its timers again.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// The handshake threads. They end when this is dropped.
///
/// Each session is pinned to one thread by its id. Datagrams and messages wait in a bounded queue and
/// are refused when it is full. Openings and closings must not be lost, so they wait in a queue of
/// their own, which holds a few for each session that the workers allow and one for each data channel.
#[derive(Debug)]
pub struct Lane {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    datagrams: Option<SyncSender<Work>>,
    changes: Option<Sender<Change>>,
    handle: Option<JoinHandle<()>>,
}

/// What must not be lost.
#[derive(Debug)]
enum Change {
    /// From a worker.
    Input(usize, DtlsInput),
    /// Another process wants to know what there is.
    Snapshot(Sender<Carried>),
}

/// Associations that go on in another process, with the index of their worker.
pub type Carried = Vec<(usize, SessionId, AssociationSnapshot)>;

#[derive(Debug)]
enum Work {
    /// A datagram from a worker, or a message.
    Datagram(usize, DtlsInput),
    /// Something waits in the other queue.
    Wake,
}

/// Why the threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The system refused a thread.
    #[error("no thread for DTLS handshakes could be started: {0}")]
    Spawn(#[from] std::io::Error),
}

impl Lane {
    /// Starts `threads` threads (at least one). `deliver` takes a command to the worker with the
    /// given index; it must not lose commands and should not wait for long.
    ///
    /// # Errors
    ///
    /// Fails when the system gives no thread.
    pub fn start(
        threads: usize,
        certificates: impl Into<Certificates>,
        deliver: impl Fn(usize, Command) + Clone + Send + 'static,
    ) -> Result<Lane, LaneError> {
        Lane::resume(threads, certificates, Vec::new(), deliver)
    }

    /// The same, with associations that began in another process.
    ///
    /// # Errors
    ///
    /// Fails when the system gives no thread.
    pub fn resume(
        threads: usize,
        certificates: impl Into<Certificates>,
        carried: Carried,
        deliver: impl Fn(usize, Command) + Clone + Send + 'static,
    ) -> Result<Lane, LaneError> {
        let (threads, certificates) = (threads.max(1), certificates.into());
        let mut shares: Vec<Carried> = (0..threads).map(|_| Vec::new()).collect();
        for (worker, session, association) in carried {
            if let Some(share) = shares.get_mut(place(session, threads)) {
                share.push((worker, session, association));
            }
        }
        let mut lane = Lane {
            threads: Vec::with_capacity(threads),
        };
        for (index, share) in shares.into_iter().enumerate() {
            let (datagrams, work) = mpsc::sync_channel(DTLS_QUEUE_LEN.div_ceil(threads));
            let (changes, changed) = mpsc::channel();
            let mut runner = Runner {
                certificates: certificates.clone(),
                workers: HashMap::new(),
                work,
                changed,
                deliver: deliver.clone(),
            };
            runner.restore(share);
            let handle = std::thread::Builder::new()
                .name(format!("dtls-{index}"))
                .spawn(move || {
                    yield_to_media();
                    runner.run();
                })?;
            lane.threads.push(Thread {
                datagrams: Some(datagrams),
                changes: Some(changes),
                handle: Some(handle),
            });
        }
        Ok(lane)
    }

    /// Hands a worker's input over. `false` when it is a datagram or a message and the queue is full: the
    /// caller counts it, and the peer sends its datagram again. Openings and closings are always taken.
    #[must_use]
    pub fn try_send(&self, worker: usize, input: DtlsInput) -> bool {
        let session = session_of(&input);
        let Some(thread) = self.threads.get(place(session, self.threads.len())) else {
            return false;
        };
        let (Some(datagrams), Some(changes)) = (&thread.datagrams, &thread.changes) else {
            return false;
        };
        match input {
            DtlsInput::Data { ref request, .. } if is_message(request) => {
                datagrams.try_send(Work::Datagram(worker, input)).is_ok()
            }
            DtlsInput::Datagram { .. } => datagrams.try_send(Work::Datagram(worker, input)).is_ok(),
            DtlsInput::Open { .. }
            | DtlsInput::OpenData { .. }
            | DtlsInput::Data { .. }
            | DtlsInput::Close { .. } => {
                let sent = changes.send(Change::Input(worker, input)).is_ok();
                // A full queue needs no waking: changes are taken before each of its datagrams.
                let woken = datagrams.try_send(Work::Wake);
                sent && !matches!(woken, Err(TrySendError::Disconnected(_)))
            }
        }
    }
}

impl Lane {
    /// What another process goes on with; `None` when a thread does not answer within `patience`.
    #[must_use]
    pub fn snapshot(&self, patience: Duration) -> Option<Carried> {
        let (reply, replies) = mpsc::channel();
        for thread in &self.threads {
            let changes = thread.changes.as_ref()?;
            changes.send(Change::Snapshot(reply.clone())).ok()?;
            // A full queue needs no waking.
            let _ = thread.datagrams.as_ref()?.try_send(Work::Wake);
        }
        let mut all = Vec::new();
        for _ in &self.threads {
            all.extend(replies.recv_timeout(patience).ok()?);
        }
        Some(all)
    }
}

/// A worker's associations, none at first.
fn associations_of<'a>(
    workers: &'a mut HashMap<usize, Associations>,
    worker: usize,
    certificates: &Certificates,
) -> &'a mut Associations {
    workers
        .entry(worker)
        .or_insert_with(|| Associations::new(certificates, ASSOCIATIONS_MAX))
}

/// The thread of a session, of so many.
fn place(session: SessionId, threads: usize) -> usize {
    (session.0 % threads.max(1) as u64) as usize
}

impl Drop for Lane {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.datagrams = None;
            thread.changes = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic there was reported when it happened.
                let _ = handle.join();
            }
        }
    }
}

fn session_of(input: &DtlsInput) -> SessionId {
    match input {
        DtlsInput::Open { session, .. }
        | DtlsInput::Datagram { session, .. }
        | DtlsInput::OpenData { session, .. }
        | DtlsInput::Data { session, .. }
        | DtlsInput::Close { session } => *session,
    }
}

fn is_message(request: &DataRequest) -> bool {
    match request {
        DataRequest::Send { .. } => true,
        DataRequest::Close { .. } => false,
    }
}

/// What one thread owns.
struct Runner<F> {
    certificates: Certificates,
    /// The associations of each worker, so that each worker has its own bound.
    workers: HashMap<usize, Associations>,
    work: Receiver<Work>,
    changed: Receiver<Change>,
    deliver: F,
}

impl<F: Fn(usize, Command)> Runner<F> {
    fn run(mut self) {
        loop {
            let wait = self.wait();
            match self.work.recv_timeout(wait) {
                Ok(work) => {
                    // Before the datagram: its session's opening was sent before it.
                    while let Ok(change) = self.changed.try_recv() {
                        self.on_change(change);
                    }
                    if let Work::Datagram(worker, input) = work {
                        self.take(worker, input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Input(worker, input) => self.take(worker, input),
            Change::Snapshot(reply) => {
                let all = self.workers.iter().flat_map(|(worker, associations)| {
                    let carried = associations.snapshot().into_iter();
                    carried.map(|(session, association)| (*worker, session, association))
                });
                // Nobody waits for it any more if it took too long.
                let _ = reply.send(all.collect());
            }
        }
    }

    fn restore(&mut self, carried: Carried) {
        for (worker, session, association) in carried {
            let associations = associations_of(&mut self.workers, worker, &self.certificates);
            if !associations.restore(now(), session, association) {
                tracing::warn!(
                    session = session.0,
                    "a DTLS association could not be taken over"
                );
            }
        }
    }

    fn wait(&self) -> Duration {
        let due = self
            .workers
            .values()
            .filter_map(Associations::poll_timeout)
            .min();
        due.map_or(IDLE_WAIT, |due| due.saturating_duration_since(now()))
    }

    fn take(&mut self, worker: usize, input: DtlsInput) {
        let associations = associations_of(&mut self.workers, worker, &self.certificates);
        let session = session_of(&input);
        let run = AssertUnwindSafe(|| {
            #[cfg(test)]
            tests::panic_if_asked(&input);
            associations.handle_input(now(), input);
        });
        if catch_unwind(run).is_err() {
            on_panic(associations, session);
        }
        while let Some(command) = associations.poll_command() {
            (self.deliver)(worker, command);
        }
    }

    fn tick(&mut self) {
        let now = now();
        for (worker, associations) in &mut self.workers {
            if associations.poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            let first = associations.first_due();
            let run = AssertUnwindSafe(|| associations.handle_timeout(now));
            if catch_unwind(run).is_err()
                && let Some(session) = first
            {
                on_panic(associations, session);
            }
            while let Some(command) = associations.poll_command() {
                (self.deliver)(*worker, command);
            }
        }
    }
}

/// A panic on one peer's bytes ends that peer's session and nobody else's.
fn on_panic(associations: &mut Associations, session: SessionId) {
    tracing::error!(
        session = session.0,
        "a handshake thread failed; this session ends"
    );
    associations.abandon(session);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lane is a shell: its threads keep real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// How far behind the workers a handshake's thread stands where they share a core (nice(2)).
const NICENESS: i32 = 10;

/// A handshake takes half a millisecond of a core, and media that is due would wait for it.
fn yield_to_media() {
    // On Linux it is the thread's. Without it everything works, only less smoothly.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "handshakes keep the priority of media");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{DtlsRole, DtlsSpec, Fingerprint};
    use crate::dtls::{Association, AssociationEvent, Certificate};
    use crate::event::CloseReason;

    /// What no DTLS begins with.
    const PANIC: &[u8] = b"panic";

    pub(super) fn panic_if_asked(input: &DtlsInput) {
        if let DtlsInput::Datagram { bytes, .. } = input {
            assert!(**bytes != *PANIC, "a test asked for it");
        }
    }

    /// Lets a client shake hands with session `session` of worker 3, through the lane.
    fn shake_hands(
        lane: &Lane,
        inbox: &Receiver<(usize, Command)>,
        node: &Certificate,
        session: SessionId,
    ) {
        let own = Certificate::generate().unwrap();
        let spec = |role, certificate: &Certificate| DtlsSpec {
            role,
            fingerprints: vec![Fingerprint::Sha256(certificate.fingerprint())],
        };
        let open = DtlsInput::Open {
            session,
            spec: spec(DtlsRole::Server, &own),
        };
        assert!(lane.try_send(3, open));
        let mut client = Association::new(now(), &own, spec(DtlsRole::Client, node));
        let mut connected = (false, false);
        while connected != (true, true) {
            while let Some(bytes) = client.poll_transmit() {
                assert!(lane.try_send(3, DtlsInput::Datagram { session, bytes }));
            }
            while let Some(event) = client.poll_event() {
                assert!(matches!(event, AssociationEvent::Connected(_)), "{event:?}");
                connected.0 = true;
            }
            if connected == (true, true) {
                break;
            }
            match inbox.recv_timeout(Duration::from_secs(10)).unwrap() {
                (3, Command::DtlsTransmit { bytes, .. }) => client.handle_datagram(now(), &bytes),
                (3, Command::DtlsConnected { .. }) => connected.1 = true,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn started(threads: usize) -> (Lane, Receiver<(usize, Command)>, Certificate) {
        let node = Certificate::generate().unwrap();
        let (commands, inbox) = mpsc::channel();
        let lane = Lane::start(
            threads,
            Certificates::new(node.clone()),
            move |worker, command| {
                let _ = commands.send((worker, command));
            },
        )
        .unwrap();
        (lane, inbox, node)
    }

    #[test]
    fn t_33_a_panic_in_a_handshake_thread_ends_one_session_and_the_thread_goes_on() {
        let (lane, inbox, node) = started(1);
        let (one, other, next) = (SessionId(1), SessionId(2), SessionId(3));
        shake_hands(&lane, &inbox, &node, one);
        shake_hands(&lane, &inbox, &node, other);
        let bytes = Box::from(PANIC);
        let session = one;
        assert!(lane.try_send(3, DtlsInput::Datagram { session, bytes }));
        let (worker, told) = inbox.recv_timeout(Duration::from_secs(10)).unwrap();
        let Command::DtlsClosed { session, reason } = told else {
            panic!("the session ends: {told:?}");
        };
        assert_eq!((worker, session), (3, one));
        assert_eq!(reason, CloseReason::NodeFault);
        // Who was there still is, and who comes is served.
        shake_hands(&lane, &inbox, &node, next);
        assert!(lane.try_send(3, DtlsInput::Close { session: other }));
        let (_, goodbye) = inbox.recv_timeout(Duration::from_secs(10)).unwrap();
        let Command::DtlsTransmit { session, .. } = goodbye else {
            panic!("a close_notify: {goodbye:?}");
        };
        assert_eq!(session, other);
    }

    #[test]
    fn a_client_connects_through_the_threads_and_its_close_is_never_lost() {
        let (lane, inbox, node) = started(2);
        let session = SessionId(7);
        shake_hands(&lane, &inbox, &node, session);
        // However full the queue is of somebody's datagrams.
        let flood = || DtlsInput::Datagram {
            session: SessionId(9),
            bytes: Box::from(&[22_u8][..]),
        };
        while lane.try_send(3, flood()) {}
        assert!(lane.try_send(3, DtlsInput::Close { session }));
        let (_, goodbye) = inbox.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(
            matches!(goodbye, Command::DtlsTransmit { .. }),
            "a close_notify: {goodbye:?}"
        );
    }
}
