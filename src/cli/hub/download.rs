//! Downloading, on a thread of its own so that Ctrl-C and silence end it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::cache::Snapshot;
use super::files;
use super::name::Name;
use super::settings::Settings;
use crate::cli::context::Context;
use crate::error::{Error, Result};

/// How long the hub may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(100);
/// Times that a broken transfer is taken up again.
const RETRIES: usize = 3;

/// Why there is no model.
pub(super) enum Failure {
    /// The hub did not answer.
    Unreachable(String),
    /// It did, or something else is wrong.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

enum Event {
    File { name: String, bytes: u64 },
    Bytes(u64),
    Done(Result<PathBuf, Failure>),
}

/// Downloads what is missing of a model, with a progress bar, and gives its folder.
pub(super) fn run(name: &Name, settings: &Settings, context: &Context) -> Result<PathBuf, Failure> {
    let (send, events) = channel();
    let job = Job {
        name: name.clone(),
        cache: settings.cache.clone(),
        endpoint: settings.endpoint.clone(),
        token: settings.token.clone(),
        send: send.clone(),
    };
    let work = move || {
        let result = job.run();
        // Nobody listens any more after Ctrl-C.
        let _ = send.send(Event::Done(result));
    };
    let started = std::thread::Builder::new().name("download".to_owned()).spawn(work);
    started.map_err(|e| name.error(format!("cannot start a thread to download it: {e}")))?;
    wait(&events, name, context)
}

fn wait(events: &Receiver<Event>, name: &Name, context: &Context) -> Result<PathBuf, Failure> {
    let bar = context.bar("downloading", 0, true);
    let mut last = Instant::now();
    loop {
        context.check_cancelled()?;
        match events.recv_timeout(LOOK) {
            Ok(Event::File { name, bytes }) => {
                bar.reset();
                bar.set_length(bytes);
                bar.set_message(name);
            }
            Ok(Event::Bytes(bytes)) => bar.inc(bytes),
            Ok(Event::Done(result)) => {
                bar.finish_and_clear();
                return result;
            }
            Err(RecvTimeoutError::Timeout) => {
                if last.elapsed() < PATIENCE {
                    continue;
                }
                let message = format!("nothing came for {} s", PATIENCE.as_secs());
                return Err(Failure::Unreachable(message));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(name.error("the `hf-hub` crate cannot read what was sent").into());
            }
        }
        last = Instant::now();
    }
}

struct Job {
    name: Name,
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    send: Sender<Event>,
}

impl Job {
    fn run(&self) -> Result<PathBuf, Failure> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_user_agent("tilewright", env!("CARGO_PKG_VERSION"))
            .with_retries(RETRIES)
            .with_progress(false)
            .build()
            .map_err(|e| self.failure(&e, None))?;
        let Name { repo, revision } = self.name.clone();
        let repo = api.repo(Repo::with_revision(repo, RepoType::Model, revision));
        let info = repo.info().map_err(|e| self.failure(&e, None))?;
        let listed = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
        self.check(&listed, info.siblings.iter().map(|file| file.rfilename.as_str()))?;
        if !info.sha.chars().all(|c| c.is_ascii_alphanumeric()) || info.sha.is_empty() {
            return Err(self.name.error("its commit has no name that could be a folder").into());
        }
        let snapshot = Snapshot::of(&self.cache, &self.name, &info.sha);
        // A file that has come may name further ones.
        loop {
            let names = files::needed(&snapshot.folder, listed)?;
            let missing = |name: &&String| !snapshot.folder.join(name).is_file();
            let Some(next) = names.iter().find(missing) else { break };
            self.download(&repo, next, &snapshot.folder)?;
        }
        snapshot.note_absent(listed)?;
        let cache = Cache::new(self.cache.clone());
        let cached = Repo::with_revision(
            self.name.repo.clone(),
            RepoType::Model,
            self.name.revision.clone(),
        );
        let noted = cache.repo(cached).create_ref(&info.sha);
        noted.map_err(|e| Error::io(&self.cache, e))?;
        Ok(snapshot.folder)
    }

    /// A repository without weights that can be read is refused before anything is downloaded.
    fn check<'a>(
        &self,
        listed: &impl Fn(&str) -> bool,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let nested = |name: &str| name.ends_with(&format!("/{}", files::SINGLE));
        if [files::SINGLE, files::INDEX].iter().any(|name| listed(name)) {
            return Ok(());
        }
        let mut other = None;
        if names.any(|name| {
            let weights = [".bin", ".h5", ".gguf", ".msgpack", ".onnx", ".pt", ".pth"];
            if weights.iter().any(|end| name.ends_with(end)) {
                other.get_or_insert(name);
            }
            nested(name)
        }) {
            return Ok(());
        }
        let found = other.map_or("no weights".to_owned(), |other| format!("`{other}`"));
        let message =
            format!("the repository has {found}; {} or {} is needed", files::SINGLE, files::INDEX);
        Err(self.name.error(message))
    }

    fn download(&self, repo: &ApiRepo, name: &str, folder: &Path) -> Result<(), Failure> {
        let report = Report { send: self.send.clone() };
        let path =
            repo.download_with_progress(name, report).map_err(|e| self.failure(&e, Some(name)))?;
        if path == folder.join(name) {
            return Ok(());
        }
        // The files of two commits must not be mixed.
        Err(self.name.error("was changed on the hub while it was downloaded; try again").into())
    }

    /// What went wrong, in the user's terms; `file` is what was asked for.
    fn failure(&self, error: &ApiError, file: Option<&str>) -> Failure {
        let what = file.map_or(String::new(), |file| format!(" {file}:"));
        let error = match error {
            ApiError::TooManyRetries(inner) => inner,
            other => other,
        };
        let ApiError::RequestError(request) = error else {
            return self.name.error(format!("{what} {error}").trim_start()).into();
        };
        let hub = &self.endpoint;
        let message = match request.as_ref() {
            ureq::Error::StatusCode(status @ (401 | 403)) => {
                let token = match self.token {
                    Some(_) => "the token given does not open it",
                    None => "set HF_TOKEN if it is private or gated",
                };
                format!("no such folder, and {hub} refuses access ({status}): {token}")
            }
            ureq::Error::StatusCode(404) if file.is_none() => {
                format!("no such folder, and {hub} has no such model or revision (404)")
            }
            ureq::Error::StatusCode(status) => format!("{what} {hub} answers {status}"),
            other => return Failure::Unreachable(format!("{what} {other}").trim().to_owned()),
        };
        self.name.error(message.trim_start()).into()
    }
}

/// Passes hf-hub's progress on.
struct Report {
    send: Sender<Event>,
}

impl Progress for Report {
    fn init(&mut self, size: usize, filename: &str) {
        let event = Event::File { name: filename.to_owned(), bytes: size as u64 };
        let _ = self.send.send(event);
    }

    fn update(&mut self, size: usize) {
        let _ = self.send.send(Event::Bytes(size as u64));
    }

    fn finish(&mut self) {}
}
