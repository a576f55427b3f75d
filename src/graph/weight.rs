//! Weights: where their bytes come from.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::format::{Format, Q8_0_BLOCK, Q8Blocks};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Something a weight's bytes can be read from, range by range, such as a checkpoint file.
pub trait WeightSource: Send + Sync {
    /// Fills `out` with the tensor's bytes from byte `offset` on.
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()>;

    /// Where the bytes come from, such as file and tensor name: copies on a device are shared
    /// between weights of equal origin. `None` shares with nothing.
    fn origin(&self) -> Option<String> {
        None
    }

    /// What is wrong with the bytes read so far but does not keep the model from running, such
    /// as a NaN; one line that names the tensor.
    fn warning(&self) -> Option<String> {
        None
    }
}

impl WeightSource for Tensor {
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len());
        let bytes = end.and_then(|end| self.as_bytes().get(offset..end));
        let bytes = bytes.ok_or_else(|| Error::tensor("constant", "read past its end"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// A named constant operand of a graph: one tensor, or several stacked along the first
/// dimension. Nothing is read until a device or the CPU path asks for it.
#[derive(Clone)]
pub struct Weight {
    name: String,
    meta: Meta,
    pieces: Vec<Piece>,
    /// Whether rows of the first half and of the second come in turn.
    interleaved: bool,
    /// Whether a format was asked for that its rows cannot be stored in.
    refused: bool,
}

#[derive(Clone)]
struct Piece {
    source: Arc<dyn WeightSource>,
    origin: String,
    dtype: DType,
    /// First element taken of the source.
    first: usize,
    numel: usize,
}

/// A name no other source has, for those without an origin.
fn unique_origin() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("constant {}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.meta)
    }
}

impl Weight {
    /// A weight that is read from `source`, which holds it as `meta` says.
    pub fn new(name: impl Into<String>, meta: Meta, source: Arc<dyn WeightSource>) -> Self {
        let origin = source.origin().unwrap_or_else(unique_origin);
        let piece =
            Piece { source, origin, dtype: meta.dtype, first: 0, numel: meta.shape.numel() };
        Self { name: name.into(), meta, pieces: vec![piece], interleaved: false, refused: false }
    }

    /// A weight whose values are given.
    pub fn constant(name: impl Into<String>, tensor: Tensor) -> Self {
        let meta = tensor.meta();
        match meta.format() {
            // Sources are read by ranges of elements. Quantising the values of blocks gives the
            // same blocks.
            Some(format) if format.block() > 1 => match tensor.cast(DType::F32) {
                Ok(values) => Self::new(name, values.meta(), Arc::new(values)).stored_as(format),
                Err(_) => Self::new(name, meta, Arc::new(tensor)),
            },
            _ => Self::new(name, meta, Arc::new(tensor)),
        }
    }

    /// A weight whose values are given and follow from `origin`, under which copies on a device
    /// are shared: a table computed from a formula's constants.
    pub fn computed(name: impl Into<String>, origin: String, tensor: Tensor) -> Self {
        let mut weight = Self::constant(name, tensor);
        weight.pieces.iter_mut().for_each(|p| p.origin.clone_from(&origin));
        weight
    }

    /// Several weights of equal dtype and equal trailing dimensions, stacked along the first.
    pub fn stack(parts: &[&Self]) -> Result<Self> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(Error::tensor("stack", "nothing to stack"));
        };
        let mut dims = first.meta.shape.dims().to_vec();
        for part in rest {
            let shape = part.meta.shape;
            let fits = part.meta.dtype == first.meta.dtype
                && !(part.interleaved || first.interleaved)
                && shape.rank() == dims.len()
                && shape.rank() > 0
                && shape.dims()[1..] == dims[1..];
            if !fits {
                let message = format!("{} cannot be stacked on {}", part.meta, first.meta);
                return Err(Error::tensor(&part.name, message));
            }
            dims[0] += shape.dims()[0];
        }
        let names: Vec<_> = parts.iter().map(|p| p.name.as_str()).collect();
        let meta = Meta { shape: Shape::new(&dims)?, dtype: first.meta.dtype };
        let pieces = parts.iter().flat_map(|p| p.pieces.iter().cloned()).collect();
        let refused = parts.iter().any(|p| p.refused);
        Ok(Self { name: names.join("+"), meta, pieces, interleaved: false, refused })
    }

    /// The same rows in another order: the first of the first half, the first of the second half,
    /// the second of each and so on. Errors when their number is odd.
    pub fn interleaved(&self) -> Result<Self> {
        let rows = self.meta.shape.dims().first().copied().unwrap_or(1);
        if !rows.is_multiple_of(2) || self.interleaved {
            let message = format!("{} has no halves whose rows could take turns", self.meta);
            return Err(Error::tensor(&self.name, message));
        }
        Ok(Self { interleaved: true, ..self.clone() })
    }

    /// Some rows (first dimension) of this weight, for checkpoints that store several
    /// projections in one tensor. Errors when there are fewer rows.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        let mut dims = self.meta.shape.dims().to_vec();
        let ([piece], false) = (self.pieces.as_slice(), self.interleaved) else {
            return Err(Error::tensor(&self.name, "is stacked; rows are taken before stacking"));
        };
        match dims.first_mut() {
            Some(rows) if range.start < range.end && range.end <= *rows => *rows = range.len(),
            _ => {
                let message = format!("{} has no rows {range:?}", self.meta);
                return Err(Error::tensor(&self.name, message));
            }
        }
        let meta = Meta { shape: Shape::new(&dims)?, dtype: self.meta.dtype };
        let row = meta.shape.numel() / range.len();
        let piece = Piece {
            first: piece.first + range.start * row,
            numel: meta.shape.numel(),
            ..piece.clone()
        };
        Ok(Self { meta, pieces: vec![piece], ..self.clone() })
    }

    /// The same weight under another name, as messages and pictures give it.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same values stored in another format. One whose rows the format does not
    /// [hold](Format::holds) stays as it is, and [`refused`](Self::refused) says so.
    #[must_use]
    pub fn stored_as(mut self, format: Format) -> Self {
        if self.meta.dtype.is_weight() {
            self.refused = !format.holds(self.meta.shape);
            if !self.refused {
                self.meta.dtype = format.dtype();
            }
        }
        self
    }

    /// Whether it was to be [stored](Self::stored_as) in a format that cannot hold its rows.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// The checkpoint's own name; stacked weights are joined by `+`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape, and the dtype it is stored in on the device.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// What [`WeightSource::warning`] says of its sources.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.pieces.iter().filter_map(|p| p.source.warning())
    }

    /// The key under which copies are shared: origin and storage. Two checkpoints have tensors
    /// of the same name, and one tensor can be stored in several dtypes.
    pub(super) fn key(&self) -> (String, DType) {
        let origin = |p: &Piece| format!("{}@{}+{}", p.origin, p.first, p.numel);
        let origins: Vec<_> = self.pieces.iter().map(origin).collect();
        let order = if self.interleaved { "in turn " } else { "" };
        (format!("{order}{}", origins.join("+")), self.meta.dtype)
    }

    /// Fills `out` with elements from `first` on, as `dtype`, converting where the source's
    /// differs.
    fn elements(&self, first: usize, dtype: DType, out: &mut [u8]) -> Result<()> {
        if !self.interleaved {
            return self.stacked(first, dtype, out);
        }
        let size = dtype.size();
        let rows = self.meta.shape.dims().first().copied().unwrap_or(1).max(1);
        let row = (self.meta.shape.numel() / rows).max(1);
        let end = first + out.len() / size;
        for half in 0..2 {
            // Rows of this half among those asked for lie side by side in it.
            let from = (first / row + 1 - half) / 2;
            let to = (end.div_ceil(row) + 1 - half) / 2;
            let mut bytes = vec![0; to.saturating_sub(from) * row * size];
            self.stacked((half * rows / 2 + from) * row, dtype, &mut bytes)?;
            for (i, bytes) in (from..to).zip(bytes.chunks_exact(row * size)) {
                let start = (2 * i + half) * row;
                let (a, b) = (start.max(first), (start + row).min(end));
                if a < b {
                    out[(a - first) * size..(b - first) * size]
                        .copy_from_slice(&bytes[(a - start) * size..(b - start) * size]);
                }
            }
        }
        Ok(())
    }

    fn stacked(&self, first: usize, dtype: DType, out: &mut [u8]) -> Result<()> {
        let size = dtype.size();
        let (mut first, mut out) = (first, out);
        for piece in &self.pieces {
            if first >= piece.numel {
                first -= piece.numel;
                continue;
            }
            let count = (out.len() / size).min(piece.numel - first);
            let (head, tail) = out.split_at_mut(count * size);
            piece.read(first, dtype, head)?;
            out = tail;
            first = 0;
            if out.is_empty() {
                return Ok(());
            }
        }
        if out.is_empty() { Ok(()) } else { Err(Error::tensor(&self.name, "read past its end")) }
    }

    /// Fills `out` with bytes of a plane from byte `offset` on. A plane of scales reads the
    /// source again: nothing is held between chunks.
    pub(super) fn read(&self, plane: usize, offset: usize, out: &mut [u8]) -> Result<()> {
        let format = Format::of(self.meta.dtype).filter(|f| f.block() > 1);
        let Some(of) = format.and_then(|format| format.planes().get(plane)) else {
            return self.elements(offset / self.meta.dtype.size(), self.meta.dtype, out);
        };
        // Bytes of the plane that a block has.
        let per_block = Q8_0_BLOCK / of.block * of.dtype.size();
        let (mut at, mut out) = (offset, out);
        while !out.is_empty() {
            let skip = at % per_block;
            let blocks = (skip + out.len()).div_ceil(per_block).min(BLOCKS_AT_A_TIME);
            let mut values = vec![0f32; blocks * Q8_0_BLOCK];
            let first = at / per_block * Q8_0_BLOCK;
            self.elements(first, DType::F32, bytemuck::cast_slice_mut(&mut values))?;
            let found = Q8Blocks::quantise(&values);
            let bytes: &[u8] = match plane {
                0 => bytemuck::cast_slice(&found.quants),
                _ => bytemuck::cast_slice(&found.scales),
            };
            let count = (bytes.len() - skip).min(out.len());
            let (head, tail) = out.split_at_mut(count);
            head.copy_from_slice(&bytes[skip..skip + count]);
            (at, out) = (at + count, tail);
        }
        Ok(())
    }

    /// The whole weight in host memory, as stored.
    pub fn tensor(&self) -> Result<Tensor> {
        let mut bytes = vec![0; self.meta.bytes()];
        let mut rest = bytes.as_mut_slice();
        for plane in 0..self.meta.planes() {
            let (head, tail) = rest.split_at_mut(self.meta.plane_bytes(plane));
            self.read(plane, 0, head)?;
            rest = tail;
        }
        Tensor::from_le_bytes(self.meta.shape, self.meta.dtype, &bytes)
    }
}

/// Blocks that are quantised at a time: 4 MiB of values.
const BLOCKS_AT_A_TIME: usize = 1 << 15;

impl Piece {
    fn read(&self, first: usize, dtype: DType, out: &mut [u8]) -> Result<()> {
        let first = self.first + first;
        if self.dtype == DType::I8 {
            return Err(Error::tensor(&self.origin, "is in blocks already, not read by elements"));
        }
        if dtype == self.dtype {
            return self.source.read(first * dtype.size(), out);
        }
        let count = out.len() / dtype.size();
        let mut raw = vec![0; count * self.dtype.size()];
        self.source.read(first * self.dtype.size(), &mut raw)?;
        let tensor = Tensor::from_le_bytes([count], self.dtype, &raw)?.cast(dtype)?;
        out.copy_from_slice(tensor.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_turn_are_the_same_read_whole_and_in_pieces() {
        let half = |first: usize| {
            let values = (first..first + 12).map(|v| v as f32).collect();
            Weight::constant("half", Tensor::f32([4, 3], values).unwrap())
        };
        let stacked = Weight::stack(&[&half(0), &half(12)]).unwrap();
        let weight = stacked.interleaved().unwrap();
        let rows = [0, 4, 1, 5, 2, 6, 3, 7].map(|row: usize| [3 * row, 3 * row + 1, 3 * row + 2]);
        let want: Vec<_> = rows.concat().into_iter().map(|v| v as f32).collect();
        assert_eq!(weight.tensor().unwrap().as_f32().unwrap(), want);
        for (first, end) in (0..24).flat_map(|first| (first..=24).map(move |end| (first, end))) {
            let mut got = vec![0f32; end - first];
            weight.read(0, 4 * first, bytemuck::cast_slice_mut(&mut got)).unwrap();
            assert_eq!(got, want[first..end], "{first}..{end}");
        }
        assert_ne!(weight.key(), stacked.key());
        assert!(
            weight.interleaved().is_err() && half(0).rows(0..3).unwrap().interleaved().is_err()
        );
    }
}
