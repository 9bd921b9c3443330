//! A node, a chromedriver and real browsers, for the tests that need them.
//!
//! Every wait is a condition with a deadline, evaluated inside the page; nothing here sleeps.

#![allow(dead_code, reason = "each test binary uses a part of the harness")]
#![allow(
    unreachable_pub,
    reason = "a module of each test binary, not a library"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

pub mod cameras;
pub mod emulator;
pub mod firefox;
mod marionette;
pub mod requests;
pub mod shaper;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fantoccini::wd::{Capabilities, TimeoutConfiguration};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use marionette::Marionette;

/// Milliseconds that anything may take before a test gives up on it: the machine may be busy.
pub const PATIENCE_MS: u64 = 25_000;

/// The page's RTCPeerConnection: of our own page, or of one of the contract's.
const PC: &str = "(window.millrace ?? window.contract).pc";

/// A running node, ended when dropped.
pub struct Server {
    child: Child,
    origin: String,
    /// Everything that it was started with.
    args: Vec<String>,
    /// Port of the page.
    pub http: u16,
    /// First media port.
    pub media: u16,
}

impl Server {
    /// Starts the node on free ports of loopback with these flags besides, and waits until it serves.
    pub fn start(flags: &[&str]) -> Server {
        Server::start_at(Ipv4Addr::LOCALHOST, flags)
    }

    /// The same on another address of this machine.
    pub fn start_at(address: Ipv4Addr, flags: &[&str]) -> Server {
        Server::start_with(address, flags, &[])
    }

    /// The same with these variables of its environment besides.
    pub fn start_with(address: Ipv4Addr, flags: &[&str], variables: &[(&str, &str)]) -> Server {
        let (http, media) = (free_port_of(address), free_port_of(address));
        let mut args = [
            "--http",
            &format!("{address}:{http}"),
            "--media",
            &format!("{address}:{media}"),
            "--public-ip",
            &address.to_string(),
            "--workers",
            "1",
        ]
        .map(str::to_owned)
        .to_vec();
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        // By the name `localhost`, browsers allow the camera.
        let origin = if address.is_loopback() {
            format!("http://localhost:{http}")
        } else {
            format!("http://{address}:{http}")
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.args(&args).envs(variables.iter().copied());
        let up = until_it_serves(command, &origin);
        Server {
            child: up.unwrap_or_else(|| panic!("the node did not print its address {origin}/")),
            origin,
            args,
            http,
            media,
        }
    }

    /// Another program takes over, started with the same flags; the first ends by itself. On a machine that is too
    /// busy the first may go on instead: then another tries.
    pub fn upgrade(&mut self) {
        const TRIES: usize = 5;
        let next = (0..TRIES).find_map(|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
            command.args(&self.args).arg("upgrade");
            until_it_serves(command, &self.origin)
        });
        let next = next.expect("a program takes over");
        let mut old = std::mem::replace(&mut self.child, next);
        assert!(old.wait().unwrap().success());
    }

    /// An address on the node.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Its status, once it ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it says that whoever comes now is served.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    /// A sample of `/metrics`, of all workers together; 0 when there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics");
        let value = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_it = labels.is_empty() || labels.starts_with('{');
            is_it.then(|| value.parse().unwrap())
        };
        page.lines().filter_map(value).sum()
    }

    /// What it answers to a GET, headers and all.
    pub fn get(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let host = self.origin.trim_start_matches("http://");
        let mut stream =
            std::net::TcpStream::connect(host.replace("localhost", "127.0.0.1")).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Starts the node, and waits until it says that it serves its page; `None` when it ends before that.
fn until_it_serves(mut command: Command, origin: &str) -> Option<Child> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the node starts");
    let said = BufReader::new(child.stdout.take().unwrap());
    let mut lines = said.lines();
    let up = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(origin));
    if !up {
        child.wait().unwrap();
        return None;
    }
    // Keep reading, so that the node never blocks on a full pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Some(child)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Held by whoever has browsers open: three of them fill two cores, and the tests of a program
/// would otherwise run side by side.
static TURN: Mutex<()> = Mutex::new(());

/// A chromedriver, ended when dropped. There is one at a time: others wait for their turn.
pub struct Browsers {
    driver: Child,
    port: u16,
    profiles: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Browsers {
    /// Starts chromedriver.
    pub fn start() -> Browsers {
        // A test that failed with its browsers open spoils nothing for the next.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_port();
        let mut driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs: `scripts/test-deps` installs it (Debian: chromium-driver)");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let up = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("started successfully"));
        assert!(up, "chromedriver did not start");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let profiles =
            std::env::temp_dir().join(format!("millrace-test-{}-{port}", std::process::id()));
        Browsers {
            driver,
            port,
            profiles,
            _turn: turn,
        }
    }

    /// Opens a browser of its own on `url`.
    pub async fn open(&self, url: &str) -> Page {
        self.open_with(url, &[]).await
    }

    /// Opens a browser with these command line flags besides.
    pub async fn open_with(&self, url: &str, flags: &[&str]) -> Page {
        let profile = self.profiles.join(free_port().to_string());
        let mut args: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-gpu",
            "--autoplay-policy=no-user-gesture-required",
            "--disable-renderer-backgrounding",
            "--disable-backgrounding-occluded-windows",
            "--window-size=1280,800",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--user-data-dir={}", profile.display()));
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".into(), json!({ "args": args }));
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .expect("chromedriver opens Chromium");
        let script_ms = Some(std::time::Duration::from_millis(3 * PATIENCE_MS));
        client
            .update_timeouts(TimeoutConfiguration::new(script_ms, None, None))
            .await
            .unwrap();
        client.goto(url).await.unwrap();
        Page {
            browser: Browser::Chromium(client),
            profile,
        }
    }
}

impl Drop for Browsers {
    fn drop(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
        // A browser outlives its driver; a failed test leaves them open. Theirs are ours to end.
        kill_browsers(&self.profiles);
        std::fs::remove_dir_all(&self.profiles).ok();
    }
}

/// Kills every Chromium whose profile is in this folder.
fn kill_browsers(profiles: &Path) {
    let profile = format!("--user-data-dir={}", profiles.display());
    kill_processes(|process| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&profile)
    });
}

/// Kills every process whose folder in `/proc` is `ours`.
fn kill_processes(ours: impl Fn(&Path) -> bool) {
    for process in std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if ours(&process.path()) {
            rustix::process::Pid::from_raw(id).map(|process| {
                rustix::process::kill_process(process, rustix::process::Signal::KILL)
            });
        }
    }
}

/// One browser with one tab.
pub struct Page {
    browser: Browser,
    profile: PathBuf,
}

enum Browser {
    Chromium(Client),
    Firefox(Marionette),
}

impl Page {
    /// The value of a JavaScript expression, which may be a promise.
    pub async fn eval(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async () => ({expression}))().then(v => done({{ok: v}}), e => done({{error: String(e)}}));"
        );
        let mut said = match &self.browser {
            Browser::Chromium(client) => client.execute_async(&script, vec![]).await.unwrap(),
            Browser::Firefox(firefox) => firefox.execute_async(&script).await,
        };
        assert!(
            said.get("error").is_none(),
            "{expression}: {}",
            said["error"]
        );
        said["ok"].take()
    }

    /// Waits until the expression is truthy and gives its value; fails after [`PATIENCE_MS`] saying `what`.
    /// What it throws meanwhile, as while a page's modules are being loaded, is said with it.
    pub async fn until(&self, what: &str, expression: &str) -> Value {
        let mut said = self
            .eval(&format!(
                "await (async () => {{
                   let thrown = '';
                   for (const end = Date.now() + {PATIENCE_MS}; Date.now() < end;) {{
                     try {{
                       const value = await ({expression});
                       if (value) return {{ value }};
                       thrown = '';
                     }} catch (error) {{
                       thrown = String(error);
                     }}
                     await new Promise(go => setTimeout(go, 20));
                   }}
                   const {{ dataset, innerText }} = document.body;
                   return {{ shows: [thrown, dataset.state, innerText.slice(0, 600)].join(': ') }};
                 }})()"
            ))
            .await;
        if let Some(shows) = said.get("shows") {
            panic!("waited in vain: {what}\nthe page shows: {shows}");
        }
        said["value"].take()
    }

    /// Presses Join and gives the milliseconds until the first frame of this person's camera is shown,
    /// by the page's own clock.
    pub async fn first_frame_ms(&self, name: &str) -> f64 {
        let tile = format!("article[data-name={name:?}][data-source=camera] video");
        let script = format!(
            "new Promise(done => {{
               const start = performance.now();
               new MutationObserver((_, observer) => {{
                 const video = document.querySelector({tile:?});
                 if (!video) return;
                 observer.disconnect();
                 video.requestVideoFrameCallback(now => done(now - start));
               }}).observe(document.body, {{ childList: true, subtree: true }});
               document.querySelector('#join').click();
             }})"
        );
        self.eval(&script).await.as_f64().unwrap()
    }

    /// Goes to another address.
    pub async fn goto(&self, url: &str) {
        match &self.browser {
            Browser::Chromium(client) => client.goto(url).await.unwrap(),
            Browser::Firefox(firefox) => firefox.goto(url).await,
        }
    }

    /// Clicks the element that the CSS selector finds.
    pub async fn click(&self, selector: &str) {
        self.eval(&format!("document.querySelector({selector:?}).click()"))
            .await;
    }

    /// Waits until the person's tile shows a moving picture.
    pub async fn sees(&self, name: &str, source: &str) {
        let video = format!("article[data-name={name:?}][data-source={source:?}] video");
        self.shows(&format!("{name}'s {source}"), &video).await;
    }

    /// Waits until the video that the CSS selector finds shows a moving picture: frames decoded grow
    /// and pixels change.
    pub async fn shows(&self, what: &str, video: &str) {
        self.until(
            &format!("a picture of {what}"),
            &format!("document.querySelector({video:?})?.videoWidth > 0"),
        )
        .await;
        self.until(
            &format!("a moving picture of {what}"),
            &format!(
                "(async () => {{
                   const video = document.querySelector({video:?});
                   const canvas = document.createElement('canvas');
                   [canvas.width, canvas.height] = [64, 36];
                   const context = canvas.getContext('2d', {{ willReadFrequently: true }});
                   const look = () => {{
                     context.drawImage(video, 0, 0, 64, 36);
                     return context.getImageData(0, 0, 64, 36).data;
                   }};
                   // Not getVideoPlaybackQuality: in Firefox it counts no frame of a MediaStream.
                   const track = video.srcObject.getVideoTracks()[0].id;
                   const decoded = async () => [...(await {PC}.getStats()).values()]
                     .find(s => s.type === 'inbound-rtp' && s.trackIdentifier === track)?.framesDecoded ?? 0;
                   const [before, decodedBefore] = [look(), await decoded()];
                   await new Promise(go => setTimeout(go, 400));
                   const after = look();
                   const changed = after.some((value, i) => Math.abs(value - before[i]) > 8);
                   const coloured = after.some((value, i) => i % 4 < 3 && value > 40);
                   return changed && coloured && await decoded() > decodedBefore;
                 }})()"
            ),
        )
        .await;
    }

    /// Waits until sound with energy arrives, more of it than had when this was asked.
    pub async fn hears(&self, what: &str) {
        let energy = format!(
            "[...(await {PC}.getStats()).values()]
               .filter(s => s.type === 'inbound-rtp' && s.kind === 'audio')
               .reduce((sum, s) => sum + s.totalAudioEnergy, 0)"
        );
        let before = self.eval(&energy).await;
        self.until(what, &format!("{energy} > {before} + 0.0001"))
            .await;
    }

    /// Restarts ICE and waits until media goes from another local port.
    pub async fn moves_to_another_port(&self) {
        let port = "(async () => {
            const stats = await window.millrace.pc.getStats();
            const transport = [...stats.values()].find(s => s.type === 'transport');
            const pair = stats.get(transport?.selectedCandidatePairId);
            return pair?.nominated && pair.state === 'succeeded' && stats.get(pair.localCandidateId).port;
          })()";
        let before = self.until("a selected pair", port).await;
        self.eval("window.millrace.restartIce()").await;
        self.until(
            "another local port",
            &format!("(async () => {{ const p = await {port}; return p && p !== {before}; }})()"),
        )
        .await;
    }

    /// Writes a screenshot for a person to look at.
    pub async fn screenshot(&self, name: &str) {
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let png = match &self.browser {
            Browser::Chromium(client) => client.screenshot().await.unwrap(),
            Browser::Firefox(firefox) => firefox.screenshot().await,
        };
        std::fs::write(folder.join(format!("{name}.png")), png).unwrap();
    }

    /// Types into the field that the CSS selector finds.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.eval(&format!(
            "document.querySelector({selector:?}).value = {text:?}"
        ))
        .await;
    }

    /// Ends the browser as a power cut does: the page says nothing to anybody.
    pub fn crash(self) {
        kill_browsers(&self.profile);
    }

    /// Closes the tab, as a person does, and the browser with it.
    pub async fn close(self) {
        match self.browser {
            Browser::Chromium(client) => {
                client.close_window().await.ok();
                client.close().await.ok();
            }
            Browser::Firefox(firefox) => firefox.quit().await,
        }
    }
}

/// A port of loopback that is free for TCP and UDP now.
pub fn free_port() -> u16 {
    free_port_of(Ipv4Addr::LOCALHOST)
}

fn free_port_of(address: Ipv4Addr) -> u16 {
    loop {
        let tcp = TcpListener::bind((address, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((address, port)).is_ok() {
            return port;
        }
    }
}
