use std::{io, net::SocketAddr};

use anyhow::{Context, Result};
use clap::Args;
use rustix::{fs::Mode, process::umask};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
};

use crate::{
    console::say,
    instance::Instance,
    logging,
    settings::{Flags, Settings},
    signals::Signals,
};

/// Connections that the kernel lets wait until they are taken: one that finds no room tries again only a second later.
const WAITING: u32 = 4096;

/// Runs the server. Every flag may also stand in a taper.toml, under the same name.
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = Runtime::new().context("cannot start the threads")?;
        let ended = runtime.block_on(self.serve());
        // A thread that waits for a disk that does not answer must not keep the process.
        runtime.shutdown_background();
        ended
    }

    async fn serve(self) -> Result<()> {
        let settings = Settings::read(self.flags)?;
        logging::start(settings.log_format, "info");
        // What SQLite, the engine and the workers write is for the owner alone.
        umask(Mode::RWXG | Mode::RWXO);
        let mut signals = Signals::listen()?;
        let listener = listen(settings.listen)
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        let mut instance = Instance::start(&settings, listener).await?;
        say(format_args!("listening on http://{}", instance.addr));
        let fault = tokio::select! {
            () = signals.next() => None,
            fault = instance.fault() => Some(fault),
        };
        tracing::info!("stopping; a second signal ends at once");
        signals.end_at_next();
        instance.stop().await?;
        fault.map_or(Ok(()), Err)
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that has just ended leaves its address occupied for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(WAITING)
}
