//! What the command line says.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use dataplane::driver::DriverChoice;
use serde::{Deserialize, Serialize};

use crate::bitrate::Bitrate;
use crate::hold::Hold;

/// A WebRTC forwarding server (SFU) for Linux.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "millrace",
    version,
    after_help = "Every option can also be set in the environment (MILLRACE_HTTP for --http) or in \
                  the file of --config (http = \"..\"): flags win over the environment, and that \
                  over the file."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Task>,
    /// TOML file with the same keys as these options
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration that results from flags, environment and file, and exit
    #[arg(long)]
    pub print_config: bool,
    /// The options themselves.
    #[command(flatten)]
    pub settings: Settings,
}

impl Cli {
    /// Reads the command line and the environment; ends the program where they make no sense.
    #[must_use]
    pub fn read() -> Cli {
        // The help says once how variables are named, and never what is in them.
        let mut command = Cli::command().mut_args(|arg| arg.hide_env(true));
        let matches = command.get_matches_mut();
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Task {
    /// Serve: what happens without a command
    Serve,
    /// Serve in place of the node that runs with the same options, without dropping a call
    Upgrade,
    /// Check this machine and say what to set
    Doctor,
    /// Print the version
    Version,
}

/// What a flag, the environment and the file can set; `None` where one does not say.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Address of the page, WHIP, WHEP and the rest of HTTP [default: 127.0.0.1:8080]
    #[arg(
        long,
        env = "MILLRACE_HTTP",
        value_name = "ADDR:PORT",
        help_heading = "Where"
    )]
    pub http: Option<SocketAddr>,
    /// Address of media, UDP and TCP; worker n takes port + n [default: 0.0.0.0:3478]
    #[arg(
        long,
        env = "MILLRACE_MEDIA",
        value_name = "ADDR:PORT",
        help_heading = "Where"
    )]
    pub media: Option<SocketAddr>,
    /// Addresses that clients send media to, with commas between [default: those of this machine]
    #[arg(
        long,
        env = "MILLRACE_PUBLIC_IP",
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "Where"
    )]
    pub public_ip: Option<Vec<IpAddr>>,
    /// Certificate chain for HTTPS, PEM
    #[arg(
        long,
        env = "MILLRACE_TLS_CERT",
        value_name = "FILE",
        help_heading = "Where"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(
        long,
        env = "MILLRACE_TLS_KEY",
        value_name = "FILE",
        help_heading = "Where"
    )]
    pub tls_key: Option<PathBuf>,
    /// STUN and TURN servers that clients are told of, as
    /// `stun:host:port` or `turn:host:port|user|password`
    #[arg(
        long,
        env = "MILLRACE_ICE_SERVERS",
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Where"
    )]
    pub ice_servers: Option<Vec<String>>,

    /// Worker threads [default: one for each core]
    #[arg(long, env = "MILLRACE_WORKERS", value_name = "N", help_heading = "How")]
    pub workers: Option<usize>,
    /// How packets are sent and received: auto, uring or msg [default: auto]
    #[arg(
        long,
        env = "MILLRACE_DRIVER",
        value_name = "DRIVER",
        help_heading = "How"
    )]
    #[serde(with = "driver_name", default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverChoice>,
    /// How long a busy worker may hold a packet so that others share its send: up to 10ms, for
    /// large rooms of voices; 0 for never [default: 1ms]
    #[arg(
        long,
        env = "MILLRACE_EGRESS_HOLD",
        value_name = "TIME",
        help_heading = "How"
    )]
    pub egress_hold: Option<Hold>,
    /// How many of the voices in a room are forwarded, the loudest; 0 for all [default: 0]
    #[arg(
        long,
        env = "MILLRACE_AUDIO_SPEAKERS",
        value_name = "N",
        help_heading = "How"
    )]
    pub audio_speakers: Option<usize>,
    /// Unix socket over which another program may take over from this one (`millrace upgrade`); only the
    /// user that this one runs as may open it [default: none]
    #[arg(
        long,
        env = "MILLRACE_UPGRADE_SOCKET",
        value_name = "PATH",
        help_heading = "How"
    )]
    pub upgrade_socket: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace or a filter such as
    /// `info,signaling=debug` [default: info]
    #[arg(
        long,
        env = "MILLRACE_LOG",
        value_name = "FILTER",
        help_heading = "How"
    )]
    pub log: Option<String>,

    /// Rooms at once [default: 1000]
    #[arg(
        long,
        env = "MILLRACE_MAX_ROOMS",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_rooms: Option<usize>,
    /// People, encoders and players at once [default: 5000]
    #[arg(
        long,
        env = "MILLRACE_MAX_SESSIONS",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_sessions: Option<usize>,
    /// The same in one room [default: 1000]
    #[arg(
        long,
        env = "MILLRACE_MAX_SESSIONS_PER_ROOM",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_sessions_per_room: Option<usize>,
    /// Percent of a worker's time past which newcomers to a room that lives there go to other
    /// workers, and the room's tracks are relayed between them [default: 60]
    #[arg(
        long,
        env = "MILLRACE_SPREAD_PERCENT",
        value_name = "N",
        help_heading = "How"
    )]
    pub spread_percent: Option<usize>,
    /// Tracks that one session may publish [default: 8]
    #[arg(
        long,
        env = "MILLRACE_MAX_TRACKS_PER_SESSION",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub max_tracks_per_session: Option<usize>,
    /// Bits per second sent past which newcomers are refused, such as 9.5G [default: none]
    #[arg(
        long,
        env = "MILLRACE_EGRESS_BPS",
        value_name = "BITS",
        help_heading = "Limits"
    )]
    pub egress_bps: Option<Bitrate>,
    /// Bits per second that one publisher is told it may send, such as 2500k; four times as much
    /// and 40M at least are taken, what is more is dropped [default: 6M]
    #[arg(
        long,
        env = "MILLRACE_PUBLISHER_BITRATE",
        value_name = "BITS",
        help_heading = "Limits"
    )]
    pub publisher_bitrate: Option<Bitrate>,

    /// TOML file of cameras that are pulled into rooms, with a table `[[camera]]` for each
    #[arg(
        long,
        env = "MILLRACE_CAMERAS",
        value_name = "FILE",
        help_heading = "Cameras"
    )]
    pub cameras: Option<PathBuf>,
    /// Addresses besides public ones at which requests and documents may have cameras, such as
    /// `192.168.0.0/16`, with commas between or several times; the file's may be anywhere [default: none]
    #[arg(
        long,
        env = "MILLRACE_CAMERA_ALLOW",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Cameras"
    )]
    pub camera_allow: Option<Vec<String>>,
    /// Cameras at once [default: 1000]
    #[arg(
        long,
        env = "MILLRACE_MAX_CAMERAS",
        value_name = "N",
        help_heading = "Cameras"
    )]
    pub max_cameras: Option<usize>,
    /// The same in one room; a browser that shows them all takes at most 256 streams [default: 100]
    #[arg(
        long,
        env = "MILLRACE_MAX_CAMERAS_PER_ROOM",
        value_name = "N",
        help_heading = "Cameras"
    )]
    pub max_cameras_per_room: Option<usize>,

    /// Project of the database where pages and nodes meet; credentials as for Google's
    /// tools (`GOOGLE_APPLICATION_CREDENTIALS`), `FIRESTORE_EMULATOR_HOST` for an emulator
    #[arg(
        long,
        env = "MILLRACE_FIRESTORE_PROJECT",
        value_name = "ID",
        help_heading = "Firestore"
    )]
    pub firestore_project: Option<String>,
    /// The project's database [default: (default)]
    #[arg(
        long,
        env = "MILLRACE_FIRESTORE_DATABASE",
        value_name = "ID",
        help_heading = "Firestore"
    )]
    pub firestore_database: Option<String>,
    /// Collection that pages write their offers to [default: broadcast_requests]
    #[arg(
        long,
        env = "MILLRACE_FIRESTORE_COLLECTION",
        value_name = "NAME",
        help_heading = "Firestore"
    )]
    pub firestore_collection: Option<String>,
    /// This node among the others; stays the same when it starts again
    /// [default: host name and media port]
    #[arg(
        long,
        env = "MILLRACE_NODE_ID",
        value_name = "ID",
        help_heading = "Firestore"
    )]
    pub node_id: Option<String>,
    /// Seconds without a heartbeat after which others take a node for dead [default: 30]
    #[arg(
        long,
        env = "MILLRACE_LEASE",
        value_name = "SECONDS",
        help_heading = "Firestore"
    )]
    pub lease: Option<u64>,
    /// Rooms taken from the database at once [default: as --max-rooms]
    #[arg(
        long,
        env = "MILLRACE_MAX_BROADCASTS",
        value_name = "N",
        help_heading = "Firestore"
    )]
    pub max_broadcasts: Option<usize>,
    /// Seconds that meetings may go on after SIGTERM, while other nodes take new ones
    /// [default: 60 with a database, else 0]
    #[arg(
        long,
        env = "MILLRACE_DRAIN_TIME",
        value_name = "SECONDS",
        help_heading = "Firestore"
    )]
    pub drain_time: Option<u64>,
    /// JSON file with the configuration that the Firebase console shows: with it, our page
    /// meets the node in the database
    #[arg(
        long,
        env = "MILLRACE_FIREBASE_CONFIG",
        value_name = "FILE",
        help_heading = "Firestore"
    )]
    pub firebase_config: Option<PathBuf>,
    /// Where the Firebase SDK for pages is, an address or a folder [default: gstatic.com]
    #[arg(
        long,
        env = "MILLRACE_FIREBASE_SDK",
        value_name = "URL",
        help_heading = "Firestore"
    )]
    pub firebase_sdk: Option<String>,
}

impl Settings {
    /// These settings, and where they say nothing, those.
    #[must_use]
    pub fn or(self, file: Settings) -> Settings {
        Settings {
            http: self.http.or(file.http),
            media: self.media.or(file.media),
            public_ip: self.public_ip.or(file.public_ip),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            ice_servers: self.ice_servers.or(file.ice_servers),
            workers: self.workers.or(file.workers),
            driver: self.driver.or(file.driver),
            egress_hold: self.egress_hold.or(file.egress_hold),
            audio_speakers: self.audio_speakers.or(file.audio_speakers),
            upgrade_socket: self.upgrade_socket.or(file.upgrade_socket),
            log: self.log.or(file.log),
            max_rooms: self.max_rooms.or(file.max_rooms),
            max_sessions: self.max_sessions.or(file.max_sessions),
            max_sessions_per_room: self.max_sessions_per_room.or(file.max_sessions_per_room),
            spread_percent: self.spread_percent.or(file.spread_percent),
            max_tracks_per_session: self.max_tracks_per_session.or(file.max_tracks_per_session),
            egress_bps: self.egress_bps.or(file.egress_bps),
            publisher_bitrate: self.publisher_bitrate.or(file.publisher_bitrate),
            cameras: self.cameras.or(file.cameras),
            camera_allow: self.camera_allow.or(file.camera_allow),
            max_cameras: self.max_cameras.or(file.max_cameras),
            max_cameras_per_room: self.max_cameras_per_room.or(file.max_cameras_per_room),
            firestore_project: self.firestore_project.or(file.firestore_project),
            firestore_database: self.firestore_database.or(file.firestore_database),
            firestore_collection: self.firestore_collection.or(file.firestore_collection),
            node_id: self.node_id.or(file.node_id),
            lease: self.lease.or(file.lease),
            max_broadcasts: self.max_broadcasts.or(file.max_broadcasts),
            drain_time: self.drain_time.or(file.drain_time),
            firebase_config: self.firebase_config.or(file.firebase_config),
            firebase_sdk: self.firebase_sdk.or(file.firebase_sdk),
        }
    }
}

/// A driver's name in the file.
mod driver_name {
    use dataplane::driver::DriverChoice;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<DriverChoice>, D::Error> {
        let name = String::deserialize(input)?;
        name.parse().map(Some).map_err(de::Error::custom)
    }

    pub(super) fn serialize<S: Serializer>(
        driver: &Option<DriverChoice>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        match driver {
            Some(driver) => output.collect_str(driver),
            None => output.serialize_none(),
        }
    }
}
