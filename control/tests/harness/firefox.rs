//! A Firefox in a network namespace of its own.
//!
//! Firefox never uses a loopback candidate, so it meets the node over a virtual cable (veth(4)).
//! The namespace has no name: it lasts as long as the processes in it, and the cable with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use super::marionette::Marionette;
use super::{Browser, PATIENCE_MS, Page, kill_processes};

/// Where Marionette listens, on the namespace's own loopback.
const REMOTE_PORT: u16 = 2828;

/// Of 198.18.0.0/15, which no network uses but for tests (RFC 2544 appendix C.2.2), a cable takes four addresses.
const CABLES: u32 = 1 << 15;

/// A running Firefox, ended when dropped, together with its network.
pub struct Firefox {
    child: Child,
    profile: PathBuf,
    cable: String,
    /// The address of this end of the cable, where a node must be for Firefox to reach it.
    pub node: Ipv4Addr,
}

impl Firefox {
    /// Lays the cable and starts Firefox on a fresh profile at its far end.
    pub fn start() -> Firefox {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test gives Firefox a network namespace, which only root may make: run it as root"
        );
        let id = std::process::id();
        let profile = std::env::temp_dir().join(format!("millrace-test-firefox-{id}"));
        write_profile(&profile);
        // It ends with the test's thread too, and Firefox waits for its cable.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net"])
            .args(["sh", "-c", "echo apart; read _ && exec \"$@\" 2>&1", "sh"])
            .args(["firefox-esr", "--headless", "--no-remote"])
            .args(["--marionette", "--profile"])
            .arg(&profile)
            .env("HOME", &profile)
            .env("MOZ_HEADLESS_WIDTH", "1280")
            .env("MOZ_HEADLESS_HEIGHT", "800")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and unshare run (Debian: util-linux)");
        let said = read_lines(&mut child);
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * (id % CABLES);
        // Owned from here on, so that it is cleaned up if a step below fails.
        let mut firefox = Firefox {
            child,
            profile,
            cable: format!("mrfox{id}"),
            node: Ipv4Addr::from_bits(base + 1),
        };
        wait_for(&said, "apart", "no network namespace could be made");
        firefox.lay_cable(Ipv4Addr::from_bits(base + 2));
        writeln!(firefox.child.stdin.take().unwrap()).unwrap();
        wait_for(
            &said,
            &format!("Listening on port {REMOTE_PORT}"),
            "firefox-esr did not start (`scripts/test-deps` installs it)",
        );
        // Keep reading, so that Firefox never blocks on a full pipe.
        std::thread::spawn(move || said.iter().for_each(drop));
        firefox
    }

    /// Opens its one tab on `url`.
    pub async fn open(&self, url: &str) -> Page {
        let stream = self.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, REMOTE_PORT)));
        let page = Page {
            browser: Browser::Firefox(Marionette::open(stream.unwrap()).await),
            profile: self.profile.clone(),
        };
        page.goto(url).await;
        page
    }

    fn lay_cable(&self, far: Ipv4Addr) {
        let (cable, near) = (&self.cable, self.node);
        let namespace = self.child.id();
        ip(&format!(
            "link add {cable} type veth peer name cable netns {namespace}"
        ));
        ip(&format!("address add {near}/30 dev {cable}"));
        ip(&format!("link set {cable} up"));
        self.inside(|| {
            ip("link set lo up");
            ip(&format!("address add {far}/30 dev cable"));
            ip("link set cable up");
        });
    }

    /// Does something in Firefox's namespace: what a thread opens and starts there stays there.
    fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.child.id())).unwrap();
        let network = Some(LinkNameSpaceType::Network);
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(namespace.as_fd(), network).unwrap();
                    act()
                })
                .join()
                .expect("the namespace can be entered")
        })
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        let ours = network(Path::new("/proc/self"));
        let namespace = network(&Path::new("/proc").join(self.child.id().to_string()));
        self.child.kill().ok();
        // Its content processes notice by themselves, but not at once.
        if namespace.is_some() && namespace != ours {
            kill_processes(|process| network(process) == namespace);
        }
        self.child.wait().ok();
        // Gone with the namespace, which the kernel takes apart in its own time.
        ip_output(&format!("link del {}", self.cable)).ok();
        fs::remove_dir_all(&self.profile).ok();
    }
}

fn write_profile(profile: &Path) {
    let preferences = [
        // A camera and a microphone that need neither hardware, nor a yes, nor HTTPS.
        ("media.navigator.streams.fake", json!(true)),
        ("media.navigator.permission.disabled", json!(true)),
        ("media.devices.insecure.enabled", json!(true)),
        ("media.getusermedia.insecure.enabled", json!(true)),
        ("media.autoplay.default", json!(0)),
        // There is nobody in the namespace to resolve an mDNS candidate.
        (
            "media.peerconnection.ice.obfuscate_host_addresses",
            json!(false),
        ),
        ("marionette.port", json!(REMOTE_PORT)),
        // Nothing at the first start, and nothing on the network but the node.
        ("app.normandy.enabled", json!(false)),
        ("browser.aboutwelcome.enabled", json!(false)),
        ("browser.shell.checkDefaultBrowser", json!(false)),
        ("datareporting.policy.dataSubmissionEnabled", json!(false)),
        ("network.captive-portal-service.enabled", json!(false)),
        ("network.connectivity-service.enabled", json!(false)),
        ("toolkit.telemetry.reportingpolicy.firstRun", json!(false)),
    ];
    let lines = preferences.map(|(name, value)| format!("user_pref({name:?}, {value});\n"));
    fs::create_dir_all(profile).unwrap();
    fs::write(profile.join("user.js"), lines.concat()).unwrap();
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, said) = channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .all(|line| sender.send(line).is_ok())
    });
    said
}

/// Waits for a line that contains `sign`, or fails with what was said instead.
fn wait_for(said: &Receiver<String>, sign: &str, otherwise: &str) {
    let mut heard = Vec::new();
    while let Ok(line) = said.recv_timeout(Duration::from_millis(PATIENCE_MS)) {
        if line.contains(sign) {
            return;
        }
        heard.push(line);
    }
    panic!("{otherwise}; it said:\n{}", heard.join("\n"));
}

fn ip(command: &str) {
    let output = ip_output(command).expect("ip runs: `scripts/test-deps` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {command}: {said}");
}

fn ip_output(command: &str) -> std::io::Result<Output> {
    Command::new("ip").args(command.split(' ')).output()
}
