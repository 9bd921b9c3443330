//! A node from start to orderly end.

mod cameras;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use dataplane::driver::{Dataplane, DataplaneConfig, StartError, WorkerInfo};
use dataplane::event::Event;
use dataplane::id::SessionId;
use hyper_util::rt::TokioTimer;
use signaling::doors::{self, DoorOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::addresses::{self, Reach};
use crate::banner::{self, Banner};
use crate::config::{Config, ConfigError, FirebaseFiles, FirestoreConfig, TlsFiles};
use crate::firestore::desk::DeskConfig;
use crate::firestore::shell::Door;
use crate::gate::Gate;
use crate::node::{Ended, LaneEvents, Millrace};
use crate::room::{RoomLimits, RoomsSnapshot};
use crate::take_over::{self, Offer, Request, TakeOverError, Terms};

/// How long clients have to take in that the node ends: their WebSocket's close frame and the
/// DTLS `close_notify` are on their way.
const GOODBYE: Duration = Duration::from_millis(300);

/// How long HTTP requests have to finish after that.
const HTTP_END: Duration = Duration::from_millis(200);

/// How long the workers have to end before the program ends without them.
const WORKERS_END: Duration = Duration::from_millis(500);

/// How long the database has to take in that the node ends.
const DATABASE_END: Duration = Duration::from_secs(3);

/// How often a draining node looks whether its last meeting is over.
const DRAIN_SPAN: Duration = Duration::from_millis(100);

/// Threads for DTLS handshakes: one does about 1,700 a second, and a machine of one core has no more.
const DTLS_THREADS: usize = 2;

/// How long a client may take to say what it wants; slower ones only hold a socket.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection: a page asks for a dozen files.
const HTTP2_STREAMS_MAX: u32 = 32;

/// What a second signal ends with: the shell's number for an interrupted program.
const INTERRUPTED: i32 = 130;

/// Why the node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address of HTTP cannot be used.
    #[error("cannot listen for HTTP on {address}: {}", http_sentence(.source))]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The workers did not start.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// The certificate or its key cannot be used.
    #[error("cannot use the certificate {cert} with the key {key}: {source}")]
    Tls {
        /// The file of the certificate.
        cert: String,
        /// The file of the key.
        key: String,
        /// What was wrong.
        source: io::Error,
    },
    /// What a file of the configuration says cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another node is there already.
    #[error(
        "a node answers at the upgrade socket {path}: `millrace upgrade` takes over from it, another path starts one beside it"
    )]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// It is not said where the running node is.
    #[error("upgrade needs --upgrade-socket, the same as the running node's")]
    NoUpgradeSocket,
    /// The socket for a later upgrade cannot be made.
    #[error("cannot make the upgrade socket {path}: {source}")]
    UpgradeSocket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not take over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Anything else that the system refused.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

fn http_sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses it; stop that, or choose another with --http".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "no permission; choose a port above 1023 with --http, or grant CAP_NET_BIND_SERVICE"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "that is no address of this machine; 0.0.0.0 and [::] mean all of them".to_owned()
        }
        _ => error.to_string(),
    }
}

/// How a node begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With nobody in it.
    Fresh,
    /// In place of the one that runs.
    TakeOver,
}

/// What a node begins with.
struct Begun {
    listener: TcpListener,
    dataplane: Dataplane,
    events: mpsc::Receiver<(usize, Event)>,
    /// The rooms of another program, and the sessions in them that go on.
    carried: Option<(RoomsSnapshot, BTreeSet<SessionId>)>,
}

/// Serves until a signal says to end, or another program has taken over.
///
/// # Errors
/// A sentence that says what is missing.
pub async fn serve(config: Config, start: Start) -> Result<(), ServeError> {
    let mut ends = Ends::listen()?;
    let options = door_options(&config)?;
    let tls = match &config.tls {
        Some(files) => Some(load_tls(files).await?),
        None => None,
    };
    let begun = match start {
        Start::Fresh => begin(&config)?,
        Start::TakeOver => take_over(&config)?,
    };
    let http = begun.listener.local_addr()?;
    let reach = Reach {
        configured: &config.public_ip,
        interfaces: &addresses::interfaces(),
        media: config.media,
        http,
    };
    let addresses = reach.addresses();
    let workers = begun.dataplane.workers();
    let media_port = workers.first().map_or(0, |worker| worker.port);
    let desk = config
        .firestore
        .as_ref()
        .map(|firestore| desk_config(&config, firestore, media_port, &addresses, http));
    let requests = await_upgrade(&config, &begun.listener, &begun.dataplane)?;
    let (lane, said) = cameras::start(&config.cameras, &begun.dataplane)?;
    // Whoever reads this may count on all that was asked for, the upgrade socket too.
    greet(&config, http, workers, &addresses, desk.as_ref());

    let node = Arc::new(node_over(
        &config,
        &addresses,
        begun.dataplane,
        begun.carried,
    ));
    cameras::open(&node, lane, &config.cameras);
    let handle = Handle::new();
    let gate = Gate::new();
    node.show_gate(gate.clone());
    let server = axum_server::from_tcp(begun.listener)?
        .acceptor(gate)
        .handle(handle.clone());
    let mut doors = tokio::spawn(open_doors(server, tls, &node, options));
    let mut pump = tokio::spawn(pump(Arc::clone(&node), begun.events, requests, said));
    let database = config.firestore.clone().zip(desk).map(|(firestore, desk)| {
        let seed = random_u64();
        Door::open(firestore.place, desk, seed, Arc::clone(&node))
    });
    let asked = tokio::select! {
        asked = ends.next() => asked,
        ended = &mut doors => ended.map_err(io::Error::other)?.map(|()| Asked::AtOnce)?,
        _ = &mut pump => return Err(io::Error::other("all media workers ended").into()),
    };
    let ending = async {
        if asked == Asked::ByAndBy && !config.drain_time.is_zero() {
            drain(&node, database.as_ref(), config.drain_time).await;
        }
        end(node, database, handle).await;
    };
    tokio::select! {
        () = ending => Ok(()),
        _ = ends.next() => std::process::exit(INTERRUPTED),
    }
}

/// Prints what there is, for whoever started the node.
fn greet(
    config: &Config,
    http: SocketAddr,
    workers: &[WorkerInfo],
    addresses: &[IpAddr],
    desk: Option<&DeskConfig>,
) {
    let database = config.firestore.as_ref().zip(desk);
    let emulator = std::env::var("FIRESTORE_EMULATOR_HOST").ok();
    let database = database.map(|(firestore, desk)| {
        banner::database(&firestore.place, &desk.node, emulator.as_deref())
    });
    let banner = Banner {
        http,
        https: config.tls.is_some(),
        workers,
        addresses,
        cameras: config.cameras.listed.len(),
        firestore: database.as_deref(),
    };
    // Nobody may read it: a closed pipe is no reason not to serve.
    let _ = writeln!(io::stdout(), "{}", banner.render());
}

/// The node over its workers: empty, or as another program left it.
fn node_over(
    config: &Config,
    addresses: &[IpAddr],
    dataplane: Dataplane,
    carried: Option<(RoomsSnapshot, BTreeSet<SessionId>)>,
) -> Millrace {
    let workers = dataplane.workers().iter();
    let candidates = workers
        .map(|worker| addresses::candidates(addresses, worker.port))
        .collect();
    let (limits, cameras) = (room_limits(config), config.cameras.limits);
    match carried {
        Some((rooms, sessions)) => {
            Millrace::heir(dataplane, candidates, limits, rooms, &sessions, cameras)
        }
        None => Millrace::new(dataplane, candidates, limits, cameras),
    }
}

/// Sockets and workers of its own.
fn begin(config: &Config) -> Result<Begun, ServeError> {
    if let Some(path) = &config.upgrade_socket
        && take_over::is_there(path)
    {
        return Err(ServeError::Occupied { path: path.clone() });
    }
    let listener = listen(config.http)?;
    let (dataplane, events) = Dataplane::start(dataplane_config(config))?;
    Ok(Begun {
        listener,
        dataplane,
        events,
        carried: None,
    })
}

/// Those of the node that runs, which ends with it.
fn take_over(config: &Config) -> Result<Begun, ServeError> {
    let path = config
        .upgrade_socket
        .as_ref()
        .ok_or(ServeError::NoUpgradeSocket)?;
    let taken = take_over::take_over(path, config.http, dataplane_config(config))?;
    Ok(Begun {
        listener: taken.listener,
        dataplane: taken.dataplane,
        events: taken.events,
        carried: Some((taken.rooms, taken.sessions)),
    })
}

/// Lets another program ask to take over, where that is configured.
fn await_upgrade(
    config: &Config,
    listener: &TcpListener,
    dataplane: &Dataplane,
) -> Result<Option<mpsc::Receiver<Request>>, ServeError> {
    let Some(path) = &config.upgrade_socket else {
        return Ok(None);
    };
    let sockets = dataplane.share_sockets()?;
    let media = sockets
        .first()
        .map(|(udp, _)| udp.local_addr())
        .transpose()?;
    let terms = Terms {
        workers: sockets.len(),
        http: listener.local_addr()?,
        media: media.unwrap_or(config.media),
    };
    let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(2 * sockets.len() + 1);
    for (udp, tcp) in sockets {
        descriptors.extend([udp.into(), tcp.into()]);
    }
    descriptors.push(listener.try_clone()?.into());
    let offer = Offer { terms, descriptors };
    let requests = take_over::listen(path, offer).map_err(|source| ServeError::UpgradeSocket {
        path: path.clone(),
        source,
    })?;
    Ok(Some(requests))
}

/// Drives the node. When another program has taken over this one ends at once: whatever else it would do could reach
/// a client that is the other's.
async fn pump(
    node: Arc<Millrace>,
    events: mpsc::Receiver<(usize, Event)>,
    requests: Option<mpsc::Receiver<Request>>,
    said: LaneEvents,
) {
    if node.run(events, requests, Some(said)).await == Ended::TakenOver {
        std::process::exit(0);
    }
}

/// Meetings go on for this long, and no new ones begin.
async fn drain(node: &Millrace, database: Option<&Door>, time: Duration) {
    tracing::info!(
        "no new rooms; ending when the last is empty, or in {} s",
        time.as_secs()
    );
    node.drain();
    if let Some(database) = database {
        database.drain().await;
    }
    let emptied = async {
        let mut looks = tokio::time::interval(DRAIN_SPAN);
        loop {
            looks.tick().await;
            if node.usage().rooms == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(time, emptied).await.is_err() {
        tracing::info!("the time is over, and rooms are not empty");
    }
}

/// The orderly end: nobody comes in, everybody is told, then everything closes.
async fn end(node: Arc<Millrace>, database: Option<Door>, handle: Handle<SocketAddr>) {
    tracing::info!("shutting down");
    if let Some(database) = database
        && tokio::time::timeout(DATABASE_END, database.end())
            .await
            .is_err()
    {
        tracing::warn!("the database did not take in time that this node ends");
    }
    node.close();
    tokio::time::sleep(GOODBYE).await;
    handle.graceful_shutdown(Some(HTTP_END));
    let stopped = tokio::task::spawn_blocking(move || node.stop());
    if tokio::time::timeout(WORKERS_END, stopped).await.is_err() {
        tracing::warn!("the media workers did not end in time");
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener =
        TcpListener::bind(address).map_err(|source| ServeError::Http { address, source })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn load_tls(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    let loaded = RustlsConfig::from_pem_file(&files.cert, &files.key).await;
    let loaded = loaded.map_err(|source| ServeError::Tls {
        cert: files.cert.display().to_string(),
        key: files.key.display().to_string(),
        source,
    })?;
    let mut tls = (*loaded.get_inner()).clone();
    // The doors speak HTTP/1.1 only, as the page's WebSocket does.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(tls)))
}

/// The doors, ready to be driven.
fn open_doors(
    mut plain: Server<SocketAddr, Gate>,
    tls: Option<RustlsConfig>,
    node: &Arc<Millrace>,
    options: DoorOptions,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let router = doors::router(Arc::clone(node), options);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Not `http1_only`: that takes upgrades away, and with them the page's WebSocket.
    plain
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    // Over plain HTTP a client may speak HTTP/2 too, since the database's client brings it along.
    plain
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .keep_alive_interval(HEADER_TIMEOUT)
        .keep_alive_timeout(HEADER_TIMEOUT);
    async move {
        match tls {
            Some(tls) => {
                plain
                    .map(|gate| RustlsAcceptor::new(tls).acceptor(gate))
                    .serve(service)
                    .await
            }
            None => plain.serve(service).await,
        }
    }
}

fn door_options(config: &Config) -> Result<DoorOptions, ConfigError> {
    let firebase = config.firebase.as_ref().map(FirebaseFiles::read);
    Ok(DoorOptions {
        ice_servers: config.ice_servers.clone(),
        firebase: firebase.transpose()?,
        ..DoorOptions::default()
    })
}

fn dataplane_config(config: &Config) -> DataplaneConfig {
    DataplaneConfig {
        media: config.media,
        workers: config.workers,
        driver: config.driver,
        sessions_max: config.max_sessions.min(dataplane::limits::SESSIONS_MAX),
        publisher_bitrate_bps_max: config.publisher_bitrate.0,
        egress_hold: config.egress_hold.0,
        audio_speakers: config.audio_speakers,
        dtls_threads: DTLS_THREADS,
        pin: true,
    }
}

fn desk_config(
    config: &Config,
    firestore: &FirestoreConfig,
    media_port: u16,
    addresses: &[IpAddr],
    http: SocketAddr,
) -> DeskConfig {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    DeskConfig {
        node: firestore.node_id(media_port),
        incarnation: format!("{:016x}", random_u64()),
        addresses: addresses.join(","),
        http: format!("{scheme}://{http}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lease: firestore.lease,
        broadcasts_max: firestore.max_broadcasts,
        sessions_max: config.max_sessions,
    }
}

/// A number that no other start has.
fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the certificate was made with the same generator");
    u64::from_ne_bytes(bytes)
}

fn room_limits(config: &Config) -> RoomLimits {
    RoomLimits {
        rooms: config.max_rooms,
        sessions: config.max_sessions,
        sessions_per_room: config.max_sessions_per_room,
        tracks_per_session: config.max_tracks_per_session,
        egress_bps: config.egress_bps.map(|rate| rate.0),
        spread_percent: config.spread_percent as u8,
    }
}

/// The signals that ask the program to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listen() -> io::Result<Ends> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::ByAndBy,
            _ = self.interrupt.recv() => Asked::AtOnce,
        }
    }
}

/// How the program was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// By whoever runs it: meetings may come to their end.
    ByAndBy,
    /// By somebody at the terminal.
    AtOnce,
}
