//! Hours of coming and going, and what the server holds meanwhile: it should not be more and more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use dataplane::dtls::Certificate;
use dataplane::sim::network::Rng;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::door::{Comer, DoorError, Member, Place, Yard};
use super::flock::{Farewell, Flock, Intake, LegId};
use super::leg::Terms;
use super::media::Media;
use super::room::Rooms;
use super::scene::{SceneError, raise_file_limit};
use super::whip::{Watching, Whip};
use crate::peers::meeting::now;
use crate::peers::process::{Usage, descriptors_of};
use crate::rates::{Axes, Line, by_time};

/// What everybody's randomness is drawn from.
const SEED: u64 = 0x736f_616b;

/// One packet in this many is decrypted: the clients are to cost little.
const DECRYPT_EVERY: u16 = 16;

/// How often it is looked at what the server holds.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// After the last has gone: consent of those who went in silence expires after 30 s (RFC 7675), and
/// an encoder's place in its room is kept for as long again.
const REST: Duration = Duration::from_secs(75);

/// How long the node may take to say what it holds.
const PAGE_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of the longest page of metrics.
const METRICS_BYTES_MAX: usize = 1 << 20;

/// Growth that is none: the allocator's, and the noise of who happens to be there.
const GROWTH_SHARE_MAX: f64 = 0.05;
const GROWTH_BYTES_MAX: f64 = 4e6;
const GROWTH_COUNT_MAX: f64 = 16.0;

/// A soak.
#[derive(Clone, Debug)]
pub struct SoakConfig {
    /// Address of the node's page.
    pub url: String,
    /// The node's process id.
    pub pid: u32,
    /// Rooms, with a publisher each who stays.
    pub rooms: usize,
    /// How many come in a second, and, a while later, go.
    pub joins_per_second: f64,
    /// How long one stays, on average: from a third of it to five thirds.
    pub stay: Duration,
    /// How long it goes on.
    pub duration: Duration,
    /// What each publisher sends.
    pub media: Vec<Media>,
}

/// What the node held at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds since the beginning.
    pub at_s: f64,
    /// Resident memory, bytes.
    pub rss_bytes: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Sessions by the node's own count.
    pub sessions: f64,
    /// Timers of its engines.
    pub timers: f64,
    /// Sessions, tracks and senders in its engines.
    pub objects: f64,
}

/// What came of a soak.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Soaked {
    /// What the node held before anybody came.
    pub before: Sample,
    /// And while people came and went.
    pub samples: Vec<Sample>,
    /// And when the last had been gone for a while.
    pub after: Sample,
    /// Who came.
    pub joins: u64,
    /// Who was not let in, or not let out, and why, by sentence.
    pub failures: BTreeMap<String, u64>,
    /// Receivers that went.
    pub parted: u64,
    /// Those of them whom no packet had reached.
    pub parted_silent: u64,
}

impl Soaked {
    /// What grew without end, a sentence each; nothing does in a good soak.
    ///
    /// Compared are the medians of the second and the last sixth: the first is for filling up.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        type Of = fn(&Sample) -> f64;
        let kinds: [(&str, f64, Of); 4] = [
            ("resident memory", GROWTH_BYTES_MAX, |s| s.rss_bytes),
            ("descriptors", GROWTH_COUNT_MAX, |s| s.descriptors),
            ("timers", GROWTH_COUNT_MAX, |s| s.timers),
            ("objects of the engines", GROWTH_COUNT_MAX, |s| s.objects),
        ];
        let mut complaints = Vec::new();
        for (name, allowed, of) in kinds {
            let (early, late) = (self.median(1, of), self.median(5, of));
            if late > early * (1.0 + GROWTH_SHARE_MAX) + allowed {
                complaints.push(format!("{name} grew from {early} to {late}"));
            }
        }
        if self.after.sessions > 0.0 || self.after.objects > 0.0 {
            complaints.push(format!(
                "{} sessions and {} objects are left when nobody is there",
                self.after.sessions, self.after.objects
            ));
        }
        // Kept-alive connections of the one who asks for the metrics.
        if self.after.descriptors > self.before.descriptors + 4.0 {
            complaints.push(format!(
                "{} descriptors are open afterwards, {} were before",
                self.after.descriptors, self.before.descriptors
            ));
        }
        let failed: u64 = self.failures.values().sum();
        // One in a thousand may have come while a machine that others use too stood still.
        if (failed + self.parted_silent) * 1_000 > self.joins {
            complaints.push(format!(
                "{failed} of {} were refused and {} saw nothing: {:?}",
                self.joins, self.parted_silent, self.failures
            ));
        }
        complaints
    }

    /// The median over a sixth of the time.
    fn median(&self, sixth: usize, of: fn(&Sample) -> f64) -> f64 {
        let len = self.samples.len();
        let part = self.samples.get(len * sixth / 6..len * (sixth + 1) / 6);
        let mut values: Vec<f64> = part.unwrap_or_default().iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }

    /// Memory, descriptors and timers by time, each as a share of its median over the second sixth.
    #[must_use]
    pub fn plot(&self) -> Option<String> {
        type Of = fn(&Sample) -> f64;
        let kinds: [(&str, Of); 3] = [
            ("timers", |s| s.timers),
            ("resident memory", |s| s.rss_bytes),
            ("descriptors", |s| s.descriptors),
        ];
        let lines = kinds.map(|(name, of)| {
            let usual = self.median(1, of).max(1.0);
            let points = self.samples.iter();
            Line {
                name: name.to_owned(),
                points: points
                    .map(|s| (s.at_s / 60.0, of(s) * 100.0 / usual))
                    .collect(),
            }
        });
        let minutes = self.samples.last()?.at_s / 60.0;
        let axes = Axes {
            time: "minutes",
            mark: (minutes / 12.0).ceil(),
            value: "% of what is usual",
        };
        let title = format!("A node while {} come and go", self.joins);
        by_time(&title, &axes, &lines)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6.0} s {:>8.1} MB {:>5} descriptors {:>5} sessions {:>6} timers {:>6} objects",
            self.at_s,
            self.rss_bytes / 1e6,
            self.descriptors,
            self.sessions,
            self.timers,
            self.objects
        )
    }
}

/// Runs it; every sample is told.
///
/// # Errors
///
/// When it cannot begin, for want of a door or a process, and when it cannot go on: the node ended or does not say
/// what it holds.
pub async fn run(config: SoakConfig, mut tell: impl FnMut(&Sample)) -> Result<Soaked, SceneError> {
    raise_file_limit();
    let terms = Terms {
        epoch: now(),
        decrypt_every: DECRYPT_EVERY,
    };
    let yard = Yard {
        flock: Flock::start(terms, Intake::Single)?,
        certificate: Certificate::generate()?,
        media: config.media.clone(),
        plain: false,
        seed: SEED,
    };
    let rooms = format!("{}/v1/rooms", config.url.trim_end_matches('/'));
    let doors = Doors {
        whip: Whip::new(
            &format!("{rooms}/{{room}}/whip?name={{name}}"),
            &format!("{rooms}/{{room}}/whep"),
        ),
        rooms: Rooms::new(&config.url)?,
        yard,
    };
    let mut soak = Soak {
        meter: Meter::new(&config),
        doors: Arc::new(doors),
        publishers: Vec::new(),
        guests: BTreeMap::new(),
        rng: Rng::new(SEED),
        soaked: Soaked::default(),
        config,
    };
    soak.soaked.before = soak.meter.sample().await?;
    soak.publish().await?;
    soak.come_and_go(&mut tell).await?;
    soak.empty().await;
    soak.soaked.after = soak.meter.sample().await?;
    tell(&soak.soaked.after);
    Ok(soak.soaked)
}

/// How people come in.
struct Doors {
    whip: Whip,
    rooms: Rooms,
    yard: Yard,
}

/// Somebody who is there for a while.
enum Guest {
    Viewer(Watching),
    /// Leaves the room when it is dropped.
    Person(Member),
}

impl Guest {
    fn leg(&self) -> Option<LegId> {
        match self {
            Guest::Viewer(watching) => Some(watching.leg),
            Guest::Person(member) => match member.place {
                Place::Person(_, leg) => Some(leg),
                Place::Whip | Place::Janus(_) => None,
            },
        }
    }
}

struct Soak {
    config: SoakConfig,
    meter: Meter,
    doors: Arc<Doors>,
    publishers: Vec<Member>,
    /// By when they go.
    guests: BTreeMap<(Instant, u64), Guest>,
    rng: Rng,
    soaked: Soaked,
}

impl Soak {
    async fn publish(&mut self) -> Result<(), SceneError> {
        for number in 0..self.config.rooms {
            let doors = &self.doors;
            let comer = Comer::new(&doors.yard, &room_name(number), number, Vec::new());
            self.publishers
                .push(doors.whip.publish(&doors.yard, comer).await?);
        }
        Ok(())
    }

    async fn come_and_go(&mut self, tell: &mut impl FnMut(&Sample)) -> Result<(), SceneError> {
        let began = now();
        let between = Duration::from_secs_f64(1.0 / self.config.joins_per_second.max(0.001));
        let mut pace = interval(between);
        // Who did not come while the machine stood still comes at once afterwards.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut sampling = interval(SAMPLE_EVERY);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sampling.tick().await;
        let mut joins = JoinSet::new();
        while now().saturating_duration_since(began) < self.config.duration {
            tokio::select! {
                _ = pace.tick() => {
                    self.invite(&mut joins);
                    self.see_off().await;
                }
                Some(joined) = joins.join_next() => self.on_joined(joined.ok()),
                _ = sampling.tick() => {
                    let sample = self.meter.sample().await?;
                    tell(&sample);
                    self.soaked.samples.push(sample);
                }
            }
        }
        while let Some(joined) = joins.join_next().await {
            self.on_joined(joined.ok());
        }
        Ok(())
    }

    /// One comes: every tenth as a person who speaks and shows a picture too, the others as viewers.
    fn invite(&mut self, joins: &mut JoinSet<Result<(u64, Guest), DoorError>>) {
        let number = self.soaked.joins;
        self.soaked.joins += 1;
        let doors = self.doors.clone();
        let at = number as usize % self.config.rooms.max(1);
        let others = self.publishers.get(at).cloned().into_iter().collect();
        joins.spawn(async move {
            let known = (1 << 24) + number as usize;
            let comer = Comer::new(&doors.yard, &room_name(at), known, others);
            let guest = if number % 10 == 9 {
                let member = doors.rooms.publish(&doors.yard, comer).await?;
                if let Place::Person(person, _) = &member.place {
                    person.watch().await?;
                }
                Guest::Person(member)
            } else {
                Guest::Viewer(doors.whip.watch(&doors.yard, comer, None).await?)
            };
            Ok((number, guest))
        });
    }

    fn on_joined(&mut self, joined: Option<Result<(u64, Guest), DoorError>>) {
        match joined {
            Some(Ok((number, guest))) => {
                let share =
                    1.0 / 3.0 + self.rng.below(1 << 20) as f64 / f64::from(1 << 20) * 4.0 / 3.0;
                let until = now() + self.config.stay.mul_f64(share);
                self.guests.insert((until, number), guest);
            }
            Some(Err(error)) => self.fail(&error),
            None => {}
        }
    }

    /// Those whose time has come go: by a goodbye, every seventh by asking for it at the door, every
    /// thirteenth without a word.
    async fn see_off(&mut self) {
        let now = now();
        while let Some(entry) = self.guests.first_entry() {
            let (until, number) = *entry.key();
            if until > now {
                return;
            }
            let guest = entry.remove();
            if let (Guest::Viewer(watching), 0) = (&guest, number % 7)
                && let Err(error) = self.doors.whip.end(watching).await
            {
                self.fail(&error);
            }
            let farewell = if number % 13 == 0 {
                Farewell::Silence
            } else {
                Farewell::Goodbye
            };
            if let Some(leg) = guest.leg() {
                self.doors.yard.flock.part(leg, farewell);
            }
        }
    }

    /// Everybody goes, and the node gets time to notice.
    async fn empty(&mut self) {
        // Before the others go: the last have only just come.
        let report = self.doors.yard.flock.report().await;
        self.soaked.parted = report.parted;
        self.soaked.parted_silent = report.parted_silent;
        // Who is dropped leaves its room.
        self.guests.clear();
        self.doors.yard.flock.close();
        tokio::time::sleep(REST).await;
    }

    fn fail(&mut self, error: &DoorError) {
        // Addresses of resources would make every sentence another.
        let sentence: String = error.to_string().chars().take(60).collect();
        *self.soaked.failures.entry(sentence).or_default() += 1;
    }
}

fn room_name(number: usize) -> String {
    format!("soak-{number}")
}

/// Looks at the node.
struct Meter {
    pid: u32,
    url: String,
    began: Instant,
}

impl Meter {
    fn new(config: &SoakConfig) -> Meter {
        Meter {
            pid: config.pid,
            url: format!("{}/metrics", config.url.trim_end_matches('/')),
            began: now(),
        }
    }

    async fn sample(&self) -> Result<Sample, SceneError> {
        // One that ended and that nobody has asked about yet has no memory.
        let usage = Usage::of(self.pid).filter(|usage| usage.rss_bytes > 0);
        let usage = usage.ok_or(SceneError::NodeEnded(self.pid))?;
        let page = timeout(PAGE_WITHIN, self.page()).await.ok().flatten();
        let page = page.ok_or(SceneError::NoMetrics)?;
        let sum = |name: &str| -> f64 {
            let values = page.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = rest.rsplit_once(' ')?;
                let is_it = labels.is_empty() || labels.starts_with('{');
                value.parse::<f64>().ok().filter(|_| is_it)
            });
            values.sum()
        };
        Ok(Sample {
            at_s: now().saturating_duration_since(self.began).as_secs_f64(),
            rss_bytes: usage.rss_bytes as f64,
            descriptors: descriptors_of(self.pid).unwrap_or(0) as f64,
            sessions: sum("millrace_sessions"),
            timers: sum("millrace_worker_timers"),
            objects: sum("millrace_worker_objects"),
        })
    }

    /// A connection of its own for each look: one that is kept would be a descriptor.
    async fn page(&self) -> Option<String> {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.get(self.url.parse().ok()?).await.ok()?;
        let body = to_bytes(Body::new(response.into_body()), METRICS_BYTES_MAX).await;
        String::from_utf8(body.ok()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soaked(rss: impl Fn(usize) -> f64) -> Soaked {
        let sample = |at: usize| Sample {
            at_s: at as f64 * 10.0,
            rss_bytes: rss(at),
            descriptors: 40.0 + (at % 3) as f64,
            timers: 300.0,
            sessions: 290.0,
            objects: 900.0,
        };
        Soaked {
            joins: 10_000,
            samples: (0..60).map(sample).collect(),
            ..Soaked::default()
        }
    }

    #[test]
    fn what_fills_up_and_stays_is_no_complaint_and_what_grows_on_is() {
        let filled = soaked(|at| 8e7 + 1e6 * at.min(9) as f64);
        assert_eq!(filled.complaints(), Vec::<String>::new());
        let leaking = soaked(|at| 8e7 + 1e6 * at as f64);
        let [one] = leaking.complaints().try_into().unwrap();
        assert!(one.starts_with("resident memory grew"), "{one}");
    }

    #[test]
    fn what_is_left_behind_is_a_complaint() {
        let mut left = soaked(|_| 8e7);
        left.after.sessions = 1.0;
        left.after.descriptors = 12.0;
        left.parted_silent = 11;
        assert_eq!(left.complaints().len(), 3);
    }

    #[tokio::test]
    async fn a_node_that_ended_or_says_nothing_is_an_error_and_not_a_node_that_holds_nothing() {
        let meter = |pid| Meter {
            pid,
            url: "http://127.0.0.1:1/metrics".to_owned(),
            began: now(),
        };
        let (gone, silent) = (meter(u32::MAX), meter(std::process::id()));
        assert!(matches!(gone.sample().await, Err(SceneError::NodeEnded(_))));
        assert!(matches!(silent.sample().await, Err(SceneError::NoMetrics)));
    }

    #[test]
    fn the_plot_has_three_lines() {
        let svg = soaked(|_| 8e7).plot().unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("minutes") && svg.contains("resident memory"));
    }
}
