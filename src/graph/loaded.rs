//! Weights on a device: loaded at first use, shared by all sessions.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::policy::Policy;
use super::weight::Weight;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Upload};
use crate::ops::{self, Part, Pick};
use crate::tensor::DType;

/// How far loading has come; given to a callback that may ask to stop.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor being loaded.
    pub name: &'a str,
    /// Bytes loaded.
    pub done: u64,
    /// Bytes to load in all.
    pub total: u64,
}

/// How long sessions took to become ready. Kernels are compiled while weights are uploaded, so the
/// whole is less than its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// From the graph to a session that can run: choosing, compiling, uploading, binding.
    pub ready: Duration,
    /// Compiling, of it.
    pub compile: Duration,
    /// Reading and uploading weights, of it.
    pub upload: Duration,
    /// Bytes uploaded.
    pub uploaded: u64,
}

impl LoadTimes {
    /// What was added since an earlier reading of the same times.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            ready: self.ready - earlier.ready,
            compile: self.compile - earlier.compile,
            upload: self.upload - earlier.upload,
            uploaded: self.uploaded - earlier.uploaded,
        }
    }
}

/// A model's weights on one device, loaded at first use and shared by all its sessions.
pub struct DeviceWeights {
    gpu: Gpu,
    policy: Policy,
    picks: Mutex<Vec<Pick>>,
    times: Mutex<LoadTimes>,
    loaded: Mutex<HashMap<(String, DType), Arc<DeviceWeight>>>,
}

/// One weight on a device: whole, or in parts along its first dimension, each with all planes.
pub(super) struct DeviceWeight {
    pub parts: Vec<(Option<Part>, Vec<Buffer>)>,
}

impl DeviceWeight {
    /// The buffer of a plane for a part; the only one where the weight is whole.
    pub fn plane(&self, plane: usize, part: usize) -> Option<&Buffer> {
        self.parts.get(part).or(self.parts.first())?.1.get(plane)
    }
}

impl DeviceWeights {
    /// No weights yet; sessions choose their kernels by the default policy.
    pub fn new(gpu: &Gpu) -> Arc<Self> {
        Self::with_policy(gpu, Policy::default())
    }

    /// The same with a policy of its own.
    pub fn with_policy(gpu: &Gpu, policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            gpu: gpu.clone(),
            policy,
            picks: Mutex::default(),
            times: Mutex::default(),
            loaded: Mutex::default(),
        })
    }

    /// What tuning found for the sessions made so far.
    pub fn picks(&self) -> Vec<Pick> {
        self.picks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, picks: impl IntoIterator<Item = Pick>) {
        self.picks.lock().unwrap_or_else(PoisonError::into_inner).extend(picks);
    }

    /// How long the sessions made so far took to become ready.
    pub fn times(&self) -> LoadTimes {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn took(&self, ready: Duration, compile: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.ready += ready;
        times.compile += compile;
    }

    /// How sessions on this device choose their kernels.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Uploads those of `wanted` that are not there yet. `progress` is called between chunks;
    /// `Break` stops with [`Error::Cancelled`].
    pub(super) fn load(
        &self,
        wanted: &[&Weight],
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let missing: Vec<_> = {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = std::collections::HashSet::new();
            let new = |w: &&&Weight| !loaded.contains_key(&w.key()) && seen.insert(w.key());
            wanted.iter().filter(new).copied().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let total = missing.iter().map(|w| w.meta().bytes() as u64).sum();
        let start = Instant::now();
        let mut upload = Upload::new(&self.gpu)?;
        let mut done = 0;
        for weight in missing {
            let mut report = |bytes: usize| {
                done += bytes as u64;
                progress(Progress { name: weight.name(), done, total })
            };
            let device = self.upload(&mut upload, weight, &mut report)?;
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.entry(weight.key()).or_insert_with(|| Arc::new(device));
        }
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.upload += start.elapsed();
        times.uploaded += total;
        Ok(())
    }

    fn upload(
        &self,
        upload: &mut Upload,
        weight: &Weight,
        report: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<DeviceWeight> {
        let meta = weight.meta();
        let ranges: Vec<Option<Part>> = match ops::rows_per_part(meta, self.gpu.caps().max_binding)
        {
            None => vec![None],
            Some(rows) => ops::parts(meta.shape.dims()[0], rows).map(Some).collect(),
        };
        let rows = meta.shape.dims().first().copied().unwrap_or(1).max(1);
        let mut parts = Vec::new();
        for range in ranges {
            let Part { first, rows: taken } = range.unwrap_or(Part { first: 0, rows });
            let mut planes = Vec::new();
            for plane in 0..meta.planes() {
                let row_bytes = meta.plane_bytes(plane) / rows;
                let (start, bytes) = (first * row_bytes, taken * row_bytes);
                let buffer = self.gpu.buffer(weight.name(), bytes)?;
                upload.fill(&buffer, bytes, |offset, chunk| {
                    weight.read(plane, start + offset, chunk)?;
                    match report(chunk.len()) {
                        ControlFlow::Continue(()) => Ok(()),
                        ControlFlow::Break(()) => Err(Error::Cancelled),
                    }
                })?;
                planes.push(buffer);
            }
            parts.push((range, planes));
        }
        Ok(DeviceWeight { parts })
    }

    pub(super) fn get(&self, weight: &Weight) -> Result<Arc<DeviceWeight>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded
            .get(&weight.key())
            .cloned()
            .ok_or_else(|| Error::tensor(weight.name(), "was not loaded before its use"))
    }
}
