//! How weights are stored on a device: element types, blocks that share a scale, planes.
//!
//! A format's planes are arrays of one element type each, bound to a kernel apart: plane 0 by the
//! operand's own name, plane 1 by that name with the plane's suffix (`weight`, `weight_scale`).
//! Blocks lie along the innermost dimension, so rows of a weight are rows of every plane.
//! [`DType`] is what kernels compute on, or the element type of a plane; a weight's is that of its
//! first plane, which tells its format.

use std::fmt;

use half::f16;

use crate::tensor::{DType, Shape};

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One plane of binary32.
    F32,
    /// One plane of binary16.
    F16,
    /// One plane of the upper halves of binary32.
    BF16,
    /// Blocks of [`Q8_0_BLOCK`] elements along the innermost dimension: a plane of i8 quants, and
    /// a plane of one f16 scale per block; an element is their product.
    Q8_0,
}

/// Elements that share a scale in [`Format::Q8_0`].
pub const Q8_0_BLOCK: usize = 32;

/// One array of a stored weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// What follows the operand's name in the name of the binding.
    pub suffix: &'static str,
    /// Element type.
    pub dtype: DType,
    /// Elements of the weight's innermost dimension that one of the plane's stands for.
    pub block: usize,
}

impl Plane {
    /// Bytes of the plane of a weight of this shape.
    pub fn bytes(&self, shape: Shape) -> usize {
        shape.rows() * shape.last().div_ceil(self.block) * self.dtype.size()
    }
}

static F32: [Plane; 1] = [Plane { suffix: "", dtype: DType::F32, block: 1 }];
static F16: [Plane; 1] = [Plane { suffix: "", dtype: DType::F16, block: 1 }];
static BF16: [Plane; 1] = [Plane { suffix: "", dtype: DType::BF16, block: 1 }];
static Q8_0: [Plane; 2] = [
    Plane { suffix: "", dtype: DType::I8, block: 1 },
    Plane { suffix: "_scale", dtype: DType::F16, block: Q8_0_BLOCK },
];

impl Format {
    /// Its planes, the one of elements first.
    pub fn planes(self) -> &'static [Plane] {
        match self {
            Self::F32 => &F32,
            Self::F16 => &F16,
            Self::BF16 => &BF16,
            Self::Q8_0 => &Q8_0,
        }
    }

    /// The format of a weight whose first plane has this element type; `None` for one that no
    /// weight has.
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::BF16),
            DType::I8 => Some(Self::Q8_0),
            DType::U32 => None,
        }
    }

    /// The element type of its first plane.
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::Q8_0 => DType::I8,
        }
    }

    /// Elements along the innermost dimension that are stored together.
    pub const fn block(self) -> usize {
        match self {
            Self::Q8_0 => Q8_0_BLOCK,
            _ => 1,
        }
    }

    /// Whether a weight of this shape can be stored so: its rows are whole blocks.
    pub fn holds(self, shape: Shape) -> bool {
        self.block() == 1 || (shape.rank() > 0 && shape.last().is_multiple_of(self.block()))
    }

    /// Bytes of all planes of a weight of this shape.
    pub fn bytes(self, shape: Shape) -> usize {
        self.planes().iter().map(|plane| plane.bytes(shape)).sum()
    }

    /// Bytes of the largest plane: what must fit one binding.
    pub fn largest_plane(self, shape: Shape) -> usize {
        self.planes().iter().map(|plane| plane.bytes(shape)).max().unwrap_or(0)
    }

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor in [`Format::Q8_0`] in host memory, as its planes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Q8Blocks {
    /// One per element.
    pub quants: Vec<i8>,
    /// One per block.
    pub scales: Vec<f16>,
}

impl Q8Blocks {
    /// Quantises whole blocks: the scale is `max|x| / 127` rounded to f16 (saturated at 65504), a
    /// quant is `x / scale` rounded to nearest, ties away from zero, within ±127. A block whose
    /// scale rounds to 0 is all zero, and so is a NaN. Elements behind the last whole block are
    /// left out.
    ///
    /// An element's error is at most half a scale. (Below scales of 2^-14 f16 is subnormal, and
    /// the quants at the end of the range may lack another 127 2^-25.)
    pub fn quantise(values: &[f32]) -> Self {
        let blocks = values.as_chunks::<Q8_0_BLOCK>().0;
        let mut out = Self {
            quants: Vec::with_capacity(blocks.len() * Q8_0_BLOCK),
            scales: Vec::with_capacity(blocks.len()),
        };
        for block in blocks {
            let largest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
            let scale = f16::from_f32((largest / 127.0).min(65504.0));
            let by = scale.to_f32();
            let quant = |x: &f32| match by {
                0.0 => 0,
                // `as` takes a NaN to 0.
                by => (x / by).round().clamp(-127.0, 127.0) as i8,
            };
            out.quants.extend(block.iter().map(quant));
            out.scales.push(scale);
        }
        out
    }

    /// The values that the blocks stand for.
    pub fn values(&self) -> Vec<f32> {
        let blocks = self.quants.chunks(Q8_0_BLOCK).zip(&self.scales);
        blocks
            .flat_map(|(quants, scale)| {
                let scale = scale.to_f32();
                quants.iter().map(move |&q| f32::from(q) * scale)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.7391).sin() * scale * (1.0 + (i / 32) as f32)).collect()
    }

    #[test]
    fn an_element_is_off_by_half_a_scale_at_most() {
        for scale in [1e-30, 1e-6, 3e-3, 1.0, 1e4] {
            let values = waves(32 * 7, scale);
            let blocks = Q8Blocks::quantise(&values);
            let got = blocks.values();
            for (i, (x, y)) in values.iter().zip(&got).enumerate() {
                let step = blocks.scales[i / 32].to_f32();
                let bound = 0.5 * step * 1.001 + 127.0 * 2f32.powi(-25);
                assert!((x - y).abs() <= bound, "{i}: {x} became {y}, step {step}");
            }
        }
    }

    #[test]
    fn what_was_quantised_once_stays_as_it_is() {
        let once = Q8Blocks::quantise(&waves(320, 0.02));
        assert_eq!(Q8Blocks::quantise(&once.values()), once);
    }

    #[test]
    fn zeros_nans_and_infinities_have_finite_quants() {
        let mut values = vec![0.0; 96];
        values[33] = f32::NAN;
        values[64] = f32::NEG_INFINITY;
        let blocks = Q8Blocks::quantise(&values);
        assert_eq!(blocks.scales[0], f16::ZERO);
        assert!(blocks.values()[..64].iter().all(|x| *x == 0.0));
        assert_eq!(blocks.quants[64], -127);
        assert_eq!(blocks.scales[2], f16::MAX);
    }

    #[test]
    fn bytes_and_planes() {
        let shape = Shape::from([3, 64]);
        assert_eq!(Format::BF16.bytes(shape), 384);
        assert_eq!(Format::Q8_0.bytes(shape), 3 * 2 * 34);
        assert_eq!(Format::Q8_0.largest_plane(shape), 192);
        for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0] {
            assert_eq!(Format::of(format.dtype()), Some(format));
            assert_eq!(format.planes()[0].dtype, format.dtype());
        }
    }

    #[test]
    fn ragged_rows_are_not_held_in_blocks() {
        assert!(Format::Q8_0.holds(Shape::from([5, 96])));
        assert!(!Format::Q8_0.holds(Shape::from([32, 33])));
        assert!(!Format::Q8_0.holds(Shape::from([])));
        assert!(Format::F16.holds(Shape::from([32, 33])));
    }
}
