//! Offers that point at others.

use std::net::UdpSocket;

use crate::{Node, offer};

#[test]
fn x_04_candidates_that_point_at_others_get_no_byte() {
    let node = Node::start("reflection", "info");
    // An address of its own: nobody has what is still on its way to whoever had the port before.
    let victim = UdpSocket::bind("127.0.0.2:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let port = victim.local_addr().unwrap().port();
    let candidates = [
        format!("1 1 udp 2122260223 127.0.0.2 {port} typ host"),
        format!("2 1 udp 1686052607 127.0.0.2 {port} typ srflx raddr 10.0.0.1 rport 1"),
        format!("3 1 udp 41885439 127.0.0.2 {port} typ relay raddr 0.0.0.0 rport 0"),
        // Components that nobody has (CVE-2023-40018), ports and names that are none.
        format!("4 4294967295 udp 1 127.0.0.2 {port} typ host"),
        "5 1 udp 1 169.254.169.254 80 typ host".to_owned(),
        "6 1 udp 1 metadata.internal 0 typ host".to_owned(),
        format!("7 1 tcp 1 127.0.0.2 {port} typ host tcptype passive"),
    ];
    let lines: String = candidates
        .iter()
        .map(|candidate| format!("a=candidate:{candidate}\r\n"))
        .collect();
    let sdp = offer(&"p".repeat(22), &lines);
    let mut locations = Vec::new();
    for _ in 0..50 {
        let headers = "Content-Type: application/sdp\r\n";
        let answer = node.ask("POST", "/v1/rooms/r/whip", headers, &sdp);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        let location = answer
            .lines()
            .find_map(|line| line.strip_prefix("location: "));
        locations.push(location.unwrap().to_owned());
    }
    for location in &locations {
        let answer = node.ask("DELETE", location, "", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The node has made and ended fifty sessions: whatever it had to say was said.
    let said = victim.recv(&mut [0; 2_000]);
    assert!(said.is_err(), "{said:?}");
}
