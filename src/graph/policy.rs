//! How kernels are chosen on a device.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How kernels are chosen on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which digits may be lost.
    pub precision: PrecisionMode,
    /// Kernels to use instead of the preferred ones, as (op, kernel).
    pub force: Vec<(String, String)>,
    /// Whether kernels are timed before they are chosen.
    pub tune: Tune,
}

impl Policy {
    /// The kernel that is forced for an op.
    pub(super) fn forced(&self, op: &str) -> Option<&str> {
        self.force.iter().find(|(name, _)| name == op).map(|(_, kernel)| kernel.as_str())
    }
}

/// Which digits kernels may lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionMode {
    /// Exact for f32 checkpoints; fast for f16 and bf16 ones where the device multiplies f16
    /// matrices.
    #[default]
    Auto,
    /// f32 arithmetic throughout.
    Exact,
    /// Products of f16 values with f32 sums, where a kernel for that exists; on devices with f16,
    /// what only feeds products is [stored in it](super::narrow).
    Fast,
}

impl FromStr for PrecisionMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "exact" => Ok(Self::Exact),
            "fast" => Ok(Self::Fast),
            _ => {
                Err(Error::Argument(format!("no precision `{text}`; there are auto, exact, fast")))
            }
        }
    }
}

/// Whether kernels are timed before they are chosen. Findings are kept in the cache folder, so
/// that a second start times nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// By rank alone.
    Off,
    /// At most two seconds a session, for the largest step and the smallest. Not on drivers that
    /// compute on the CPU: their ranks are measured, and a timing there costs more than it saves.
    #[default]
    Quick,
    /// Every size that is told apart, on every device.
    Full,
}

impl FromStr for Tune {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            _ => Err(Error::Argument(format!("no tuning `{text}`; there are off, quick, full"))),
        }
    }
}
