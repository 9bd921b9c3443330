//! A load from beginning to end: who comes, when it is measured, and the rows that come of it.

use std::sync::Arc;
use std::time::Duration;

use dataplane::dtls::Certificate;
use dataplane::dtls::certificate::CertificateError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::door::{Door, DoorError, DoorSpec, Member, Yard};
use super::flock::Flock;
pub use super::flock::Intake;
use super::leg::Terms;
use super::media::Media;
use super::row::{Row, Used};
use crate::peers::meeting::now;
use crate::peers::process::{Usage, softirq_of};

/// What everybody's randomness is drawn from.
const SEED: u64 = 0x7377_6172;

/// How long clients may take to connect after the last of them asked.
const CONNECT_SECONDS: u32 = 20;

/// Between what was joined and what is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cast {
    /// One publisher in each room, and viewers: as many in all as each step says, step after step.
    Watch {
        /// Rooms.
        rooms: usize,
        /// Viewers in all, ascending.
        steps: Vec<usize>,
    },
    /// People who all send and receive everybody else's.
    Rooms {
        /// Rooms.
        rooms: usize,
        /// People in each.
        people: usize,
    },
}

/// A load.
#[derive(Clone, Debug)]
pub struct SceneConfig {
    /// Where.
    pub door: DoorSpec,
    /// What rows call the server.
    pub server: String,
    /// What rows call the scene.
    pub scene: String,
    /// Who comes.
    pub cast: Cast,
    /// What each publisher sends.
    pub media: Vec<Media>,
    /// No header extensions.
    pub plain: bool,
    /// One packet in this many is decrypted, by its number.
    pub decrypt_every: u16,
    /// How datagrams are taken from the kernel.
    pub intake: Intake,
    /// How many come in a second.
    pub joins_per_second: f64,
    /// How long each step is measured.
    pub seconds: u32,
    /// Whether to stop after the first step that the server does not hold.
    pub until_full: bool,
    /// The server's process, to say what it uses.
    pub pid: Option<u32>,
    /// The server's core, to say what the kernel uses there.
    pub core: Option<usize>,
}

/// Why there was no load.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The first at the door was not let in.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The system would not let it begin.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The process that was looked at is gone.
    #[error("the node, process {0}, has ended")]
    NodeEnded(u32),
    /// What the node holds cannot be known.
    #[error("the node does not answer when it is asked for its metrics")]
    NoMetrics,
}

/// What a load tells while it runs.
#[derive(Clone, Debug)]
pub enum News<'a> {
    /// Somebody did not get in, and why.
    Refused(String),
    /// What was measured until the end of a second that is not the last, to read.
    Second(String),
    /// A measurement.
    Measured(&'a Row),
}

/// Runs a load, and tells of it.
///
/// # Errors
///
/// A sentence that says why there is none; what goes wrong for some clients is in the rows.
pub async fn run(config: SceneConfig, tell: impl FnMut(News<'_>)) -> Result<(), SceneError> {
    raise_file_limit();
    let terms = Terms {
        epoch: now(),
        decrypt_every: config.decrypt_every,
    };
    let yard = Yard {
        flock: Flock::start(terms, config.intake)?,
        certificate: Certificate::generate()?,
        media: config.media.clone(),
        plain: config.plain,
        seed: SEED,
    };
    let mut stage = Stage {
        door: Arc::new(Door::open(&config.door).await?),
        yard: Arc::new(yard),
        pace: pace(config.joins_per_second),
        members: Vec::new(),
        failures: 0,
        config,
        tell,
    };
    match stage.config.cast.clone() {
        Cast::Watch { rooms, steps } => stage.watch(rooms.max(1), &steps).await?,
        Cast::Rooms { rooms, people } => stage.meet(rooms, people).await?,
    }
    // Whoever stays in a room leaves it when the last of its handles is gone.
    stage.members.clear();
    if let Ok(yard) = Arc::try_unwrap(stage.yard) {
        yard.flock.leave();
    }
    Ok(())
}

/// A tick for each join. Ticks that a measurement missed are not made up for: a server that limits how
/// many come from one address would keep them waiting.
fn pace(joins_per_second: f64) -> Interval {
    let mut pace = interval(Duration::from_secs_f64(1.0 / joins_per_second.max(0.001)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

struct Stage<F> {
    door: Arc<Door>,
    yard: Arc<Yard>,
    config: SceneConfig,
    pace: Interval,
    /// By room.
    members: Vec<Vec<Member>>,
    failures: usize,
    tell: F,
}

impl<F: FnMut(News<'_>)> Stage<F> {
    async fn watch(&mut self, rooms: usize, steps: &[usize]) -> Result<(), SceneError> {
        self.fill_rooms(rooms, 1).await?;
        self.connect(rooms).await;
        let mut viewers = 0;
        for step in steps {
            let mut joins = JoinSet::new();
            while viewers < *step {
                self.pace.tick().await;
                let at = viewers % rooms;
                // Publishers and viewers are numbered apart.
                self.spawn_watch(&mut joins, at, (1 << 24) + viewers, None);
                viewers += 1;
            }
            self.await_joins(joins).await;
            self.connect(rooms).await;
            // What one room's publisher sends goes to that room's viewers.
            let row = self.measure(*step, *step as f64 / rooms as f64).await;
            if self.config.until_full && !row.is_held() {
                break;
            }
        }
        Ok(())
    }

    async fn meet(&mut self, rooms: usize, people: usize) -> Result<(), SceneError> {
        self.fill_rooms(rooms, people).await?;
        self.connect(rooms * people).await;
        let mut joins = JoinSet::new();
        for room in 0..rooms {
            for person in 0..people {
                self.pace.tick().await;
                let own = self
                    .members
                    .get(room)
                    .and_then(|all| all.get(person))
                    .cloned();
                self.spawn_watch(&mut joins, room, room * people + person, own);
            }
        }
        self.await_joins(joins).await;
        self.connect(rooms * people).await;
        self.measure(rooms * people, people.saturating_sub(1) as f64)
            .await;
        Ok(())
    }

    /// Publishers come, one after another; without all of them there is no load.
    async fn fill_rooms(&mut self, rooms: usize, people: usize) -> Result<(), SceneError> {
        let name = std::process::id();
        for room in 0..rooms {
            let mut members = Vec::new();
            for person in 0..people {
                self.pace.tick().await;
                let number = room * people + person;
                let room = format!("load-{name}-{room}");
                members.push(self.door.publish(&self.yard, &room, number).await?);
            }
            self.members.push(members);
        }
        Ok(())
    }

    fn spawn_watch(
        &self,
        joins: &mut JoinSet<Result<(), DoorError>>,
        room: usize,
        number: usize,
        own: Option<Member>,
    ) {
        let (door, yard) = (self.door.clone(), self.yard.clone());
        let members = self.members.get(room).cloned().unwrap_or_default();
        let room = format!("load-{}-{room}", std::process::id());
        joins.spawn(async move {
            door.watch(&yard, &room, number, own.as_ref(), &members)
                .await
        });
    }

    async fn await_joins(&mut self, mut joins: JoinSet<Result<(), DoorError>>) {
        while let Some(joined) = joins.join_next().await {
            if let Ok(Err(error)) = joined {
                self.failures += 1;
                (self.tell)(News::Refused(error.to_string()));
            }
        }
    }

    /// Waits until all who came, and at least so many publishers, are connected.
    async fn connect(&mut self, publishers: usize) {
        for _ in 0..CONNECT_SECONDS * 10 {
            let report = self.yard.flock.report().await;
            let all_here = report.connected + report.closed() >= report.receivers;
            if all_here
                && report.publishers_connected >= publishers
                && report.silent <= report.closed()
            {
                return;
            }
            // Nobody can be heard before somebody watches.
            if report.streams == 0 && all_here && report.publishers_connected >= publishers {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn measure(&mut self, subscribers: usize, fan_out: f64) -> Row {
        tokio::time::sleep(SETTLE).await;
        self.yard.flock.measure();
        let before = self.used();
        let mut second = interval(Duration::from_secs(1));
        second.tick().await;
        for number in 1..=self.config.seconds {
            second.tick().await;
            if number < self.config.seconds {
                let row = self.row(fan_out, before).await;
                let line = format!("{subscribers} subscribers, {number} s: {}", row.progress());
                (self.tell)(News::Second(line));
            }
        }
        let row = self.row(fan_out, before).await;
        (self.tell)(News::Measured(&row));
        row
    }

    async fn row(&self, fan_out: f64, before: Option<Used>) -> Row {
        let report = self.yard.flock.report().await;
        let used = self.used().zip(before).map(|(after, before)| Used {
            cpu: after.cpu.saturating_sub(before.cpu),
            softirq: after
                .softirq
                .zip(before.softirq)
                .map(|(a, b)| a.saturating_sub(b)),
            rss_bytes: after.rss_bytes,
        });
        Row {
            server: self.config.server.clone(),
            scene: self.config.scene.clone(),
            rooms: self.members.len(),
            failures: self.failures,
            ..Row::new(&report, fan_out, used)
        }
    }

    fn used(&self) -> Option<Used> {
        let usage = Usage::of_tree(self.config.pid?)?;
        Some(Used {
            cpu: usage.cpu,
            softirq: self.config.core.and_then(softirq_of),
            rss_bytes: usage.rss_bytes,
        })
    }
}

/// Each client has a socket: as many as the system lets this process have.
pub(super) fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).ok();
}
