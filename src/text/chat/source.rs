//! Where a model folder keeps its chat templates.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::{one_line, read_text, show};

/// The template in a file of its own, if there is one.
pub(super) fn from_file(folder: &Path, name: Option<&str>) -> Result<Option<(PathBuf, String)>> {
    let path = match name {
        None | Some("default") => folder.join("chat_template.jinja"),
        // Names are words; anything else could lead out of the folder.
        Some(name) if name.chars().all(|c| c.is_alphanumeric() || "_- ".contains(c)) => {
            folder.join("additional_chat_templates").join(format!("{name}.jinja"))
        }
        Some(_) => return Ok(None),
    };
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let source = read_text(&path)?;
    Ok(Some((path, source)))
}

/// The template in `tokenizer_config.json`: a text, or a list of objects with `name` and
/// `template`.
pub(super) fn from_config(
    path: &Path,
    found: Option<&Value>,
    name: Option<&str>,
) -> Result<String> {
    let wanted = name.unwrap_or("default");
    let wrong = |found: &Value| {
        Error::file(
            path,
            format!(
                "`chat_template` is {}; expected a text, or a list of objects with `name` and `template`",
                show(found)
            ),
        )
    };
    let mut names = Vec::new();
    match found {
        Some(Value::String(source)) if wanted == "default" => return Ok(source.clone()),
        None | Some(Value::Null | Value::String(_)) => {}
        Some(Value::Array(items)) => {
            for item in items {
                let text = |key: &str| item.get(key).and_then(Value::as_str);
                let (Some(name), Some(source)) = (text("name"), text("template")) else {
                    return Err(wrong(item));
                };
                if name == wanted {
                    return Ok(source.to_owned());
                }
                names.push(format!("`{}`", one_line(name)));
            }
        }
        Some(other) => return Err(wrong(other)),
    }
    let message = match (name, names.is_empty()) {
        (None, true) => {
            "the model has no chat template; chat_template.jinja or `chat_template` in this file is expected".into()
        }
        (Some(name), true) => format!("the model has no chat template `{}`", one_line(name)),
        (_, false) => format!(
            "the model has no chat template `{}`; it has {}",
            one_line(wanted),
            one_line(&names.join(", "))
        ),
    };
    Err(Error::file(path, message))
}

/// Every `…_token` of a tokeniser's settings, as its text.
pub(super) fn special_tokens(settings: &Value) -> Map<String, Value> {
    let fields = settings.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, token)| {
            let text = token.get("content").unwrap_or(token).as_str()?;
            Some((name.clone(), text.into()))
        })
        .collect()
}
