//! A model's weights: one safetensors file, or several listed by an index.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::header::{MAX_TENSORS, TensorInfo};
use super::safetensors::SafeTensors;
use crate::error::{Error, Result};
use crate::files::{json_error, one_line, read_text};
use crate::tensor::Tensor;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The most shards an index may name; each stays open.
const MAX_SHARDS: usize = 512;

/// The weights of a model folder, opened and checked; tensors are read on demand.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<SafeTensors>,
    /// Names in file order and the shard that holds each.
    names: Vec<(String, usize)>,
    index: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the shards of `model.safetensors.index.json`.
    ///
    /// Errors: no such folder, no weights in it, any error of [`SafeTensors::open`], and an
    /// index that names a shard outside the folder, a missing one, or a tensor that its shard
    /// does not hold, or whose `total_size` is not that of the shards.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let found = std::fs::metadata(folder).map_err(|e| Error::io(folder, e))?;
        if !found.is_dir() {
            return Err(Error::file(folder, "is not a folder; a model folder is expected"));
        }
        let single = folder.join(SINGLE);
        if exists(&single) {
            let file = SafeTensors::open(&single)?;
            let names = file.names().map(|name| (name.to_owned(), 0)).collect();
            return Ok(Self::new(folder, vec![file], names));
        }
        let index = folder.join(INDEX);
        if exists(&index) {
            return Self::open_sharded(folder, &index);
        }
        let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"]
            .into_iter()
            .find(|name| exists(&folder.join(name)));
        Err(Error::file(
            folder,
            match other {
                Some(other) => format!(
                    "holds {other} but no {SINGLE}; load it in Python and call save_pretrained to convert it"
                ),
                None => format!("holds neither {SINGLE} nor {INDEX}"),
            },
        ))
    }

    fn new(folder: &Path, shards: Vec<SafeTensors>, names: Vec<(String, usize)>) -> Self {
        let index = names.iter().cloned().collect();
        Self { path: folder.to_owned(), shards, names, index }
    }

    fn open_sharded(folder: &Path, path: &Path) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        let text = read_text(path)?;
        let index: Index = serde_json::from_str(&text).map_err(|e| json_error(path, &e))?;

        // Shards in order of first mention; `folded` finds names that are one file where the
        // file system ignores case.
        let mut files: Vec<&str> = Vec::new();
        let mut place: HashMap<&str, usize> = HashMap::new();
        let mut folded: HashMap<String, &str> = HashMap::new();
        for (_, file) in &index.weight_map.0 {
            if place.contains_key(file.as_str()) {
                continue;
            }
            check_shard_name(file).map_err(fail)?;
            if let Some(other) = folded.insert(file.to_lowercase(), file) {
                return Err(fail(format!("shards `{other}` and `{file}` differ by case only")));
            }
            if files.len() == MAX_SHARDS {
                return Err(fail(format!("names more than {MAX_SHARDS} shards")));
            }
            place.insert(file, files.len());
            files.push(file);
        }
        let shards =
            files.iter().map(|file| open_shard(folder, path, file)).collect::<Result<Vec<_>>>()?;

        for (name, file) in &index.weight_map.0 {
            if shards[place[file.as_str()]].contains(name) {
                continue;
            }
            let elsewhere = shards.iter().position(|shard| shard.contains(name));
            let name = one_line(name);
            return Err(fail(match elsewhere {
                Some(at) => format!("tensor `{name}` is in `{}`, not in `{file}`", files[at]),
                None => format!("tensor `{name}` is not in `{file}`"),
            }));
        }
        let found: u64 = shards.iter().map(SafeTensors::total_bytes).sum();
        if let Some(stated) = index.metadata.and_then(|m| m.total_size)
            && stated.as_f64() != Some(found as f64)
        {
            return Err(fail(format!(
                "`total_size` is {stated}; the shards hold {found} bytes of tensors"
            )));
        }
        let names =
            index.weight_map.0.iter().map(|(name, file)| (name.clone(), place[file.as_str()]));
        let names = names.collect();
        Ok(Self::new(folder, shards, names))
    }

    /// The model folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in the order of the file or index.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// Bytes of all tensors, as stored.
    pub fn total_bytes(&self) -> u64 {
        self.shards.iter().map(SafeTensors::total_bytes).sum()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn shard(&self, name: &str) -> Result<&SafeTensors> {
        let shard = self.index.get(name).ok_or_else(|| {
            Error::tensor(
                one_line(name),
                format!("is not in the checkpoint {}", self.path.display()),
            )
        })?;
        Ok(&self.shards[*shard])
    }

    /// Element type, shape and place of a tensor.
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.shard(name)?.info(name)
    }

    /// Reads a tensor; see [`SafeTensors::read`].
    pub fn read(&self, name: &str) -> Result<Tensor> {
        self.shard(name)?.read(name)
    }

    /// Reads some elements of a tensor as stored; see [`SafeTensors::read_range`].
    pub fn read_range(&self, name: &str, elements: Range<usize>, into: &mut [u8]) -> Result<()> {
        self.shard(name)?.read_range(name, elements, into)
    }

    /// Index of the first NaN or infinity; see [`SafeTensors::check_finite`].
    pub fn check_finite(&self, name: &str) -> Result<Option<usize>> {
        self.shard(name)?.check_finite(name)
    }

    /// The first of these names that the checkpoint holds, or an error that lists them.
    pub fn find<'a>(&self, candidates: &[&'a str]) -> Result<&'a str> {
        candidates.iter().copied().find(|name| self.contains(name)).ok_or_else(|| {
            let (first, others) = candidates.split_first().unwrap_or((&"", &[]));
            let others = if others.is_empty() {
                String::new()
            } else {
                format!(" (nor {})", others.join(", "))
            };
            Error::tensor(
                *first,
                format!("is not in the checkpoint {}{others}", self.path.display()),
            )
        })
    }

    /// The checkpoint's own name for a tensor that some exports name differently: as given,
    /// with or without one of `prefixes` (such as `bert.`), and with the `gamma` and `beta` of
    /// old TensorFlow exports for a layer norm's `weight` and `bias`.
    pub fn resolve(&self, name: &str, prefixes: &[&str]) -> Option<String> {
        let mut spellings = vec![name.to_owned()];
        for prefix in prefixes {
            spellings.push(match name.strip_prefix(prefix) {
                Some(rest) => rest.to_owned(),
                None => format!("{prefix}{name}"),
            });
        }
        let old = |name: &str| {
            let (layer, leaf) = name.rsplit_once('.')?;
            let leaf = match leaf {
                "weight" => "gamma",
                "bias" => "beta",
                _ => return None,
            };
            layer.to_lowercase().ends_with("norm").then(|| format!("{layer}.{leaf}"))
        };
        let olds: Vec<_> = spellings.iter().filter_map(|name| old(name)).collect();
        spellings.into_iter().chain(olds).find(|name| self.contains(name))
    }
}

/// Whether there is an entry of this name, of any kind: a dangling link is better reported
/// than passed over.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A shard is a plain file name in the folder of its index, on every operating system.
fn check_shard_name(name: &str) -> Result<(), String> {
    let bad = name.is_empty()
        || name == "."
        || name == ".."
        || name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control());
    if bad {
        return Err(format!(
            "shard `{}` is not a plain file name; shards lie beside the index",
            one_line(name)
        ));
    }
    Ok(())
}

fn open_shard(folder: &Path, index: &Path, name: &str) -> Result<SafeTensors> {
    let path = folder.join(name);
    if path.metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(Error::file(index, format!("shard `{}` is missing", one_line(name))));
    }
    let real = path.canonicalize().map_err(|e| Error::io(&path, e))?;
    let base = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
    if !real.starts_with(&base) && !is_cache_blob(&base, &real) {
        return Err(Error::file(
            index,
            format!("shard `{}` is a link that leaves the folder", one_line(name)),
        ));
    }
    SafeTensors::open(&path)
}

/// The Hugging Face cache keeps `snapshots/REVISION/FILE` as links to `blobs/HASH` beside
/// `snapshots`; these are the only links that may leave the folder.
fn is_cache_blob(folder: &Path, file: &Path) -> bool {
    let Some(snapshots) = folder.parent().filter(|p| p.ends_with("snapshots")) else {
        return false;
    };
    let blobs = snapshots.parent().map(|repo| repo.join("blobs"));
    blobs.is_some() && file.parent() == blobs.as_deref()
}

#[derive(Deserialize)]
struct Index {
    metadata: Option<IndexMetadata>,
    weight_map: WeightMap,
}

#[derive(Deserialize)]
struct IndexMetadata {
    /// Some writers give a fraction (`1234.0`).
    total_size: Option<serde_json::Number>,
}

/// Tensor name to shard name, in order, each name once.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor names to shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut entries = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some((name, file)) = map.next_entry::<String, String>()? {
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!(
                    "tensor `{}` is listed twice",
                    one_line(&name)
                )));
            }
            entries.push((name, file));
        }
        Ok(WeightMap(entries))
    }
}
