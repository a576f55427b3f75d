//! What a device can do at most, measured on it: arithmetic in registers, and copying.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::measure::{MeasureOptions, Timer, Work, measure_with};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Field, Gpu, ParamBytes, Pass, ShaderSource, Spec, fold};
use crate::ops::op::Cost;

/// Limits of a device. A kernel on matrix units or one that works in caches can exceed them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// f32 operations per second, a multiply-add counting two, on values in registers.
    pub flops_per_s: f64,
    /// Bytes read plus bytes written per second while copying memory.
    pub bytes_per_s: f64,
}

crate::params! {
    /// Twin of `Params` in `shaders/peak_flops.wgsl`.
    struct FlopsParams { invocations: u32, iterations: u32, factor: f32, term: f32 }
}

crate::params! {
    /// Twin of `Params` in `shaders/peak_copy.wgsl`.
    struct CopyParams { vectors: u32 }
}

const FLOPS: ShaderSource = crate::shader!("peak_flops");
const COPY: ShaderSource = crate::shader!("peak_copy");

/// Invocations per workgroup of `peak_flops`, and operations of each per iteration.
const FLOPS_THREADS: usize = 64;
const FLOPS_PER_ITERATION: f64 = 512.0;
/// Enough to fill any GPU several times over.
const FLOPS_INVOCATIONS: usize = 1 << 20;
/// Most iterations of one dispatch.
const MAX_ITERATIONS: u32 = 1 << 14;

/// Workgroup size and vectors per invocation of `peak_copy`.
const COPY_THREADS: u32 = 256;
const COPY_PER_INVOCATION: u32 = 4;
/// Bytes copied: beyond every cache on the largest devices, and the least that is tried.
const COPY_BYTES: u64 = 256 << 20;
const LEAST_COPY_BYTES: u64 = 16 << 20;

/// Kernels that are no op's, as (source, variant, field table): for the shader tests.
pub fn extra_kernels() -> Vec<(ShaderSource, Spec, &'static [Field])> {
    vec![(FLOPS, Spec::new(), FlopsParams::FIELDS), (COPY, copy_spec(), CopyParams::FIELDS)]
}

fn copy_spec() -> Spec {
    Spec::new().set("THREADS", COPY_THREADS).set("PER_INVOCATION", COPY_PER_INVOCATION)
}

impl Roofline {
    /// The limits of this device; measured at the first call of the process, which takes about
    /// a second on a CPU driver.
    pub fn of(gpu: &Gpu) -> Result<Self> {
        static KNOWN: Mutex<BTreeMap<(String, String, bool), Roofline>> =
            Mutex::new(BTreeMap::new());
        let caps = gpu.caps();
        let key = (caps.name.clone(), caps.driver.clone(), gpu.options().checked);
        // Held while measuring, so that two threads do not disturb each other's figures.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return Ok(*found);
        }
        let timer = Timer::new(gpu)?;
        let found = Self {
            flops_per_s: peak_flops(gpu, &timer)?,
            bytes_per_s: peak_bandwidth(gpu, &timer)?,
        };
        known.insert(key, found);
        Ok(found)
    }

    /// The time the limits allow for this work, in nanoseconds.
    pub fn least_ns(&self, cost: Cost) -> f64 {
        (cost.flops / self.flops_per_s).max(cost.bytes / self.bytes_per_s) * 1e9
    }

    /// How much of the limit a run of `ns` nanoseconds reached; 1 is all of it.
    pub fn fraction(&self, cost: Cost, ns: f64) -> f64 {
        self.least_ns(cost) / ns
    }
}

/// A limit is the best of a few samples: anything that disturbs one only makes it slower.
const OPTIONS: MeasureOptions =
    MeasureOptions { repetitions: 7, min_time: Duration::from_millis(20) };

fn fastest(timer: &Timer, work: Work<'_>) -> Result<f64> {
    let run = |repeats| timer.submit(work, repeats);
    Ok(measure_with(&OPTIONS, timer.clock(), run)?.min_ns)
}

fn peak_flops(gpu: &Gpu, timer: &Timer) -> Result<f64> {
    let pipeline = gpu.pipeline(FLOPS, &Spec::new(), FlopsParams::FIELDS, true)?;
    let y = gpu.buffer("peak_flops y", FLOPS_INVOCATIONS * 4)?;
    let bindings = gpu.bind(&pipeline, |_| Some(&y))?;
    let grid = fold(FLOPS_INVOCATIONS / FLOPS_THREADS);
    let invocations = FLOPS_INVOCATIONS as u32;
    let mut iterations = 8;
    loop {
        let params = FlopsParams { invocations, iterations, factor: 0.75, term: 0.25 };
        let params = ParamBytes::of(&params);
        let record = |pass: &mut Pass<'_>| pass.dispatch(&pipeline, &bindings, &params, grid);
        let work = Work::Dispatch(&record);
        // A dispatch this long hides its own start and end.
        if timer.submit(work, 1)? >= 4e6 || iterations >= MAX_ITERATIONS {
            let ns = fastest(timer, work)?;
            let flops = FLOPS_PER_ITERATION * f64::from(iterations) * FLOPS_INVOCATIONS as f64;
            return Ok(flops / ns * 1e9);
        }
        iterations *= 4;
    }
}

/// The better of a kernel that copies and the driver's own copy.
fn peak_bandwidth(gpu: &Gpu, timer: &Timer) -> Result<f64> {
    let (x, y, bytes) = copy_buffers(gpu)?;
    let pipeline = gpu.pipeline(COPY, &copy_spec(), CopyParams::FIELDS, true)?;
    let bindings = gpu.bind(&pipeline, |name| Some(if name == "x" { &x } else { &y }))?;
    let vectors = bytes / 16;
    let params = ParamBytes::of(&CopyParams { vectors: vectors as u32 });
    let grid = fold(vectors.div_ceil((COPY_THREADS * COPY_PER_INVOCATION) as usize));
    let record = |pass: &mut Pass<'_>| pass.dispatch(&pipeline, &bindings, &params, grid);
    let kernel = fastest(timer, Work::Dispatch(&record))?;
    let driver = fastest(timer, Work::Copy(&x, &y, bytes))?;
    Ok(2.0 * bytes as f64 / kernel.min(driver) * 1e9)
}

/// Two buffers as large as the device allows, up to [`COPY_BYTES`].
fn copy_buffers(gpu: &Gpu) -> Result<(Buffer, Buffer, usize)> {
    let caps = gpu.caps();
    let mut bytes = COPY_BYTES.min(caps.max_binding).min(caps.max_buffer) / 16 * 16;
    loop {
        let buffer = |label| gpu.buffer(label, bytes as usize);
        let pair = buffer("peak_copy x").and_then(|x| Ok((x, buffer("peak_copy y")?)));
        match pair {
            Ok((x, y)) => return Ok((x, y, bytes as usize)),
            Err(Error::OutOfMemory(_)) if bytes / 2 >= LEAST_COPY_BYTES => bytes = bytes / 32 * 16,
            Err(error) => return Err(error),
        }
    }
}
