//! JSON as Python's `json.dumps` writes it, for chat templates.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::text::tokenizer::MAX_TEXT_BYTES;

/// Lists and objects within each other.
const MAX_DEPTH: usize = 64;

/// The layout that `json.dumps` is asked for.
pub(super) struct Layout {
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
    ascii: bool,
}

impl Layout {
    /// From `indent`, `separators`, `sort_keys` and `ensure_ascii`.
    pub(super) fn of(options: &Kwargs) -> Result<Self, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            Some(value) if !value.is_none() => Some(match value.as_usize() {
                Some(width) if width <= MAX_DEPTH => " ".repeat(width),
                Some(_) => return Err(invalid("tojson: an indent of more than 64 spaces")),
                None => value.to_string(),
            }),
            _ => None,
        };
        let separators: Option<Vec<String>> = options.get("separators")?;
        let (item, key) = match separators.as_deref() {
            Some([item, key]) => (item.clone(), key.clone()),
            Some(_) => return Err(invalid("tojson: `separators` are two texts")),
            None => ((if indent.is_some() { "," } else { ", " }).into(), ": ".into()),
        };
        let flag = |name| options.get::<Option<bool>>(name).map(|flag| flag.unwrap_or(false));
        Ok(Self { indent, item, key, sort: flag("sort_keys")?, ascii: flag("ensure_ascii")? })
    }
}

/// A value as JSON text.
///
/// An error for what JSON cannot express, for lists and objects nested too deeply, and for more
/// text than a prompt may have.
pub(super) fn to_json(value: &Value, layout: &Layout) -> Result<String, Error> {
    let mut out = String::new();
    write(value, layout, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, layout: &Layout, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("tojson: a value nested more than 64 deep"));
    }
    // Values can share parts, so that a small one has a huge text.
    if out.len() > MAX_TEXT_BYTES {
        return Err(invalid("tojson: a value of more text than a prompt may have"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), layout, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?;
            write_list(items, ['[', ']'], layout, depth, out, |item, out| {
                write(&item, layout, depth + 1, out)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if layout.sort {
                keys.sort_by_key(Value::to_string);
            }
            write_list(keys.into_iter(), ['{', '}'], layout, depth, out, |key, out| {
                let member = value.get_item(&key)?;
                match key.as_str() {
                    Some(text) => write_string(text, layout, out),
                    None => write_string(&key.to_string(), layout, out),
                }
                out.push_str(&layout.key);
                write(&member, layout, depth + 1, out)
            })?;
        }
        kind => return Err(invalid(format!("tojson: {kind} cannot be written as JSON"))),
    }
    Ok(())
}

fn write_list(
    items: impl Iterator<Item = Value>,
    [open, close]: [char; 2],
    layout: &Layout,
    depth: usize,
    out: &mut String,
    mut each: impl FnMut(Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |depth: usize, out: &mut String| {
        if let Some(indent) = &layout.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    out.push(open);
    let mut empty = true;
    for item in items {
        if !empty {
            out.push_str(&layout.item);
        }
        empty = false;
        new_line(depth + 1, out);
        each(item, out)?;
    }
    if !empty {
        new_line(depth, out);
    }
    out.push(close);
    Ok(())
}

fn write_string(text: &str, layout: &Layout, out: &mut String) {
    let quoted = serde_json::Value::from(text).to_string();
    if !layout.ascii {
        out.push_str(&quoted);
        return;
    }
    for c in quoted.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
