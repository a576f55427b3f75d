//! The device handle: what it can do, its errors, its memory account.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::caps::{Caps, caps};
use super::options::GpuOptions;
use super::params::MAX_PARAMS;
use super::pipeline::{Pipeline, PipelineKey, open_driver_cache};
use super::verdicts::Verdicts;
use crate::error::{Error, Result};
use crate::trusted;

/// How often costly things were done since the device was opened; tests hold these to zero
/// between steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Submissions.
    pub submissions: u64,
    /// Waits for results on the host.
    pub waits: u64,
}

#[derive(Debug, Default)]
pub(super) struct AtomicCounters {
    pub buffers: AtomicU64,
    pub bind_groups: AtomicU64,
    pub pipelines: AtomicU64,
    pub submissions: AtomicU64,
    pub waits: AtomicU64,
}

/// A handle to one device; clones share it, and it may be used from any thread.
#[derive(Clone)]
pub struct Gpu {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub caps: Caps,
    pub options: GpuOptions,
    pub counters: AtomicCounters,
    pub pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    pub driver_cache: Option<(wgpu::PipelineCache, PathBuf)>,
    pub allocated: Arc<AtomicU64>,
    verdicts: Verdicts,
    lost: Arc<OnceLock<String>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("name", &self.inner.caps.name).finish_non_exhaustive()
    }
}

fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    adapter.features()
        & (wgpu::Features::IMMEDIATES
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
}

impl Gpu {
    /// Opens a device on a wgpu adapter, taking the features in [`Caps`] where present.
    pub fn from_adapter(adapter: &wgpu::Adapter, options: GpuOptions) -> Result<Self> {
        let features = wanted_features(adapter);
        // Allocators take memory in blocks, and a software driver fills those whether used or not.
        let memory_hints = match adapter.get_info().device_type {
            wgpu::DeviceType::Cpu => wgpu::MemoryHints::MemoryUsage,
            _ => wgpu::MemoryHints::Performance,
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tilewright"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features: trusted::experimental(),
            memory_hints,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Device(format!("{}: {e}", adapter.get_info().name)))?;
        let lost = Arc::new(OnceLock::new());
        let slot = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            // A second report adds nothing to the first.
            let _ = slot.set(format!("{reason:?}: {message}"));
        });
        // Errors of our calls are taken by error scopes; whatever slips past them (a driver
        // failing later) is kept as the reason instead of wgpu's default, which panics.
        let slot = Arc::clone(&lost);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = slot.set(first_line(&error.to_string()));
        }));
        Self::build(adapter, device, queue, options, lost)
    }

    /// Uses a host program's own device. Nothing is installed on it: no error or device-lost
    /// callback, no change of state.
    ///
    /// Errors with [`Error::Missing`] when the device was opened without
    /// `Features::IMMEDIATES`, with less than 128 bytes of immediates, or with less than
    /// WebGPU guarantees of what kernels use ([`Caps::baseline`]), as `downlevel_defaults` is.
    pub fn from_wgpu(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: GpuOptions,
    ) -> Result<Self> {
        Self::build(adapter, device, queue, options, Arc::new(OnceLock::new()))
    }

    fn build(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: GpuOptions,
        lost: Arc<OnceLock<String>>,
    ) -> Result<Self> {
        let caps = caps(adapter, &device, &options);
        let lacks = |missing: String| Error::Missing { device: caps.name.clone(), missing };
        if !device.features().contains(wgpu::Features::IMMEDIATES) {
            return Err(lacks("the feature IMMEDIATES".to_owned()));
        }
        if (caps.max_immediates as usize) < MAX_PARAMS {
            return Err(lacks(format!(
                "immediates of {} bytes (it has {})",
                MAX_PARAMS, caps.max_immediates
            )));
        }
        let least = Caps::baseline();
        for (what, found, needed) in [
            ("storage buffers per kernel", caps.max_storage_buffers, least.max_storage_buffers),
            ("invocations per workgroup", caps.max_invocations, least.max_invocations),
            ("bytes of workgroup memory", caps.workgroup_memory, least.workgroup_memory),
        ] {
            if found < needed {
                return Err(lacks(format!("{needed} {what} (it has {found})")));
            }
        }
        let driver_cache = options
            .cache_dir
            .as_deref()
            .filter(|_| caps.pipeline_cache)
            .and_then(|dir| open_driver_cache(&device, &adapter.get_info(), dir));
        let verdicts = Verdicts::open(options.cache_dir.as_deref(), &caps);
        Ok(Self {
            inner: Arc::new(Inner {
                device,
                queue,
                caps,
                options,
                counters: AtomicCounters::default(),
                pipelines: Mutex::default(),
                driver_cache,
                allocated: Arc::default(),
                verdicts,
                lost,
            }),
        })
    }

    /// What the device offers.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// How it was opened.
    pub fn options(&self) -> &GpuOptions {
        &self.inner.options
    }

    /// The wgpu device, for embedders.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The wgpu queue, for embedders.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Bytes of device memory held through this handle.
    pub fn allocated(&self) -> u64 {
        self.inner.allocated.load(Ordering::Relaxed)
    }

    /// What earlier runs found out about kernels here.
    pub fn verdicts(&self) -> &Verdicts {
        &self.inner.verdicts
    }

    /// What was done since the device was opened.
    pub fn counters(&self) -> Counters {
        let c = &self.inner.counters;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        Counters {
            buffers: get(&c.buffers),
            bind_groups: get(&c.bind_groups),
            pipelines: get(&c.pipelines),
            submissions: get(&c.submissions),
            waits: get(&c.waits),
        }
    }

    /// An error if the device is known to be lost.
    pub fn check_alive(&self) -> Result<()> {
        self.inner.lost.get().map_or(Ok(()), |reason| Err(Error::DeviceLost(reason.clone())))
    }

    /// Runs wgpu calls inside error scopes and turns what they report into an [`Error`].
    pub(super) fn scoped<T>(&self, what: &str, calls: impl FnOnce() -> T) -> Result<T> {
        let device = &self.inner.device;
        let scopes = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::Internal,
        ]
        .map(|filter| device.push_error_scope(filter));
        let out = calls();
        // Scopes close innermost first; on native devices the answer is already there.
        let mut found = None;
        for scope in scopes.into_iter().rev() {
            found = pollster::block_on(scope.pop()).or(found);
        }
        self.check_alive()?;
        match found {
            None => Ok(out),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory(what.to_owned())),
            Some(error) => {
                Err(Error::Device(format!("{what}: {}", first_line(&error.to_string()))))
            }
        }
    }

    /// Polls until `done` answers, without wgpu's blocking wait, which panics when the device
    /// is lost while it waits.
    ///
    /// Short work is answered promptly, long work does not burn a core.
    pub(super) fn wait_for<T>(&self, what: &str, done: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait_paced(what, done, |waited| {
            (waited / 20).clamp(Duration::from_micros(20), Duration::from_millis(2))
        })
    }

    /// The same, with `pause` giving the time to sleep after so long a wait.
    pub(super) fn wait_paced<T>(
        &self,
        what: &str,
        mut done: impl FnMut() -> Option<T>,
        pause: impl Fn(Duration) -> Duration,
    ) -> Result<T> {
        self.inner.counters.waits.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        loop {
            self.inner
                .device
                .poll(wgpu::PollType::Poll)
                .map_err(|e| Error::Device(format!("{what}: {e}")))?;
            if let Some(value) = done() {
                return Ok(value);
            }
            self.check_alive()?;
            let waited = start.elapsed();
            if waited > self.inner.options.timeout {
                return Err(Error::Timeout {
                    seconds: self.inner.options.timeout.as_secs(),
                    what: what.to_owned(),
                });
            }
            std::thread::sleep(pause(waited));
        }
    }

    /// Proves that the device still works: a few bytes go there and come back. A device that is
    /// lost may show it late, and as any kind of error.
    pub fn check_health(&self) -> Result<()> {
        const SENT: [u8; 16] = *b"are you there? .";
        let buffer = self.buffer("health", SENT.len())?;
        self.write(&buffer, &SENT)?;
        let got = self.read(&buffer, SENT.len())?;
        self.check_alive()?;
        if got == SENT { Ok(()) } else { Err(Error::Device("memory does not keep".to_owned())) }
    }

    /// Waits until everything submitted so far is done.
    pub fn finish(&self) -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.inner.queue.on_submitted_work_done(move || {
            // The receiver is gone only if the wait was given up.
            let _ = sender.send(());
        });
        self.wait_for("submitted work", || receiver.try_recv().ok())
    }
}

/// wgpu's messages are paragraphs; errors here are one line.
pub(super) fn first_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
