//! The shell of the room protocol: one task for each socket, which performs what the state machine
//! decides.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::protocol::{Action, FRAME_LEN_MAX, Joined, Protocol};
use crate::doors::{Doors, IceServer, JsonError};
use crate::node::{Enter, Entered, Node, Refusal, RoomEvent};

/// A frame that the client's network does not take within this time has nobody who reads.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close frame; without the wait, its last bytes could
/// reset the connection before it has read why.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// What the WebSocket layer itself takes: more than a message may have, so that a client which is
/// a little over is told, and little enough that nobody can fill the memory.
const FRAME_LEN_READ_MAX: usize = 2 * FRAME_LEN_MAX;
/// Longest reason in a close frame, bytes (RFC 6455 section 5.5 leaves 123).
const CLOSE_REASON_LEN_MAX: usize = 120;

/// `GET /v1/ws`
pub(crate) async fn upgrade<N: Node>(
    State(doors): State<Doors<N>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return JsonError::new(rejection.status(), "this path takes WebSockets only")
                .with_hint("open it with the WebSocket API; docs/websocket.md has the messages")
                .into_response();
        }
    };
    let Ok(permit) = Arc::clone(&doors.sockets).try_acquire_owned() else {
        let text = "the node has as many WebSockets open as it may; try again later";
        return JsonError::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    upgrade
        .max_message_size(FRAME_LEN_READ_MAX)
        .max_frame_size(FRAME_LEN_READ_MAX)
        .on_upgrade(move |socket| async move {
            Connection::new(doors, from.ip()).run(socket).await;
            drop(permit);
        })
}

/// What the node is asked at the moment.
type Call = Pin<Box<dyn Future<Output = Reply> + Send>>;

enum Reply {
    Entered(Result<Entered, Refusal>),
    Answered(Result<String, Refusal>),
}

struct Connection<N> {
    node: Arc<N>,
    from: IpAddr,
    protocol: Protocol,
    /// What happens in the room, once the person is in.
    events: Option<mpsc::Receiver<RoomEvent>>,
    /// At most one call at a time: entering, or the current offer.
    call: Option<Call>,
}

impl<N: Node> Connection<N> {
    fn new(doors: Doors<N>, from: IpAddr) -> Connection<N> {
        let ice_servers: Arc<[IceServer]> = doors.options.ice_servers.as_slice().into();
        Connection {
            protocol: Protocol::new(Instant::now().into_std(), ice_servers),
            node: doors.node,
            from,
            events: None,
            call: None,
        }
    }

    async fn run(mut self, mut socket: WebSocket) {
        while !self.protocol.is_over() {
            self.turn(&mut socket).await;
            self.perform(&mut socket).await;
        }
        drop(socket);
        // A call is never dropped half-way: the node may have let the person in already.
        if let Some(call) = self.call.take() {
            let reply = call.await;
            self.on_reply(reply);
            while let Some(action) = self.protocol.poll_action() {
                self.tell_node(action);
            }
        }
    }

    /// Waits for the next thing that happens, and hands it to the protocol.
    async fn turn(&mut self, socket: &mut WebSocket) {
        let due = self.protocol.poll_timeout().map(Instant::from_std);
        tokio::select! {
            frame = socket.recv() => self.on_frame(frame),
            event = next_event(&mut self.events) => match event {
                Some(event) => self.protocol.handle_event(&event),
                None => {
                    self.events = None;
                    self.protocol.handle_events_ended();
                }
            },
            reply = next_reply(&mut self.call) => {
                self.call = None;
                self.on_reply(reply);
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.protocol.handle_timeout(Instant::now().into_std());
            }
        }
    }

    fn on_frame(&mut self, frame: Option<Result<Message, axum::Error>>) {
        let now = Instant::now().into_std();
        match frame {
            Some(Ok(Message::Text(text))) => self.protocol.handle_text(now, text.as_str()),
            Some(Ok(Message::Binary(_))) => self.protocol.handle_binary(now),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.protocol.handle_frame(now);
            }
            Some(Ok(Message::Close(frame))) => {
                self.protocol.handle_close(frame.map(|frame| frame.code));
            }
            Some(Err(_)) | None => self.protocol.handle_broken(),
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Entered(Ok(entered)) => {
                let Entered {
                    person,
                    visit,
                    room,
                    resume_token,
                    people,
                    events,
                } = entered;
                self.events = Some(events);
                self.protocol.handle_entered(Ok(Joined {
                    person,
                    visit,
                    room,
                    resume_token,
                    people,
                }));
            }
            Reply::Entered(Err(refusal)) => self.protocol.handle_entered(Err(refusal)),
            Reply::Answered(result) => self.protocol.handle_answered(&result),
        }
    }

    async fn perform(&mut self, socket: &mut WebSocket) {
        let mut open = true;
        while let Some(action) = self.protocol.poll_action() {
            let sent = match action {
                Action::Send(_) | Action::Ping | Action::Close(..) if !open => continue,
                Action::Send(text) => send(socket, Message::text(text)).await,
                Action::Ping => send(socket, Message::Ping(Bytes::new())).await,
                Action::Close(code, reason) => {
                    close(socket, code as u16, reason).await;
                    true
                }
                Action::Drop => true,
                other => {
                    self.tell_node(other);
                    true
                }
            };
            if !sent {
                open = false;
                self.protocol.handle_broken();
            }
        }
    }

    /// Performs what concerns the node; what concerns the socket has no meaning without one.
    fn tell_node(&mut self, action: Action) {
        let node = Arc::clone(&self.node);
        match action {
            Action::Enter { room, name } => {
                let request = Enter {
                    room,
                    name,
                    from: self.from,
                };
                self.call = Some(Box::pin(async move {
                    Reply::Entered(node.enter(request).await)
                }));
            }
            Action::Resume { token } => {
                self.call = Some(Box::pin(async move {
                    Reply::Entered(node.resume(&token).await)
                }));
            }
            Action::Offer { person, offer } => {
                self.call = Some(Box::pin(async move {
                    Reply::Answered(node.offer(&person, offer).await)
                }));
            }
            Action::Prefer {
                person,
                track,
                preference,
            } => node.prefer(&person, &track, preference),
            Action::Mute {
                person,
                source,
                muted,
            } => node.mute(&person, source, muted),
            Action::Say { person, text } => node.say(&person, &text),
            Action::Suspend(person, visit) => node.suspend(&person, visit),
            Action::Leave(person, visit) => node.leave(&person, visit),
            Action::Send(_) | Action::Ping | Action::Close(..) | Action::Drop => {}
        }
    }
}

/// The next event; never when the person is not in a room.
async fn next_event(events: &mut Option<mpsc::Receiver<RoomEvent>>) -> Option<RoomEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// The node's reply; never when it was not asked.
async fn next_reply(call: &mut Option<Call>) -> Reply {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Whether the client's network took it.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_WITHIN, socket.send(message)).await, Ok(Ok(())))
}

/// Sends a close frame and reads until the client's own.
async fn close(socket: &mut WebSocket, code: u16, mut reason: String) {
    let mut end = reason.len().min(CLOSE_REASON_LEN_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    if send(socket, Message::Close(Some(frame))).await {
        let drained = async { while let Some(Ok(_)) = socket.recv().await {} };
        // The connection is dropped either way.
        let _in_time = timeout(CLOSE_WITHIN, drained).await;
    }
}
