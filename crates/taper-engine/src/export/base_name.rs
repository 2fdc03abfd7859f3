//! By what name others find the model that a run was made from.

use std::path::Path;

use serde_json::Value;
use taper_core::RunSpec;

use crate::model_folder::ModelFolder;

/// Files that training leaves beside weights.
const TRACES: [&str; 4] = [
    "taper_job.json",
    "training_args.bin",
    "trainer_state.json",
    "adapter_config.json",
];
/// How the cache of Hugging Face's hub names the folder of a model.
const CACHED: &str = "models--";

/// The name of a base, and what has to be said beside it.
#[derive(Debug, PartialEq)]
pub(super) struct BaseName {
    pub(super) name: String,
    /// Below the lines that load it; empty where the name is all that is needed.
    pub(super) note: String,
}

impl BaseName {
    pub(super) fn of(run: &RunSpec, folder: &ModelFolder) -> Self {
        // What goes on from another job's weights has the base of that one.
        let asked = match &run.start_from {
            Some(_) => None,
            None => Some(run.spec.model.as_str()),
        };
        Self::find(asked, &run.model_dir).unwrap_or_else(|| {
            let name = match asked {
                Some(name) => name.to_owned(),
                None => name_of(&run.model_dir).unwrap_or_else(|| run.spec.model.clone()),
            };
            let mut note = format!(
                "\n`{name}` is the name of the base's folder on the server that made this. Where that is not its id on a hub, too, put the path of such a folder in its place.\n"
            );
            let said = folder.config.get("_name_or_path").and_then(Value::as_str);
            if let Some(said) = said.filter(|name| is_hub_id(name)) {
                note += &format!(
                    "Its `config.json` names `{said}`: that may be the base itself, but of most published models it is the one that they were trained from, on which this adapter does not work.\n"
                );
            }
            Self { name, note }
        })
    }

    /// The id on the hub, where the folder's name or its place tells it. What `config.json` calls `_name_or_path` does not: published
    /// models carry there the name of the model that they were trained from.
    fn find(asked: Option<&str>, dir: &Path) -> Option<Self> {
        let named = asked.filter(|name| is_hub_id(name)).map(str::to_owned);
        let name = named.or_else(|| of_cache(dir))?;
        let note = String::new();
        Some(Self { name, note })
    }
}

fn was_trained(dir: &Path) -> bool {
    TRACES.iter().any(|name| dir.join(name).exists())
}

/// The folder's own name, unless it is the output of a job, whose folders are all called the same.
fn name_of(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    (!was_trained(dir)).then(|| name.to_owned())
}

/// `…/models--ORG--NAME/snapshots/…`
fn of_cache(dir: &Path) -> Option<String> {
    let mut parts = dir.iter().filter_map(|part| part.to_str());
    let id = parts.find_map(|part| part.strip_prefix(CACHED))?;
    let id = id.replacen("--", "/", 1);
    is_hub_id(&id).then_some(id)
}

/// Whether a name has the form `ORG/NAME`. Names of one word are as often those of folders.
fn is_hub_id(name: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain)
    };
    name.split_once('/')
        .is_some_and(|(org, name)| is_part(org) && is_part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_have_two_parts_and_are_no_paths() {
        for id in ["Qwen/Qwen2.5-0.5B", "a/b_c"] {
            assert!(is_hub_id(id), "{id}");
        }
        for path in [
            "gpt2",
            "/fsx/model",
            "./model",
            "a/b/c",
            "a/",
            "../b",
            "C:/b c",
            "",
        ] {
            assert!(!is_hub_id(path), "{path}");
        }
    }

    #[test]
    fn the_folders_name_and_its_place_tell_the_id() {
        let found = |asked, dir: &str| {
            BaseName::find(asked, Path::new(dir)).map(|base| (base.name, base.note.is_empty()))
        };
        let id = |name: &str| Some((name.to_owned(), true));
        assert_eq!(found(Some("org/named"), "/models/small"), id("org/named"));
        let cached = "/cache/hub/models--org--small-1b/snapshots/0a1b";
        assert_eq!(found(None, cached), id("org/small-1b"));
        assert_eq!(found(Some("small"), "/models/small"), None);
    }
}
