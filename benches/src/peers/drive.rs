//! A person over real sockets: one WebSocket, one UDP socket, one timer.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::meeting::now;
use super::person::{Person, PersonReport};
use super::socket::Socket;

/// Runs of datagrams taken before anything else has its turn.
const RUNS_AT_ONCE_MAX: usize = 32;

/// How long the server may take to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a person is asked while it is in the meeting.
#[derive(Debug)]
pub(super) enum Ask {
    /// What came of it so far?
    Report(oneshot::Sender<PersonReport>),
    /// Count from here on.
    Measure,
    /// Leave.
    Leave,
}

/// Lives a person's life until it is asked to leave; it answers also when its connection is gone.
pub(super) async fn drive(mut person: Person, url: String, mut asks: mpsc::Receiver<Ask>) {
    let mut shell = match connect_async_with_config(&url, None, true).await {
        Ok((web, _)) => Some(Shell::new(web)),
        Err(error) => {
            person.handle_broken(&format!("cannot connect to {url}: {error}"));
            None
        }
    };
    loop {
        if let Some(open) = &mut shell
            && let Err(error) = open.flush(&mut person).await
        {
            person.handle_broken(&error.to_string());
            shell = None;
        }
        tokio::select! {
            biased;
            ask = asks.recv() => match ask {
                Some(Ask::Report(reply)) => {
                    reply.send(person.report(now())).ok();
                }
                Some(Ask::Measure) => person.handle_measure(),
                Some(Ask::Leave) | None => break,
            },
            happened = turn(&mut shell, &mut person) => if let Err(error) = happened {
                person.handle_broken(&error.to_string());
                shell = None;
            },
        }
    }
    person.handle_leave(now());
    if let Some(mut open) = shell {
        open.flush(&mut person).await.ok();
        // Closing with something unread would reset the connection, and the goodbye be lost.
        let end = async { while let Some(Ok(_)) = open.web.next().await {} };
        tokio::time::timeout(GOODBYE, end).await.ok();
    }
}

async fn turn(shell: &mut Option<Shell>, person: &mut Person) -> io::Result<()> {
    match shell {
        Some(shell) => shell.turn(person).await,
        None => pending().await,
    }
}

/// The sockets of a person.
struct Shell {
    web: WebSocketStream<MaybeTlsStream<TcpStream>>,
    udp: Option<Socket>,
    /// Where the server answered from; until then every candidate is tried.
    remote: Option<SocketAddr>,
    datagrams: Vec<Vec<u8>>,
}

impl Shell {
    fn new(web: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Shell {
        Shell {
            web,
            udp: None,
            remote: None,
            datagrams: Vec::new(),
        }
    }

    /// Waits for one thing to happen and lets the person know.
    async fn turn(&mut self, person: &mut Person) -> io::Result<()> {
        let due = person.poll_timeout();
        tokio::select! {
            message = self.web.next() => self.on_message(person, message),
            ready = readable(self.udp.as_ref()) => {
                ready?;
                self.receive(person)
            }
            () = until(due) => {
                person.handle_timeout(now());
                Ok(())
            }
        }
    }

    fn on_message(
        &mut self,
        person: &mut Person,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> io::Result<()> {
        match message {
            Some(Ok(Message::Text(text))) => person.handle_text(now(), &text),
            Some(Ok(Message::Close(frame))) => {
                let why = frame.map(|frame| format!("{}: {}", frame.code, frame.reason));
                let why = why.unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the server closed the WebSocket ({why})"
                )));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => return Err(io::Error::other("the server closed the connection")),
        }
        Ok(())
    }

    fn receive(&mut self, person: &mut Person) -> io::Result<()> {
        let Some(udp) = &mut self.udp else {
            return Ok(());
        };
        let remote = &mut self.remote;
        for _ in 0..RUNS_AT_ONCE_MAX {
            let at = now();
            let more = udp.receive(|from, datagram| {
                remote.get_or_insert(from);
                person.handle_datagram(at, from, datagram);
            });
            match more {
                Ok(true) => {}
                Ok(false) => break,
                // A port that was closed says so; consent decides whether it is over.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends everything that the person has to say.
    async fn flush(&mut self, person: &mut Person) -> io::Result<()> {
        while let Some(text) = person.poll_text() {
            let sent = self.web.send(Message::text(text)).await;
            sent.map_err(io::Error::other)?;
        }
        self.datagrams.clear();
        while let Some(datagram) = person.poll_transmit() {
            self.datagrams.push(datagram);
        }
        let Some(best) = person.candidates().first() else {
            return Ok(());
        };
        let udp = match &mut self.udp {
            Some(udp) => udp,
            None => self.udp.insert(Socket::bind(*best).await?),
        };
        match self.remote {
            Some(remote) => udp.send(remote, &self.datagrams),
            None => {
                let same_family = person.candidates().iter();
                for to in same_family.filter(|to| to.is_ipv4() == best.is_ipv4()) {
                    udp.send(*to, &self.datagrams);
                }
            }
        }
        Ok(())
    }
}

async fn readable(udp: Option<&Socket>) -> io::Result<()> {
    match udp {
        Some(udp) => udp.readable().await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}
