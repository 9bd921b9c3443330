//! What the machine says of itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use dataplane::driver::{Dataplane, DataplaneConfig, DriverKind};
use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::firestore::{Database, Place, Trouble};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// The driver that a worker came up with, and why not io_uring; or why none came up.
    pub worker: Result<(DriverKind, Option<String>), String>,
    /// `kernel.io_uring_disabled`; kernels before 6.6 have none.
    pub io_uring_disabled: Option<u32>,
    /// Receive buffer that a worker's socket was granted.
    pub receive_buffer_bytes: Option<usize>,
    /// Send buffer that a worker's socket was granted.
    pub send_buffer_bytes: Option<usize>,
    /// Bursts in one send.
    pub gso: Offload,
    /// Runs of packets in one receive.
    pub gro: Offload,
    /// The device of the default route.
    pub device: Option<String>,
    /// Whether that device cuts bursts.
    pub uso: Offload,
    /// Files that this process may open; `None` without a limit.
    pub open_files: Option<u64>,
    /// Memory that this process may lock; `None` without a limit.
    pub locked_memory_bytes: Option<u64>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Where the kernel reads the time.
    pub clock_source: Option<String>,
    /// Whether the database can be used, if one is configured.
    pub database: Option<Result<(), Trouble>>,
}

/// Whether an offload can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Yes.
    Works,
    /// No.
    Refused,
    /// Nobody says.
    Unknown,
}

impl Offload {
    fn of(works: bool) -> Offload {
        if works {
            Offload::Works
        } else {
            Offload::Refused
        }
    }
}

impl Facts {
    /// Looks at this machine, with a worker like those that would serve, on a free port of the
    /// loopback interface.
    #[must_use]
    pub fn gather(config: &Config) -> Facts {
        let device = default_device();
        let mut facts = Facts {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            worker: Err("not tried".to_owned()),
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled")
                .and_then(|text| text.parse().ok()),
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
            gso: Offload::Unknown,
            gro: Offload::Unknown,
            uso: device.as_deref().map_or(Offload::Unknown, uso),
            device,
            open_files: getrlimit(Resource::Nofile).current,
            locked_memory_bytes: getrlimit(Resource::Memlock).current,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            database: config
                .firestore
                .as_ref()
                .map(|firestore| try_database(&firestore.place)),
        };
        facts.try_worker(config);
        facts
    }

    fn try_worker(&mut self, config: &Config) {
        let dataplane = Dataplane::start(DataplaneConfig {
            media: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            workers: 1,
            driver: config.driver,
            sessions_max: 1,
            publisher_bitrate_bps_max: config.publisher_bitrate.0,
            egress_hold: config.egress_hold.0,
            audio_speakers: config.audio_speakers,
            dtls_threads: 1,
            pin: false,
        });
        match dataplane {
            Ok((dataplane, _events)) => {
                if let Some(info) = dataplane.workers().first() {
                    self.worker = Ok((info.driver, info.why_not_uring.clone()));
                    self.receive_buffer_bytes = Some(info.receive_buffer_bytes);
                    self.send_buffer_bytes = Some(info.send_buffer_bytes);
                    self.gso = Offload::of(info.gso);
                    self.gro = Offload::of(info.gro);
                }
                dataplane.shutdown();
            }
            Err(error) => self.worker = Err(error.to_string()),
        }
    }
}

/// Opens the database and asks it for something.
fn try_database(place: &Place) -> Result<(), Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::Unreachable(error.to_string()))?;
    runtime.block_on(async { Database::open(place).await?.check().await })
}

/// A file of one line, if it is there.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// The device of the IPv4 default route: destination and mask are zero (proc_net_route).
fn default_device() -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    default_device_in(&table)
}

fn default_device_in(table: &str) -> Option<String> {
    let columns = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut defaults = columns.filter(|row| {
        let at = |index: usize| row.get(index).copied();
        at(1) == Some("00000000") && at(7) == Some("00000000")
    });
    defaults
        .next()
        .and_then(|row| row.first().map(|device| (*device).to_owned()))
}

/// The kernel tells a device's features by ethtool's interface only, so that has to be installed.
fn uso(device: &str) -> Offload {
    let Ok(output) = Command::new("ethtool").args(["-k", device]).output() else {
        return Offload::Unknown;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tx-udp-segmentation:"));
    match line.map(str::trim) {
        Some(state) => Offload::of(state.starts_with("on")),
        None => Offload::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_the_device() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_device_in(table), Some("eth0".to_owned()));
        assert_eq!(default_device_in(""), None);
    }
}
