//! The examples that ship with a model: what it is asked, and what is right.

use serde::Serialize;
use serde_json::Value;

use crate::engine::Shipped;
use crate::error::{Error, Result};
use crate::files::{one_line, read_text};
use crate::tasks::Entity;

/// One example.
pub(super) struct Asked {
    pub question: String,
    /// The text that a question is about.
    pub context: Option<String>,
    pub expected: Expected,
}

impl Asked {
    pub fn context(&self) -> &str {
        self.context.as_deref().unwrap_or_default()
    }
}

/// What is right.
#[derive(PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Expected {
    Text(String),
    /// Label, first character and the one behind the last.
    Entities(Vec<(String, usize, usize)>),
}

impl Expected {
    pub fn is(&self, answer: &str) -> bool {
        matches!(self, Self::Text(text) if text == answer)
    }
}

/// Most of an example that an error quotes.
const QUOTED: usize = 120;

/// Reads `held_out.jsonl` of the head or the model; one JSON object per line.
pub(super) fn read(shipped: &Shipped) -> Result<Vec<Asked>> {
    let path = shipped.head.as_ref().unwrap_or(&shipped.folder).join("held_out.jsonl");
    let text = read_text(&path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .enumerate()
        .map(|(number, line)| {
            parse(line).ok_or_else(|| {
                let shown: String = one_line(line).chars().take(QUOTED).collect();
                let message =
                    format!("line {}: `{shown}`; expected a question with its answer", number + 1);
                Error::file(&path, message)
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Asked> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let context = text("context");
    let (question, expected) = match value.get("entities") {
        Some(list) => {
            let entities = list.as_array()?.iter().map(span).collect::<Option<_>>()?;
            (text("text")?, Expected::Entities(entities))
        }
        None => {
            let question =
                text("text").or(text("source")).or(text("prompt")).or(text("question"))?;
            let keys = ["label", "token", "target", "story", "answer"];
            (question, Expected::Text(keys.into_iter().find_map(text)?))
        }
    };
    Some(Asked { question, context, expected })
}

fn span(value: &Value) -> Option<(String, usize, usize)> {
    let place = |key: &str| value.get(key)?.as_u64().map(|n| n as usize);
    Some((value.get("label")?.as_str()?.to_owned(), place("start")?, place("end")?))
}

/// An entity's label and place, as examples give them.
pub(super) fn place(entity: &Entity) -> (String, usize, usize) {
    (entity.label.clone(), entity.start, entity.end)
}
