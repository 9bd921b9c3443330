//! `millrace-bare`: a forwarder that does nothing but forward, to compare servers with.

use std::net::SocketAddr;
use std::process::ExitCode;

use benches::bare::Manner;
use benches::bare::door::{BareConfig, serve};
use clap::{Parser, ValueEnum};

/// A bare forwarder behind WHIP and WHEP, to compare servers with.
#[derive(Debug, Parser)]
#[command(name = "millrace-bare", version)]
struct Cli {
    /// Address of WHIP and WHEP: /{room}/whip?name=N and /{room}/whep?name=N.
    #[arg(long, default_value = "127.0.0.1:8081")]
    http: SocketAddr,
    /// Address of media, which clients are told.
    #[arg(long, default_value = "127.0.0.1:3578")]
    media: SocketAddr,
    /// How packets are sent.
    #[arg(long, value_enum, default_value_t = Send::Bursts)]
    send: Send,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Send {
    /// One datagram a call: what a straightforward server does.
    Datagrams,
    /// All that came for a receiver in one call: the floor.
    Bursts,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let manner = match cli.send {
        Send::Datagrams => Manner::Datagrams,
        Send::Bursts => Manner::Bursts,
    };
    let (http, media) = (cli.http, cli.media);
    match serve(BareConfig {
        http,
        media,
        manner,
    })
    .await
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("millrace-bare: {error}");
            ExitCode::FAILURE
        }
    }
}
