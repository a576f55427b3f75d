//! Position tables, computed on the host in f64: far positions need more digits of the angle
//! than f32 has, and GPU sines of large arguments are not reliable.

use std::f64::consts::TAU;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::one_line;
use crate::tensor::Tensor;

/// How a checkpoint stretches rotary positions beyond the length it was first trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All frequencies divided by `factor` (Chen et al. 2023, position interpolation).
    Linear {
        /// The division.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// The division of low frequencies.
        factor: f64,
        /// Frequencies with fewer periods than this in `original_length` are low.
        low_freq_factor: f64,
        /// Frequencies with more periods than this in `original_length` are high.
        high_freq_factor: f64,
        /// Positions of the first training.
        original_length: f64,
    },
}

impl RopeScaling {
    /// From a configuration's `rope_scaling` (or `rope_parameters`) object. Errors name the
    /// missing key or the type that is not known.
    pub fn from_json(value: &Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::None);
        }
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        let kind = kind.map_or("missing", |kind| kind.as_str().unwrap_or("not a string"));
        let number = |key: &str| {
            let found = value.get(key).and_then(Value::as_f64);
            found.filter(|v| *v > 0.0 && v.is_finite()).ok_or_else(|| {
                Error::Argument(format!("rope type {kind}: `{key}` must be a positive number"))
            })
        };
        match kind {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: number("factor")? }),
            "llama3" => {
                let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
                if low >= high {
                    return Err(Error::Argument(format!(
                        "rope type llama3: `low_freq_factor` {low} must be below \
                         `high_freq_factor` {high}"
                    )));
                }
                Ok(Self::Llama3 {
                    factor: number("factor")?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_length: number("original_max_position_embeddings")?,
                })
            }
            _ => Err(Error::Argument(format!(
                "the rope type is {}; expected default, linear or llama3",
                one_line(kind)
            ))),
        }
    }

    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let periods = original_length * frequency / TAU;
                let ramp = (periods - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let keep = ramp.clamp(0.0, 1.0);
                frequency * (keep + (1.0 - keep) / factor)
            }
        }
    }
}

impl FromStr for RopeScaling {
    type Err = Error;

    /// From JSON text, see [`from_json`](Self::from_json).
    fn from_str(text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|e| Error::Argument(format!("rope_scaling `{text}`: {e}")))?;
        Self::from_json(&value)
    }
}

/// Angular frequency of each of the `rotary_dim / 2` rotated pairs: `theta^(-2i / rotary_dim)`,
/// scaled. Source: Su et al. 2021, "RoFormer".
pub fn rope_frequencies(theta: f64, rotary_dim: usize, scaling: RopeScaling) -> Vec<f64> {
    let frequency = |i: usize| theta.powf(-2.0 * i as f64 / rotary_dim as f64);
    (0..rotary_dim / 2).map(|i| scaling.apply(frequency(i))).collect()
}

/// Cosines and sines `[positions, rotary_dim / 2]` for [`Rope`](super::Rope): row r holds the
/// angles of the r-th of these positions.
pub fn rope_tables(
    theta: f64,
    rotary_dim: usize,
    positions: impl IntoIterator<Item = usize>,
    scaling: RopeScaling,
) -> Result<(Tensor, Tensor)> {
    let frequencies = rope_frequencies(theta, rotary_dim, scaling);
    let (mut cos, mut sin, mut rows) = (Vec::new(), Vec::new(), 0);
    for position in positions {
        rows += 1;
        for frequency in &frequencies {
            let (s, c) = (position as f64 * frequency).sin_cos();
            cos.push(c as f32);
            sin.push(s as f32);
        }
    }
    let shape = [rows, frequencies.len()];
    Ok((Tensor::f32(shape, cos)?, Tensor::f32(shape, sin)?))
}

/// How a sinusoidal encoding lays out its sines and cosines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sinusoid {
    /// Sine at column 2i, cosine at 2i + 1 (the 2017 paper).
    Interleaved,
    /// All sines, then all cosines (Marian).
    Halves,
}

/// The sinusoidal encoding `[positions, dim]`: angles `position / 10000^(2i / dim)`.
/// Source: Vaswani et al. 2017, section 3.5. Errors when `dim` is odd.
pub fn sinusoidal(
    dim: usize,
    positions: impl IntoIterator<Item = usize>,
    layout: Sinusoid,
) -> Result<Tensor> {
    if !dim.is_multiple_of(2) {
        return Err(Error::Argument(format!("a sinusoidal encoding of odd dimension {dim}")));
    }
    let frequencies = rope_frequencies(10_000.0, dim, RopeScaling::None);
    let (mut table, mut rows) = (Vec::new(), 0);
    for position in positions {
        rows += 1;
        let angles = frequencies.iter().map(|f| position as f64 * f);
        match layout {
            Sinusoid::Interleaved => {
                table.extend(angles.flat_map(|a| [a.sin() as f32, a.cos() as f32]));
            }
            Sinusoid::Halves => {
                table.extend(angles.clone().map(|a| a.sin() as f32));
                table.extend(angles.map(|a| a.cos() as f32));
            }
        }
    }
    Tensor::f32([rows, dim], table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_scaling_is_named() {
        let error = "{\"rope_type\":\"yarn\"}".parse::<RopeScaling>();
        let message = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("yarn") && message.contains("llama3"), "{message}");
    }

    #[test]
    fn missing_factor_is_named() {
        let error = "{\"rope_type\":\"linear\"}".parse::<RopeScaling>();
        let message = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("`factor`"), "{message}");
    }
}
