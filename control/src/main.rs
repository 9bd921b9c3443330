//! The binary: reads what it is told, and does it.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use control::cli::{Cli, Task};
use control::config::Config;
use control::doctor;
use control::serve::{self, Start};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What any client can make a crate warn of is nothing that a person should look at, and of the
/// database we say ourselves how it stands. What carries messages and headers writes them out at
/// TRACE, secrets and all. The configured filter comes after it, and may say otherwise.
const QUIETER: &str = "rtc_dtls=error,rtc_sctp=off,firestore=warn,gcloud_sdk=off,\
                       tungstenite=warn,tokio_tungstenite=warn,hyper=warn,hyper_util=warn,h2=warn,\
                       tower=warn,tonic=warn,reqwest=warn,rustls=warn,retina=off,http_auth=off";

/// The configuration is wrong.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::read();
    if cli.command == Some(Task::Version) {
        println!("millrace {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&cli) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    if cli.print_config {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing else installs a provider before this");
    match cli.command {
        Some(Task::Doctor) if doctor::run(&config) => ExitCode::SUCCESS,
        Some(Task::Doctor) => ExitCode::FAILURE,
        Some(Task::Upgrade) => run(config, Start::TakeOver),
        Some(Task::Serve | Task::Version) | None => run(config, Start::Fresh),
    }
}

fn run(config: Config, start: Start) -> ExitCode {
    let filter = EnvFilter::new(format!("{QUIETER},{}", config.log));
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // One thread is plenty for signalling, and leaves the cores to the workers.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let served = runtime.block_on(serve::serve(config, start));
    // What hangs on after the orderly end does not hold the program back.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// Says what is wrong, and with which status the program ends.
fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    // If even that cannot be said, the status remains.
    let _ = writeln!(std::io::stderr(), "millrace: {error}");
    ExitCode::from(status)
}
