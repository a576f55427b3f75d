//! What the tests of bad inputs share.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use tilewright::Error;

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
