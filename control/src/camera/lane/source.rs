//! One source of a camera: the shell that does what [`Life`] says.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use retina::client::{
    Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PlayOptions, Playing, Session,
    SessionIdPolicy, SessionOptions, SetupOptions, TeardownPolicy,
};
use tokio::sync::watch;
use tokio::time::{interval, sleep_until, timeout};
use url::Url;

use super::super::limits::{LEARN_TIME, REDIRECTS_MAX, SET_UP_TIME, SILENCE_TIME};
use super::super::order::CameraSource;
use super::super::repack::Coding;
use super::super::stream::{CameraCodec, Stream};
use super::camera::{Camera, Told, Wish};
use super::description::{Description, Offering, VIDEO_RATE};
use super::failure::Failure;
use super::flow::Flow;
use super::gate::{Gate, now};
use super::life::{Deed, End, Life};
use super::talk::{Talk, without_credentials};
use super::turnstile::{Pass, Turnstile};
use super::{Surroundings, random};

/// How long a camera has for hanging up.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// How often a connection is looked at for silence and for what the pictures say.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One source.
pub(super) struct Source {
    pub(super) camera: Rc<Camera>,
    pub(super) index: usize,
    pub(super) flow: Rc<RefCell<Flow>>,
    pub(super) around: Rc<Surroundings>,
    pub(super) turnstile: Rc<Turnstile>,
}

/// How a connection went.
enum Outcome {
    Ended(End),
    /// The camera sends us there.
    Redirected(String),
}

/// Where a connection goes.
struct Way {
    url: Url,
    address: SocketAddr,
    credentials: Option<(String, String)>,
}

impl Source {
    /// Lives until the camera is removed.
    pub(super) async fn run(self) {
        let mut wishes = self.camera.wishes();
        let mut life = Life::new();
        loop {
            let wish = wishes.borrow_and_update().clone();
            if wish.is_removed {
                return;
            }
            life.handle_wanted(wish.target.is_some());
            let deed = life.poll_deed(now());
            self.camera.on_state(self.index, life.said());
            match deed {
                Some(Deed::Connect) => {
                    let end = self.pull(&mut life, &mut wishes).await;
                    self.flow.borrow_mut().end();
                    life.handle_end(now(), end, random::share());
                }
                None => {
                    let timeout = life.poll_timeout();
                    let due = async {
                        match timeout {
                            Some(at) => sleep_until(at.into()).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        changed = wishes.changed() => if changed.is_err() { return },
                        () = due => {}
                    }
                }
            }
        }
    }

    fn source(&self) -> Option<&CameraSource> {
        self.camera.spec.sources.get(self.index)
    }

    /// Connects, and goes where the camera sends us, but not for ever.
    async fn pull(&self, life: &mut Life, wishes: &mut watch::Receiver<Wish>) -> End {
        let mut pass = Some(self.turnstile.enter().await);
        let Some(source) = self.source() else {
            return End::Released;
        };
        let url = source.url.secret();
        let found = self.around.dialler.find(url, self.camera.spec.trust).await;
        let mut way = match found {
            Ok(address) => Way {
                url: without_credentials(url.clone()),
                address,
                credentials: credentials(url),
            },
            Err(failure) => return End::Failed(failure),
        };
        for _ in 0..=REDIRECTS_MAX {
            match self.connect(&way, life, wishes, &mut pass).await {
                Ok(Outcome::Ended(end)) => return end,
                Ok(Outcome::Redirected(to)) => match self.follow(&way, &to).await {
                    Ok(next) => way = next,
                    Err(failure) => return End::Failed(failure),
                },
                Err(failure) => return End::Failed(failure),
            }
        }
        End::Failed(Failure::Redirects)
    }

    /// Where a redirect leads, checked. Credentials go along to the same camera only.
    async fn follow(&self, from: &Way, to: &str) -> Result<Way, Failure> {
        let url = Url::parse(to).map_err(|_| Failure::Redirects)?;
        let is_secure_still = from.url.scheme() == "rtsp" || url.scheme() == "rtsps";
        if !matches!(url.scheme(), "rtsp" | "rtsps") || !is_secure_still {
            return Err(Failure::Redirects);
        }
        let peer = from.address.ip();
        let address = self.around.dialler.find_redirect(&url, peer).await?;
        let own = (address.ip() == peer)
            .then(|| from.credentials.clone())
            .flatten();
        Ok(Way {
            credentials: credentials(&url).or(own),
            url: without_credentials(url),
            address,
        })
    }

    async fn connect(
        &self,
        way: &Way,
        life: &mut Life,
        wishes: &mut watch::Receiver<Wish>,
        pass: &mut Option<Pass>,
    ) -> Result<Outcome, Failure> {
        let spec = &self.camera.spec;
        let dialler = &self.around.dialler;
        let link = dialler
            .connect(way.address, &way.url, spec.identity)
            .await?;
        let token = random::token();
        let credentials = way.credentials.clone();
        let talk = Talk::new(token.clone(), way.url.clone(), credentials, spec.transport);
        let talk = RefCell::new(talk);
        let (mut gate, client_url) = Gate::open(link, &token).await?;
        let outcome = {
            let conversation = self.converse(client_url, &talk, life, wishes, pass);
            tokio::select! {
                biased;
                failure = gate.run(&talk, &*self.flow) => Err(failure),
                outcome = conversation => outcome,
            }
        };
        match outcome {
            Ok(()) => {
                // The client says goodbye in a task of its own, and closes.
                let _ = timeout(GOODBYE_TIME, gate.run(&talk, &*self.flow)).await;
                Ok(Outcome::Ended(End::Released))
            }
            Err(failure) => match talk.borrow().redirect() {
                Some(to) => Ok(Outcome::Redirected(to.to_owned())),
                None => Ok(Outcome::Ended(End::Failed(failure))),
            },
        }
    }

    /// The client's side: asks what there is, and plays it while it is wanted.
    async fn converse(
        &self,
        url: Url,
        talk: &RefCell<Talk>,
        life: &mut Life,
        wishes: &mut watch::Receiver<Wish>,
        pass: &mut Option<Pass>,
    ) -> Result<(), Failure> {
        let options = SessionOptions::default()
            .teardown(TeardownPolicy::Auto)
            .session_id(SessionIdPolicy::UseFirst);
        let described = timeout(SET_UP_TIME, Session::describe(url, options)).await;
        let session = described
            .map_err(|_| Failure::Slow)?
            .map_err(|_| Failure::Answer("DESCRIBE"))?;
        let offering = talk.borrow().description().map(Description::offering);
        let mut offering = offering.ok_or(Failure::Answer("DESCRIBE"))?;
        if offering.picture.is_none() && offering.sound.is_none() {
            let mut remarks = offering.remarks;
            let reason = remarks.drain(..).next();
            let reason =
                reason.unwrap_or_else(|| "the camera offers neither picture nor sound".to_owned());
            return Err(Failure::NoFormat(reason));
        }
        // The sets that came with pictures say more than the description.
        let is_same = |flow: &Flow, coding| {
            flow.truth()
                .filter(|truth| Coding::is(coding, &truth.codec))
        };
        if let Some(picture) = &mut offering.picture
            && picture.stream.is_none()
        {
            picture.stream = is_same(&self.flow.borrow(), picture.coding);
        }
        let learns = offering
            .picture
            .as_ref()
            .is_some_and(|picture| picture.stream.is_none());
        if !learns {
            self.tell(&offering, life);
        }
        let wish = wishes.borrow_and_update().clone();
        if wish.is_removed || wish.target.is_none() && !learns {
            return Ok(());
        }
        let is_ours = wish.sound == Some(self.index);
        let brings_sound = is_ours || offering.picture.is_none();
        {
            // Before the camera is asked to play: its first packets are those of a key picture.
            let mut flow = self.flow.borrow_mut();
            flow.begin(&offering, brings_sound, random::start());
            flow.aim(wish.target.as_ref(), self.index, is_ours);
        }
        let playing = timeout(SET_UP_TIME, play(session, &offering, brings_sound)).await;
        let session = playing.map_err(|_| Failure::Slow)??;
        drop(pass.take());
        let playing = PlayingSource {
            source: self,
            offering,
            learns,
            brings_sound,
            since: now(),
        };
        playing.run(session, life, wishes).await
    }

    /// Says what there is.
    fn tell(&self, offering: &Offering, life: &mut Life) {
        life.handle_described();
        let told = Told {
            video: offering
                .picture
                .as_ref()
                .and_then(|picture| picture.stream.clone()),
            audio: offering.sound.as_ref().map(|sound| sound.stream.clone()),
            remarks: offering.remarks.clone(),
        };
        self.camera.on_told(self.index, told);
    }
}

/// A source whose packets come.
struct PlayingSource<'a> {
    source: &'a Source,
    offering: Offering,
    /// Only the pictures will say what they are.
    learns: bool,
    brings_sound: bool,
    since: Instant,
}

impl PlayingSource<'_> {
    async fn run(
        mut self,
        mut session: Session<Playing>,
        life: &mut Life,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<(), Failure> {
        let first = self.source.flow.borrow().first();
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                item = session.next() => match item {
                    // Packets do not come this way.
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return Err(Failure::Answer("keep-alive")),
                    None => return Err(Failure::Closed),
                },
                () = first.notified() => {
                    life.handle_playing(now());
                    self.source.camera.on_state(self.source.index, life.said());
                }
                changed = wishes.changed() => {
                    let wish = wishes.borrow_and_update().clone();
                    if changed.is_err() || !self.is_wanted(&wish) {
                        return Ok(());
                    }
                    life.handle_wanted(wish.target.is_some());
                    let index = self.source.index;
                    let mut flow = self.source.flow.borrow_mut();
                    flow.aim(wish.target.as_ref(), index, wish.sound == Some(index));
                }
                _ = looks.tick() => {
                    if self.look(life)? && wishes.borrow().target.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether to go on. Where this source is to have the sound and does not bring it, another connection will.
    fn is_wanted(&self, wish: &Wish) -> bool {
        let is_ours = wish.sound == Some(self.source.index);
        let lacks_sound = is_ours && !self.brings_sound && self.offering.sound.is_some();
        !wish.is_removed && (self.learns || wish.target.is_some() && !lacks_sound)
    }

    /// Looks after silence, and for what the pictures say of themselves. `true` where all is known.
    fn look(&mut self, life: &mut Life) -> Result<bool, Failure> {
        let now = now();
        let (last, truth) = {
            let flow = self.source.flow.borrow();
            (flow.last(), flow.truth())
        };
        let silent = now.saturating_duration_since(last.unwrap_or(self.since));
        if silent >= SILENCE_TIME {
            return Err(Failure::Silence);
        }
        let Some(picture) = &mut self.offering.picture else {
            return Ok(true);
        };
        let known = picture.stream.as_ref().map(|stream| &stream.codec);
        let is_late = now.saturating_duration_since(self.since) >= LEARN_TIME;
        match truth {
            Some(truth) if known != Some(&truth.codec) => picture.stream = Some(truth),
            None if self.learns && is_late => {
                picture.stream = Some(assumed(picture.coding));
                self.offering.remarks.push(
                    "the camera does not say which profile its picture has: the simplest is assumed".to_owned(),
                );
            }
            _ => return Ok(!self.learns),
        }
        self.learns = false;
        self.source.tell(&self.offering, life);
        Ok(true)
    }
}

/// SETUP of what is taken, and PLAY.
async fn play(
    mut session: Session<Described>,
    offering: &Offering,
    with_sound: bool,
) -> Result<Session<Playing>, Failure> {
    let picture = offering.picture.as_ref().map(|picture| picture.index);
    let sound = offering
        .sound
        .as_ref()
        .filter(|_| with_sound || picture.is_none());
    let sound = sound.map(|sound| sound.index);
    for index in picture.into_iter().chain(sound) {
        let set_up = session.setup(index, SetupOptions::default()).await;
        set_up.map_err(|_| Failure::Answer("SETUP"))?;
    }
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Ignore)
        .initial_seq(InitialSequenceNumberPolicy::Ignore);
    let playing = session.play(options).await;
    playing.map_err(|_| Failure::Answer("PLAY"))
}

/// What a picture is taken for that does not say what it is.
fn assumed(coding: Coding) -> Stream {
    let codec = match coding {
        Coding::H264 => CameraCodec::H264 {
            profile_level_id: [0x42, 0xE0, 0x1F],
        },
        Coding::H265 => CameraCodec::H265 {
            profile_id: 1,
            tier: false,
            level_id: 93,
        },
    };
    Stream {
        codec,
        clock_rate: VIDEO_RATE,
        resolution: None,
    }
}

/// Name and password of a URL.
fn credentials(url: &Url) -> Option<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let password = url.password().unwrap_or_default();
    let has_any = !url.username().is_empty() || !password.is_empty();
    has_any.then(|| (decode(url.username()), decode(password)))
}
