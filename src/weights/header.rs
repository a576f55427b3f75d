//! The header of a safetensors file, parsed strictly: a repeated name, an unknown field or a
//! range that does not tile the data is an error, where the `safetensors` crate lets some pass.
//!
//! Format: <https://huggingface.co/docs/safetensors/index#format>.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::convert::FileDType;
use crate::error::{Error, Result};
use crate::files::one_line;
use crate::tensor::{MAX_RANK, Shape};

/// The most tensors a file may hold; the largest models in use have some tens of thousands.
pub(super) const MAX_TENSORS: usize = 262_144;

/// Where a tensor lies in its file and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in the file.
    pub dtype: FileDType,
    /// Dimensions.
    pub shape: Shape,
    /// Bytes of the tensor, counted from the start of the file.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Size in the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Tensors in the order of the header, and their places by name.
#[derive(Debug)]
pub(super) struct Header {
    pub tensors: Vec<(String, TensorInfo)>,
    pub index: HashMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if metadata_seen {
                    return Err(A::Error::custom("`__metadata__` appears twice"));
                }
                metadata_seen = true;
                map.next_value::<Metadata>()
                    .map_err(|e| A::Error::custom(format!("`__metadata__`: {e}")))?;
                continue;
            }
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!(
                    "more than {MAX_TENSORS} tensors; that is the most accepted"
                )));
            }
            let entry = map
                .next_value::<Entry>()
                .map_err(|e| A::Error::custom(format!("tensor `{}`: {e}", one_line(&name))))?;
            entries.push((name, entry));
        }
        Ok(Entries(entries))
    }
}

/// `__metadata__`: strings to strings; the values are checked and dropped.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value::<String>()?;
        }
        Ok(Metadata)
    }
}

impl Header {
    /// Parses the header's text; `data` is where the tensors' bytes lie in the file.
    pub fn parse(path: &Path, bytes: &[u8], data: Range<u64>) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(fail("the header begins with a byte-order mark; `{` is expected".into()));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| fail(format!("the header is not UTF-8 at byte {}", e.valid_up_to())))?;
        if !text.starts_with('{') {
            let found = text.chars().next().map_or("nothing".into(), |c| format!("{c:?}"));
            return Err(fail(format!("the header begins with {found}; `{{` is expected")));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let entries = Entries::deserialize(&mut json)
            .and_then(|entries| json.end().map(|()| entries))
            .map_err(|e| fail(format!("bad header: {}", one_line(&e.to_string()))))?;

        let mut tensors = Vec::with_capacity(entries.0.len());
        let mut index = HashMap::with_capacity(entries.0.len());
        for (name, entry) in entries.0 {
            let info = entry
                .check(&data)
                .map_err(|message| fail(format!("tensor `{}`: {message}", one_line(&name))))?;
            if index.insert(name.clone(), tensors.len()).is_some() {
                return Err(fail(format!("tensor `{}` appears twice", one_line(&name))));
            }
            tensors.push((name, info));
        }
        let header = Self { tensors, index };
        header.check_tiling(data).map_err(fail)?;
        Ok(header)
    }

    /// The tensors must cover the data without overlap, hole or rest.
    fn check_tiling(&self, data: Range<u64>) -> Result<(), String> {
        let mut sorted: Vec<_> = self.tensors.iter().collect();
        sorted.sort_by_key(|(_, info)| (info.range.start, info.range.end));
        let mut end = data.start;
        let mut previous = "";
        for (name, info) in sorted {
            let begin = info.range.start;
            if begin < end {
                return Err(format!(
                    "tensor `{}` begins at data offset {}, inside tensor `{}`, which ends at {}",
                    one_line(name),
                    begin - data.start,
                    one_line(previous),
                    end - data.start
                ));
            }
            if begin > end {
                return Err(format!(
                    "a hole of {} bytes before tensor `{}`, which begins at data offset {}; {} is expected",
                    begin - end,
                    one_line(name),
                    begin - data.start,
                    end - data.start
                ));
            }
            end = info.range.end;
            previous = name;
        }
        if end != data.end {
            return Err(format!(
                "{} bytes follow the last tensor; none are expected",
                data.end - end
            ));
        }
        Ok(())
    }
}

impl Entry {
    fn check(&self, data: &Range<u64>) -> Result<TensorInfo, String> {
        let dtype = FileDType::parse(&self.dtype).ok_or_else(|| {
            let known = FileDType::ALL.map(FileDType::name).join(", ");
            format!("unsupported dtype `{}`; supported: {known}", one_line(&self.dtype))
        })?;
        if self.shape.len() > MAX_RANK {
            return Err(format!(
                "has {} dimensions; at most {MAX_RANK} are supported",
                self.shape.len()
            ));
        }
        let overflow = || format!("the size of {dtype}{:?} overflows", self.shape);
        let dims = self
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| overflow()))
            .collect::<Result<Vec<_>, _>>()?;
        let shape = Shape::new(&dims).map_err(|_| overflow())?;
        let size = (shape.numel() as u64).checked_mul(dtype.size() as u64).ok_or_else(overflow)?;

        let (begin, end) = self.data_offsets;
        let available = data.end - data.start;
        if begin > end {
            return Err(format!("data_offsets [{begin}, {end}]: the begin is after the end"));
        }
        if end > available {
            return Err(format!(
                "ends at data offset {end}; the file has {available} bytes of data"
            ));
        }
        if end - begin != size {
            return Err(format!("spans {} bytes; {dtype}{shape} needs {size}", end - begin));
        }
        Ok(TensorInfo { dtype, shape, range: data.start + begin..data.start + end })
    }
}
