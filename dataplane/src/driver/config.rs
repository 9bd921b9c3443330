//! What a dataplane is told at start.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// Where the workers listen, how many there are, and what each may hold.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    /// Address of worker 0; worker n binds port + n, UDP and TCP. With port 0 every worker takes
    /// a free port of its own.
    pub media: SocketAddr,
    /// How many workers, at least 1.
    pub workers: usize,
    /// How packets are received and sent.
    pub driver: DriverChoice,
    /// Most sessions on one worker.
    pub sessions_max: usize,
    /// Bits per second that each publisher is told it may send.
    pub publisher_bitrate_bps_max: u64,
    /// How long a packet may wait at most for others to share its send, at most
    /// [`EGRESS_HOLD_MAX`](crate::limits::EGRESS_HOLD_MAX); a worker that is idle holds
    /// nothing but the beginnings of frames.
    pub egress_hold: Duration,
    /// How many voices of a group are forwarded, the loudest; 0 for all.
    pub audio_speakers: usize,
    /// Threads for DTLS handshakes, at least 1.
    pub dtls_threads: usize,
    /// Whether worker n stays on one core, the nth that this process may use.
    pub pin: bool,
}

/// The driver that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where the machine allows it, plain sockets otherwise.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// `recvmmsg` and `sendmsg`.
    Msg,
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverChoice::Auto => "auto",
            DriverChoice::Uring => "uring",
            DriverChoice::Msg => "msg",
        })
    }
}

/// A name that is no [`DriverChoice`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no driver is called {0:?}; there are auto, uring and msg")]
pub struct UnknownDriver(pub String);

impl FromStr for DriverChoice {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<DriverChoice, UnknownDriver> {
        match name {
            "auto" => Ok(DriverChoice::Auto),
            "uring" => Ok(DriverChoice::Uring),
            "msg" => Ok(DriverChoice::Msg),
            other => Err(UnknownDriver(other.to_owned())),
        }
    }
}

/// The driver that a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring: multishot receive into provided buffers, sends in batches.
    Uring,
    /// `recvmmsg` and `sendmsg`.
    Msg,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Uring => "uring",
            DriverKind::Msg => "msg",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_names_read_back() {
        for choice in [DriverChoice::Auto, DriverChoice::Uring, DriverChoice::Msg] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "epoll".parse::<DriverChoice>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no driver is called \"epoll\"; there are auto, uring and msg"
        );
    }
}
