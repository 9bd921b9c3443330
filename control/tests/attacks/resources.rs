//! What comes and goes leaves nothing behind.

use std::net::TcpStream;
use std::time::Duration;

use crate::{Node, PATIENCE, after, hear, offer, say};

/// Clients of each kind at once.
const VISITORS: usize = 20;

/// What the node may open for itself on the way.
const OWN_MAX: usize = 10;

/// Clients of all kinds, together; what they have open.
fn visit(node: &Node) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for visitor in 0..VISITORS {
        // One that says nothing.
        open.push(node.connect());
        let mut page = node.websocket();
        let join = format!(r#"{{"type":"join","room":"page","name":"{visitor}"}}"#);
        say(&mut page, &join);
        hear(&mut page, "iceServers");
        open.push(page);
        let headers = "Content-Type: application/sdp\r\n";
        let sdp = offer(&"p".repeat(22), "");
        let answer = node.ask("POST", "/v1/rooms/whip/whip", headers, &sdp);
        // ICE over TCP, from somebody who proves nothing.
        let tcp = answer.lines().find(|line| line.contains("tcptype passive"));
        let tcp = tcp.unwrap().split(' ').collect::<Vec<_>>();
        open.push(TcpStream::connect((tcp[4], tcp[5].parse().unwrap())).unwrap());
        let location = after(&answer, "location: ", &['\r']);
        let ended = node.ask("DELETE", location, "", "");
        assert!(ended.starts_with("HTTP/1.1 200"), "{ended}");
    }
    open
}

#[tokio::test]
async fn t_29_connections_of_every_kind_that_come_and_go_leave_no_descriptor() {
    let node = Node::start("descriptors", "info");
    let before = node.descriptors();
    for _ in 0..4 {
        let open = visit(&node);
        assert!(node.descriptors() >= before + open.len());
        drop(open);
        let settled = async {
            while node.descriptors() > before + OWN_MAX {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        let now = node.descriptors();
        assert!(settled.is_ok(), "{now} where {before} were");
    }
    node.assert_alive();
}
