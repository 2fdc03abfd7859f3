//! The one binary and the composition root: it wires engine, store, scheduler and server together, one file a subcommand.

mod backup;
mod client;
mod compare;
mod console;
mod demo;
mod descriptors;
mod devices;
mod digest;
mod doctor;
mod instance;
mod isolate;
mod keys;
mod limits;
mod logging;
mod memory;
mod openapi;
mod progress;
mod serve;
mod settings;
mod signals;
mod train;
mod upkeep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use taper_store::StoreError;

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
    Compare(compare::Compare),
    Demo(demo::Demo),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Doctor(doctor::Doctor),
    Keys(keys::Keys),
    Openapi(openapi::Openapi),
    #[command(hide = true)]
    RunIsolated(isolate::RunIsolated),
}

fn main() -> ExitCode {
    // A huge page stays whole in memory as long as a piece of it is in use: a tenth more at the peak of a training, and no faster.
    // Child processes inherit this. Where the system does not know it, the allocator asks for none either.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let ended = match Cli::parse().command {
        Command::Serve(command) => success(command.run()),
        Command::Train(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Demo(command) => success(command.run()),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Openapi(command) => success(command.run()),
        Command::RunIsolated(command) => command.run(),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            code(&error)
        }
    }
}

/// A supervisor must not start a server again and again where another one is.
const IN_USE: u8 = 3;

fn code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(StoreError::InUse(_)) => ExitCode::from(IN_USE),
        _ => ExitCode::FAILURE,
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
