//! A TCP proxy that does what networks do: it cuts, delays and dribbles. Its address stays while servers come and go behind it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, watch},
    task::JoinHandle,
    time::sleep,
};

/// What the proxy does to every connection from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Bytes of a request after which the connection is cut.
    pub(crate) request_bytes: u64,
    /// Bytes of an answer after which the connection is cut.
    pub(crate) answer_bytes: u64,
    /// Bytes that pass at once.
    pub(crate) piece: usize,
    /// Time that each piece waits.
    pub(crate) delay: Duration,
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        request_bytes: u64::MAX,
        answer_bytes: u64::MAX,
        piece: 64 * 1024,
        delay: Duration::ZERO,
    };
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    weather: watch::Sender<Weather>,
    cuts: broadcast::Sender<()>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Proxy {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (target, targets) = watch::channel(None);
        let (weather, weathers) = watch::channel(Weather::FAIR);
        let (cuts, _) = broadcast::channel(1);
        let open = Arc::new(AtomicUsize::new(0));
        let addr = listener.local_addr()?;
        let line = Line {
            targets,
            weathers,
            cuts: cuts.clone(),
            open: open.clone(),
        };
        Ok(Self {
            addr,
            target,
            weather,
            cuts,
            open,
            task: tokio::spawn(line.serve(listener)),
        })
    }

    /// Leads new connections to a server, or nowhere.
    pub(crate) fn lead_to(&self, server: Option<SocketAddr>) {
        self.target.send_replace(server);
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Cuts every open connection.
    pub(crate) fn cut(&self) {
        // There may be none.
        drop(self.cuts.send(()));
    }

    /// Open connections.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

struct Line {
    targets: watch::Receiver<Option<SocketAddr>>,
    weathers: watch::Receiver<Weather>,
    cuts: broadcast::Sender<()>,
    open: Arc<AtomicUsize>,
}

impl Line {
    async fn serve(self, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let Some(target) = *self.targets.borrow() else {
                continue; // dropped: refused as by a machine without a server
            };
            let weather = *self.weathers.borrow();
            let mut cut = self.cuts.subscribe();
            let open = self.open.clone();
            tokio::spawn(async move {
                open.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    _ = cut.recv() => {}
                    () = carry(client, target, weather) => {}
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, weather: Weather) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = AtomicU64::new(weather.request_bytes);
    let answers = AtomicU64::new(weather.answer_bytes);
    // A side that has reached its limit ends both; a side that has merely been closed lets the other finish.
    tokio::select! {
        true = pump(from_client, to_server, &requests, weather) => {}
        true = pump(from_server, to_client, &answers, weather) => {}
        else => {}
    }
}

/// Carries bytes one way; tells whether the limit was reached.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    left: &AtomicU64,
    weather: Weather,
) -> bool {
    let mut piece = vec![0; weather.piece];
    loop {
        let Ok(read @ 1..) = from.read(&mut piece).await else {
            drop(to.shutdown().await);
            return false;
        };
        if !weather.delay.is_zero() {
            sleep(weather.delay).await;
        }
        let allowed = left.load(Ordering::Relaxed);
        let passing = (read as u64).min(allowed);
        if to.write_all(&piece[..passing as usize]).await.is_err() {
            return false;
        }
        left.store(allowed - passing, Ordering::Relaxed);
        if passing == allowed {
            return true;
        }
    }
}
