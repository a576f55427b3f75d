//! How large and how deep the values of a template may be.

use std::borrow::Cow;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

/// The filter for what is assigned to a variable.
pub(super) const VARIABLE: &str = "__variable";

/// The filter for what is assigned to an attribute of a namespace.
pub(super) const ATTRIBUTE: &str = "__attribute";

/// Lists and objects within each other.
const MAX_DEPTH: usize = 64;

/// Items of a value, those of the lists and objects within it included.
const MAX_ITEMS: usize = 1 << 17;

/// Items that cost as much as one step.
const ITEMS_PER_STEP: usize = 16;

/// Sets the bounds up in an environment.
pub(super) fn install(environment: &mut Environment) {
    environment.add_filter(VARIABLE, variable);
    environment.add_filter(ATTRIBUTE, attribute);
    environment.set_formatter(format);
    // They join lists by reference, and are not Jinja's.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
}

fn variable(state: &State, value: Value) -> Result<Value, Error> {
    check(state, &value)?;
    // A view of another list becomes a list, or views of views would pile up.
    match value.kind() {
        ValueKind::Iterable => Ok(value.try_iter()?.collect()),
        _ => Ok(value),
    }
}

/// A namespace that held itself could never be printed.
fn attribute(state: &State, value: Value) -> Result<Value, Error> {
    if is_namespace(&value) {
        return Err(invalid("a namespace within a namespace"));
    }
    variable(state, value)
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    check(state, value)?;
    minijinja::escape_formatter(out, state, value)
}

fn check(state: &State, value: &Value) -> Result<(), Error> {
    let mut items = 0;
    let result = count(value, 0, &mut items);
    if items > 0 {
        state.consume_fuel((items / ITEMS_PER_STEP) as u64)?;
    }
    result
}

fn count(value: &Value, depth: usize, items: &mut usize) -> Result<(), Error> {
    let kind = value.kind();
    if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Err(invalid(format!("a value nested more than {MAX_DEPTH} deep")));
    }
    if depth > 0 && is_namespace(value) {
        return Err(invalid("a namespace within another value"));
    }
    *items = items.saturating_add(value.len().unwrap_or(0));
    if *items > MAX_ITEMS {
        return Err(invalid(format!("a value of more than {MAX_ITEMS} items")));
    }
    for item in value.try_iter()? {
        if kind == ValueKind::Map {
            count(&value.get_item(&item)?, depth + 1, items)?;
        }
        count(&item, depth + 1, items)?;
    }
    Ok(())
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
