//! `--model org/name[@revision]`: models of the Hugging Face hub, kept in its ordinary cache.
//!
//! What is in the cache is used as it is, without asking the hub; what is missing is downloaded.

mod cache;
mod download;
mod files;
mod name;
mod settings;

use std::path::PathBuf;

use cache::Snapshot;
use download::Failure;
pub(super) use name::Name;
use settings::Settings;

use super::context::Context;
use crate::error::Result;

impl Name {
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
}
