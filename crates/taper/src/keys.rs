//! `taper keys`: who may use the server. It works on the data directory, whether a server is running on it or not.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use rustix::{fs::Mode, process::umask};
use taper_core::{Project, Role};
use taper_store::{ApiKey, KeyRing, Scope, known_keys};

use crate::{
    console::{say, tell},
    settings::{Flags, Settings},
};

const NAME_CHARS: usize = 100;

/// Makes, lists and revokes the keys that clients need. A server takes them, and no longer takes them, at once.
#[derive(Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Makes a key and prints it, this once: only its hash is kept.
#[derive(Args)]
struct Create {
    /// What it may do: read (look), submit (and make, change and delete), admin (and see the server's figures)
    #[arg(long, value_parser = parse_role)]
    role: Role,

    /// The project whose things it sees and makes [default: of an admin key all, of others "default"]
    #[arg(long, value_parser = Project::parse, value_name = "NAME")]
    project: Option<Project>,

    /// What it is for, to know it again in the list
    #[arg(long, default_value = "", value_parser = parse_name, hide_default_value = true)]
    name: String,

    #[command(flatten)]
    place: Place,
}

/// Lists all keys, without their secrets.
#[derive(Args)]
struct List {
    #[command(flatten)]
    place: Place,
}

/// Takes a key out of force, at once, with the sessions that were begun with it.
#[derive(Args)]
struct Revoke {
    /// Its id, as it is listed; it stands in the key as well: taper-ID-…
    id: String,

    #[command(flatten)]
    place: Place,
}

/// Where the keys lie.
#[derive(Args)]
struct Place {
    /// The server's data directory [default: ./data]
    #[arg(long, env = "TAPER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The server's settings file [default: ./taper.toml, if there is one]
    #[arg(long, env = "TAPER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Keys {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        // What SQLite writes is for the owner alone.
        umask(Mode::RWXG | Mode::RWXO);
        match self.action {
            Action::Create(command) => command.run().await,
            Action::List(command) => command.run().await,
            Action::Revoke(command) => command.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<ExitCode> {
        let scope = match (self.project, self.role) {
            (Some(project), _) => Scope::Project(project),
            (None, Role::Admin) => Scope::All,
            (None, Role::Submit | Role::Read) => Scope::Project(Project::default()),
        };
        let mut keys = KeyRing::open(&self.place.data_dir()?).await?;
        let (key, text) = keys.create(self.role, scope, &self.name).await?;
        keys.close().await?;
        // The key alone on stdout, so that a script can take it.
        say(text);
        tell(format_args!(
            "This is the only time that the key is shown: role {}, {}. taper keys revoke {} takes it back.",
            key.role,
            shows(&key.scope),
            key.id
        ));
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self) -> Result<ExitCode> {
        let keys = known_keys(&self.place.data_dir()?).await?;
        if keys.is_empty() {
            tell("there are no keys; taper keys create makes one");
            return Ok(ExitCode::SUCCESS);
        }
        say(format_args!(
            "{:<14}{:<8}{:<18}{:<14}{:<14}name",
            "id", "role", "project", "made", "last used"
        ));
        for key in keys {
            say(line(&key, now()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Revoke {
    async fn run(self) -> Result<ExitCode> {
        let dir = self.place.data_dir()?;
        let known = known_keys(&dir).await?;
        let in_force = |key: &ApiKey| key.id == self.id && key.revoked_at.is_none();
        ensure!(
            known.iter().any(in_force),
            "no key in force has the id '{}'; taper keys list shows what there is",
            self.id
        );
        let mut keys = KeyRing::open(&dir).await?;
        keys.revoke(&self.id).await?;
        keys.close().await?;
        say(format_args!("the key {} is no longer taken", self.id));
        Ok(ExitCode::SUCCESS)
    }
}

impl Place {
    /// The directory that a server with the same flags would use.
    fn data_dir(&self) -> Result<PathBuf> {
        let flags = Flags {
            data_dir: self.data_dir.clone(),
            config: self.config.clone(),
            ..Flags::default()
        };
        Ok(Settings::read(flags)?.data_dir)
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "a role is admin, submit or read".to_owned())
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.chars().count() <= NAME_CHARS && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a name has at most {NAME_CHARS} characters, all of them visible"
    ))
}

/// What a key shows, in words.
fn shows(scope: &Scope) -> String {
    match scope {
        Scope::All => "all projects".to_owned(),
        Scope::Project(project) => format!("project {project}"),
    }
}

fn line(key: &ApiKey, now: i64) -> String {
    let project = match &key.scope {
        Scope::All => "(all)",
        Scope::Project(project) => project.as_str(),
    };
    let used = match (key.revoked_at, key.last_used_at) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(at)) => ago(now - at),
        (None, None) => "never".to_owned(),
    };
    let (id, role, made) = (&key.id, key.role.as_str(), ago(now - key.created_at));
    let line = format!(
        "{id:<14}{role:<8}{project:<18}{made:<14}{used:<14}{}",
        key.name
    );
    line.trim_end().to_owned()
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}
