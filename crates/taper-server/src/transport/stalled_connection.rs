//! A connection's bytes, and the watch over a client that does not take them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};

/// A socket that notes since when the client takes nothing.
pub(crate) struct WatchedSocket {
    socket: TcpStream,
    watch: StallWatch,
}

/// Since when a client has taken nothing of what is ready for it.
///
/// It is asked from outside of what is sent: a body whose client does not read is not polled any more, so that no time-out within it
/// would ever come.
#[derive(Clone)]
pub(crate) struct StallWatch {
    began: Instant,
    /// Milliseconds after `began`, and one more; 0 = nothing waits.
    since: Arc<AtomicU64>,
}

impl WatchedSocket {
    pub(crate) fn new(socket: TcpStream, longest: Duration) -> (Self, StallWatch) {
        if let Err(error) = set_options(&socket, longest) {
            tracing::debug!(%error, "a socket does not take its options");
        }
        let watch = StallWatch {
            began: Instant::now(),
            since: Arc::default(),
        };
        let socket = Self {
            socket,
            watch: watch.clone(),
        };
        (socket, watch)
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.watch.start(),
            Poll::Ready(_) => self.watch.since.store(0, Ordering::Relaxed),
        }
        written
    }
}

/// Unsent bytes that the kernel holds for a socket. Without a bound it takes megabytes, and a client that has stopped reading is seen
/// only when they are full.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 << 10;

#[cfg(target_os = "linux")]
fn set_options(socket: &TcpStream, longest: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let options = socket2::SockRef::from(socket);
    options.set_tcp_notsent_lowat(UNSENT)?;
    // A machine that is gone acknowledges nothing.
    options.set_tcp_user_timeout(Some(longest))
}

#[cfg(not(target_os = "linux"))]
fn set_options(socket: &TcpStream, _: Duration) -> io::Result<()> {
    socket.set_nodelay(true)
}

impl StallWatch {
    fn start(&self) {
        let (free, order) = (0, Ordering::Relaxed);
        // Else something waits already, and it is that one which counts.
        let _ = self.since.compare_exchange(free, self.now(), order, order);
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// Completes when the client has taken nothing for `longest` although something was ready.
    pub(crate) async fn stalled(&self, longest: Duration) {
        loop {
            let left = match self.since.load(Ordering::Relaxed) {
                // What begins to wait now is seen a quarter late at most.
                0 => longest / 4,
                since => {
                    let waited = Duration::from_millis(self.now().saturating_sub(since));
                    match longest.checked_sub(waited) {
                        Some(left) if !left.is_zero() => left,
                        _ => return,
                    }
                }
            };
            sleep(left).await;
        }
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    const LONGEST: Duration = Duration::from_millis(400);

    /// A client's end, and the server's.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_noticed() {
        let (client, server) = pair().await;
        let (mut socket, watch) = WatchedSocket::new(server, Duration::from_secs(60));
        let writing = tokio::spawn(async move { while socket.write(&[0; 4096]).await.is_ok() {} });
        let seen = timeout(LONGEST * 10, watch.stalled(LONGEST)).await;
        assert!(seen.is_ok());
        writing.abort();
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_and_one_who_has_nothing_to_read_are_left_alone() {
        let (mut client, server) = pair().await;
        let (mut socket, watch) = WatchedSocket::new(server, Duration::from_secs(60));
        let quiet = timeout(LONGEST * 3, watch.stalled(LONGEST)).await;
        assert!(quiet.is_err());
        let writing = tokio::spawn(async move { while socket.write(&[0; 4096]).await.is_ok() {} });
        let reading = tokio::spawn(async move {
            let mut piece = vec![0; 1 << 20];
            while client.read(&mut piece).await.is_ok_and(|bytes| bytes > 0) {
                sleep(LONGEST / 10).await;
            }
        });
        let slow = timeout(LONGEST * 3, watch.stalled(LONGEST)).await;
        assert!(slow.is_err());
        writing.abort();
        reading.abort();
    }
}
