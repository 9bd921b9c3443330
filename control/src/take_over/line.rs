//! The line between the two programs: frames over a Unix socket, and descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Bytes of a frame at most: more than the largest node's state.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// Descriptors that travel with one byte: the sockets of a worker.
const DESCRIPTORS_MAX: usize = 2;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    Hello = 1,
    Terms,
    Begin,
    Rooms,
    Freeze,
    State,
    Engine,
    Ready,
    Yours,
    /// Instead of anything else: why not.
    Failed,
}

/// Why the conversation is over.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side cannot go on, and says why.
    #[error("{0}")]
    Refused(String),
    /// The other side is gone, or says nothing.
    #[error("the line to the other program broke: {0}")]
    Line(#[from] io::Error),
    /// Something else came than what has to come now.
    #[error("the other program said something else than was expected")]
    Unexpected,
}

/// One end.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
}

impl Line {
    /// Over a connected stream. No answer within `patience` is a broken line.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Line { stream })
    }

    /// How long an answer is waited for; for ever without.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(patience)
    }

    /// Who is at the other end.
    pub(super) fn peer_uid(&self) -> io::Result<u32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.stream)?;
        Ok(credentials.uid.as_raw())
    }

    /// Says something.
    pub(super) fn send(&mut self, tag: Tag, body: &[u8]) -> io::Result<()> {
        let mut head = [0; 9];
        head[0] = tag as u8;
        head[1..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        self.stream.write_all(&head)?;
        self.stream.write_all(body)
    }

    /// Says why the conversation cannot go on. If even that does not arrive, the broken line says it.
    pub(super) fn fail(&mut self, reason: &str) {
        let _ = self.send(Tag::Failed, reason.as_bytes());
    }

    /// What comes next, which must be this.
    pub(super) fn expect(&mut self, expected: Tag) -> Result<Vec<u8>, Broken> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let len = u64::from_be_bytes(length);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= FRAME_BYTES_MAX);
        let mut body = vec![0; len.ok_or(Broken::Unexpected)?];
        self.stream.read_exact(&mut body)?;
        if tag == Tag::Failed as u8 {
            return Err(Broken::Refused(String::from_utf8_lossy(&body).into_owned()));
        }
        if tag != expected as u8 {
            return Err(Broken::Unexpected);
        }
        Ok(body)
    }

    /// Shares descriptors, a few at a time, each few with a byte of its own.
    pub(super) fn send_descriptors(&mut self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        for few in descriptors.chunks(DESCRIPTORS_MAX) {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            // The space is made for as many.
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(few));
            debug_assert!(fits, "two descriptors fit");
            sendmsg(
                &self.stream,
                &[IoSlice::new(&[0])],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?;
        }
        Ok(())
    }

    /// Takes so many descriptors.
    pub(super) fn receive_descriptors(&mut self, count: usize) -> Result<Vec<OwnedFd>, Broken> {
        let mut received = Vec::with_capacity(count);
        while received.len() < count {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let taken = recvmsg(
                self.stream.as_fd(),
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
            .map_err(io::Error::from)?;
            let before = received.len();
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    received.extend(descriptors);
                }
            }
            if taken.bytes == 0 || received.len() == before {
                return Err(Broken::Unexpected);
            }
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn pair() -> (Line, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        let patience = Duration::from_secs(5);
        (
            Line::new(one, patience).unwrap(),
            Line::new(other, patience).unwrap(),
        )
    }

    #[test]
    fn frames_and_descriptors_keep_their_order() {
        let (mut here, mut there) = pair();
        let sockets: Vec<UdpSocket> = (0..5)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        here.send(Tag::Terms, b"two workers").unwrap();
        here.send_descriptors(&descriptors).unwrap();
        here.send(Tag::Rooms, &[]).unwrap();
        assert_eq!(there.expect(Tag::Terms).unwrap(), b"two workers");
        let received = there.receive_descriptors(5).unwrap();
        let address = |socket: UdpSocket| socket.local_addr().unwrap();
        let received = received.into_iter().map(|its| address(its.into()));
        assert!(received.eq(sockets.into_iter().map(address)));
        assert!(there.expect(Tag::Rooms).unwrap().is_empty());
        assert_eq!(here.peer_uid().unwrap(), rustix::process::getuid().as_raw());
    }

    #[test]
    fn a_refusal_is_heard_whatever_was_expected_and_silence_is_a_broken_line() {
        let (mut here, mut there) = pair();
        here.fail("not today");
        let heard = there.expect(Tag::Yours).unwrap_err();
        assert_eq!(heard.to_string(), "not today");
        here.send(Tag::Ready, &[]).unwrap();
        assert!(matches!(there.expect(Tag::Yours), Err(Broken::Unexpected)));
        there.set_patience(Some(Duration::from_millis(10))).unwrap();
        assert!(matches!(there.expect(Tag::Yours), Err(Broken::Line(_))));
        drop(here);
        assert!(there.receive_descriptors(1).is_err());
    }
}
