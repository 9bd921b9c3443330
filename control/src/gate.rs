//! How many HTTP connections are open, and how long a client may leave unread what it asked for.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at once: the WebSockets of 10,000 people, and 2,000 that ask for something.
pub const CONNECTIONS_MAX: usize = 12_000;

/// A connection whose client takes nothing of what is sent for so long is closed: a phone in a tunnel
/// comes back, and a reader that never reads would keep its place for ever.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Lets connections in while there are places. Clones share the places.
#[derive(Clone, Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    most: usize,
    stall_max: Duration,
    refused: Arc<AtomicU64>,
}

impl Gate {
    /// With as many places as the process has descriptors for: half of them stay for media over TCP.
    #[must_use]
    pub fn new() -> Gate {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Gate::with(CONNECTIONS_MAX.min(half))
    }

    fn with(most: usize) -> Gate {
        Gate {
            places: Arc::new(Semaphore::new(most)),
            most,
            stall_max: STALL_MAX,
            refused: Arc::default(),
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// Connections that were closed at once, since there was no place.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl<I, S> Accept<I, S> for Gate {
    type Stream = Guarded<I>;
    type Service = S;
    type Future = Ready<io::Result<(Guarded<I>, S)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return ready(Err(io::Error::other("there is no place for more")));
        };
        let guarded = Guarded {
            stream,
            stall_max: self.stall_max,
            stalled: None,
            _place: place,
        };
        ready(Ok((guarded, service)))
    }
}

/// A connection with its place, which it gives back when it is dropped.
#[derive(Debug)]
pub struct Guarded<I> {
    stream: I,
    stall_max: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<I> Guarded<I> {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let after = self.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(after)));
        let over = stalled.as_mut().poll(context);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn accepted(gate: &Gate) -> io::Result<(Guarded<DuplexStream>, DuplexStream)> {
        let (ours, theirs) = duplex(1_000);
        let (guarded, ()) = gate.accept(ours, ()).await?;
        Ok((guarded, theirs))
    }

    #[tokio::test]
    async fn x_12_who_finds_no_place_is_closed_and_counted_until_one_leaves() {
        let gate = Gate::with(2);
        let (first, second) = (accepted(&gate).await.unwrap(), accepted(&gate).await);
        assert!(second.is_ok());
        assert!(accepted(&gate).await.is_err() && accepted(&gate).await.is_err());
        assert_eq!((gate.open(), gate.refused()), (2, 2));
        drop(first);
        assert_eq!(gate.open(), 1);
        assert!(accepted(&gate).await.is_ok());
    }

    #[tokio::test]
    async fn t_30_a_client_that_never_reads_is_given_up_and_a_slow_one_is_not() {
        let gate = Gate {
            stall_max: Duration::from_millis(50),
            ..Gate::with(2)
        };
        let (mut to_nobody, _nobody) = accepted(&gate).await.unwrap();
        let written = to_nobody.write_all(&[7; 10_000]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);

        // Whoever reads a little has all of the time again.
        let (mut to_slow, mut slow) = accepted(&Gate::with(2)).await.unwrap();
        for _ in 0..3 {
            let pending = poll_once(to_slow.write_all(&[7; 2_000])).await;
            assert!(pending.is_none() && to_slow.stalled.is_some());
            slow.read_exact(&mut [0; 500]).await.unwrap();
            to_slow.write_all(&[7; 500]).await.unwrap();
            assert!(to_slow.stalled.is_none());
        }
    }

    async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}
