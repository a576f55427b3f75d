//! What was found out about kernels on one adapter, kept between runs.
//!
//! One small JSON object per adapter and driver, from key to finding. A missing or damaged
//! file is an empty one: findings can always be made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::caps::Caps;
use super::ground::{checksum, lock};

/// Findings about kernels on one adapter.
#[derive(Debug)]
pub struct Verdicts {
    path: Option<PathBuf>,
    found: Mutex<BTreeMap<String, String>>,
}

impl Verdicts {
    /// Those of earlier runs, where a cache folder is given.
    pub(super) fn open(dir: Option<&Path>, caps: &Caps) -> Self {
        let key = checksum(format!("{}\n{}", caps.name, caps.driver).as_bytes());
        let path = dir.map(|dir| dir.join(format!("verdicts_{key:016x}.json")));
        let text = path.as_ref().and_then(|p| std::fs::read_to_string(p).ok());
        let found = text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
        Self { path, found: Mutex::new(found) }
    }

    /// The finding under this key.
    pub fn get(&self, key: &str) -> Option<String> {
        lock(&self.found).get(key).cloned()
    }

    /// Keeps a finding. That it cannot be written costs the next run its time, nothing else.
    pub fn set(&self, key: String, finding: String) {
        let mut found = lock(&self.found);
        found.insert(key, finding);
        let Some(path) = &self.path else { return };
        let text = serde_json::json!(*found).to_string();
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
        drop(written);
    }
}
