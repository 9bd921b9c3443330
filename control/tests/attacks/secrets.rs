//! No secret is in the log, however much of it is asked for.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use benches::peers::encodings::Encodings;
use benches::peers::meeting::{Meeting, MeetingConfig};
use benches::peers::tune::Tune;
use dataplane::command::{DtlsRole, DtlsSpec, Fingerprint, MasterKey, SrtpKeys};
use dataplane::dtls::{Association, AssociationEvent, Certificate};

use crate::{Node, PATIENCE, after, hear, offer, say};

const OUR_PWD: &str = "ourVerySecretPasswordOfIce";
const BEARER: &str = "aBearerTokenThatNobodyMayRead";

/// A person joins by a WebSocket, loses it, comes back and offers; the token, and our password.
fn come_back(node: &Node) -> [String; 2] {
    let mut socket = node.websocket();
    say(&mut socket, r#"{"type":"join","room":"r","name":"Ann"}"#);
    let joined = hear(&mut socket, "iceServers");
    let token = after(&joined, "\"token\":\"", &['"']).to_owned();
    drop(socket);
    let mut socket = node.websocket();
    say(
        &mut socket,
        &format!(r#"{{"type":"resume","token":"{token}"}}"#),
    );
    hear(&mut socket, "iceServers");
    let sdp = offer(OUR_PWD, "").replace("\r\n", "\\r\\n");
    say(
        &mut socket,
        &format!(r#"{{"type":"offer","id":1,"sdp":"{sdp}"}}"#),
    );
    let answer = hear(&mut socket, "end-of-candidates");
    [token, after(&answer, "ice-pwd:", &['\\', '"']).to_owned()]
}

/// Two people meet until media flows between them, as browsers do.
async fn meet(node: &Node) {
    let meeting = Meeting::start(MeetingConfig {
        url: format!("http://{}", node.host),
        room: "secrets".to_owned(),
        people: 2,
        joins_per_second: 20.0,
        encodings: Encodings::people(),
        tune: Arc::new(Tune::people()),
        pid: None,
    })
    .await
    .unwrap();
    let complete = async {
        while !meeting.report().await.is_complete() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, complete)
        .await
        .expect("both are connected");
    meeting.leave().await;
}

#[tokio::test]
async fn x_10_no_secret_is_in_the_log_at_its_most_talkative() {
    let node = Node::start("secrets", "trace");
    meet(&node).await;
    let [token, page_pwd] = come_back(&node);
    let headers = format!("Content-Type: application/sdp\r\nAuthorization: Bearer {BEARER}\r\n");
    let answer = node.ask("POST", "/v1/rooms/r/whip", &headers, &offer(OUR_PWD, ""));
    let whip_pwd = after(&answer, "ice-pwd:", &['\r']).to_owned();
    let location = after(&answer, "location: ", &['\r']).to_owned();
    let resource = location.rsplit('/').next().unwrap().to_owned();
    assert!(
        node.ask("DELETE", &location, &headers, "")
            .contains("200 OK")
    );

    let logged = node.logged();
    assert!(
        logged.contains("session opened") && logged.contains("DEBUG"),
        "{logged}"
    );
    let secrets = [OUR_PWD, BEARER, &token, &page_pwd, &whip_pwd, &resource];
    for secret in secrets {
        assert!(secret.len() >= 20, "{secret} is no secret");
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is in the log");
    }
    let sdp = logged.lines().find(|line| line.contains("ice-pwd"));
    assert_eq!(sdp, None, "SDP is in the log");
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How a library might print bytes.
fn printed(bytes: &[u8]) -> [String; 3] {
    let lower: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    [lower.to_uppercase(), lower, list.join(", ")]
}

/// The keys that a handshake gives its server.
#[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
fn handshake() -> SrtpKeys {
    let now = Instant::now();
    let certificates = [(); 2].map(|()| Certificate::generate().unwrap());
    let spec = |role, peer: &Certificate| DtlsSpec {
        role,
        fingerprints: vec![Fingerprint::Sha256(peer.fingerprint())],
    };
    let [own, theirs] = &certificates;
    let mut server = Association::new(now, own, spec(DtlsRole::Server, theirs));
    let mut client = Association::new(now, theirs, spec(DtlsRole::Client, own));
    for _ in 0..100 {
        while let Some(datagram) = client.poll_transmit() {
            server.handle_datagram(now, &datagram);
        }
        while let Some(datagram) = server.poll_transmit() {
            client.handle_datagram(now, &datagram);
        }
        if let Some(AssociationEvent::Connected(keys)) = server.poll_event() {
            return *keys;
        }
    }
    panic!("the handshake is never done");
}

#[test]
fn x_10_no_key_is_logged_by_what_speaks_dtls() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let keys = handshake();
    let shown = format!("{keys:?}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("handshake"), "the crate logs: {logged}");
    let masters = [&keys.send, &keys.receive];
    for MasterKey { key, salt } in masters {
        for secret in [key, salt]
            .into_iter()
            .flat_map(|bytes| printed(&bytes[..8]))
        {
            assert!(!logged.contains(&secret), "a key is in the log");
            assert!(!shown.contains(&secret), "a key shows itself");
        }
    }
}
