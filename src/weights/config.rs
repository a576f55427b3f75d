//! `config.json` and `generation_config.json`, read field by field with checks.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::files::{one_line, parse_json, read_text, show};

/// Layers beyond these are typing errors, not models.
const MOST_LAYERS: usize = 4096;

/// A configuration object: its getters name the file, the field, the value found and what is
/// expected. A field that is `null` counts as absent.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    /// `encoder.` for a configuration nested under that key.
    prefix: String,
    fields: Map<String, Value>,
    notices: Vec<String>,
}

impl Config {
    /// Sizes beyond this are typing errors, not models.
    pub const MOST: usize = 1 << 24;

    /// Reads `config.json` of a model folder. A `quantization_config` is an error: weights it
    /// describes would be misread.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_file(folder.as_ref().join("config.json"))
    }

    /// Reads a configuration file.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &read_text(path)?)
    }

    /// Parses the text of a configuration; `path` is what errors call it.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let path = path.as_ref();
        let fields = match parse_json(path, text)? {
            Value::Object(fields) => fields,
            other => {
                return Err(Error::file(
                    path,
                    format!("is {}; an object is expected", show(&other)),
                ));
            }
        };
        let mut config =
            Self { path: path.to_owned(), prefix: String::new(), fields, notices: Vec::new() };
        if let Some(quantization) = config.get("quantization_config") {
            let method = quantization.get("quant_method").unwrap_or(quantization);
            return Err(config.error(
                "quantization_config",
                show(method),
                "weights that are not quantised; use the model's original checkpoint",
            ));
        }
        if config.get("auto_map").is_some() {
            config.notices.push(format!(
                "{}: `auto_map` names Python code of the model's own, which is ignored",
                path.display()
            ));
        }
        Ok(config)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the user should know about this file, one line each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// A field's raw value; `None` when absent or `null`.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// Whether a field is present, be it `null`.
    pub fn states(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// The same with values for fields that are not present.
    #[must_use]
    pub fn with_defaults(&self, defaults: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut filled = self.clone();
        for (field, value) in defaults {
            filled.fields.entry(field).or_insert(value);
        }
        filled
    }

    /// The names of all fields.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// An error about a field: what was found there and what is expected.
    pub fn error(&self, field: &str, found: impl Display, expected: impl Display) -> Error {
        Error::file(&self.path, format!("`{}{field}` is {found}; expected {expected}", self.prefix))
    }

    fn required(&self, field: &str, expected: impl Display) -> Result<&Value> {
        self.get(field).ok_or_else(|| self.error(field, "missing", expected))
    }

    fn wrong(&self, field: &str, value: &Value, expected: impl Display) -> Error {
        self.error(field, show(value), expected)
    }

    /// A whole number within `range`.
    pub fn usize_field(&self, field: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let value = self.required(field, &expected)?;
        value
            .as_u64()
            .or_else(|| whole(value.as_f64()?))
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| range.contains(n))
            .ok_or_else(|| self.wrong(field, value, expected))
    }

    /// A whole number within `range`, if the field is present.
    pub fn opt_usize(&self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.get(field).map(|_| self.usize_field(field, range)).transpose()
    }

    /// A whole number within `range`, or `default` when the field is absent.
    pub fn usize_or(
        &self,
        field: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize> {
        Ok(self.opt_usize(field, range)?.unwrap_or(default))
    }

    /// A size of a model: from 1 to [`MOST`](Self::MOST).
    pub fn size(&self, field: &str) -> Result<usize> {
        self.usize_field(field, 1..=Self::MOST)
    }

    /// A size, if the field is present.
    pub fn opt_size(&self, field: &str) -> Result<Option<usize>> {
        self.opt_usize(field, 1..=Self::MOST)
    }

    /// A size, or `default` when the field is absent.
    pub fn size_or(&self, field: &str, default: usize) -> Result<usize> {
        self.usize_or(field, default, 1..=Self::MOST)
    }

    /// A number of layers, at least 1.
    pub fn layers(&self, field: &str) -> Result<usize> {
        self.usize_field(field, 1..=MOST_LAYERS)
    }

    /// A number of layers, or `default` when the field is absent.
    pub fn layers_or(&self, field: &str, default: usize) -> Result<usize> {
        self.usize_or(field, default, 1..=MOST_LAYERS)
    }

    /// An error that names the first of `fields` that is switched on (neither absent nor `null`,
    /// `false`, 0 or empty): the model's family has no code for them.
    pub fn refuse(&self, fields: &[&str]) -> Result<()> {
        let on = |value: &Value| match value {
            Value::Number(n) => n.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            Value::Bool(on) => *on,
            Value::Null => false,
        };
        let found = fields.iter().find_map(|f| Some((f, self.get(f).filter(|v| on(v))?)));
        let Some((field, value)) = found else { return Ok(()) };
        let expected = format!("none: `{}` models have no such feature", self.model_type()?);
        Err(self.wrong(field, value, expected))
    }

    /// A finite number within `range`.
    pub fn f32_field(&self, field: &str, range: RangeInclusive<f32>) -> Result<f32> {
        let expected = format!("a number from {:?} to {:?}", range.start(), range.end());
        let value = self.required(field, &expected)?;
        value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite() && range.contains(x))
            .ok_or_else(|| self.wrong(field, value, expected))
    }

    /// A finite number within `range`, if the field is present.
    pub fn opt_f32(&self, field: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        self.get(field).map(|_| self.f32_field(field, range)).transpose()
    }

    /// A finite number within `range`, or `default` when the field is absent.
    pub fn f32_or(&self, field: &str, default: f32, range: RangeInclusive<f32>) -> Result<f32> {
        Ok(self.opt_f32(field, range)?.unwrap_or(default))
    }

    /// The epsilon of a normalisation: above 0 (at 0 a constant row divides by 0) and at most 1.
    pub fn eps(&self, field: &str, default: f32) -> Result<f32> {
        self.f32_or(field, default, f32::MIN_POSITIVE..=1.0)
    }

    /// A truth value, if the field is present.
    pub fn opt_bool(&self, field: &str) -> Result<Option<bool>> {
        self.get(field)
            .map(|value| value.as_bool().ok_or_else(|| self.wrong(field, value, "true or false")))
            .transpose()
    }

    /// A truth value, or `default` when the field is absent.
    pub fn bool_or(&self, field: &str, default: bool) -> Result<bool> {
        Ok(self.opt_bool(field)?.unwrap_or(default))
    }

    /// A string.
    pub fn str_field(&self, field: &str) -> Result<&str> {
        let value = self.required(field, "a string")?;
        value.as_str().ok_or_else(|| self.wrong(field, value, "a string"))
    }

    /// A string, if the field is present.
    pub fn opt_str(&self, field: &str) -> Result<Option<&str>> {
        self.get(field).map(|_| self.str_field(field)).transpose()
    }

    /// A list of strings; empty when the field is absent.
    pub fn strings(&self, field: &str) -> Result<Vec<&str>> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
            .ok_or_else(|| self.wrong(field, value, "a list of strings"))
    }

    /// The model's family.
    pub fn model_type(&self) -> Result<&str> {
        self.str_field("model_type")
    }

    /// Model classes, such as `BertForMaskedLM`; empty when not given.
    pub fn architectures(&self) -> Result<Vec<&str>> {
        self.strings("architectures")
    }

    /// An activation function by name, or `default` when the field is absent.
    pub fn activation_or(&self, field: &str, default: Activation) -> Result<Activation> {
        match self.opt_str(field)? {
            Some(name) => self.activation_named(field, name),
            None => Ok(default),
        }
    }

    /// The activation function of this name, which was found in `field`.
    pub fn activation_named(&self, field: &str, name: &str) -> Result<Activation> {
        name.parse().map_err(|_| {
            let known = Activation::names().collect::<Vec<_>>().join(", ");
            self.error(field, format!("`{}`", one_line(name)), format!("one of {known}"))
        })
    }

    /// Token ids given as one number, a list or `null` (none), each below `vocab_size`.
    pub fn token_ids(&self, field: &str, vocab_size: usize) -> Result<Vec<u32>> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        self.ids_below(field, items, vocab_size)
    }

    /// Token ids of a list that was found in `field`, each below `vocab_size`.
    pub fn ids_below(&self, field: &str, items: &[Value], vocab_size: usize) -> Result<Vec<u32>> {
        items
            .iter()
            .map(|item| {
                item.as_u64()
                    .filter(|id| *id < vocab_size as u64)
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| {
                        let expected = format!("token ids below the vocabulary's {vocab_size}");
                        self.wrong(field, item, expected)
                    })
            })
            .collect()
    }

    /// One token id below `vocab_size`; `None` when absent.
    pub fn token_id(&self, field: &str, vocab_size: usize) -> Result<Option<u32>> {
        match (self.get(field), self.token_ids(field, vocab_size)?.as_slice()) {
            (Some(Value::Array(_)), [_, _, ..]) => Err(self.error(field, "a list", "one token id")),
            (_, ids) => Ok(ids.first().copied()),
        }
    }

    /// What is said of rotary positions: `rope_scaling`, or `rope_parameters` of newer files.
    pub fn rope_section(&self) -> Result<Option<Self>> {
        match self.section("rope_scaling")? {
            Some(section) => Ok(Some(section)),
            None => self.section("rope_parameters"),
        }
    }

    /// The whole object.
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// An object nested under `field`, such as `encoder` or `text_config`.
    pub fn section(&self, field: &str) -> Result<Option<Self>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                path: self.path.clone(),
                prefix: format!("{}{field}.", self.prefix),
                fields: fields.clone(),
                notices: Vec::new(),
            })),
            Some(other) => Err(self.wrong(field, other, "an object")),
        }
    }

    /// An error unless `field` (of value `size`) is a multiple of `by` (of value `parts`).
    pub fn check_divides(&self, field: &str, size: usize, by: &str, parts: usize) -> Result<()> {
        if parts > 0 && size.is_multiple_of(parts) {
            return Ok(());
        }
        Err(self.error(
            field,
            size,
            format!("a multiple of `{}{by}`, which is {parts}", self.prefix),
        ))
    }
}

/// `12.0` counts as 12, as it does in Python.
fn whole(x: f64) -> Option<u64> {
    (x.fract() == 0.0 && (0.0..9e15).contains(&x)).then_some(x as u64)
}
