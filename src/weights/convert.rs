//! Element types as files name them, and their conversion to the types that ops work on.

use std::fmt;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::files::one_line;
use crate::tensor::{DType, Data, Shape, Tensor};

/// Element type of a tensor in a safetensors file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileDType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit.
    U8,
    /// Signed 8-bit.
    I8,
    /// Signed 16-bit.
    I16,
    /// Unsigned 16-bit.
    U16,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// Signed 32-bit.
    I32,
    /// Unsigned 32-bit.
    U32,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed 64-bit.
    I64,
    /// Unsigned 64-bit.
    U64,
}

impl FileDType {
    /// Every type that is read.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::I16,
        Self::U16,
        Self::F16,
        Self::BF16,
        Self::I32,
        Self::U32,
        Self::F32,
        Self::F64,
        Self::I64,
        Self::U64,
    ];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The name in the file's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::I16 => "I16",
            Self::U16 => "U16",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I32 => "I32",
            Self::U32 => "U32",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::I64 => "I64",
            Self::U64 => "U64",
        }
    }

    /// The type of this name in a header.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The type a tensor of this file type has once read: F64 becomes f32, integers become u32.
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::F64 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            _ => DType::U32,
        }
    }

    /// Whether the file's bytes are already those of [`FileDType::dtype`], so that they can be
    /// uploaded as they are.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::U32)
    }
}

impl fmt::Display for FileDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Index of the first NaN or infinity among elements of this type; `None` when all are finite
/// or the type has no such values.
///
/// It tests exponent bits, so it runs at memory speed: call it on chunks already at hand for an
/// upload rather than reading the file again.
pub fn first_non_finite(dtype: FileDType, bytes: &[u8]) -> Option<usize> {
    let half = |mask: u16| chunks::<2>(bytes).position(|b| u16::from_le_bytes(b) & mask == mask);
    match dtype {
        FileDType::F32 => {
            const EXPONENT: u32 = 0x7f80_0000;
            chunks::<4>(bytes).position(|b| u32::from_le_bytes(b) & EXPONENT == EXPONENT)
        }
        FileDType::F64 => {
            const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
            chunks::<8>(bytes).position(|b| u64::from_le_bytes(b) & EXPONENT == EXPONENT)
        }
        FileDType::F16 => half(0x7c00),
        FileDType::BF16 => half(0x7f80),
        _ => None,
    }
}

/// A host tensor from a file's little-endian bytes. Integers must fit u32; the error names the
/// first value that does not.
pub(super) fn to_tensor(
    name: &str,
    shape: Shape,
    dtype: FileDType,
    bytes: &[u8],
) -> Result<Tensor> {
    let data = match dtype {
        FileDType::F32 => Data::F32(chunks(bytes).map(f32::from_le_bytes).collect()),
        FileDType::F64 => Data::F32(chunks(bytes).map(|b| f64::from_le_bytes(b) as f32).collect()),
        FileDType::F16 => Data::F16(chunks(bytes).map(f16::from_le_bytes).collect()),
        FileDType::BF16 => Data::BF16(chunks(bytes).map(bf16::from_le_bytes).collect()),
        FileDType::U32 => Data::U32(chunks(bytes).map(u32::from_le_bytes).collect()),
        FileDType::Bool | FileDType::U8 => Data::U32(bytes.iter().map(|&b| b.into()).collect()),
        FileDType::U16 => Data::U32(chunks(bytes).map(|b| u16::from_le_bytes(b).into()).collect()),
        FileDType::I8 => integers(name, dtype, bytes, i8::from_le_bytes)?,
        FileDType::I16 => integers(name, dtype, bytes, i16::from_le_bytes)?,
        FileDType::I32 => integers(name, dtype, bytes, i32::from_le_bytes)?,
        FileDType::I64 => integers(name, dtype, bytes, i64::from_le_bytes)?,
        FileDType::U64 => integers(name, dtype, bytes, u64::from_le_bytes)?,
    };
    Tensor::new(shape, data)
}

fn integers<const N: usize, T: Copy + fmt::Display + TryInto<u32>>(
    name: &str,
    dtype: FileDType,
    bytes: &[u8],
    decode: fn([u8; N]) -> T,
) -> Result<Data> {
    let mut out = Vec::with_capacity(bytes.len() / N);
    for (index, chunk) in chunks(bytes).enumerate() {
        let value = decode(chunk);
        out.push(value.try_into().map_err(|_| {
            Error::tensor(
                one_line(name),
                format!("{dtype} value {value} at index {index}; 0 to 4294967295 is expected"),
            )
        })?);
    }
    Ok(Data::U32(out))
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
