//! Rotary positions as configurations state them, in the older layout (`rope_theta` and
//! `rope_scaling`) and the newer (`rope_parameters`).

use crate::error::{Error, Result};
use crate::nn::{Rotary, Scope};
use crate::ops::{Pairing, RopeScaling};
use crate::weights::Config;
use std::ops::RangeInclusive;

/// Kinds of layers, as `layer_types` calls them.
pub const FULL: &str = "full_attention";
pub const SLIDING: &str = "sliding_attention";

/// Bases below 1 turn frequencies around; 0 and NaN are no bases.
const THETAS: RangeInclusive<f32> = 1.0..=1e15;
const FRACTIONS: RangeInclusive<f32> = 0.0..=1.0;

/// A number within `range`, or `default`, with all the digits it is written with.
fn number(config: &Config, field: &str, default: f64, range: RangeInclusive<f32>) -> Result<f64> {
    config.opt_f32(field, range)?;
    Ok(config.get(field).and_then(serde_json::Value::as_f64).unwrap_or(default))
}

/// Frequencies of the rotations, and the share of a head's columns that rotates.
#[derive(Clone, Copy, Debug)]
pub struct RopeConfig {
    pub theta: f64,
    pub scaling: RopeScaling,
    pub fraction: f64,
}

impl RopeConfig {
    /// One set of frequencies for all layers. `theta` is the family's base; a field that the
    /// older layout has in another place is named by `fields` (base, share).
    pub fn read(config: &Config, fields: [&str; 2], theta: f64, fraction: f64) -> Result<Self> {
        let theta = number(config, fields[0], theta, THETAS)?;
        let fraction = number(config, fields[1], fraction, FRACTIONS)?;
        Self::section(config.rope_section()?, theta, fraction)
    }

    /// The frequencies of one kind of layer: its own object where the newer layout nests one
    /// per kind, otherwise `field` with the family's base `theta`, and `rope_scaling`, which the
    /// older layout means for full attention only.
    pub fn of_kind(config: &Config, kind: &str, field: &str, theta: f64) -> Result<Self> {
        let theta = number(config, field, theta, THETAS)?;
        let section = config.rope_section()?;
        let nested = section.as_ref().map(|s| s.section(kind)).transpose()?.flatten();
        let section = nested.or(section.filter(|_| kind == FULL));
        Self::section(section, theta, 1.0)
    }

    fn section(section: Option<Config>, theta: f64, fraction: f64) -> Result<Self> {
        let Some(section) = section else {
            return Ok(Self { theta, scaling: RopeScaling::None, fraction });
        };
        if let Some(kind) = [FULL, SLIDING].into_iter().find(|k| section.get(k).is_some()) {
            return Err(section.error(kind, "present", "one set of frequencies for all layers"));
        }
        let scaled = ["rope_type", "type", "factor"].iter().any(|f| section.get(f).is_some());
        let scaling = match scaled {
            true => RopeScaling::from_json(&section.to_json())
                .map_err(|e| Error::file(section.path(), e.to_string()))?,
            false => RopeScaling::None,
        };
        Ok(Self {
            theta: number(&section, "rope_theta", theta, THETAS)?,
            scaling,
            fraction: number(&section, "partial_rotary_factor", fraction, FRACTIONS)?,
        })
    }

    /// An error unless heads rotate whole, for families that have no other way.
    pub fn check_whole(&self, config: &Config) -> Result<()> {
        if self.fraction == 1.0 {
            return Ok(());
        }
        let expected = "1: heads of this family rotate whole";
        Err(config.error("partial_rotary_factor", self.fraction, expected))
    }

    /// Tables of `positions` rows for heads of which this many columns rotate.
    pub fn rotary(&self, at: &mut Scope, rotary_dim: usize, positions: usize) -> Result<Rotary> {
        Rotary::new(at, self.theta, rotary_dim, positions, self.scaling, Pairing::Neox)
    }
}
