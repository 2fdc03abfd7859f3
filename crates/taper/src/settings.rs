use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::Args;
use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use taper_server::{TrustStore, WebhookSecret, Webhooks};
use taper_store::known_keys;

use crate::{
    limits::{Limits, LimitsFlags},
    logging::LogFormat,
    memory,
    upkeep::{Upkeep, UpkeepFlags},
};

const FILE: &str = "taper.toml";
const KEY: &str = "TAPER_API_KEY";
const WEBHOOK_SECRET: &str = "TAPER_WEBHOOK_SECRET";

/// What the command line and the environment say; a flag wins over its variable.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Flags {
    /// Where jobs, files and results are kept [default: ./data]
    #[arg(long, env = "TAPER_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Where the base models lie, a folder each in Hugging Face layout: NAME or ORG/NAME [default: ./models]
    #[arg(long, env = "TAPER_MODELS_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) models_dir: Option<PathBuf>,

    /// Address to serve at; port 0 picks a free one [default: 127.0.0.1:8000]
    #[arg(long, env = "TAPER_LISTEN", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,

    /// Jobs that train at the same time [default: one per CUDA device, else one]
    #[arg(long, env = "TAPER_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Threads of each worker [default: all cores]
    #[arg(long, env = "TAPER_THREADS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Memory that running jobs may take together; 0 = no limit [default: what is available at the start, less a reserve]
    #[arg(long, env = "TAPER_MEMORY_LIMIT_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_limit_mib: Option<u64>,

    /// Train each job in a process of its own, so that one that runs out of memory takes only itself along
    #[arg(long, env = "TAPER_ISOLATE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) isolate: Option<bool>,

    /// A name in the Host header to answer to, besides localhost and the address itself; may be repeated
    #[arg(
        long,
        env = "TAPER_ALLOW_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allow_host: Vec<String>,

    /// A URL that is told of jobs' ends, signed with TAPER_WEBHOOK_SECRET; may be repeated
    #[arg(long, env = "TAPER_WEBHOOK", value_name = "URL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) webhook: Vec<String>,

    /// A PEM file with authorities that may sign the certificates of webhooks' URLs, besides those that the system trusts
    #[arg(long, env = "TAPER_WEBHOOK_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_ca: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) upkeep: UpkeepFlags,

    #[command(flatten)]
    pub(crate) limits: LimitsFlags,

    /// How log lines look [default: text]
    #[arg(long, env = "TAPER_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,

    /// A file with the same settings [default: ./taper.toml, if there is one]
    #[arg(long, env = "TAPER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
}

/// Every setting of the server with its value in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) models_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) workers: Option<NonZeroUsize>,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) isolate: bool,
    pub(crate) memory_limit_mib: Option<u64>,
    pub(crate) allow_host: Vec<String>,
    pub(crate) webhook: Vec<String>,
    pub(crate) webhook_ca: Option<PathBuf>,
    pub(crate) upkeep: Upkeep,
    pub(crate) limits: Limits,
    pub(crate) log_format: LogFormat,
    /// Comes by the environment only: a command line is visible to every user of the machine.
    #[serde(skip)]
    pub(crate) api_key: Option<String>,
    /// By the environment only, too.
    #[serde(skip)]
    pub(crate) webhook_secret: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            models_dir: "models".into(),
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            workers: None,
            threads: None,
            isolate: false,
            memory_limit_mib: None,
            allow_host: Vec::new(),
            webhook: Vec::new(),
            webhook_ca: None,
            upkeep: Upkeep::default(),
            limits: Limits::default(),
            log_format: LogFormat::Text,
            api_key: None,
            webhook_secret: None,
        }
    }
}

impl Settings {
    /// Puts the sources together: flag, then environment, then file, then default.
    ///
    /// # Errors
    /// A file that is missing though named, or does not fit.
    pub(crate) fn read(flags: Flags) -> Result<Self> {
        let mut settings = Self::merge(flags)?;
        settings.allow_host.retain(|name| !name.is_empty());
        settings.webhook.retain(|url| !url.is_empty());
        settings.api_key = secret(KEY);
        settings.webhook_secret = secret(WEBHOOK_SECRET);
        Ok(settings)
    }

    /// Makes sure that nobody else is let in without a key.
    ///
    /// # Errors
    /// An address for others, and no key that one of them could have.
    pub(crate) async fn require_key(&self) -> Result<()> {
        if self.listen.ip().is_loopback() || self.api_key.is_some() {
            return Ok(());
        }
        let keys = known_keys(&self.data_dir).await?;
        if keys.iter().any(|key| key.revoked_at.is_none()) {
            return Ok(());
        }
        bail!(
            "{} can be reached from other machines, so a key is needed: make one with taper keys create, set {KEY} to a long random word, or listen on 127.0.0.1",
            self.listen
        )
    }

    fn merge(flags: Flags) -> Result<Self> {
        let file = match &flags.config {
            Some(path) if !path.is_file() => {
                bail!("the settings file {} does not exist", path.display())
            }
            Some(path) => path.clone(),
            None => Path::new(FILE).to_owned(),
        };
        let mut sources = Figment::from(Serialized::defaults(Self::default()));
        if file.is_file() {
            sources = sources.merge(Toml::file_exact(file));
        }
        Ok(sources.merge(Serialized::defaults(flags)).extract()?)
    }

    /// Bytes that jobs may take together; `None` = no limit.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        match self.memory_limit_mib {
            Some(0) => None,
            Some(mib) => Some(mib.saturating_mul(1 << 20)),
            None => memory::limit_for_jobs(),
        }
    }

    /// Where ends of jobs are told.
    ///
    /// # Errors
    /// A URL that is none; URLs without a secret; a file of authorities that holds none.
    pub(crate) fn webhooks(&self) -> Result<Option<Webhooks>> {
        if self.webhook.is_empty() {
            return Ok(None);
        }
        let Some(secret) = &self.webhook_secret else {
            bail!(
                "webhooks are signed: set {WEBHOOK_SECRET} to whsec_ and 32 random bytes in base64"
            );
        };
        let urls = self.webhook.iter().map(|text| target(text));
        let urls = urls.collect::<Result<_>>()?;
        let trust = TrustStore::of_system();
        let trust = match &self.webhook_ca {
            Some(path) => trust.and(path)?,
            None => trust,
        };
        let secret = WebhookSecret::new(secret);
        Ok(Some(Webhooks {
            urls,
            secret,
            trust,
        }))
    }

    /// Threads of each worker.
    pub(crate) fn threads_in_force(&self) -> usize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
    }
}

/// Reads where webhooks go.
fn target(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        bail!("--webhook takes a URL that begins with https:// or http://, not {text}");
    };
    if !url.username().is_empty() || url.password().is_some() {
        bail!(
            "--webhook takes no URL with a name or a password in it; the signature tells receivers who sends"
        );
    }
    Ok(url)
}

fn secret(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, flags: Flags) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taper.toml");
        std::fs::write(&path, text).unwrap();
        Settings::merge(Flags {
            config: Some(path),
            ..flags
        })
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flags = Flags {
            workers: NonZeroUsize::new(3),
            ..Flags::default()
        };
        let text = "workers = 2\nthreads = 4\nallow-host = [\"gpu\"]\nlog-format = \"json\"";
        let settings = with_file(text, flags).unwrap();
        assert_eq!(settings.workers, NonZeroUsize::new(3));
        assert_eq!(settings.threads_in_force(), 4);
        assert_eq!(settings.allow_host, ["gpu"]);
        assert_eq!(settings.log_format, LogFormat::Json);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let error = with_file("worker = 2", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("worker"), "{error}");
        let error = with_file("workers = 0", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("workers"), "{error}");
    }

    #[test]
    fn webhooks_go_to_addresses_of_the_web_alone() {
        for fit in ["http://localhost:9/hook", "https://hooks.example/a?b=c"] {
            assert_eq!(target(fit).unwrap().as_str(), fit);
        }
        for unfit in [
            "hooks.example",
            "ftp://hooks.example",
            "https://",
            "file:///etc/passwd",
            "https://name:word@hooks.example",
            "https://name@hooks.example",
        ] {
            assert!(target(unfit).is_err(), "{unfit}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let flags = Flags {
            config: Some("/nowhere/taper.toml".into()),
            ..Flags::default()
        };
        let error = Settings::merge(flags).unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
