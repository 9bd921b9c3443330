//! The node behind the lists of system calls in `deploy/`, and where io_uring is refused (T-31): a launcher puts
//! itself behind a list and becomes the node, and clients come as they always do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use benches::swarm::door::DoorSpec;
use benches::swarm::media::Media;
use benches::swarm::row::Row;
use benches::swarm::scene::{Cast, Intake, News, SceneConfig, run};
use dataplane::command::MediaKind;
use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

/// The list that the launcher puts itself behind, as seccompiler reads it.
const FILTER: &str = "HARDENING_FILTER";

/// The node's arguments, with spaces between.
const ARGUMENTS: &str = "HARDENING_ARGUMENTS";

/// Ports that the system chooses.
const ANYWHERE: [&str; 6] = [
    "--http",
    "127.0.0.1:0",
    "--media",
    "127.0.0.1:0",
    "--workers",
    "2",
];

/// Nobody.
const ACCOUNT: &str = "65534";

const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// Not a test by itself: what the other tests start. It becomes the node.
#[test]
#[ignore = "becomes the node behind a list of system calls"]
fn launcher() {
    let (Ok(filter), Ok(arguments)) = (std::env::var(FILTER), std::env::var(ARGUMENTS)) else {
        return;
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filters = compile_from_json(filter.as_bytes(), arch).unwrap();
    apply_filter(&filters["node"]).unwrap();
    let error = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(arguments.split(' '))
        .env_remove(FILTER)
        .env_remove(ARGUMENTS)
        .exec();
    panic!("the node does not start: {error}");
}

/// Ends a program that calls anything else, or what the unit forbids of these calls: what is missing in the
/// list cannot go unnoticed.
fn only(calls: &BTreeSet<String>) -> Value {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    // Not every machine has every call: those of the other kinds of machine mean nothing here.
    let known = |call: &&String| {
        let one = json!({"one": {"mismatch_action": "allow", "match_action": "trap", "filter": [{"syscall": call}]}});
        compile_from_json(one.to_string().as_bytes(), arch).is_ok()
    };
    let rules: Vec<Value> = calls
        .iter()
        .filter(known)
        .flat_map(|call| of(call))
        .collect();
    json!({"node": {"mismatch_action": "kill_process", "match_action": "allow", "filter": rules}})
}

/// What the unit allows of a call: `RestrictAddressFamilies` and `MemoryDenyWriteExecute` are lists too.
fn of(call: &str) -> Vec<Value> {
    let rule = |index: usize, op: Value, val: i32| {
        let condition = json!({"index": index, "type": "dword", "op": op, "val": val});
        json!({"syscall": call, "args": [condition]})
    };
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    match call {
        "socket" => families()
            .map(|family| rule(0, json!("eq"), family))
            .collect(),
        "mmap" => [0, libc::PROT_WRITE, libc::PROT_EXEC]
            .map(|allowed| rule(2, json!({"masked_eq": both}), allowed))
            .to_vec(),
        "mprotect" => vec![rule(2, json!({"masked_eq": libc::PROT_EXEC}), 0)],
        _ => vec![json!({"syscall": call})],
    }
}

/// The families of the unit's sockets.
fn families() -> impl Iterator<Item = i32> {
    let named = unit_words("RestrictAddressFamilies=");
    named.into_iter().map(|name| match &*name {
        "AF_INET" => libc::AF_INET,
        "AF_INET6" => libc::AF_INET6,
        "AF_NETLINK" => libc::AF_NETLINK,
        "AF_UNIX" => libc::AF_UNIX,
        other => panic!("{other}: which number is that?"),
    })
}

/// Lets everything pass but these calls, to which it says EPERM, as containers do.
fn without(calls: &[&str]) -> Value {
    let rules: Vec<Value> = calls.iter().map(|call| json!({"syscall": call})).collect();
    json!({"node": {"mismatch_action": "allow", "match_action": {"errno": libc::EPERM}, "filter": rules}})
}

fn launch(filter: &Value, arguments: &[&str]) -> Command {
    launch_as(&[], filter, arguments)
}

/// The launcher, started by another program: `setpriv` and its flags.
fn launch_as(setpriv: &[String], filter: &Value, arguments: &[&str]) -> Command {
    let launcher = std::env::current_exe().unwrap();
    let mut command = match setpriv {
        [] => Command::new(launcher),
        [program, flags @ ..] => {
            let mut command = Command::new(program);
            command.args(flags).arg(launcher);
            command
        }
    };
    command
        .args(["--exact", "launcher", "--ignored", "--nocapture"])
        .env(FILTER, filter.to_string())
        .env(ARGUMENTS, arguments.join(" "));
    command
}

/// A node behind a list, ended when dropped.
struct Node {
    child: Child,
    address: String,
    /// All that it printed, when it has ended.
    said: Receiver<String>,
}

impl Node {
    fn start(filter: &Value, flags: &[&str]) -> Node {
        Node::start_as(&[], filter, &[&ANYWHERE, flags].concat())
    }

    fn start_as(setpriv: &[String], filter: &Value, flags: &[&str]) -> Node {
        let mut child = launch_as(setpriv, filter, flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let mut address = None;
        for line in lines.by_ref().map_while(Result::ok) {
            let page = line.trim().strip_prefix("page").map(str::trim);
            if let Some(page) = page.and_then(|page| page.strip_prefix("http://")) {
                address = Some(page.trim_end_matches('/').replace("localhost", "127.0.0.1"));
            }
            said.push_str(&line);
            said.push('\n');
            if address.is_some() {
                break;
            }
        }
        let Some(address) = address else {
            panic!("it did not serve: {:?}\n{said}", child.wait());
        };
        let (end, at_end) = channel();
        std::thread::spawn(move || {
            let rest: Vec<String> = lines.map_while(Result::ok).collect();
            let _ = end.send(said + &rest.join("\n"));
        });
        Node {
            child,
            address,
            said: at_end,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// An encoder publishes picture and sound, and two players watch for so long, while `meanwhile` goes on.
    fn watched(&self, seconds: u32, meanwhile: impl FnOnce() + Send) -> Row {
        let endpoint = |door| format!("http://{}/v1/rooms/{{room}}/{door}", self.address);
        let shaped = |kind, shape: &str| Media::Shaped(kind, shape.parse().unwrap());
        let config = SceneConfig {
            door: DoorSpec::Whip {
                whip: endpoint("whip"),
                whep: endpoint("whep"),
            },
            server: "millrace".to_owned(),
            scene: "hardening".to_owned(),
            cast: Cast::Watch {
                rooms: 1,
                steps: vec![2],
            },
            media: vec![
                shaped(MediaKind::Video, "30x4x1100"),
                shaped(MediaKind::Audio, "50x1x80"),
            ],
            plain: false,
            decrypt_every: 1,
            intake: Intake::Single,
            joins_per_second: 40.0,
            seconds,
            until_full: false,
            pid: None,
            core: None,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (mut measured, mut meanwhile) = (None, Some(meanwhile));
        std::thread::scope(|scope| {
            let tell = |news: News<'_>| match news {
                News::Second(_) => {
                    meanwhile.take().map(|act| scope.spawn(act));
                }
                News::Refused(_) => {}
                News::Measured(row) => measured = Some(row.clone()),
            };
            runtime.block_on(run(config, tell)).unwrap();
        });
        let row = measured.expect("one step is measured");
        assert_eq!(
            (row.connected, row.silent, row.failures),
            (2, 0, 0),
            "{row:?}"
        );
        assert!(row.packets_per_second > 100.0, "{row:?}");
        row
    }

    /// Watches it serve, asks for its pages, and lets it end in order. Returns what it counted and what it said.
    fn serves(mut self) -> (String, String) {
        self.watched(1, || ());
        for path in ["/", "/readyz", "/v1/rooms", "/r/tea"] {
            let answer = self.get(path);
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        let metrics = self.get("/metrics");
        self.ends();
        (metrics, self.said.recv().unwrap())
    }

    fn ends(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "it ends in order: {status}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn deployed(file: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(top.join("deploy").join(file)).unwrap()
}

/// The words of the unit's lines that begin with `key`.
fn unit_words(key: &str) -> Vec<String> {
    let unit = deployed("systemd/millrace.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
    let words = lines.flat_map(str::split_whitespace).map(str::to_owned);
    words.collect()
}

/// The calls that the container's list allows.
fn container_calls() -> BTreeSet<String> {
    let list: Value = serde_json::from_str(&deployed("seccomp/millrace.json")).unwrap();
    assert_eq!(list["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = list["syscalls"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "a rule with conditions is not tried here");
    assert_eq!(rules[0]["action"], "SCMP_ACT_ALLOW");
    let names = rules[0]["names"].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_unit_and_the_container_allow_the_same_calls() {
    let calls: BTreeSet<String> = unit_words("SystemCallFilter=").into_iter().collect();
    assert_eq!(calls, container_calls());
    assert_eq!(unit_words("SystemCallErrorNumber="), ["EPERM"]);
    let compose = deployed("docker/compose.yml");
    assert!(compose.contains("seccomp=../seccomp/millrace.json"));
}

#[test]
fn what_the_node_calls_is_in_the_list_with_io_uring() {
    let (metrics, _) = Node::start(&only(&container_calls()), &["--driver", "uring"]).serves();
    assert!(metrics.contains("driver=\"uring\""), "{metrics}");
}

#[test]
fn what_the_node_calls_is_in_the_list_with_plain_sockets() {
    let (metrics, _) = Node::start(&only(&container_calls()), &["--driver", "msg"]).serves();
    assert!(metrics.contains("driver=\"msg\""), "{metrics}");
}

#[test]
fn what_a_take_over_calls_is_in_the_list() {
    let filter = only(&container_calls());
    let socket = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hardening.socket");
    let flags = ["--upgrade-socket", socket.to_str().unwrap()];
    let mut old = Node::start(&filter, &flags);
    let mut next = None;
    let row = old.watched(4, || {
        next = Some(Node::start(&filter, &[&flags[..], &["upgrade"]].concat()));
    });
    assert!(row.loss <= 0.0 && row.repeated == 0, "{row:?}");
    let next = next.unwrap();
    assert!(old.child.wait().unwrap().success(), "replaced, it ends");
    assert_eq!(next.address, old.address);
    next.serves();
}

#[test]
fn a_call_that_is_not_in_the_list_ends_the_node_here() {
    let mut calls = container_calls();
    assert!(calls.remove("timerfd_settime"));
    let Output { status, .. } = launch(&only(&calls), &ANYWHERE).output().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
}

/// Another account, with no capability but these.
fn account(capabilities: &[String]) -> Vec<String> {
    let mut kept = "-all".to_owned();
    for capability in capabilities {
        let name = capability.strip_prefix("CAP_").unwrap().to_lowercase();
        kept.push_str(&format!(",+{name}"));
    }
    let sets = ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={kept}"));
    let ids = [
        format!("--reuid={ACCOUNT}"),
        format!("--regid={ACCOUNT}"),
        "--clear-groups".to_owned(),
    ];
    let program = "setpriv".to_owned();
    std::iter::once(program).chain(ids).chain(sets).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_node_serves_without_root_and_without_capabilities() {
    // Whoever runs the tests without root tries this in all of them.
    let setpriv = if is_root() { account(&[]) } else { Vec::new() };
    let node = Node::start_as(&setpriv, &only(&container_calls()), &ANYWHERE);
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let line = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(
        !line("Uid:").split_whitespace().any(|id| id == "0"),
        "{status}"
    );
    for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert!(line(set).ends_with("\t0000000000000000"), "{status}");
    }
    node.serves();
}

#[test]
fn the_capabilities_that_the_unit_names_are_those_that_the_node_uses() {
    if !is_root() {
        return;
    }
    // What Linux keeps for them: a low port, and buffers larger than net.core.rmem_max.
    let port = (600..1024)
        .rev()
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let http = format!("127.0.0.1:{}", port.unwrap());
    let flags = ["--http", &http, "--media", "127.0.0.1:0", "--workers", "1"];
    let named = unit_words("AmbientCapabilities=");
    assert_eq!(named, unit_words("CapabilityBoundingSet="));
    assert_eq!(named, ["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]);
    let filter = only(&container_calls());
    let (_, said) = Node::start_as(&account(&named), &filter, &flags).serves();
    assert!(said.contains("8 MiB receive, 8 MiB send"), "{said}");
    let Output { status, stderr, .. } = launch_as(&account(&[]), &filter, &flags).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && said.contains(&http), "{said}");
}

#[test]
fn t_31_where_io_uring_is_refused_the_node_serves_on_plain_sockets_and_says_why() {
    let (metrics, said) = Node::start(&without(&IO_URING), &[]).serves();
    assert!(metrics.contains("driver=\"msg\"") && !metrics.contains("driver=\"uring\""));
    assert!(said.contains("io_uring cannot be used"), "{said}");
    assert!(said.contains("packets go over plain sockets"), "{said}");
}

#[test]
fn t_31_a_node_that_must_have_io_uring_says_that_it_is_refused() {
    let flags = [&ANYWHERE[..], &["--driver", "uring"]].concat();
    let Output { status, stderr, .. } = launch(&without(&IO_URING), &flags).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success());
    assert!(said.contains("io_uring is refused here"), "{said}");
    assert!(said.contains("auto or msg"), "{said}");
}
