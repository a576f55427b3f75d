//! The hub's cache: `models--org--name` with `refs`, `snapshots` and notes of what does not exist.

use std::path::{Path, PathBuf};

use super::files;
use super::name::Name;
use crate::error::{Error, Result};

/// A model's files of one commit, all or some of them.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Where they are.
    pub folder: PathBuf,
    /// Where empty files stand for those that the repository lacks.
    absent: PathBuf,
}

impl Snapshot {
    /// The snapshot of a commit, whether it is there or not.
    pub fn of(cache: &Path, name: &Name, commit: &str) -> Self {
        let model = cache.join(format!("models--{}", name.repo.replace('/', "--")));
        Self {
            folder: model.join("snapshots").join(commit),
            absent: model.join(".no_exist").join(commit),
        }
    }

    /// The snapshot that the cache has of a revision, if it has one.
    pub fn find(cache: &Path, name: &Name) -> Result<Option<Self>> {
        let whole = Self::of(cache, name, &name.revision);
        if name.revision.len() == 40 && whole.folder.is_dir() {
            return Ok(Some(whole));
        }
        let model = cache.join(format!("models--{}", name.repo.replace('/', "--")));
        let path = model.join("refs").join(&name.revision);
        let commit = match std::fs::read_to_string(&path) {
            Ok(commit) => commit,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, e)),
        };
        let commit = commit.trim();
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::file(path, "does not hold the name of a commit; delete it"));
        }
        let found = Self::of(cache, name, commit);
        Ok(found.folder.is_dir().then_some(found))
    }

    /// Whether every file that is needed is there or known not to exist.
    pub fn is_complete(&self) -> Result<bool> {
        let names = files::needed(&self.folder, |name| !self.absent.join(name).is_file())?;
        Ok(names.iter().all(|name| self.folder.join(name).is_file()))
    }

    /// Notes the files that the repository lacks, as Hugging Face's own tools do.
    pub fn note_absent(&self, listed: impl Fn(&str) -> bool) -> Result<()> {
        for name in files::asked(&self.folder)?.iter().filter(|name| !listed(name)) {
            let path = self.absent.join(name);
            let folder = path.parent().unwrap_or(&self.absent);
            let done = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, ""));
            done.map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }
}
