use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::Value;

use super::{ChatTemplate, SpecialTokens};
use crate::{Error, Result};

/// The template for chats without tools, and for those with tools where there is another for these.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
/// The file of the default template, and the folder of the others.
const FILE: &str = "chat_template.jinja";
const FOLDER: &str = "additional_chat_templates";
/// Names that an error lists.
const SHOWN: usize = 20;

/// The chat templates of a model folder by name; a single one is `default`.
#[derive(Debug)]
pub(crate) struct ChatTemplates(BTreeMap<String, ChatTemplate>);

impl ChatTemplates {
    /// The templates of a model folder, if it has any: `chat_template.jinja` and those of `additional_chat_templates`, else what
    /// `tokenizer_config.json` says.
    ///
    /// # Errors
    /// A template that cannot be parsed.
    pub(crate) fn open(
        dir: &Path,
        tokenizer_config: &Value,
        special: &SpecialTokens,
    ) -> Result<Option<Self>> {
        let mut sources = in_files(dir)?;
        if sources.is_empty() {
            sources = in_config(tokenizer_config);
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let parse = |(name, source): (String, String)| {
            let template = ChatTemplate::parse(&source, special.clone());
            // Only of those that chats are written with does it matter.
            match template {
                Err(error) if [DEFAULT, TOOL_USE].contains(&name.as_str()) => Err(error),
                Err(_) => Ok(None),
                Ok(template) => Ok(Some((name, template))),
            }
        };
        let parsed = sources.into_iter().map(parse);
        let templates = parsed.collect::<Result<Vec<_>>>()?;
        Ok(Some(Self(templates.into_iter().flatten().collect())))
    }

    /// The template that transformers takes for a chat.
    ///
    /// # Errors
    /// Named templates of which none is meant, with their names.
    pub(crate) fn of_chat(&self, tools: bool) -> Result<&ChatTemplate, String> {
        let for_tools = tools.then(|| self.0.get(TOOL_USE)).flatten();
        for_tools.or_else(|| self.0.get(DEFAULT)).ok_or_else(|| {
            let names: Vec<_> = self.0.keys().take(SHOWN).map(|n| format!("'{n}'")).collect();
            format!(
                "the model folder has the chat templates {}, but none named '{DEFAULT}', which chats {} are written with; write the one that is meant to {FILE}",
                names.join(", "),
                if tools { "with tools, too," } else { "without tools" },
            )
        })
    }
}

fn in_files(dir: &Path) -> Result<BTreeMap<String, String>> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|error| Error::model(format!("{} cannot be read: {error}", path.display())))
    };
    let mut sources = BTreeMap::new();
    let file = dir.join(FILE);
    if file.exists() {
        let text = fs::read_to_string(&file)
            .map_err(|error| Error::model(format!("{FILE} cannot be read: {error}")))?;
        sources.insert(DEFAULT.to_owned(), text);
    }
    let files = match fs::read_dir(dir.join(FOLDER)) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sources),
        Err(error) => return Err(Error::model(format!("{FOLDER} cannot be read: {error}"))),
    };
    for file in files {
        let path = file
            .map_err(|error| Error::model(format!("{FOLDER} cannot be read: {error}")))?
            .path();
        let name = path.file_stem().map(|name| name.to_string_lossy());
        if let Some(name) = name
            && path.extension().is_some_and(|ending| ending == "jinja")
        {
            sources.insert(name.into_owned(), read(&path)?);
        }
    }
    Ok(sources)
}

/// `chat_template` is the template, or named ones as a list or an object.
fn in_config(config: &Value) -> BTreeMap<String, String> {
    let named =
        |name: Option<&str>, source: &Value| Some((name?.to_owned(), source.as_str()?.to_owned()));
    match config.get("chat_template") {
        Some(Value::String(source)) => [(DEFAULT.to_owned(), source.clone())].into(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|entry| named(entry["name"].as_str(), &entry["template"]))
            .collect(),
        Some(Value::Object(object)) => object
            .iter()
            .filter_map(|(name, source)| named(Some(name), source))
            .collect(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::template::Extras;

    fn written(dir: &Path, config: &Value, tools: bool) -> Option<Result<String, String>> {
        let templates = ChatTemplates::open(dir, config, &SpecialTokens::default()).unwrap()?;
        let template = templates.of_chat(tools);
        Some(template.map(|t| t.render(&[], &Extras::default(), false).unwrap()))
    }

    #[test]
    fn a_file_of_its_own_wins_over_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let open = |config: Value| written(dir.path(), &config, false).transpose().unwrap();
        assert_eq!(open(json!({})), None);
        assert_eq!(
            open(json!({"chat_template": "one"})).as_deref(),
            Some("one")
        );
        let list = json!({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two"}]});
        assert_eq!(open(list.clone()).as_deref(), Some("two"));
        fs::write(dir.path().join(FILE), "three").unwrap();
        assert_eq!(open(list).as_deref(), Some("three"));
    }

    #[test]
    fn chats_with_tools_have_their_own_template() {
        let dir = tempfile::tempdir().unwrap();
        let told = |config: &Value, tools| written(dir.path(), config, tools).unwrap();
        for config in [
            json!({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}),
            json!({"chat_template": {"default": "d", "tool_use": "t", "rag": "{% broken"}}),
        ] {
            assert_eq!(told(&config, false).unwrap(), "d");
            assert_eq!(told(&config, true).unwrap(), "t");
        }
        let nameless = json!({"chat_template": {"rag": "r", "tool_use": "t"}});
        assert_eq!(told(&nameless, true).unwrap(), "t");
        let message = told(&nameless, false).unwrap_err();
        assert!(message.contains("'rag', 'tool_use'"), "{message}");
        fs::write(dir.path().join(FILE), "file").unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        fs::write(dir.path().join(FOLDER).join("tool_use.jinja"), "tools").unwrap();
        assert_eq!(told(&nameless, false).unwrap(), "file");
        assert_eq!(told(&nameless, true).unwrap(), "tools");
    }
}
