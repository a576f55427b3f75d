//! How a device is opened.

use std::path::PathBuf;
use std::time::Duration;

use super::source::Loops;

/// How to open a device. The default is what a user wants; tests and benches change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Compile every kernel with naga's run-time checks, also those argued safe without.
    pub checked: bool,
    /// Behave as if a storage binding could not exceed this many bytes.
    pub max_binding: Option<u64>,
    /// Refuse to allocate beyond this many bytes (drivers let one over-allocate).
    pub memory_budget: Option<u64>,
    /// Behave as if the device had no subgroup operations.
    pub no_subgroups: bool,
    /// What becomes of kernels' loops that are marked `// unroll`.
    pub loops: Loops,
    /// Longest wait for the device before [`Error::Timeout`](crate::error::Error::Timeout).
    pub timeout: Duration,
    /// Where the driver's compiled pipelines are kept between runs; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            checked: false,
            max_binding: None,
            memory_budget: None,
            no_subgroups: false,
            loops: Loops::Unrolled,
            timeout: Duration::from_secs(600),
            cache_dir: None,
        }
    }
}
