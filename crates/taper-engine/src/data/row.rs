use serde_json::{Map, Value};

use super::Extras;

/// What one line of a data file holds, and which line that is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Line of the file; in a Parquet file the number of the row, from 1.
    pub(crate) line: u64,
    pub(crate) content: Content,
}

/// A row by its kind; all rows of a file are of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// A text and its class name; an integer label is its decimal text.
    Labelled { text: String, label: String },
    /// The loss covers the completion.
    Completion { prompt: String, completion: String },
    /// The loss covers the trained messages.
    Chat {
        messages: Vec<Message>,
        extras: Extras,
    },
    /// The loss covers all of it.
    Text(String),
}

impl Content {
    /// Whether builds before checkpoints told their tokens made other tokens of such a row.
    pub(crate) fn was_read_otherwise(&self) -> bool {
        match self {
            Self::Completion { .. } | Self::Chat { .. } => true,
            Self::Labelled { .. } | Self::Text(_) => false,
        }
    }
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// Whether the loss covers the message.
    pub(crate) trained: bool,
    /// What chat templates see: `role`, `content` (absent only beside other things that are said) and what else the row has, in its
    /// order. Nothing of it is null.
    pub(crate) fields: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Message {
    /// A message that says a text; the assistant's is trained.
    pub(crate) fn of(role: Role, content: &str) -> Self {
        let fields = [("role", role.name()), ("content", content)];
        Self {
            role,
            trained: role == Role::Assistant,
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect(),
        }
    }

    /// About the bytes of what it says and calls.
    fn bytes(&self) -> usize {
        self.fields.values().map(bytes).sum()
    }

    /// What the message says; nothing where it only calls tools.
    #[cfg(test)]
    pub(crate) fn content(&self) -> &str {
        let content = self.fields.get("content");
        content.and_then(Value::as_str).unwrap_or_default()
    }
}

/// Bytes of the texts in a value.
pub(super) fn bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes).sum(),
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| name.len() + bytes(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

impl Row {
    /// About the bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        match &self.content {
            Content::Labelled { text, .. } | Content::Text(text) => text.len(),
            Content::Completion { prompt, completion } => prompt.len() + completion.len(),
            Content::Chat { messages, extras } => {
                extras.bytes() + messages.iter().map(Message::bytes).sum::<usize>()
            }
        }
    }

    /// The class name, in rows for classification.
    pub(crate) fn label(&self) -> Option<&str> {
        match &self.content {
            Content::Labelled { label, .. } => Some(label),
            Content::Completion { .. } | Content::Chat { .. } | Content::Text(_) => None,
        }
    }
}
