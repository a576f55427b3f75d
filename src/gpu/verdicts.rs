//! What was found out about kernels on one adapter, kept between runs.
//!
//! One small JSON object per adapter and driver, from key to finding. A missing or damaged
//! file is an empty one: findings can always be made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::caps::Caps;
use super::ground::{checksum, lock};

type Found = BTreeMap<String, String>;

/// Findings about kernels on one adapter.
#[derive(Debug)]
pub struct Verdicts {
    path: Option<PathBuf>,
    found: Arc<Mutex<Found>>,
}

/// Where there is no cache folder, the devices that a program opens on one adapter share findings
/// for as long as it runs.
fn of_this_process(adapter: u64) -> Arc<Mutex<Found>> {
    static ADAPTERS: Mutex<BTreeMap<u64, Arc<Mutex<Found>>>> = Mutex::new(BTreeMap::new());
    Arc::clone(lock(&ADAPTERS).entry(adapter).or_default())
}

impl Verdicts {
    /// Those of earlier runs, where a cache folder is given, else this process's.
    pub(super) fn open(dir: Option<&Path>, caps: &Caps) -> Self {
        let key = checksum(format!("{}\n{}", caps.name, caps.driver).as_bytes());
        let path = dir.map(|dir| dir.join(format!("verdicts_{key:016x}.json")));
        let found = match path.as_deref() {
            Some(path) => Arc::new(Mutex::new(stored(path))),
            None => of_this_process(key),
        };
        Self { path, found }
    }

    /// The finding under this key.
    pub fn get(&self, key: &str) -> Option<String> {
        lock(&self.found).get(key).cloned()
    }

    /// Keeps a finding, beside those that other programs have written meanwhile: each would
    /// otherwise undo what the others found. That it cannot be written costs the next run its time,
    /// nothing else.
    pub fn set(&self, key: String, finding: String) {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let mut found = lock(&self.found);
        found.insert(key, finding);
        let Some(path) = &self.path else { return };
        for (key, finding) in stored(path) {
            found.entry(key).or_insert(finding);
        }
        let text = serde_json::json!(*found).to_string();
        // A name of its own for every write, so that no two write into one file.
        let (process, write) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
        let temporary = path.with_extension(format!("{process}.{write}.tmp"));
        let written =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
        drop(written);
    }
}

/// What a file holds; nothing if it is missing or damaged.
fn stored(path: &Path) -> Found {
    let text = std::fs::read_to_string(path).ok();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_side_by_side_keep_each_others_findings() {
        let dir = std::env::temp_dir().join(format!("tilewright-verdicts-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let open = || Verdicts::open(Some(&dir), &Caps::baseline());
        let (one, other) = (open(), open());
        one.set("a".to_owned(), "1".to_owned());
        other.set("b".to_owned(), "2".to_owned());
        one.set("c".to_owned(), "3".to_owned());
        let later = open();
        let found = ["a", "b", "c"].map(|key| later.get(key));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, ["1", "2", "3"].map(|v| Some(v.to_owned())));
    }
}
