//! `millrace-load`: real clients against a running node, and what came of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use benches::peers::clip::{Clip, ClipError};
use benches::peers::meeting::{Meeting, MeetingConfig, MeetingError};
use benches::peers::report::Report;
use benches::peers::tune::{Tune, TuneError};
use clap::{Args, Parser, Subcommand};

/// How long people may take to connect after the last of them set out.
const CONNECT_SECONDS: u64 = 20;

/// Real clients (ICE, DTLS, SRTP over UDP) against a running node.
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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Scene::Meet(meet) = Cli::parse().scene;
    let report = match run(&meet).await {
        Ok(report) => report,
        Err(error) => {
            println!("millrace-load: {error}");
            return ExitCode::FAILURE;
        }
    };
    if meet.json {
        let json = serde_json::to_string(&report).expect("a report has string keys only");
        println!("{json}");
    } else {
        println!("\n{report}");
    }
    if report.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
        clip: Arc::new(clip),
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
