//! People who meet: they come one after another, stay, and leave together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::dtls::Certificate;
use dataplane::dtls::certificate::CertificateError;
use dataplane::sim::network::Rng;
use tokio::sync::{mpsc, oneshot};

use super::drive::{Ask, drive};
use super::encodings::Encodings;
use super::person::{Person, PersonConfig, PersonReport};
use super::process::Usage;
use super::publishers::Publishers;
use super::report::{Report, ServerReport};
use super::tune::Tune;

/// What SSRCs and credentials are drawn from; the same in each run.
const SEED: u64 = 0x6d69_6c6c;

/// Who meets where.
#[derive(Clone, Debug)]
pub struct MeetingConfig {
    /// Address of the node's page, as `http://localhost:8080`.
    pub url: String,
    /// The room.
    pub room: String,
    /// How many people.
    pub people: usize,
    /// How many of them join in a second.
    pub joins_per_second: f64,
    /// What everybody shows.
    pub encodings: Encodings,
    /// What everybody says.
    pub tune: Arc<Tune>,
    /// The node's process, to say what it uses.
    pub pid: Option<u32>,
}

/// Why people cannot meet.
#[derive(Debug, thiserror::Error)]
pub enum MeetingError {
    /// An address that is none.
    #[error("`{0}` is not the address of a page: write it as http://localhost:8080")]
    Url(String),
    /// TLS is not spoken.
    #[error("`{0}` wants TLS, which these clients do not speak: give the node's plain address")]
    Tls(String),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A meeting that runs; who is dropped leaves.
#[derive(Debug)]
pub struct Meeting {
    people: Vec<mpsc::Sender<Ask>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pid: Option<u32>,
    measured_at: Instant,
    used: Option<Usage>,
}

impl Meeting {
    /// Lets everybody join, one after another; it does not wait until they are connected.
    ///
    /// # Errors
    ///
    /// A sentence that says why nobody can.
    pub async fn start(config: MeetingConfig) -> Result<Meeting, MeetingError> {
        let url = web_socket_url(&config.url)?;
        // Making a key takes time, and nothing of what is measured depends on it.
        let certificate = Certificate::generate()?;
        let mut rng = Rng::new(SEED);
        let publishers = Publishers::default();
        let epoch = now();
        let mut meeting = Meeting {
            people: Vec::new(),
            tasks: Vec::new(),
            pid: config.pid,
            measured_at: epoch,
            used: config.pid.and_then(Usage::of),
        };
        let pause = Duration::from_secs_f64(1.0 / config.joins_per_second.max(0.001));
        let mut pace = tokio::time::interval(pause);
        for number in 0..config.people {
            pace.tick().await;
            let person = Person::new(
                now(),
                PersonConfig {
                    room: config.room.clone(),
                    name: format!("Person {}", number + 1),
                    number,
                    seed: rng.next_u64(),
                    epoch,
                    certificate: certificate.clone(),
                    encodings: config.encodings.clone(),
                    tune: config.tune.clone(),
                    publishers: publishers.clone(),
                },
            );
            let (asks, asked) = mpsc::channel(1);
            meeting.people.push(asks);
            let life = drive(person, url.clone(), asked);
            meeting.tasks.push(tokio::spawn(life));
        }
        Ok(meeting)
    }

    /// What came of everybody so far.
    pub async fn report(&self) -> Report {
        // Asked at once, so that all answer for the same moment.
        let mut replies = Vec::new();
        for person in &self.people {
            let (reply, replied) = oneshot::channel();
            if person.send(Ask::Report(reply)).await.is_ok() {
                replies.push(replied);
            }
        }
        let mut people: Vec<PersonReport> = Vec::new();
        for reply in replies {
            people.extend(reply.await.ok());
        }
        Report::new(self.people.len(), people, self.server())
    }

    /// Counts from here on: what came before was the beginning, with its joins and key frames.
    pub async fn measure(&mut self) {
        for person in &self.people {
            person.send(Ask::Measure).await.ok();
        }
        self.measured_at = now();
        self.used = self.pid.and_then(Usage::of);
    }

    /// Everybody leaves.
    pub async fn leave(self) {
        for person in &self.people {
            person.send(Ask::Leave).await.ok();
        }
        for task in self.tasks {
            task.await.ok();
        }
    }

    fn server(&self) -> Option<ServerReport> {
        let (before, after) = (self.used?, Usage::of(self.pid?)?);
        let wall = now().saturating_duration_since(self.measured_at);
        let cpu = after.cpu.saturating_sub(before.cpu);
        Some(ServerReport {
            cpu_percent: 100.0 * cpu.as_secs_f64() / wall.as_secs_f64().max(0.001),
            rss_mib: after.rss_bytes as f64 / f64::from(1 << 20),
        })
    }
}

/// The time, for those who do IO.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell around people without IO reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Where the room protocol is spoken.
pub(crate) fn web_socket_url(page: &str) -> Result<String, MeetingError> {
    if page.starts_with("https://") {
        return Err(MeetingError::Tls(page.to_owned()));
    }
    let host = page
        .strip_prefix("http://")
        .map(|h| h.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(format!("ws://{host}/v1/ws")),
        _ => Err(MeetingError::Url(page.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pages() {
        let url = web_socket_url("http://localhost:8080/").unwrap();
        assert_eq!(url, "ws://localhost:8080/v1/ws");
        for page in ["localhost:8080", "http://", "http://a/b", "ftp://a"] {
            assert!(matches!(web_socket_url(page), Err(MeetingError::Url(_))));
        }
        let tls = web_socket_url("https://localhost");
        assert!(matches!(tls, Err(MeetingError::Tls(_))));
    }
}
