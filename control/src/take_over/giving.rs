//! The running program's side: it offers its sockets, and hands over what it knows.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use dataplane::driver::{Frozen, Handover};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::line::{Broken, Line, Tag};
use super::{Hello, Terms};

/// How long the other program may take for its checks, while everything goes on here..
const CHECK_PATIENCE: Duration = Duration::from_secs(10);

/// ..and for each answer while everything stands still.
const STILL_PATIENCE: Duration = Duration::from_secs(2);

/// What another program may have.
#[derive(Debug)]
pub struct Offer {
    /// What it has to fit.
    pub terms: Terms,
    /// UDP and TCP of each worker, and HTTP's listener.
    pub descriptors: Vec<OwnedFd>,
}

/// Another program has checked what it could, and is to take over.
#[derive(Debug)]
pub struct Request {
    line: Line,
    /// Dropped with it: the next may ask.
    _over: Sender<()>,
}

impl Request {
    /// Hands the rooms over, while signalling stands still; returns when the other side has read them.
    ///
    /// # Errors
    /// Why this program goes on.
    pub fn hand_rooms(&mut self, rooms: &[u8]) -> Result<(), Broken> {
        self.line.set_patience(Some(STILL_PATIENCE))?;
        self.line.send(Tag::Rooms, rooms)?;
        self.line.expect(Tag::Freeze)?;
        Ok(())
    }

    /// Hands the workers over, which stand still; returns when the other side could run them.
    ///
    /// # Errors
    /// Why this program goes on.
    pub fn hand_workers(&mut self, handover: &Handover) -> Result<(), Broken> {
        self.line.send(Tag::State, &handover.encode())?;
        for engine in handover.engines() {
            self.line.send(Tag::Engine, engine)?;
        }
        self.line.expect(Tag::Ready)?;
        Ok(())
    }

    /// Says that all of it is the other's now, and ends the workers for good.
    ///
    /// # Errors
    /// The other side is gone and has not heard it. Then the workers go on.
    pub fn commit(mut self, frozen: Frozen) -> Result<(), Broken> {
        match self.line.send(Tag::Yours, &[]) {
            Ok(()) => {
                frozen.end();
                Ok(())
            }
            Err(error) => {
                frozen.resume();
                Err(error.into())
            }
        }
    }

    /// Says why this program goes on.
    pub fn refuse(mut self, reason: &str) {
        self.line.fail(reason);
    }
}

/// Listens for another program that wants to take over; what comes of the receiver is to be answered with everything
/// standing still. A socket that somebody left behind is replaced.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path, offer: Offer) -> io::Result<mpsc::Receiver<Request>> {
    let listener = bind(path)?;
    let (requests, asked) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("take-over".to_owned())
        .spawn(move || serve(&listener, &offer, &requests))?;
    Ok(asked)
}

/// Binds beside the path and moves the socket there, so that it never has other permissions and there is no moment
/// without it while one program follows another.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs::rename(&beside, path)?;
    Ok(listener)
}

/// Whether a program listens at the path.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

fn serve(listener: &UnixListener, offer: &Offer, requests: &mpsc::Sender<Request>) {
    for stream in listener.incoming() {
        let line = stream.and_then(|stream| Line::new(stream, CHECK_PATIENCE));
        let Ok(mut line) = line else {
            // Out of descriptors, or it hung up already.
            std::thread::park_timeout(STILL_PATIENCE);
            continue;
        };
        let own_uid = rustix::process::geteuid().as_raw();
        match agree(&mut line, offer, own_uid) {
            Ok(hello) => {
                info!(version = hello.program, "another program takes over");
                let (over, is_over): (Sender<()>, Receiver<()>) = channel();
                let request = Request { line, _over: over };
                if requests.blocking_send(request).is_err() {
                    return;
                }
                // Nothing is ever sent on it.
                let _ = is_over.recv();
            }
            // Somebody who looked whether there is anybody.
            Err(Broken::Line(_)) => {}
            Err(why) => warn!("another program cannot take over, this one goes on: {why}"),
        }
    }
}

/// Everything up to the word to begin.
fn agree(line: &mut Line, offer: &Offer, own_uid: u32) -> Result<Hello, Broken> {
    let refuse = |line: &mut Line, reason: String| {
        line.fail(&reason);
        Err(Broken::Refused(reason))
    };
    // The socket's mode says the same; this holds even where somebody changed it.
    if line.peer_uid()? != own_uid {
        return refuse(line, "it runs as another user".to_owned());
    }
    let hello = line.expect(Tag::Hello)?;
    let Ok(hello) = serde_json::from_slice::<Hello>(&hello) else {
        return refuse(line, "it does not say who it is".to_owned());
    };
    if let Err(reason) = hello.check() {
        return refuse(line, reason);
    }
    let terms = serde_json::to_vec(&offer.terms).map_err(io::Error::from)?;
    line.send(Tag::Terms, &terms)?;
    let descriptors: Vec<BorrowedFd<'_>> = offer.descriptors.iter().map(AsFd::as_fd).collect();
    line.send_descriptors(&descriptors)?;
    line.expect(Tag::Begin)?;
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What becomes of a program that says this first, at a node of this user: what it hears, and whether the node
    /// lets it begin.
    fn visit(said: &[u8], own_uid: u32) -> (Result<Vec<u8>, Broken>, Result<Hello, Broken>) {
        let (here, there) = UnixStream::pair().unwrap();
        let mut here = Line::new(here, PATIENCE).unwrap();
        let mut there = Line::new(there, PATIENCE).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let offer = Offer {
            terms: Terms {
                workers: 1,
                http: address,
                media: address,
            },
            descriptors: Vec::new(),
        };
        there.send(Tag::Hello, said).unwrap();
        there.send(Tag::Begin, &[]).unwrap();
        let agreed = agree(&mut here, &offer, own_uid);
        (there.expect(Tag::Terms), agreed)
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn hello() -> Vec<u8> {
        serde_json::to_vec(&Hello::ours()).unwrap()
    }

    #[test]
    fn only_the_same_user_may_take_over() {
        let (heard, agreed) = visit(&hello(), own_uid());
        assert!(heard.is_ok() && agreed.is_ok());
        let (heard, agreed) = visit(&hello(), own_uid() + 1);
        assert_eq!(heard.unwrap_err().to_string(), "it runs as another user");
        assert!(matches!(agreed, Err(Broken::Refused(_))));
    }

    #[test]
    fn a_program_of_another_version_hears_so() {
        let other = Hello {
            rooms: 999,
            ..Hello::ours()
        };
        let (heard, agreed) = visit(&serde_json::to_vec(&other).unwrap(), own_uid());
        assert!(heard.unwrap_err().to_string().contains("999"));
        assert!(agreed.is_err());
        let (heard, agreed) = visit(b"good day", own_uid());
        assert!(matches!(heard, Err(Broken::Refused(_))));
        assert!(agreed.is_err());
    }
}
