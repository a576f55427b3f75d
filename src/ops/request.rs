//! Named tensors and `key=value` settings: how `tilewright op` and the goldens describe a call.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A call described by names. An op's `build` takes what it knows; what is left is an error.
#[derive(Debug, Default)]
pub struct Request {
    op: String,
    settings: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
    /// Names of all operands, taken ones included: for errors.
    given: BTreeSet<String>,
}

impl Request {
    /// A request for an op, with no operands yet.
    pub fn new(op: impl Into<String>) -> Self {
        Self { op: op.into(), ..Self::default() }
    }

    /// Adds an operand.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>, tensor: Tensor) -> Self {
        let name = name.into();
        self.given.insert(name.clone());
        self.tensors.insert(name, tensor);
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// The op's name as the caller wrote it.
    pub fn op(&self) -> &str {
        &self.op
    }

    /// Takes the operand known under any of these names.
    pub fn take(&mut self, names: &[&str]) -> Option<Tensor> {
        names.iter().find_map(|name| self.tensors.remove(*name))
    }

    /// Takes an operand that must be there.
    pub fn need(&mut self, names: &[&str]) -> Result<Tensor> {
        self.take(names).ok_or_else(|| {
            let given: Vec<_> = self.given.iter().map(String::as_str).collect();
            let message = format!(
                "input `{}` is missing; the inputs given are [{}]",
                names.first().unwrap_or(&""),
                given.join(", ")
            );
            Error::op(&self.op, message)
        })
    }

    /// Takes a setting, parsed; `None` if it was not given or is `null`.
    pub fn get<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        match self.settings.remove(key).as_deref() {
            None | Some("null" | "none") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let kind = std::any::type_name::<T>();
                Error::op(&self.op, format!("{key}={text}: not a valid {kind}"))
            }),
        }
    }

    /// Errors when an operand or setting was given that the op does not know.
    pub fn finish(&self) -> Result<()> {
        if let Some(key) = self.settings.keys().next() {
            return Err(Error::op(&self.op, format!("unknown setting `{key}`")));
        }
        if let Some(name) = self.tensors.keys().next() {
            return Err(Error::op(&self.op, format!("unknown input `{name}`")));
        }
        Ok(())
    }
}
