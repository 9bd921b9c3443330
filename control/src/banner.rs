//! What the node says of itself when it starts.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use dataplane::driver::WorkerInfo;

use crate::addresses::is_private;
use crate::firestore::Place;

/// Buffers that a worker asks for, bytes.
const BUFFER_BYTES: usize = 8 << 20;

/// What the node found out.
#[derive(Clone, Copy, Debug)]
pub struct Banner<'a> {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Whether it is HTTPS.
    pub https: bool,
    /// The workers.
    pub workers: &'a [WorkerInfo],
    /// Addresses that clients are told of.
    pub addresses: &'a [IpAddr],
    /// Cameras that the configuration lists.
    pub cameras: usize,
    /// The database where pages and nodes meet, and who we are there.
    pub firestore: Option<&'a str>,
}

impl Banner<'_> {
    /// The lines for the terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("Millrace {}\n\n", env!("CARGO_PKG_VERSION"));
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let lines = [
            ("page", self.page()),
            ("driver", self.drivers()),
            ("workers", self.workers()),
            ("buffers", self.buffers()),
            ("addresses", addresses.join(", ")),
        ];
        let cameras = (self.cameras > 0).then(|| ("cameras", self.cameras()));
        let firestore = self.firestore.map(|line| ("firestore", line.to_owned()));
        for (name, value) in lines.into_iter().chain(cameras).chain(firestore) {
            let _ = writeln!(text, "  {name:<9}  {value}");
        }
        for warning in self.warnings() {
            let _ = write!(text, "\n  warning: {warning}\n");
        }
        text
    }

    /// Where to point a browser.
    fn page(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let (ip, port) = (self.http.ip(), self.http.port());
        if ip.is_loopback() || ip.is_unspecified() {
            format!("{scheme}://localhost:{port}/")
        } else {
            format!("{scheme}://{}/", self.http)
        }
    }

    fn cameras(&self) -> String {
        format!("{}, each room's at {}wall/ROOM", self.cameras, self.page())
    }

    fn drivers(&self) -> String {
        let mut names: Vec<String> = self
            .workers
            .iter()
            .map(|worker| worker.driver.to_string())
            .collect();
        names.dedup();
        names.join(", ")
    }

    fn workers(&self) -> String {
        let ports: Vec<u16> = self.workers.iter().map(|worker| worker.port).collect();
        let count = ports.len();
        let in_a_row = ports
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == 1));
        let ports = match (ports.first(), ports.last()) {
            (Some(first), Some(last)) if in_a_row && count > 1 => {
                format!("ports {first} to {last}")
            }
            (Some(first), _) if count == 1 => format!("port {first}"),
            _ => format!(
                "ports {}",
                ports
                    .iter()
                    .map(u16::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        format!("{count}, media on {ports}, UDP and TCP")
    }

    fn buffers(&self) -> String {
        let (receive, send) = self.smallest_buffers();
        format!("{} receive, {} send", size(receive), size(send))
    }

    fn smallest_buffers(&self) -> (usize, usize) {
        let receive = self
            .workers
            .iter()
            .map(|worker| worker.receive_buffer_bytes)
            .min();
        let send = self
            .workers
            .iter()
            .map(|worker| worker.send_buffer_bytes)
            .min();
        (receive.unwrap_or(0), send.unwrap_or(0))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (receive, send) = self.smallest_buffers();
        for (bytes, name, sysctl) in [
            (receive, "receive", "net.core.rmem_max"),
            (send, "send", "net.core.wmem_max"),
        ] {
            if bytes < BUFFER_BYTES {
                warnings.push(format!(
                    "{name} buffers hold {} and should hold 8 MiB, or bursts are lost under load:\n    \
                     sudo sysctl -w {sysctl}={BUFFER_BYTES}",
                    size(bytes)
                ));
            }
        }
        if let Some(why) = self
            .workers
            .iter()
            .find_map(|worker| worker.why_not_uring.as_ref())
        {
            warnings.push(format!(
                "io_uring cannot be used ({why}); packets go over plain sockets.\n    \
                 `millrace doctor` says what to set"
            ));
        }
        let local = self.http.ip().is_loopback();
        if !local && !self.https {
            warnings.push(
                "browsers give a page camera and microphone only over HTTPS or on localhost:\n    \
                 set --tls-cert and --tls-key, or put a proxy with a certificate in front"
                    .to_owned(),
            );
        }
        if !local && self.addresses.iter().all(|ip| is_private(*ip)) {
            warnings.push(
                "no public address was found; clients outside this network need --public-ip"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The line about the database: which one, where in it, who we are there, and whether it is an
/// emulator.
#[must_use]
pub fn database(place: &Place, node: &str, emulator: Option<&str>) -> String {
    let Place {
        project,
        database,
        collection,
    } = place;
    let database = match database.as_str() {
        "(default)" => String::new(),
        named => format!(", database {named}"),
    };
    let emulator = emulator.map_or_else(String::new, |host| format!(", emulator at {host}"));
    format!("project {project}{database}, collection {collection}, as node {node}{emulator}")
}

/// A buffer's size as people say it.
pub(crate) fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

#[cfg(test)]
mod tests {
    use dataplane::driver::DriverKind;

    use super::*;

    fn worker(index: usize) -> WorkerInfo {
        WorkerInfo {
            index,
            port: 3478 + index as u16,
            driver: DriverKind::Uring,
            why_not_uring: None,
            receive_buffer_bytes: 8 << 20,
            send_buffer_bytes: 8 << 20,
            core: Some(index),
            gso: true,
            gro: true,
        }
    }

    fn render(http: &str, workers: &[WorkerInfo]) -> String {
        let addresses = ["192.168.1.2".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let http = http.parse().unwrap();
        Banner {
            http,
            https: false,
            workers,
            addresses: &addresses,
            cameras: workers.len() - 1,
            firestore: None,
        }
        .render()
    }

    #[test]
    fn a_local_node_that_has_all_it_needs_warns_of_nothing() {
        let text = render("127.0.0.1:8080", &[worker(0), worker(1)]);
        assert!(
            text.contains("page       http://localhost:8080/\n"),
            "{text}"
        );
        assert!(
            text.contains("workers    2, media on ports 3478 to 3479, UDP and TCP\n"),
            "{text}"
        );
        assert!(
            text.contains("buffers    8 MiB receive, 8 MiB send\n"),
            "{text}"
        );
        assert!(
            text.contains("cameras    1, each room's at http://localhost:8080/wall/ROOM\n"),
            "{text}"
        );
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn the_database_is_named_as_far_as_it_is_not_the_usual_one() {
        let mut place = Place {
            project: "meet".to_owned(),
            database: "(default)".to_owned(),
            collection: "offers".to_owned(),
        };
        assert_eq!(
            database(&place, "n1", None),
            "project meet, collection offers, as node n1"
        );
        place.database = "second".to_owned();
        assert_eq!(
            database(&place, "n1", Some("127.0.0.1:8791")),
            "project meet, database second, collection offers, as node n1, emulator at 127.0.0.1:8791"
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_comes_with_what_to_do() {
        let poor = WorkerInfo {
            driver: DriverKind::Msg,
            why_not_uring: Some("not permitted".to_owned()),
            receive_buffer_bytes: 212_992,
            ..worker(0)
        };
        let text = render("0.0.0.0:8080", &[poor]);
        for part in [
            "sudo sysctl -w net.core.rmem_max=8388608",
            "io_uring cannot be used (not permitted)",
            "--tls-cert",
            "--public-ip",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
