//! Chat templates: the messages of a conversation as the one text that a model was trained on.
//!
//! A template is a program in the Jinja language that came with the model. It reads no files, and
//! its steps, its time, its values and its text are bounded.
//! A template is a program in the Jinja language that came with the model, so it is given no
//! files, a budget of steps and memory, and a bound on its output.

mod bounds;
mod json;
mod prepare;
mod source;
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value as Jinja};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::tokenizer::{MAX_TEXT_BYTES, optional};
use crate::error::{Error, Result};
use crate::files::one_line;
use json::{Layout, to_json};

/// The longest template; those in use are below 30 kB.
const MAX_TEMPLATE_BYTES: usize = 1 << 17;

/// Steps that a template may take: an instruction each, or 64 bytes of data made or read. A
/// message of a conversation needs some hundreds, so this is for thousands of messages, and a
/// template that never ends is found within a tenth of a second.
const FUEL: u64 = 400_000;

/// The engine counts no steps while it compares values or makes texts of them, so there is a limit
/// in time too: ten times what the steps take. A template that exceeds it is left to itself.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Room for values as deep as their bounds allow, within macros as deep as the engine allows.
const STACK: usize = 64 << 20;

/// What the template is called in its own errors.
const NAME: &str = "chat template";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template, with its special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Arc<Environment<'static>>,
    /// `bos_token`, `eos_token` and the like.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template of a model folder: `chat_template.jinja`, or else `chat_template` in
    /// `tokenizer_config.json`. With a `name` it is the one of several that bears it, from
    /// `additional_chat_templates` or a list in `tokenizer_config.json`.
    ///
    /// Errors: there is none; none of this name; a template that is too long, nests too deeply
    /// or is not in the Jinja language.
    pub fn open(folder: impl AsRef<Path>, name: Option<&str>) -> Result<Self> {
        let folder = folder.as_ref();
        let config_path = folder.join("tokenizer_config.json");
        let config = optional(&config_path)?;
        let (path, source) = match source::from_file(folder, name)? {
            Some(found) => found,
            None => {
                let source = source::from_config(&config_path, config.get("chat_template"), name)?;
                (config_path, source)
            }
        };
        let mut tokens =
            source::special_tokens(&optional(&folder.join("special_tokens_map.json"))?);
        tokens.extend(source::special_tokens(&config));
        Self::new(path, source, tokens)
    }

    /// A template from its text; `path` is what errors call it. `tokens` are further variables,
    /// such as `bos_token`.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn new(
        path: impl Into<PathBuf>,
        source: String,
        tokens: Map<String, Value>,
    ) -> Result<Self> {
        let path = path.into();
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(Error::file(
                path,
                format!(
                    "a chat template of {} bytes; at most {MAX_TEMPLATE_BYTES} are expected",
                    source.len()
                ),
            ));
        }
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| explain(&path, &error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_test("iterable", is_iterable);
        environment.add_test("sequence", is_sequence);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        bounds::install(&mut environment);
        let source = prepare::prepare(&source).map_err(|message| Error::file(&path, message))?;
        environment.add_template_owned(NAME, source).map_err(|error| explain(&path, &error))?;
        Ok(Self { path, environment: Arc::new(environment), tokens })
    }

    /// The file that the template was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the model's answer
    /// begins. It holds the special tokens, so encode it without adding them.
    ///
    /// Errors: what the template refuses, in its own words; more steps than it may take; a text
    /// longer than [`MAX_TEXT_BYTES`].
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let prompt = json!({ "add_generation_prompt": add_generation_prompt });
        self.render_with(&json!(messages), &prompt)
    }

    /// The text of a conversation given as JSON, which may have more than a role and a content
    /// per message. `variables` is an object of further variables, such as `tools`, `documents`
    /// and `enable_thinking`.
    ///
    /// Errors: as [`render`](Self::render).
    pub fn render_with(&self, messages: &Value, variables: &Value) -> Result<String> {
        // Templates ask whether these are none, which an undefined variable is not.
        let mut context = Map::new();
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), Value::Bool(false));
        context.extend(self.tokens.clone());
        context.extend(variables.as_object().cloned().unwrap_or_default());
        context.insert("messages".into(), messages.clone());

        let (environment, path) = (Arc::clone(&self.environment), self.path.clone());
        let (answer, answered) = mpsc::sync_channel(1);
        let work = move || {
            // Nobody waits any more when the time is over.
            let _ = answer.send(run(&environment, &path, context));
        };
        thread::Builder::new()
            .name(NAME.into())
            .stack_size(STACK)
            .spawn(work)
            .map_err(|error| Error::io(&self.path, error))?;
        answered.recv_timeout(TIME_LIMIT).unwrap_or_else(|error| {
            let message = match error {
                RecvTimeoutError::Timeout => format!("does not end within {TIME_LIMIT:?}"),
                RecvTimeoutError::Disconnected => "cannot be run".into(),
            };
            Err(Error::file(&self.path, format!("the chat template {message}")))
        })
    }
}

fn run(environment: &Environment, path: &Path, context: Map<String, Value>) -> Result<String> {
    let template = environment.get_template(NAME).map_err(|error| explain(path, &error))?;
    let mut output = Bounded::default();
    let rendered = template.render_captured_to(Jinja::from(Serde(context)), &mut output);
    if output.overflow {
        let message = format!("the chat template makes a text of more than {MAX_TEXT_BYTES} bytes");
        return Err(Error::file(path, message));
    }
    rendered.map_err(|error| explain(path, &error))?;
    String::from_utf8(output.bytes)
        .map_err(|_| Error::file(path, "the chat template does not give UTF-8 text"))
}

/// Output that fails past [`MAX_TEXT_BYTES`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    overflow: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_TEXT_BYTES {
            self.overflow = true;
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// minijinja's complaint as the file's error, on one line.
fn explain(path: &Path, error: &minijinja::Error) -> Error {
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    let detail = error.detail().map(one_line);
    let message = match (error.kind(), detail) {
        (ErrorKind::OutOfFuel, _) => format!(
            "the chat template does not end within {FUEL} steps, or builds texts without bound"
        ),
        (ErrorKind::InvalidOperation, Some(detail)) => format!("the chat template says: {detail}"),
        (kind, Some(detail)) => format!("the chat template has an error: {kind}: {detail}"),
        (kind, None) => format!("the chat template has an error: {kind}"),
    };
    Error::file(path, message + &line)
}

/// The methods that Python's values have and the engine's do not.
fn python_method(
    state: &mut State,
    value: &Jinja,
    method: &str,
    arguments: &[Jinja],
) -> Result<Jinja, minijinja::Error> {
    // A text is padded to a width before it is counted.
    let wide = |text: &str| {
        let after_colon = text.split(':').skip(1);
        after_colon.into_iter().any(|spec| spec.split('}').next().is_some_and(|s| s.contains('{')))
            || text.split(|c: char| !c.is_ascii_digit()).any(|n| n.len() > 3)
    };
    if method == "format" && value.as_str().is_some_and(wide) {
        let message = "`format` with a width of more than 3 digits, or one that is a value";
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

fn raise_exception(message: String) -> Result<Jinja, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Python iterates over texts and over undefined values, but not over None.
fn is_iterable(value: &Jinja) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// What has a length and items in Python.
fn is_sequence(value: &Jinja) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), Seq | Map | String | Undefined)
}

/// The local time, by the format of C and Python.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, &jiff::ZonedDateTime::now()).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"))
    })
}

/// Python's `json.dumps`: unlike Jinja's own filter it escapes no HTML and puts spaces after
/// commas and colons.
fn tojson(state: &State, value: &Jinja, options: Kwargs) -> Result<Jinja, minijinja::Error> {
    let layout = Layout::of(&options)?;
    options.assert_all_used()?;
    let text = to_json(value, &layout)?;
    // Reading costs as much as the writing that is charged by itself.
    state.consume_fuel(text.len() as u64 / 16)?;
    Ok(Jinja::from_safe_string(text))
}
