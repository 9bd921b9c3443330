//! The task that ties the database, the desk and the node together.
//!
//! It runs on the signalling thread and never waits for the database: requests to it are tasks of
//! their own, and what comes of them is one more input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use signaling::firestore::Value;
use signaling::node::{Node as _, PersonId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::client::{Database, Place};
use super::desk::{
    Counters, Desk, DeskConfig, Effect, Find, Load, ReadId, RequestId, Serve, WriteId,
};
use super::listener::{Listener, Told};
use super::message::{Change, Collection, Document, Heard, Path, Target, Write, Written};
use super::outbox::Outbox;
use super::share::{Histogram, Share};
use crate::node::{Millrace, Report};

/// Things heard that wait for the desk: past it the listener waits, and its stream with it.
const TOLD_LEN: usize = 1024;

/// Things heard before the desk's writes leave and others of the thread get their turn.
const BATCH_LEN: usize = 16;

/// Rooms' looks are made into text at most this often.
const REPORT_SPAN: Duration = Duration::from_millis(50);

/// How often the desk hears how busy the node is.
const LOAD_SPAN: Duration = Duration::from_secs(1);

/// Sentence for requests before the database was opened.
const NOT_OPEN: &str = "the database is not open yet";

/// How the door stands, for `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether pages that offer now are served, and why not.
    pub ready: Result<(), String>,
    /// What the desk counted.
    pub counters: Counters,
    /// Our own share of the time from offer to answer.
    pub share: Histogram,
}

/// The running task, for those who end it.
#[derive(Debug)]
pub struct Door {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Drain,
    End(oneshot::Sender<()>),
}

impl Door {
    /// Opens the door: starts listening at `place` for `node`. `seed` must differ between nodes.
    #[must_use]
    pub fn open(place: Place, config: DeskConfig, seed: u64, node: Arc<Millrace>) -> Door {
        let (orders, ordered) = mpsc::channel(2);
        let (told, heard) = mpsc::channel(TOLD_LEN);
        let afresh = Arc::new(Notify::new());
        let listener = Listener {
            place,
            node: config.node.clone(),
            told,
            afresh: Arc::clone(&afresh),
        };
        node.watch();
        let shell = Shell {
            node,
            desk: Desk::new(config, seed),
            database: None,
            outbox: Outbox::default(),
            requests: JoinSet::new(),
            afresh,
            share: Share::default(),
            ended: None,
        };
        tokio::spawn(listener.run());
        tokio::spawn(shell.run(heard, ordered));
        Door { orders }
    }

    /// No new rooms from now on.
    pub async fn drain(&self) {
        // The task ends only after the order to end.
        let _ = self.orders.send(Order::Drain).await;
    }

    /// Tells the pages and the registry that the node ends; returns when that is written.
    pub async fn end(&self) {
        let (done, over) = oneshot::channel();
        if self.orders.send(Order::End(done)).await.is_ok() {
            let _ = over.await;
        }
    }
}

struct Shell {
    node: Arc<Millrace>,
    desk: Desk,
    database: Option<Database>,
    outbox: Outbox,
    requests: JoinSet<Done>,
    afresh: Arc<Notify>,
    share: Share,
    /// Who waits for the end.
    ended: Option<oneshot::Sender<()>>,
}

/// What came of a request to the database.
enum Done {
    Written(Vec<(WriteId, Written)>),
    Read(ReadId, Result<Option<Document>, String>),
    Found(ReadId, Result<Vec<Document>, String>),
    Counted(ReadId, Option<usize>),
}

impl Shell {
    async fn run(mut self, mut heard: mpsc::Receiver<Told>, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH_LEN);
        let mut loads = tokio::time::interval(LOAD_SPAN);
        let mut report_at = now();
        loop {
            let bell = self.node.bell();
            let due = self.desk.poll_timeout();
            tokio::select! {
                Some(order) = orders.recv() => self.on_order(order),
                Some(done) = self.requests.join_next() => match done {
                    Ok(done) => self.on_done(done),
                    Err(error) => tracing::error!(%error, "a request to the database broke off"),
                },
                taken = heard.recv_many(&mut batch, BATCH_LEN) => {
                    if taken == 0 {
                        tracing::error!("the listener of the database broke off");
                        return;
                    }
                    for told in batch.drain(..) {
                        self.on_told(told);
                    }
                    if heard.is_empty() {
                        self.share.handle_idle();
                    }
                }
                () = until(Some(report_at), bell.notified()) => {
                    self.on_reports();
                    report_at = now() + REPORT_SPAN;
                }
                _ = loads.tick() => {
                    let usage = self.node.usage();
                    let load = Load { rooms: usage.rooms, sessions: usage.places, load: usage.load };
                    self.desk.handle_load(now(), load);
                }
                () = until(due, std::future::ready(())), if due.is_some() => {
                    self.desk.handle_timeout(now());
                }
            }
            self.carry_out();
            self.send();
            self.show();
            if self.desk.is_over()
                && let Some(ended) = self.ended.take()
            {
                let _ = ended.send(());
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Drain => self.desk.handle_drain(now()),
            Order::End(ended) => {
                self.desk.handle_end(now());
                self.ended = Some(ended);
            }
        }
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Opened(database) => self.database = Some(database),
            Told::Link(link) => self.desk.handle_link(now(), link),
            Told::Heard(at, heard) => {
                let offer = match &heard {
                    Heard::Changed(Target::Work, document) => Some(document.path.id.as_str()),
                    _ => None,
                };
                self.share.handle_heard(at, offer);
                self.desk.handle_heard(now(), heard);
            }
        }
        self.carry_out();
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Written(written) => {
                self.outbox.handle_done();
                for (id, written) in written {
                    self.desk.handle_written(now(), id, &written);
                }
            }
            Done::Read(id, read) => self.desk.handle_read(now(), id, read),
            Done::Found(id, found) => self.desk.handle_found(now(), id, found),
            Done::Counted(id, counted) => self.desk.handle_counted(now(), id, counted),
        }
    }

    fn on_reports(&mut self) {
        for report in self.node.take_reports() {
            match report {
                Report::Ended(id, reason) => self.desk.handle_ended(now(), &id, &reason),
                Report::Room(room, view) => self.desk.handle_room(now(), &room, view),
            }
        }
    }

    /// Does what the desk decided.
    fn carry_out(&mut self) {
        while let Some(effect) = self.desk.poll_effect() {
            match effect {
                Effect::Write(id, write) => {
                    self.measure(&write);
                    self.outbox.push(id, write);
                }
                Effect::Read(id, path) => self.read(id, path),
                Effect::Find(id, Find::OwnedBy(node, collection)) => {
                    self.find(id, node, collection);
                }
                Effect::Count(id, target) => self.count(id, target),
                Effect::Serve(id, serve) => self.serve(&id, serve),
                Effect::Pull(id, camera) => {
                    let served = self.node.serve_camera(&id, *camera);
                    self.desk.handle_served(now(), &id, served);
                }
                Effect::HangUp(id) => self.node.hang_up(&id),
                Effect::CloseRoom(room) => self.node.end_broadcast(&room),
                Effect::Mute(RequestId(id), source, muted) => {
                    self.node.mute(&PersonId(id), source, muted);
                }
                Effect::Say(RequestId(id), text) => self.node.say(&PersonId(id), &text),
                Effect::Relisten => self.afresh.notify_one(),
                Effect::Alarm(sentence) => tracing::warn!("{sentence}"),
            }
        }
    }

    fn serve(&mut self, id: &RequestId, serve: Serve) {
        let served = self.node.serve_request(id, serve);
        self.desk.handle_served(now(), id, served);
    }

    /// Takes the time of an answer that is about to leave.
    fn measure(&mut self, write: &Write) {
        let Change::Set(fields) = &write.change else {
            return;
        };
        let answer = fields.get("answer").and_then(Value::as_text);
        let answers = answer.is_some_and(|answer| !answer.is_empty());
        if write.path.collection != Collection::Requests || !answers {
            return;
        }
        if let Some(took) = self.share.handle_answer(now(), &write.path.id) {
            tracing::debug!(request = %write.path.id, share = ?took, "answered");
        }
    }

    /// Lets gathered writes leave.
    fn send(&mut self) {
        while let Some(batch) = self.outbox.next_batch() {
            let database = self.database.clone();
            self.requests.spawn(async move {
                let (ids, writes): (Vec<WriteId>, Vec<Write>) = batch.into_iter().unzip();
                let written = match database {
                    Some(database) => database.write(&writes).await,
                    None => vec![Written::Failed(NOT_OPEN.to_owned()); ids.len()],
                };
                Done::Written(ids.into_iter().zip(written).collect())
            });
        }
    }

    fn read(&mut self, id: ReadId, path: Path) {
        let database = self.database.clone();
        self.requests.spawn(async move {
            let read = match database {
                Some(database) => database.read(&path).await,
                None => return Done::Read(id, Err(NOT_OPEN.to_owned())),
            };
            Done::Read(id, read.map_err(|trouble| trouble.to_string()))
        });
    }

    fn find(&mut self, id: ReadId, node: String, collection: Collection) {
        let database = self.database.clone();
        self.requests.spawn(async move {
            let found = match database {
                Some(database) => database.owned_by(collection, &node).await,
                None => return Done::Found(id, Err(NOT_OPEN.to_owned())),
            };
            Done::Found(id, found.map_err(|trouble| trouble.to_string()))
        });
    }

    fn count(&mut self, id: ReadId, target: Target) {
        let database = self.database.clone();
        let node = self.desk.node().to_owned();
        self.requests.spawn(async move {
            let counted = match database {
                Some(database) => database.count(target, &node).await.ok(),
                None => None,
            };
            Done::Counted(id, counted)
        });
    }

    /// Shows how the door stands.
    fn show(&self) {
        self.node.show_database(Standing {
            ready: self.desk.ready(),
            counters: self.desk.counters(),
            share: self.share.histogram(),
        });
    }
}

/// Waits for the moment, then for what follows.
async fn until(at: Option<Instant>, then: impl Future<Output = ()>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
    then.await;
}

/// The time, for the desk.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads the clock for the desk"
)]
fn now() -> Instant {
    Instant::now()
}
