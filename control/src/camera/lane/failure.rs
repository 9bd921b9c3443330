//! Why a camera cannot be pulled, in sentences of our own: what a camera or a library says is never repeated, since
//! there may be a password in it.

use std::io;

use super::super::allow::NotAllowed;
use super::super::limits::{
    BITRATE_BPS_MAX, BODY_BYTES_MAX, HEAD_BYTES_MAX, REDIRECTS_MAX, SILENCE_TIME,
};

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Its address is not allowed.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// Where it sends us is not allowed.
    #[error("the camera sends us elsewhere: {0}")]
    RedirectNotAllowed(NotAllowed),
    /// It sends us on and on, or nowhere.
    #[error("the camera sends us elsewhere more than {REDIRECTS_MAX} times, or does not say where")]
    Redirects,
    /// Its name cannot be resolved.
    #[error("the camera's name cannot be resolved")]
    Name,
    /// It cannot be connected to.
    #[error("the camera cannot be connected to: {0}")]
    Connect(&'static str),
    /// TLS failed.
    #[error("{0}")]
    Tls(&'static str),
    /// It takes too long.
    #[error("the camera does not answer in time")]
    Slow,
    /// It closed the connection.
    #[error("the camera closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(&'static str),
    /// What it sends is no RTSP.
    #[error("what the camera sends is no RTSP, or has lost its place")]
    OutOfStep,
    /// A head that does not end.
    #[error("the head of the camera's answer has more than {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// A body that is too long.
    #[error("the camera's answer has more than {BODY_BYTES_MAX} bytes")]
    LongBody,
    /// It wants credentials, and there are none.
    #[error(
        "the camera wants a name and a password: write them into its URL, rtsp://name:password@host/"
    )]
    NoCredentials,
    /// It does not take the credentials.
    #[error("the camera does not take the name and the password")]
    Credentials,
    /// It wants an authentication that we do not have.
    #[error("the camera wants an authentication that is neither Basic nor Digest")]
    Authentication,
    /// It has no such stream.
    #[error("the camera has no stream at the path of the URL")]
    NotFound,
    /// It does not have the transport.
    #[error("the camera does not send by this transport: try the other")]
    Transport,
    /// Another status.
    #[error("the camera answered {method} with status {status}")]
    Status {
        /// What was asked.
        method: &'static str,
        /// What it answered.
        status: u16,
    },
    /// An answer that lacks something, or says it wrongly.
    #[error("the camera's answer to {0} cannot be understood")]
    Answer(&'static str),
    /// Nothing that it sends can be forwarded.
    #[error("{0}")]
    NoFormat(String),
    /// Nothing comes.
    #[error("no packet came for {} s", SILENCE_TIME.as_secs())]
    Silence,
    /// Too much comes.
    #[error("the camera sends more than {} Mbit/s", BITRATE_BPS_MAX / 1_000_000)]
    Flood,
    /// The node could not do its part.
    #[error("the node has no socket for the camera: {0}")]
    Ours(&'static str),
}

impl Failure {
    /// Whether trying again would be in vain.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Failure::NotAllowed(_) | Failure::RedirectNotAllowed(_) | Failure::NoFormat(_)
        )
    }

    /// Whether trying again soon would do harm: cameras lock who has a wrong password too often.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(
            self,
            Failure::NoCredentials | Failure::Credentials | Failure::Authentication
        )
    }
}

/// What went wrong with a connection, without what the system would add to it.
pub(super) fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it is refused",
        io::ErrorKind::ConnectionReset => "it was reset",
        io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => "it was closed",
        io::ErrorKind::HostUnreachable => "the host cannot be reached",
        io::ErrorKind::NetworkUnreachable => "the network cannot be reached",
        io::ErrorKind::TimedOut => "it does not answer",
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => "no port is free",
        _ => "the system refuses it",
    }
}
