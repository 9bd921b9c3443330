//! `millrace-load`: real clients against a running node, and what came of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use benches::peers::clip::{Clip, ClipError};
use benches::peers::encodings::Encodings;
use benches::peers::meeting::{Meeting, MeetingConfig, MeetingError};
use benches::peers::report::Report;
use benches::peers::tune::{Tune, TuneError};
use benches::swarm::door::DoorSpec;
use benches::swarm::media::{Media, Shape};
use benches::swarm::row::Row;
use benches::swarm::scene::{self, Cast, Intake, News, SceneConfig, SceneError};
use benches::swarm::soak::{self, SoakConfig};
use clap::{Args, Parser, Subcommand};
use dataplane::command::MediaKind;

/// How long people may take to connect after the last of them set out.
const CONNECT_SECONDS: u64 = 20;

/// Real clients (ICE, DTLS, SRTP over UDP) against a running server.
#[derive(Debug, Parser)]
#[command(name = "millrace-load", version)]
struct Cli {
    #[command(subcommand)]
    scene: Scene,
}

#[derive(Debug, Subcommand)]
enum Scene {
    /// People meet in a room, each sending camera and microphone and receiving everybody's.
    Meet(Meet),
    /// One publisher in a room and many viewers: cheap clients that count what comes.
    Watch(Watch),
    /// Rooms of people who all send and receive everybody else's: cheap clients that count what comes.
    Rooms(Rooms),
    /// People come and go for hours: does the node hold more and more?
    Soak(Soak),
    /// The table of rows that were printed with `--json`.
    Table(File),
    /// A plot of such rows: CPU time per packet by subscribers, as SVG.
    Plot(File),
}

#[derive(Debug, Args)]
struct File {
    /// A JSON object in each line.
    rows: PathBuf,
    /// The scene that is plotted.
    #[arg(long, default_value = "video")]
    scene: String,
}

#[derive(Debug, Args)]
struct Watch {
    /// Viewers in all; several numbers are steps, each of which is measured.
    #[arg(long, value_delimiter = ',', default_value = "50")]
    subscribers: Vec<usize>,
    /// Rooms that they are spread over, with a publisher each.
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Stop after the first step with p99 over 50 ms, a loss over 0.5 %, or somebody left out.
    #[arg(long)]
    until_full: bool,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
struct Rooms {
    /// Rooms.
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// People in each.
    #[arg(long, default_value_t = 10)]
    people: usize,
    #[command(flatten)]
    load: Load,
}

#[derive(Debug, Args)]
struct Soak {
    /// Address of the node's page.
    #[arg(long, default_value = "http://localhost:8080")]
    url: String,
    /// The node's process id.
    #[arg(long)]
    pid: u32,
    /// Rooms, with a publisher each who stays.
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// How many come in a second, and go a while later.
    #[arg(long, default_value_t = 20.0)]
    joins_per_second: f64,
    /// How many seconds one stays, on average.
    #[arg(long, default_value_t = 15)]
    stay: u64,
    /// How long it goes on, in seconds: two minutes at least, or nothing can be said of growth.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(120..))]
    seconds: u64,
    /// Where a plot of it goes, as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Load {
    /// Address of a Millrace node's page: viewers come by WHEP, people by the room protocol.
    #[arg(long, default_value = "http://localhost:8080")]
    url: String,
    /// Another server's WHIP endpoint; {room} and {name} are filled in.
    #[arg(long, requires = "whep")]
    whip: Option<String>,
    /// Another server's WHEP endpoint; {room} and {name} are filled in.
    #[arg(long, requires = "whip")]
    whep: Option<String>,
    /// Janus's WebSocket, as ws://localhost:8188: its videoroom plugin.
    #[arg(long, conflicts_with = "whip")]
    janus: Option<String>,
    /// What the server is called in the results.
    #[arg(long, default_value = "millrace")]
    name: String,
    /// What the load is called in the results.
    #[arg(long, default_value = "")]
    scene: String,
    /// Video as FRAMESxPACKETSxBYTES a second, frame and packet (30x10x1150, or 30x4/25x1100 with key
    /// frames of 25 packets), `recorded` for the recording that comes with the program, an IVF file
    /// with VP8, or `none`.
    #[arg(long, default_value = "30x4/25x1100")]
    video: String,
    /// Audio as PACKETSx1xBYTES a second, `recorded`, an Ogg file with Opus of 20 ms, or `none`.
    #[arg(long, default_value = "50x1x80")]
    audio: String,
    /// Offer no header extensions.
    #[arg(long)]
    plain: bool,
    /// Decrypt one packet in this many: latency is known of those.
    #[arg(long, default_value_t = 1)]
    decrypt_every: u16,
    /// Receive runs of datagrams (UDP_GRO). On one machine a server's bursts then arrive uncut.
    #[arg(long)]
    gro: bool,
    /// How many clients join in a second; a Millrace node takes 50 from one address.
    #[arg(long, default_value_t = 40.0)]
    joins_per_second: f64,
    /// How long each step is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The server's process id, to say what CPU and memory it and its children use.
    #[arg(long)]
    pid: Option<u32>,
    /// The server's core, to say what the kernel's network thread uses there.
    #[arg(long)]
    core: Option<usize>,
    /// Run on this core only.
    #[arg(long)]
    pin: Option<usize>,
    /// Print a JSON object for each step instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Meet {
    /// Address of the node's page.
    #[arg(long, default_value = "http://localhost:8080")]
    url: String,
    /// The room.
    #[arg(long, default_value = "load")]
    room: String,
    /// How many people.
    #[arg(long, default_value_t = 8)]
    people: usize,
    /// How long they stay once all are connected.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many people join in a second.
    #[arg(long, default_value_t = 20.0)]
    joins_per_second: f64,
    /// An IVF file with VP8 for everybody to show, instead of the one that comes with the program.
    #[arg(long)]
    video: Option<PathBuf>,
    /// An Ogg file with Opus for everybody to say.
    #[arg(long)]
    audio: Option<PathBuf>,
    /// The node's process id, to say what CPU and memory it uses.
    #[arg(long)]
    pid: Option<u32>,
    /// Print one JSON object at the end instead of a table.
    #[arg(long)]
    json: bool,
}

/// Why there was no meeting.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(String, std::io::Error),
    /// A recording cannot be shown.
    #[error("{0}: {1}")]
    Clip(String, ClipError),
    /// A recording cannot be heard.
    #[error("{0}: {1}")]
    Tune(String, TuneError),
    /// Nobody could join.
    #[error(transparent)]
    Meeting(#[from] MeetingError),
    /// Nobody came in.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// A stream that is neither a shape nor a file.
    #[error("{0}")]
    Media(String),
}

fn main() -> ExitCode {
    let scene = Cli::parse().scene;
    if let Scene::Watch(Watch { load, .. }) | Scene::Rooms(Rooms { load, .. }) = &scene
        && let Some(core) = load.pin
    {
        benches::cpu::pin(core);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match &scene {
                Scene::Meet(meet) => run_meeting(meet).await,
                Scene::Watch(watch) => run_scene(&watch.load, watch.until_full, watch.cast()).await,
                Scene::Table(file) => print_table(file),
                Scene::Plot(file) => print_plot(file),
                Scene::Soak(soak) => run_soak(soak).await,
                Scene::Rooms(rooms) => run_scene(&rooms.load, false, rooms.cast()).await,
            }
        }),
        Err(error) => Err(LoadError::Scene(SceneError::System(error))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("millrace-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The rows of a file.
fn rows(file: &File) -> Result<Vec<Row>, LoadError> {
    let text = read(&file.rows)?;
    let lines = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| LoadError::Media(format!("{}: {error}", name(&file.rows))))
}

fn print_table(file: &File) -> Result<bool, LoadError> {
    println!("{}", Row::table_head());
    rows(file)?.iter().for_each(|row| println!("{row}"));
    Ok(true)
}

fn print_plot(file: &File) -> Result<bool, LoadError> {
    let plot = benches::plot::cost_by_subscribers(&rows(file)?, &file.scene);
    let plot = plot.ok_or_else(|| {
        LoadError::Media(format!("no row of the scene `{}` has a cost", file.scene))
    })?;
    print!("{plot}");
    Ok(true)
}

impl Watch {
    fn cast(&self) -> Cast {
        let mut steps = self.subscribers.clone();
        steps.sort_unstable();
        Cast::Watch {
            rooms: self.rooms,
            steps,
        }
    }
}

impl Rooms {
    fn cast(&self) -> Cast {
        Cast::Rooms {
            rooms: self.rooms,
            people: self.people,
        }
    }
}

/// Runs a load; whether everybody was in and something came to each.
async fn run_scene(load: &Load, until_full: bool, cast: Cast) -> Result<bool, LoadError> {
    let name = match &cast {
        Cast::Watch { .. } => "watch",
        Cast::Rooms { .. } => "rooms",
    };
    let config = SceneConfig {
        door: load.door(&cast),
        server: load.name.clone(),
        scene: if load.scene.is_empty() {
            name.to_owned()
        } else {
            load.scene.clone()
        },
        cast,
        media: load.media()?,
        plain: load.plain,
        decrypt_every: load.decrypt_every,
        intake: if load.gro {
            Intake::Runs
        } else {
            Intake::Single
        },
        joins_per_second: load.joins_per_second,
        seconds: load.seconds,
        until_full,
        pid: load.pid,
        core: load.core,
    };
    let (mut rows, mut complete) = (Vec::new(), true);
    scene::run(config, |news| match news {
        News::Refused(why) if !load.json => println!("not in: {why}"),
        News::Second(line) if !load.json => println!("{line}"),
        News::Refused(_) | News::Second(_) => {}
        News::Measured(row) => {
            complete &= row.failures == 0 && row.silent == 0;
            if load.json {
                let json = serde_json::to_string(row).expect("a row has string keys only");
                println!("{json}");
            } else {
                println!("{row}");
            }
            rows.push(row.clone());
        }
    })
    .await?;
    if !load.json {
        println!("\n{}", Row::table_head());
        rows.iter().for_each(|row| println!("{row}"));
    }
    Ok(complete)
}

impl Load {
    fn door(&self, cast: &Cast) -> DoorSpec {
        match (&self.whip, &self.whep, &self.janus, cast) {
            (_, _, Some(janus), _) => DoorSpec::Janus(janus.clone()),
            (Some(whip), Some(whep), ..) => DoorSpec::Whip {
                whip: whip.clone(),
                whep: whep.clone(),
            },
            (.., Cast::Rooms { .. }) => DoorSpec::Rooms(self.url.clone()),
            (.., Cast::Watch { .. }) => {
                let rooms = format!("{}/v1/rooms", self.url.trim_end_matches('/'));
                DoorSpec::Whip {
                    whip: format!("{rooms}/{{room}}/whip?name={{name}}"),
                    whep: format!("{rooms}/{{room}}/whep"),
                }
            }
        }
    }

    fn media(&self) -> Result<Vec<Media>, LoadError> {
        let audio = match self.audio.as_str() {
            "none" => None,
            "recorded" => Some(Media::Tune(Arc::new(Tune::people()))),
            text => Some(match text.parse::<Shape>() {
                Ok(shape) => Media::Shaped(MediaKind::Audio, shape),
                Err(error) => Media::Tune(Arc::new(tune(Path::new(text), &error)?)),
            }),
        };
        let video = match self.video.as_str() {
            "none" => None,
            "recorded" => Some(Media::Clip(Arc::new(Clip::people()))),
            text => Some(match text.parse::<Shape>() {
                Ok(shape) => Media::Shaped(MediaKind::Video, shape),
                Err(error) => Media::Clip(Arc::new(clip(Path::new(text), &error)?)),
            }),
        };
        let media: Vec<Media> = audio.into_iter().chain(video).collect();
        if media.is_empty() {
            return Err(LoadError::Media(
                "there is neither audio nor video to send".to_owned(),
            ));
        }
        Ok(media)
    }
}

/// A recording by its path; what is no path was to be a shape.
fn tune(path: &Path, error: &dyn std::error::Error) -> Result<Tune, LoadError> {
    if !path.exists() {
        return Err(LoadError::Media(format!("`{}`: {error}", path.display())));
    }
    Tune::parse(&read(path)?).map_err(|error| LoadError::Tune(name(path), error))
}

/// The same of video.
fn clip(path: &Path, error: &dyn std::error::Error) -> Result<Clip, LoadError> {
    if !path.exists() {
        return Err(LoadError::Media(format!("`{}`: {error}", path.display())));
    }
    Clip::parse(&read(path)?).map_err(|error| LoadError::Clip(name(path), error))
}

/// Lets people come and go; whether nothing grew.
async fn run_soak(soak: &Soak) -> Result<bool, LoadError> {
    let shape = |kind, text: &str| {
        let shape = text.parse::<Shape>();
        shape.map(|shape| Media::Shaped(kind, shape))
    };
    let media = [
        shape(MediaKind::Audio, "50x1x80"),
        shape(MediaKind::Video, "10x3/10x1100"),
    ];
    let config = SoakConfig {
        url: soak.url.clone(),
        pid: soak.pid,
        rooms: soak.rooms,
        joins_per_second: soak.joins_per_second,
        stay: Duration::from_secs(soak.stay),
        duration: Duration::from_secs(soak.seconds),
        media: media
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| LoadError::Media(error.to_string()))?,
    };
    let mut told = 0;
    let soaked = soak::run(config, |sample| {
        // Every minute is enough to read.
        if told % 6 == 0 {
            println!("{sample}");
        }
        told += 1;
    })
    .await?;
    println!(
        "before {}\nafter  {}\n{} came, {} receivers went, {} of them had seen nothing",
        soaked.before, soaked.after, soaked.joins, soaked.parted, soaked.parted_silent
    );
    for (sentence, count) in &soaked.failures {
        println!("{count} times: {sentence}");
    }
    if let (Some(path), Some(plot)) = (&soak.plot, soaked.plot()) {
        std::fs::write(path, plot).map_err(|error| LoadError::File(name(path), error))?;
    }
    let complaints = soaked.complaints();
    for complaint in &complaints {
        println!("{complaint}");
    }
    if complaints.is_empty() {
        println!("nothing grew");
    }
    Ok(complaints.is_empty())
}

/// Lets people meet; whether all was complete.
async fn run_meeting(meet: &Meet) -> Result<bool, LoadError> {
    let report = run(meet).await?;
    if meet.json {
        let json = serde_json::to_string(&report).expect("a report has string keys only");
        println!("{json}");
    } else {
        println!("\n{report}");
    }
    Ok(report.is_complete())
}

async fn run(meet: &Meet) -> Result<Report, LoadError> {
    let clip = match &meet.video {
        Some(path) => Clip::parse(&read(path)?).map_err(|e| LoadError::Clip(name(path), e))?,
        None => Clip::people(),
    };
    let tune = match &meet.audio {
        Some(path) => Tune::parse(&read(path)?).map_err(|e| LoadError::Tune(name(path), e))?,
        None => Tune::people(),
    };
    let mut meeting = Meeting::start(MeetingConfig {
        url: meet.url.clone(),
        room: meet.room.clone(),
        people: meet.people,
        joins_per_second: meet.joins_per_second,
        encodings: Encodings::One(Arc::new(clip)),
        tune: Arc::new(tune),
        pid: meet.pid,
    })
    .await?;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    for second in 1..=CONNECT_SECONDS {
        seconds.tick().await;
        let report = meeting.report().await;
        say(meet, &format!("joining {second} s: {}", report.progress()));
        if report.is_complete() || !report.failures.is_empty() {
            break;
        }
    }
    meeting.measure().await;
    for second in 1..=meet.seconds {
        seconds.tick().await;
        if second < meet.seconds {
            let report = meeting.report().await;
            say(meet, &format!("{second} s: {}", report.progress()));
        }
    }
    let report = meeting.report().await;
    meeting.leave().await;
    Ok(report)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| LoadError::File(name(path), error))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn say(meet: &Meet, line: &str) {
    if !meet.json {
        println!("{line}");
    }
}
