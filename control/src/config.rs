//! The node's configuration: flags over environment over file over defaults.

mod cameras;
mod firestore;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use dataplane::driver::DriverChoice;
use dataplane::limits::{AUDIO_SPEAKERS_MAX, EGRESS_HOLD_DEFAULT};
use signaling::doors::IceServer;

use crate::bitrate::Bitrate;
use crate::camera::file::BadCameraFile;
use crate::cli::{Cli, Settings};
use crate::hold::Hold;

pub use cameras::CamerasConfig;
pub use firestore::{FirebaseFiles, FirestoreConfig};

/// Everything that a node is told, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where worker 0 listens.
    pub media: SocketAddr,
    /// Addresses for candidates; empty: those of the machine.
    pub public_ip: Vec<IpAddr>,
    /// Certificate and key for HTTPS.
    pub tls: Option<TlsFiles>,
    /// STUN and TURN servers for clients.
    pub ice_servers: Vec<IceServer>,
    /// Worker threads.
    pub workers: usize,
    /// Which driver.
    pub driver: DriverChoice,
    /// How long a packet may wait for others to share its send.
    pub egress_hold: Hold,
    /// How many of the voices in a room are forwarded; 0 for all.
    pub audio_speakers: usize,
    /// Where another program may take over.
    pub upgrade_socket: Option<PathBuf>,
    /// What is logged.
    pub log: String,
    /// Rooms at once.
    pub max_rooms: usize,
    /// People, encoders and players at once.
    pub max_sessions: usize,
    /// The same in one room.
    pub max_sessions_per_room: usize,
    /// Percent of a worker's time past which a room's newcomers go to other workers.
    pub spread_percent: usize,
    /// Tracks that one session may publish.
    pub max_tracks_per_session: usize,
    /// Bits per second sent past which newcomers are refused.
    pub egress_bps: Option<Bitrate>,
    /// Bits per second that one publisher is told it may send.
    pub publisher_bitrate: Bitrate,
    /// Cameras that are pulled into rooms.
    pub cameras: CamerasConfig,
    /// The database where pages and nodes meet.
    pub firestore: Option<FirestoreConfig>,
    /// What pages are told of Firebase.
    pub firebase: Option<FirebaseFiles>,
    /// How long meetings may go on after SIGTERM.
    pub drain_time: Duration,
}

/// Files that HTTPS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Why the configuration cannot be used; the program ends with status 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key in the file that nobody knows.
    #[error("{file}: there is no key `{key}`{nearest}")]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// ` - did you mean ..?`, or nothing.
        nearest: Nearest,
    },
    /// A `MILLRACE_` variable that nobody knows.
    #[error("there is no environment variable {name}{nearest}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What may have been meant.
        nearest: Nearest,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML, or a value is of the wrong kind.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Line and cause.
        reason: String,
    },
    /// A file of cameras is wrong.
    #[error(transparent)]
    Cameras(#[from] BadCameraFile),
    /// A value that is out of range or does not fit the others.
    #[error("{key}: {reason}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What would be right.
        reason: String,
    },
}

/// The known name that is most like an unknown one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest(Option<String>);

impl std::fmt::Display for Nearest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// Names less alike than this (Jaro-Winkler, 0 to 1) are no help to anybody.
const ALIKE_MIN: f64 = 0.7;

impl Config {
    /// The configuration that flags, environment and file come to.
    ///
    /// # Errors
    /// A sentence that names the key and what would be right.
    pub fn load(cli: &Cli) -> Result<Config, ConfigError> {
        Config::complete(settings(cli)?)
    }

    /// Fills in defaults and checks what depends on other values.
    fn complete(settings: Settings) -> Result<Config, ConfigError> {
        let max_rooms = settings.max_rooms.unwrap_or(1000);
        let config = Config {
            cameras: cameras::cameras(&settings)?,
            firestore: firestore::firestore(&settings, max_rooms)?,
            firebase: firestore::firebase(&settings),
            drain_time: firestore::drain_time(&settings)?,
            http: settings.http.unwrap_or((Ipv4Addr::LOCALHOST, 8080).into()),
            media: settings
                .media
                .unwrap_or((Ipv4Addr::UNSPECIFIED, 3478).into()),
            public_ip: settings.public_ip.unwrap_or_default(),
            tls: tls_files(settings.tls_cert, settings.tls_key)?,
            ice_servers: ice_servers(&settings.ice_servers.unwrap_or_default())?,
            workers: settings.workers.unwrap_or_else(cores),
            driver: settings.driver.unwrap_or_default(),
            egress_hold: settings.egress_hold.unwrap_or(Hold(EGRESS_HOLD_DEFAULT)),
            audio_speakers: settings.audio_speakers.unwrap_or(0),
            upgrade_socket: settings.upgrade_socket,
            log: settings.log.unwrap_or_else(|| "info".to_owned()),
            max_rooms,
            max_sessions: settings.max_sessions.unwrap_or(5000),
            max_sessions_per_room: settings.max_sessions_per_room.unwrap_or(1000),
            spread_percent: settings.spread_percent.unwrap_or(SPREAD_PERCENT),
            max_tracks_per_session: settings.max_tracks_per_session.unwrap_or(8),
            egress_bps: settings.egress_bps,
            publisher_bitrate: settings.publisher_bitrate.unwrap_or(Bitrate(6_000_000)),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let tracks_max = dataplane::limits::TRACKS_PER_SESSION_MAX;
        in_range("workers", self.workers, WORKERS_MAX)?;
        in_range("max-rooms", self.max_rooms, usize::MAX)?;
        in_range("max-sessions", self.max_sessions, SESSIONS_MAX)?;
        in_range(
            "max-sessions-per-room",
            self.max_sessions_per_room,
            SESSIONS_MAX,
        )?;
        in_range("spread-percent", self.spread_percent, 100)?;
        if self.audio_speakers > 0 {
            in_range("audio-speakers", self.audio_speakers, AUDIO_SPEAKERS_MAX)?;
        }
        in_range(
            "max-tracks-per-session",
            self.max_tracks_per_session,
            tracks_max,
        )?;
        in_range("max-cameras", self.cameras.limits.cameras, CAMERAS_MAX)?;
        in_range(
            "max-cameras-per-room",
            self.cameras.limits.cameras_per_room,
            CAMERAS_MAX,
        )?;
        if let Some(firestore) = &self.firestore {
            in_range("max-broadcasts", firestore.max_broadcasts, usize::MAX)?;
        }
        check_log(&self.log)?;
        if self.upgrade_socket.is_some() && self.firestore.is_some() {
            let reason = "nodes that meet in a database take over from each other there: leave this out, start the new \
                          node beside the old one, and stop that with SIGTERM";
            return Err(ConfigError::BadValue {
                key: "upgrade-socket",
                reason: reason.to_owned(),
            });
        }
        let last_port = usize::from(self.media.port()) + self.workers - 1;
        if self.media.port() != 0 && last_port > usize::from(u16::MAX) {
            let reason = format!(
                "port {} leaves no room for {} workers, each of which takes the next port",
                self.media.port(),
                self.workers
            );
            return Err(ConfigError::BadValue {
                key: "media",
                reason,
            });
        }
        if let Some(ip) = self
            .public_ip
            .iter()
            .find(|ip| ip.is_unspecified() || ip.is_multicast())
        {
            let reason = format!("{ip} is no address that a client can send to");
            return Err(ConfigError::BadValue {
                key: "public-ip",
                reason,
            });
        }
        Ok(())
    }

    /// The configuration as a file that would give it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let settings = Settings {
            http: Some(self.http),
            media: Some(self.media),
            public_ip: (!self.public_ip.is_empty()).then(|| self.public_ip.clone()),
            tls_cert: self.tls.as_ref().map(|tls| tls.cert.clone()),
            tls_key: self.tls.as_ref().map(|tls| tls.key.clone()),
            ice_servers: (!self.ice_servers.is_empty())
                .then(|| self.ice_servers.iter().map(write_ice_server).collect()),
            workers: Some(self.workers),
            driver: Some(self.driver),
            egress_hold: Some(self.egress_hold),
            audio_speakers: Some(self.audio_speakers),
            upgrade_socket: self.upgrade_socket.clone(),
            log: Some(self.log.clone()),
            max_rooms: Some(self.max_rooms),
            max_sessions: Some(self.max_sessions),
            max_sessions_per_room: Some(self.max_sessions_per_room),
            spread_percent: Some(self.spread_percent),
            max_tracks_per_session: Some(self.max_tracks_per_session),
            egress_bps: self.egress_bps,
            publisher_bitrate: Some(self.publisher_bitrate),
            drain_time: Some(self.drain_time.as_secs()),
            cameras: self.cameras.file.clone(),
            camera_allow: self.cameras.allow_setting(),
            max_cameras: Some(self.cameras.limits.cameras),
            max_cameras_per_room: Some(self.cameras.limits.cameras_per_room),
            ..self.database_settings()
        };
        toml::to_string(&settings).expect("settings are a flat table of plain values")
    }
}

/// Above this share of a core what is sent at one moment begins to wait for what was sent before;
/// what is left is for the key frames of those who are there, and for new rooms.
const SPREAD_PERCENT: usize = 60;

/// More threads than any machine of today has cores.
const WORKERS_MAX: usize = 1024;

/// Places that the counters and pools of a node are made for.
const SESSIONS_MAX: usize = 1_000_000;

/// A camera is a session with a thread's part of its own: as many as any machine can pull.
const CAMERAS_MAX: usize = 10_000;

/// What flags and environment say, over what the file says.
fn settings(cli: &Cli) -> Result<Settings, ConfigError> {
    check_environment(std::env::vars_os().map(|(name, _)| name))?;
    let file = match &cli.config {
        Some(path) => read_file(path)?,
        None => Settings::default(),
    };
    Ok(cli.settings.clone().or(file))
}

/// Every `MILLRACE_` variable must be one that we read: a misspelt limit is no limit.
fn check_environment(names: impl Iterator<Item = OsString>) -> Result<(), ConfigError> {
    let command = Cli::command();
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    for name in names {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("MILLRACE_") && !known.contains(&name) {
            let nearest = nearest(&name, known.iter().map(String::as_str));
            return Err(ConfigError::UnknownVariable { name, nearest });
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        file: file.clone(),
        reason: error.to_string(),
    })?;
    parse_file(&file, &text)
}

fn parse_file(file: &str, text: &str) -> Result<Settings, ConfigError> {
    let malformed = |error: &toml::de::Error| ConfigError::Malformed {
        file: file.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    };
    let table: toml::Table = toml::from_str(text).map_err(|error| malformed(&error))?;
    let known = file_keys();
    for key in table.keys() {
        if !known.contains(key) {
            let nearest = nearest(key, known.iter().map(String::as_str));
            return Err(ConfigError::UnknownKey {
                file: file.to_owned(),
                key: key.clone(),
                nearest,
            });
        }
    }
    toml::from_str(text).map_err(|error| malformed(&error))
}

/// The keys of the file: the long options that are settings.
fn file_keys() -> Vec<String> {
    let not_in_a_file = ["config", "print-config", "help", "version"];
    let command = Cli::command();
    let options = command.get_arguments().filter_map(|arg| arg.get_long());
    options
        .filter(|name| !not_in_a_file.contains(name))
        .map(str::to_owned)
        .collect()
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Nearest {
    // `max_rooms` for `max-rooms` is the likeliest slip of all.
    let plain = name.to_lowercase().replace('_', "-");
    let likeness =
        |known: &str| strsim::jaro_winkler(&plain, &known.to_lowercase().replace('_', "-"));
    let best = known
        .map(|known| (known, likeness(known)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    Nearest(
        best.filter(|(_, alike)| *alike >= ALIKE_MIN)
            .map(|(known, _)| known.to_owned()),
    )
}

fn in_range(key: &'static str, value: usize, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    let reason = if most == usize::MAX {
        format!("{value} is too few, at least 1 is needed")
    } else {
        format!("{value} is out of range, 1 to {most} can be served")
    };
    Err(ConfigError::BadValue { key, reason })
}

/// A bare word in a filter is a level; the filter's own parser would take `inof` for the name of a
/// part, and log nothing.
fn check_log(filter: &str) -> Result<(), ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let directives = filter.split(',').map(str::trim);
    for level in directives.map(|directive| directive.rsplit('=').next().unwrap_or_default()) {
        if !LEVELS.contains(&level.to_lowercase().as_str()) {
            let nearest = nearest(level, LEVELS.into_iter());
            let reason = format!(
                "`{level}` is no level, there are {}{nearest}",
                LEVELS.join(", ")
            );
            return Err(ConfigError::BadValue { key: "log", reason });
        }
    }
    Ok(())
}

fn tls_files(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<TlsFiles>, ConfigError> {
    let missing = |key, other| ConfigError::BadValue {
        key,
        reason: format!("{other} is set and this is not; HTTPS needs both"),
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing("tls-key", "tls-cert")),
        (None, Some(_)) => Err(missing("tls-cert", "tls-key")),
    }
}

fn ice_servers(written: &[String]) -> Result<Vec<IceServer>, ConfigError> {
    written.iter().map(|text| read_ice_server(text)).collect()
}

/// `stun:host:port`, or `turn:host:port|user|password` (RFC 7064, RFC 7065).
fn read_ice_server(text: &str) -> Result<IceServer, ConfigError> {
    let mut parts = text.split('|');
    let url = parts.next().unwrap_or_default().trim();
    let credentials = (parts.next(), parts.next(), parts.next());
    let stun = url.starts_with("stun:") || url.starts_with("stuns:");
    let turn = url.starts_with("turn:") || url.starts_with("turns:");
    let host = url.split_once(':').map_or("", |(_, host)| host);
    let (username, credential) = match credentials {
        (None, None, None) if stun && !host.is_empty() => (None, None),
        (Some(user), Some(password), None) if turn && !host.is_empty() => {
            (Some(user.to_owned()), Some(password.to_owned()))
        }
        // The password stays out of the message.
        _ => {
            let reason =
                format!("`{url}` is neither `stun:host:port` nor `turn:host:port|user|password`");
            return Err(ConfigError::BadValue {
                key: "ice-servers",
                reason,
            });
        }
    };
    Ok(IceServer {
        urls: vec![url.to_owned()],
        username,
        credential,
    })
}

fn write_ice_server(server: &IceServer) -> String {
    let parts = server.urls.first().into_iter();
    let parts = parts.chain(&server.username).chain(&server.credential);
    parts.map(String::as_str).collect::<Vec<&str>>().join("|")
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        parse_file("m.toml", text).and_then(Config::complete)
    }

    fn message(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn without_a_word_the_defaults_hold() {
        let config = read("").unwrap();
        assert_eq!(config.http.to_string(), "127.0.0.1:8080");
        assert_eq!(config.media.to_string(), "0.0.0.0:3478");
        assert_eq!(config.driver, DriverChoice::Auto);
        assert_eq!(config.egress_bps, None);
    }

    #[test]
    fn a_file_can_say_everything() {
        let text = r#"
            http = "[::]:443"
            media = "0.0.0.0:5000"
            public-ip = ["192.0.2.1", "2001:db8::1"]
            tls-cert = "/etc/cert.pem"
            tls-key = "/etc/key.pem"
            ice-servers = ["stun:stun.example.net:3478", "turn:turn.example.net|ann|s3cret"]
            workers = 3
            driver = "msg"
            egress-hold = "10ms"
            audio-speakers = 4
            log = "debug"
            max-rooms = 1
            max-sessions = 2
            max-sessions-per-room = 3
            spread-percent = 5
            max-tracks-per-session = 4
            egress-bps = "9.5G"
            publisher-bitrate = 2500000
            firestore-project = "meet"
            firestore-database = "second"
            firestore-collection = "offers"
            node-id = "a-1"
            lease = 20
            max-broadcasts = 3
            drain-time = 90
            firebase-config = "/etc/firebase.json"
            firebase-sdk = "https://cdn.example/firebase"
            camera-allow = ["192.168.0.0/16", "fd00::/8"]
            max-cameras = 20
            max-cameras-per-room = 10
        "#;
        let config = read(text).unwrap();
        assert_eq!(config.public_ip.len(), 2);
        assert_eq!(config.egress_bps, Some(Bitrate(9_500_000_000)));
        assert_eq!(config.ice_servers[1].username.as_deref(), Some("ann"));
        // What it prints is a file that gives the same.
        assert_eq!(read(&config.to_toml()), Ok(config));
    }

    #[test]
    fn every_option_is_a_key_of_the_file_and_a_variable() {
        let command = Cli::command();
        for key in file_keys() {
            let arg = command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(&key))
                .unwrap();
            let variable = format!("MILLRACE_{}", key.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().unwrap(), variable.as_str());
        }
        let table: toml::Table = toml::from_str(&read("").unwrap().to_toml()).unwrap();
        assert!(table.keys().all(|key| file_keys().contains(key)));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(
            message("max_room = 3"),
            "m.toml: there is no key `max_room`; did you mean `max-rooms`?"
        );
        assert_eq!(message("zzz = 3"), "m.toml: there is no key `zzz`");
    }

    #[test]
    fn an_unknown_variable_names_the_nearest() {
        let names = ["PATH", "MILLRACE_HTTP", "MILLRACE_WORKER"].map(OsString::from);
        let error = check_environment(names.into_iter())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "there is no environment variable MILLRACE_WORKER; did you mean `MILLRACE_WORKERS`?"
        );
    }

    #[test]
    fn bad_values_say_what_would_be_right() {
        assert!(message("driver = \"epoll\"").contains("auto, uring and msg"));
        assert!(message("camera-allow = [\"house\"]").starts_with("camera-allow: "));
        assert!(
            message("cameras = \"/nowhere.toml\"")
                .contains("cannot read the cameras in /nowhere.toml")
        );
        assert!(message("workers = 0").contains("workers: 0 is out of range"));
        assert!(message("workers = -1").contains("workers = -1"));
        assert!(
            message("media = \"0.0.0.0:65535\"\nworkers = 2").contains("no room for 2 workers")
        );
        assert!(message("tls-cert = \"x\"").contains("tls-key: tls-cert is set and this is not"));
        assert!(message("egress-hold = \"1s\"").contains("0, 250us or 1ms"));
        assert!(message("audio-speakers = 100").contains("1 to 64"));
        assert!(message("egress-bps = \"much\"").contains("2500k"));
        assert!(message("public-ip = [\"0.0.0.0\"]").contains("no address that a client"));
        assert!(message("log = \"inof\"").ends_with("did you mean `info`?"));
        assert!(read("log = \"warn,control=debug\"").is_ok());
        let ice = message("ice-servers = [\"turn:h|u|pass|more\"]");
        assert!(
            ice.contains("turn:host:port") && !ice.contains("pass|more"),
            "{ice}"
        );
    }
}
