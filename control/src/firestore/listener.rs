//! The one listener: it stands on all targets, and stands up again whenever it falls.
//!
//! What it hears goes to a bounded channel as values. Nothing is judged here, so nothing that a
//! page writes can make it fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firestore::gcloud_sdk::google::firestore::v1::ListenResponse;
use firestore::gcloud_sdk::tonic::{Code, Request, Streaming};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot};

use super::client::{self, Database, Place, Trouble};
use super::delay::{self, Delay};
use super::desk::Link;
use super::hearing::Hearing;
use super::message::Heard;

/// How long a new stream has to say its first word.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// The longest silence: our own heartbeat comes back in the registry every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the listener tells.
#[derive(Debug)]
pub(super) enum Told {
    /// The database is open: this is it.
    Opened(Database),
    /// What it heard, and when that arrived.
    Heard(Instant, Heard),
    /// Whether it stands.
    Link(Link),
}

/// Who listens, where, and whom it tells.
#[derive(Debug)]
pub(super) struct Listener {
    /// Which database.
    pub(super) place: Place,
    /// Our node's id.
    pub(super) node: String,
    /// Whom it tells.
    pub(super) told: mpsc::Sender<Told>,
    /// Rings when everything is to be heard afresh.
    pub(super) afresh: Arc<Notify>,
}

/// Why a stream was left.
enum Left {
    /// It is to be opened again at once.
    Afresh,
    /// Nobody takes what is heard any more.
    Unheard,
    /// Something is wrong.
    Trouble(Trouble),
}

impl From<Trouble> for Left {
    fn from(trouble: Trouble) -> Left {
        Left::Trouble(trouble)
    }
}

/// The other side is gone: there is nobody to tell.
struct Unheard;

impl From<Unheard> for Left {
    fn from(_: Unheard) -> Left {
        Left::Unheard
    }
}

impl Listener {
    /// Opens the database and listens until nobody takes what is heard.
    pub(super) async fn run(self) {
        let mut delay = Delay::default();
        let mut database = None;
        loop {
            let left = match self.listen(&mut database, &mut delay).await {
                Ok(never) => match never {},
                Err(left) => left,
            };
            let trouble = match left {
                Left::Unheard => return,
                Left::Afresh => continue,
                Left::Trouble(trouble) => trouble,
            };
            let wait = match &trouble {
                Trouble::Denied(_) => delay::DENIED,
                Trouble::Unreachable(_) => delay.after_failure(chance()),
            };
            let link = match trouble {
                Trouble::Denied(reason) => Link::Denied(reason),
                Trouble::Unreachable(reason) => Link::Down(reason),
            };
            if self.tell(Told::Link(link)).await.is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Listens on one stream until it ends, and says why it did.
    async fn listen(
        &self,
        database: &mut Option<Database>,
        delay: &mut Delay,
    ) -> Result<std::convert::Infallible, Left> {
        let open = match database {
            Some(open) => open,
            None => {
                let opened = Database::open(&self.place).await?;
                self.tell(Told::Opened(opened.clone())).await?;
                database.insert(opened)
            }
        };
        let (mut stream, _closed_when_dropped) = self.open_stream(open).await?;
        let mut hearing = Hearing::new(open.names().clone());
        for heard in Hearing::opening() {
            self.tell(Told::Heard(now(), heard)).await?;
        }
        let mut up = false;
        let mut heard = Vec::new();
        loop {
            let patience = if up { SILENCE_MAX } else { FIRST_WORD };
            let message = tokio::select! {
                message = tokio::time::timeout(patience, stream.message()) => message,
                () = self.afresh.notified() => return Err(Left::Afresh),
            };
            let arrived = now();
            let message = match message {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Err(silent("it ended the listen").into()),
                Ok(Err(status)) => return Err(client::trouble(&status).into()),
                Err(_) => return Err(silent("it says nothing any more").into()),
            };
            let removed = hearing.handle(message, &mut heard).err();
            for heard in heard.drain(..) {
                self.tell(Told::Heard(arrived, heard)).await?;
            }
            if let Some(removed) = removed {
                let code = Code::from(removed.code);
                return Err(client::trouble_of(code, &removed.reason).into());
            }
            if !up && hearing.is_current() {
                up = true;
                delay.succeeded();
                self.tell(Told::Link(Link::Up)).await?;
            }
        }
    }

    /// A stream on all targets, open for as long as what comes with it is kept.
    async fn open_stream(
        &self,
        database: &Database,
    ) -> Result<(Streaming<ListenResponse>, oneshot::Sender<()>), Trouble> {
        let (close, closed) = oneshot::channel::<()>();
        let requests = stream::iter(database.listen_requests(&self.node))
            .chain(stream::pending())
            .take_until(closed);
        let mut client = database.handle().client().get();
        let opening = tokio::time::timeout(FIRST_WORD, client.listen(Request::new(requests)));
        match opening.await {
            Ok(Ok(stream)) => Ok((stream.into_inner(), close)),
            Ok(Err(status)) => Err(client::trouble(&status)),
            Err(_) => Err(silent("it does not answer")),
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Unheard> {
        self.told.send(told).await.map_err(|_| Unheard)
    }
}

fn silent(reason: &str) -> Trouble {
    Trouble::Unreachable(reason.to_owned())
}

/// Some byte. If there is none, all nodes that failed together try again together.
fn chance() -> u8 {
    let mut byte = [0];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

/// When something was heard.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the shell: it reads the clock for the desk"
)]
fn now() -> Instant {
    Instant::now()
}
