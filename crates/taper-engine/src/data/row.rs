use serde::Serialize;
use serde_json::{Map, Value};

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
        /// Functions the model may call, for the template.
        tools: Option<Value>,
    },
    /// The loss covers all of it.
    Text(String),
}

/// One message of a chat, as chat templates want to see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Message {
    pub(crate) role: Role,
    /// Absent only beside `tool_calls`.
    pub(crate) content: Option<String>,
    /// Whether the loss covers the message.
    #[serde(skip)]
    pub(crate) trained: bool,
    /// `tool_calls`, `name` and whatever else a template may look at.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl Row {
    /// The class name, in rows for classification.
    pub(crate) fn label(&self) -> Option<&str> {
        match &self.content {
            Content::Labelled { label, .. } => Some(label),
            Content::Completion { .. } | Content::Chat { .. } | Content::Text(_) => None,
        }
    }
}
