use anyhow::Result;
use clap::Args;

use crate::console::say;

/// Prints the OpenAPI description of the server's API.
#[derive(Args)]
pub(crate) struct Openapi {}

impl Openapi {
    pub(crate) fn run(self) -> Result<()> {
        say(taper_server::openapi().to_pretty_json()?);
        Ok(())
    }
}
