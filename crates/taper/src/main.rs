//! The one binary and the composition root: it wires engine, store, runner and server together, one file a subcommand.

mod console;
mod demo;
mod devices;
mod digest;
mod instance;
mod logging;
mod openapi;
mod progress;
mod serve;
mod settings;
mod signals;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fine-tunes transformers: a job server with OpenAI's fine-tuning API and a page to watch it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Train(train::Train),
    Demo(demo::Demo),
    Openapi(openapi::Openapi),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(command) => success(command.run()),
        Command::Train(command) => command.run(),
        Command::Demo(command) => success(command.run()),
        Command::Openapi(command) => success(command.run()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn success(ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    ended.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
