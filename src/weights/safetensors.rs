//! One safetensors file, read by range.
//!
//! The file is not mapped: a mapped file that shrinks ends the process with SIGBUS, a read
//! that comes up short is an error.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::convert::{FileDType, first_non_finite, to_tensor};
use super::header::{Header, TensorInfo};
use crate::error::{Error, Result};
use crate::files::{one_line, open_regular, read_exact_at};
use crate::tensor::Tensor;

/// The longest header that is read; the `safetensors` crate has the same limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes read at a time when a tensor is scanned.
const SCAN_BYTES: usize = 1 << 20;

/// An open safetensors file whose header has been checked in full.
#[derive(Debug)]
pub struct SafeTensors {
    path: PathBuf,
    file: File,
    header: Header,
}

impl SafeTensors {
    /// Opens a file and checks its header; no tensor is read.
    ///
    /// Errors name the file, and the tensor where there is one: not a regular file, a header
    /// that is too long, not UTF-8, not JSON or of other fields, a name given twice, a dtype or
    /// rank that is not supported, ranges that overlap or do not tile the rest of the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, file_length) = open_regular(path)?;
        if file_length < 8 {
            return Err(Error::file(
                path,
                format!("is {file_length} bytes long; a safetensors file has at least 8"),
            ));
        }
        let mut length = [0; 8];
        read_exact_at(&file, &mut length, 0).map_err(|e| Error::io(path, e))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(Error::file(
                path,
                format!(
                    "the header is {length} bytes long; at most {MAX_HEADER_BYTES} are accepted"
                ),
            ));
        }
        if length > file_length - 8 {
            return Err(Error::file(
                path,
                format!("the header is {length} bytes long; the file has {} left", file_length - 8),
            ));
        }
        let mut bytes = vec![0; length as usize];
        read_exact_at(&file, &mut bytes, 8).map_err(|e| Error::io(path, e))?;
        let header = Header::parse(path, &bytes, 8 + length..file_length)?;
        Ok(Self { path: path.to_owned(), file, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and places of all tensors, in the order of the header.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> {
        self.header.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// Names of all tensors, in the order of the header.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the file holds a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.index.contains_key(name)
    }

    /// Where a tensor lies and how to read it.
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.header.index.get(name).map(|&at| &self.header.tensors[at].1).ok_or_else(|| {
            Error::tensor(one_line(name), format!("is not in {}", self.path.display()))
        })
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.header.tensors.iter().map(|(_, info)| info.bytes()).sum()
    }

    /// Reads a tensor: F32, F16 and BF16 stay, F64 becomes f32, integers and BOOL become u32;
    /// one that does not fit u32 is an error that gives its value and index.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.info(name)?;
        let mut bytes = vec![0; info.shape.numel() * info.dtype.size()];
        self.read_range(name, 0..info.shape.numel(), &mut bytes)?;
        to_tensor(name, info.shape, info.dtype, &bytes)
    }

    /// Reads some elements of a tensor as the file's own little-endian bytes; `into` must have
    /// exactly their size.
    pub fn read_range(&self, name: &str, elements: Range<usize>, into: &mut [u8]) -> Result<()> {
        let info = self.info(name)?;
        let numel = info.shape.numel();
        if elements.start > elements.end || elements.end > numel {
            return Err(Error::tensor(
                one_line(name),
                format!("elements {}..{} of {numel} were asked for", elements.start, elements.end),
            ));
        }
        let needed = (elements.end - elements.start) * info.dtype.size();
        if into.len() != needed {
            return Err(Error::tensor(
                one_line(name),
                format!("a buffer of {} bytes was given; {needed} are needed", into.len()),
            ));
        }
        let offset = info.range.start + (elements.start * info.dtype.size()) as u64;
        read_exact_at(&self.file, into, offset).map_err(|e| {
            if e.kind() == std::io::ErrorKind::UnexpectedEof {
                Error::file(
                    &self.path,
                    format!(
                        "ends inside tensor `{}`; it was longer when it was opened",
                        one_line(name)
                    ),
                )
            } else {
                Error::io(&self.path, e)
            }
        })
    }

    /// Index of the first NaN or infinity of a tensor, read in pieces; `None` if there is none.
    pub fn check_finite(&self, name: &str) -> Result<Option<usize>> {
        let info = self.info(name)?;
        if !matches!(info.dtype, FileDType::F16 | FileDType::BF16 | FileDType::F32 | FileDType::F64)
        {
            return Ok(None);
        }
        let numel = info.shape.numel();
        let step = SCAN_BYTES / info.dtype.size();
        let mut bytes = vec![0; step.min(numel) * info.dtype.size()];
        for start in (0..numel).step_by(step) {
            let end = (start + step).min(numel);
            let piece = &mut bytes[..(end - start) * info.dtype.size()];
            self.read_range(name, start..end, piece)?;
            if let Some(at) = first_non_finite(info.dtype, piece) {
                return Ok(Some(start + at));
            }
        }
        Ok(None)
    }
}
