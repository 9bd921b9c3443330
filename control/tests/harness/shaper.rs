//! A narrow, long, leaky path between a browser and the node: a relay for UDP in user space, because the
//! kernel of a test machine may know no `netem`. What the path does is the simulator's own
//! [`Link`], driven by real time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use dataplane::sim::network::{Link, LinkCounts, LinkSpec};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::Server;

/// Largest datagram that is carried.
const DATAGRAM_MAX: usize = 2_048;

/// A relay to a node's media port. One for each browser: its clients share both ways.
pub struct Shaper {
    port: u16,
    media: u16,
    orders: mpsc::UnboundedSender<Order>,
}

enum Order {
    /// What the way to the browser does from now on.
    Down(LinkSpec),
    /// What happened on the way to the browser.
    Counts(oneshot::Sender<LinkCounts>),
}

impl Shaper {
    /// A relay whose ways do this: from the node to the browser, and back.
    pub async fn start(server: &Server, down: LinkSpec, up: LinkSpec) -> Shaper {
        let outer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = outer.local_addr().unwrap().port();
        let (orders, taken) = mpsc::unbounded_channel();
        let (from_node, arrived) = mpsc::channel(4_096);
        let relay = Relay {
            outer: Arc::new(outer),
            media: (Ipv4Addr::LOCALHOST, server.media).into(),
            clients: HashMap::new(),
            down: Link::new(down, 1),
            up: Link::new(up, 2),
            from_node,
        };
        // A thread of its own, so that a page that is waited for does not hold up its packets.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(relay.run(taken, arrived));
        });
        Shaper {
            port,
            media: server.media,
            orders,
        }
    }

    /// Changes the way to the browser.
    pub fn set_down(&self, spec: LinkSpec) {
        self.orders.send(Order::Down(spec)).ok();
    }

    /// What happened on the way to the browser so far.
    pub async fn down_counts(&self) -> LinkCounts {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Counts(reply)).ok();
        answer.await.unwrap()
    }

    /// JavaScript that has a page's connections go through the relay, and nowhere else.
    pub fn patch(&self) -> String {
        let Shaper { port, media, .. } = self;
        format!(
            "(() => {{
               const set = RTCPeerConnection.prototype.setRemoteDescription;
               RTCPeerConnection.prototype.setRemoteDescription = function ({{ type, sdp }}) {{
                 const through = sdp.replace(/a=candidate:\\S+ \\d+ tcp .*\\r\\n/gi, '')
                   .replace(/(a=candidate:\\S+ \\d+ udp \\d+ \\S+) {media} /gi, '$1 {port} ');
                 return set.call(this, {{ type, sdp: through }});
               }};
             }})()"
        )
    }
}

/// A datagram, and the client that it is from or for.
type Carried = (SocketAddr, Vec<u8>);

struct Relay {
    outer: Arc<UdpSocket>,
    media: SocketAddr,
    /// Towards the node, each client has a socket of its own.
    clients: HashMap<SocketAddr, Arc<UdpSocket>>,
    down: Link<Carried>,
    up: Link<Carried>,
    from_node: mpsc::Sender<Carried>,
}

impl Relay {
    #[expect(clippy::disallowed_methods, reason = "real packets take real time")]
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut arrived: mpsc::Receiver<Carried>,
    ) {
        let mut buffer = [0; DATAGRAM_MAX];
        let far = std::time::Duration::from_secs(3_600);
        loop {
            let next = self
                .down
                .poll_timeout()
                .into_iter()
                .chain(self.up.poll_timeout())
                .min();
            let due = next.unwrap_or_else(|| Instant::now() + far);
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Down(spec)) => self.down.set_spec(spec),
                    Some(Order::Counts(reply)) => _ = reply.send(self.down.counts()),
                    // The test is over.
                    None => return,
                },
                Ok((len, from)) = self.outer.recv_from(&mut buffer) => {
                    let bytes = buffer[..len].to_vec();
                    self.up.handle_datagram(Instant::now(), len, (from, bytes));
                }
                Some((to, bytes)) = arrived.recv() => {
                    self.down.handle_datagram(Instant::now(), bytes.len(), (to, bytes));
                }
                () = sleep_until(due.into()) => {}
            }
            self.deliver(Instant::now()).await;
        }
    }

    async fn deliver(&mut self, now: Instant) {
        while let Some((from, bytes)) = self.up.poll_datagram(now) {
            let socket = self.client(from).await;
            socket.send(&bytes).await.ok();
        }
        while let Some((to, bytes)) = self.down.poll_datagram(now) {
            self.outer.send_to(&bytes, to).await.ok();
        }
    }

    /// The socket that stands for a client; made when it first sends.
    async fn client(&mut self, client: SocketAddr) -> Arc<UdpSocket> {
        if let Some(socket) = self.clients.get(&client) {
            return Arc::clone(socket);
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(self.media).await.unwrap();
        let socket = Arc::new(socket);
        self.clients.insert(client, Arc::clone(&socket));
        let (reading, from_node) = (Arc::clone(&socket), self.from_node.clone());
        tokio::spawn(async move {
            let mut buffer = [0; DATAGRAM_MAX];
            while let Ok(len) = reading.recv(&mut buffer).await {
                if from_node
                    .send((client, buffer[..len].to_vec()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        socket
    }
}
