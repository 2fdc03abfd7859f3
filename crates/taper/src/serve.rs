use anyhow::{Context, Result};
use clap::Args;
use rustix::{fs::Mode, process::umask};
use tokio::net::TcpListener;

use crate::{
    console::say,
    instance::Instance,
    logging,
    settings::{Flags, Settings},
    signals::Signals,
};

/// Runs the server. Every flag may also stand in a taper.toml, under the same name.
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<()> {
        let settings = Settings::read(self.flags)?;
        logging::start(settings.log_format, "info");
        // What SQLite, the engine and the workers write is for the owner alone.
        umask(Mode::RWXG | Mode::RWXO);
        let mut signals = Signals::listen()?;
        let listener = TcpListener::bind(settings.listen)
            .await
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
