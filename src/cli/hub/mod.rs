//! `--model org/name[@revision]`: models of the Hugging Face hub, kept in its ordinary cache.
//!
//! What is in the cache is used as it is, without asking the hub; what is missing is downloaded.

mod cache;
mod download;
mod files;
mod settings;

use std::fmt;
use std::path::PathBuf;

use cache::Snapshot;
use download::Failure;
use settings::Settings;

use super::Context;
use crate::error::{Error, Result};

/// The revision taken when none is named.
const MAIN: &str = "main";

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `org/name`.
    repo: String,
    /// A branch, a tag or a commit.
    revision: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl Name {
    /// `org/name` or `org/name@revision`, if the text is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (org, name) = repo.split_once('/')?;
        let word = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let clear = !text.starts_with(['.', '-']) && !text.contains("..");
            (1..=96).contains(&text.len()) && text.chars().all(plain) && clear
        };
        // Branches may have slashes in their names.
        let known = word(org) && word(name) && revision.split('/').all(word);
        known.then(|| Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    /// The folder with the model's files, downloaded where they are not there yet.
    ///
    /// Errors name the model: not in the cache when offline; the hub cannot be reached, has no
    /// such model or revision, or refuses access; no safetensors weights.
    pub fn folder(&self, context: &Context) -> Result<PathBuf> {
        let settings = Settings::from_env()?;
        let found = Snapshot::find(&settings.cache, self)?;
        if let Some(found) = &found
            && (settings.offline || found.is_complete()?)
        {
            return Ok(found.folder.clone());
        }
        if settings.offline {
            let message = format!(
                "no such folder, nor a model in the cache {}, and HF_HUB_OFFLINE is set",
                settings.cache.display()
            );
            return Err(self.error(message));
        }
        context.notice(&format!("{self}: looking at {}", settings.endpoint));
        match (download::run(self, &settings, context), found) {
            (Ok(folder), _) => Ok(folder),
            (Err(Failure::Unreachable(why)), Some(found)) => {
                context.notice(&format!("{self}: {why}; using what the cache has"));
                Ok(found.folder)
            }
            (Err(Failure::Unreachable(why)), None) => Err(self.error(format!(
                "no such folder, and {} cannot be reached: {why}",
                settings.endpoint
            ))),
            (Err(Failure::Other(error)), _) => Err(error),
        }
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::file(self.to_string(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_of_models_are_told_from_paths() {
        let parse = |text| Name::parse(text).map(|n| (n.repo, n.revision));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parse("org/name"), pair("org/name", "main"));
        assert_eq!(parse("o-r.g/na_me.v2@refs/pr/1"), pair("o-r.g/na_me.v2", "refs/pr/1"));
        for text in [
            "", "name", "/name", "org/", "./name", "../name", "a/b/c", "a/..", "a\\b", "a/b@",
            "~/name", "a/b@../c", "a b/c", "a/-b", "a/b@c//d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
