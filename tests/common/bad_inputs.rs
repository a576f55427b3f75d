//! What the tests of bad inputs share.

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tilewright::Error;

/// A folder of its own for each test, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("tilewright-test-{}-{serial}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The error of `work`, which must be one line that contains `want`, without panic and in time.
pub fn expect_error<T>(
    name: &str,
    want: &str,
    work: impl FnOnce() -> Result<T, Error> + std::panic::UnwindSafe,
) {
    let started = Instant::now();
    let result = catch_unwind(work).unwrap_or_else(|_| panic!("{name}: panicked"));
    let took = started.elapsed();
    let Err(error) = result else { panic!("{name}: no error; one with `{want}` was expected") };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{name}: {text}");
    assert!(text.contains(want), "{name}: `{want}` was expected, got: {text}");
    assert!(text.len() < 600, "{name}: {text}");
    assert!(took < Duration::from_secs(1), "{name}: took {took:?}");
}
