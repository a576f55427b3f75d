//! Shapes, element types and host tensors: the words every other room speaks. Symbolic sizes are
//! in [`crate::sym`], stored forms of weights in [`crate::format`].

use std::fmt;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::format::{Format, Q8_0_BLOCK, Q8Blocks};
pub use crate::sym::{Dim, MAX_SYMS, Sizes, Sym, SymMeta};

/// The largest number of dimensions a [`Shape`] can have.
pub const MAX_RANK: usize = 6;

/// Element type of a tensor that ops work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// Unsigned 32-bit: token ids, masks, positions.
    U32,
    /// Signed 8-bit: the first plane of a weight in [`Format::Q8_0`], whose scales are another.
    I8,
}

impl DType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 => 1,
        }
    }

    /// Whether the elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::U32 | Self::I8)
    }

    /// Whether a weight whose first plane has this type stands for floating-point numbers.
    pub const fn is_weight(self) -> bool {
        Format::of(self).is_some()
    }

    /// The name used on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::U32 => "u32",
            Self::I8 => "i8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Dimensions of a tensor, outermost first, row-major; at most [`MAX_RANK`], no heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// A shape of these dimensions. Errors when there are more than [`MAX_RANK`] or when so many
    /// 4-byte elements exceed an address space (`isize::MAX` bytes, also the limit of a `Vec`).
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::Argument(format!(
                "a shape of {} dimensions; at most {MAX_RANK} are supported",
                dims.len()
            )));
        }
        let count = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if count.is_none_or(|count| count > isize::MAX as usize / 4) {
            let message = format!("the number of elements of shape {dims:?} overflows");
            return Err(Error::Argument(message));
        }
        Ok(Self::raw(dims))
    }

    fn raw(dims: &[usize]) -> Self {
        let mut out = [1; MAX_RANK];
        out[..dims.len()].copy_from_slice(dims);
        Self { dims: out, rank: dims.len() }
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.dims().iter().product()
    }

    /// The innermost dimension; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// How many innermost rows there are: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.dims().split_last().map_or(1, |(_, lead)| lead.iter().product())
    }

    /// The same shape with another innermost dimension.
    #[must_use]
    pub fn with_last(mut self, last: usize) -> Self {
        if self.rank > 0 {
            self.dims[self.rank - 1] = last;
        }
        self
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// Never fails for the ranks used in code: `N` above [`MAX_RANK`] does not compile.
    fn from(dims: [usize; N]) -> Self {
        const { assert!(N <= MAX_RANK) };
        Self::raw(&dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shape and element type: all that shape inference and kernel choice need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Dimensions.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Meta {
    /// A float32 tensor of this shape.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), dtype: DType::F32 }
    }

    /// A u32 tensor of this shape.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), dtype: DType::U32 }
    }

    /// Size in bytes, all planes together.
    pub fn bytes(&self) -> usize {
        match self.format() {
            Some(format) => format.bytes(self.shape),
            None => self.shape.numel() * self.dtype.size(),
        }
    }

    /// How a weight is stored; `None` for integers, which no weight is.
    pub const fn format(&self) -> Option<Format> {
        Format::of(self.dtype)
    }

    /// Bytes of one plane; 0 for one that there is not.
    pub fn plane_bytes(&self, plane: usize) -> usize {
        match self.format() {
            Some(format) => format.planes().get(plane).map_or(0, |p| p.bytes(self.shape)),
            None if plane == 0 => self.bytes(),
            None => 0,
        }
    }

    /// The number of planes.
    pub fn planes(&self) -> usize {
        self.format().map_or(1, |format| format.planes().len())
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format() {
            Some(format) => write!(f, "{format}{}", self.shape),
            None => write!(f, "{}{}", self.dtype, self.shape),
        }
    }
}

/// Elements of a host tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// See [`DType::F32`].
    F32(Vec<f32>),
    /// See [`DType::F16`].
    F16(Vec<f16>),
    /// See [`DType::BF16`].
    BF16(Vec<bf16>),
    /// See [`DType::U32`].
    U32(Vec<u32>),
    /// See [`Format::Q8_0`].
    Q8_0(Q8Blocks),
}

/// A dense row-major tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor of these elements; their number must be the shape's.
    pub fn new(shape: impl Into<Shape>, data: Data) -> Result<Self> {
        let shape = shape.into();
        let len = match &data {
            Data::F32(v) => v.len(),
            Data::F16(v) => v.len(),
            Data::BF16(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::Q8_0(v) => {
                let blocks = v.quants.len().div_ceil(Q8_0_BLOCK);
                if !Format::Q8_0.holds(shape) || v.scales.len() != blocks {
                    let message = format!("q8_0{shape} must have rows of whole blocks of 32");
                    return Err(Error::Argument(message));
                }
                v.quants.len()
            }
        };
        if len != shape.numel() {
            return Err(Error::Argument(format!(
                "{len} elements given for shape {shape}, which has {}",
                shape.numel()
            )));
        }
        Ok(Self { shape, data })
    }

    /// A tensor of zeros.
    pub fn zeros(meta: Meta) -> Result<Self> {
        let count = meta.shape.numel();
        let data = match meta.dtype {
            DType::F32 => Data::F32(vec![0.0; count]),
            DType::F16 => Data::F16(vec![f16::ZERO; count]),
            DType::BF16 => Data::BF16(vec![bf16::ZERO; count]),
            DType::U32 => Data::U32(vec![0; count]),
            DType::I8 => Data::Q8_0(Q8Blocks::quantise(&vec![0.0; count])),
        };
        Self::new(meta.shape, data)
    }

    /// A float32 tensor.
    pub fn f32(shape: impl Into<Shape>, values: Vec<f32>) -> Result<Self> {
        Self::new(shape, Data::F32(values))
    }

    /// A u32 tensor.
    pub fn u32(shape: impl Into<Shape>, values: Vec<u32>) -> Result<Self> {
        Self::new(shape, Data::U32(values))
    }

    /// A tensor from little-endian bytes, as files store it; planes one after the other.
    pub fn from_le_bytes(shape: impl Into<Shape>, dtype: DType, bytes: &[u8]) -> Result<Self> {
        let shape = shape.into();
        let meta = Meta { shape, dtype };
        if bytes.len() != meta.bytes() {
            return Err(Error::Argument(format!(
                "{} bytes given for {meta}, which has {}",
                bytes.len(),
                meta.bytes()
            )));
        }
        let data = match dtype {
            DType::F32 => Data::F32(chunks(bytes).map(f32::from_le_bytes).collect()),
            DType::U32 => Data::U32(chunks(bytes).map(u32::from_le_bytes).collect()),
            DType::F16 => Data::F16(chunks(bytes).map(f16::from_le_bytes).collect()),
            DType::BF16 => Data::BF16(chunks(bytes).map(bf16::from_le_bytes).collect()),
            DType::I8 => {
                let (quants, scales) = bytes.split_at(shape.numel());
                let quants = quants.iter().map(|&b| b.cast_signed()).collect();
                let scales = chunks(scales).map(f16::from_le_bytes).collect();
                Data::Q8_0(Q8Blocks { quants, scales })
            }
        };
        Self::new(shape, data)
    }

    /// Dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            Data::F32(_) => DType::F32,
            Data::F16(_) => DType::F16,
            Data::BF16(_) => DType::BF16,
            Data::U32(_) => DType::U32,
            Data::Q8_0(_) => DType::I8,
        }
    }

    /// Shape and element type.
    pub fn meta(&self) -> Meta {
        Meta { shape: self.shape, dtype: self.dtype() }
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements of a float32 tensor; an error for any other dtype.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &self.data {
            Data::F32(v) => Ok(v),
            _ => Err(Error::Argument(format!("an f32 tensor is needed, got {}", self.meta()))),
        }
    }

    /// The elements, to be changed.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// The elements of a u32 tensor; an error for any other dtype.
    pub fn as_u32(&self) -> Result<&[u32]> {
        match &self.data {
            Data::U32(v) => Ok(v),
            _ => Err(Error::Argument(format!("a u32 tensor is needed, got {}", self.meta()))),
        }
    }

    /// The elements of a float tensor widened to float32 (borrowed when they already are); of one
    /// in blocks, the values that they stand for.
    pub fn to_f32(&self) -> Result<std::borrow::Cow<'_, [f32]>> {
        Ok(match &self.data {
            Data::F32(v) => v.into(),
            Data::F16(v) => v.iter().map(|x| x.to_f32()).collect::<Vec<_>>().into(),
            Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect::<Vec<_>>().into(),
            Data::Q8_0(v) => v.values().into(),
            Data::U32(_) => {
                return Err(Error::Argument(format!(
                    "a float tensor is needed, got {}",
                    self.meta()
                )));
            }
        })
    }

    /// The same values in another float dtype, rounded to nearest; f16 saturates at ±65504. Into
    /// and out of [`Format::Q8_0`] (i8) as [`Q8Blocks`] says; errors where rows are not whole
    /// blocks.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let values = self.to_f32()?;
        let data = match dtype {
            DType::F32 => Data::F32(values.into_owned()),
            DType::F16 => Data::F16(
                values.iter().map(|x| f16::from_f32(x.clamp(-65504.0, 65504.0))).collect(),
            ),
            DType::BF16 => Data::BF16(values.iter().map(|x| bf16::from_f32(*x)).collect()),
            DType::U32 => {
                return Err(Error::Argument(format!("{} cannot be cast to u32", self.meta())));
            }
            DType::I8 => Data::Q8_0(Q8Blocks::quantise(&values)),
        };
        Self::new(self.shape, data)
    }

    /// The same elements under another shape of as many elements.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// The elements as bytes in the machine's order, which on every supported device is the
    /// order buffers use; of a tensor in planes, the first.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.data {
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::F16(v) => bytemuck::cast_slice(v),
            Data::BF16(v) => bytemuck::cast_slice(v),
            Data::U32(v) => bytemuck::cast_slice(v),
            Data::Q8_0(v) => bytemuck::cast_slice(&v.quants),
        }
    }

    /// The bytes of one plane; none of one that there is not.
    pub fn plane(&self, plane: usize) -> &[u8] {
        match (&self.data, plane) {
            (_, 0) => self.as_bytes(),
            (Data::Q8_0(v), 1) => bytemuck::cast_slice(&v.scales),
            _ => &[],
        }
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
