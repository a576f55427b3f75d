//! Timing of one op, or of anything that can be repeated.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Clock, Commands, Gpu, Pass, Timestamps};
use crate::ops::eager::Prepared;

/// How long and how often to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasureOptions {
    /// Samples, at least 1.
    pub repetitions: usize,
    /// Shortest sample: the op is repeated within one until it takes this long.
    pub min_time: Duration,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self { repetitions: 10, min_time: Duration::from_millis(10) }
    }
}

/// Time of one run of an op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// Median of the samples, in nanoseconds.
    pub median_ns: f64,
    /// Tenth percentile of the samples, between two of them in proportion.
    pub p10_ns: f64,
    /// Ninetieth percentile.
    pub p90_ns: f64,
    /// Fastest sample.
    pub min_ns: f64,
    /// Slowest sample.
    pub max_ns: f64,
    /// Number of samples.
    pub samples: usize,
    /// Where the times come from.
    pub clock: Clock,
}

/// Runs before the first sample: caches, clocks and lazily cleared memory settle.
const WARM_UP: Duration = Duration::from_millis(50);
/// Most repeats in one submission, to bound a command buffer.
const MAX_REPEATS: u64 = 1 << 12;

/// Times an op: warm-up, then samples of at least `min_time`.
///
/// Errors when the device fails, or when its clock does not advance.
pub fn measure(gpu: &Gpu, prepared: &Prepared, options: &MeasureOptions) -> Result<Measurement> {
    let timer = Timer::new(gpu)?;
    measure_with(options, timer.clock(), |repeats| timer.run(prepared, repeats))
}

/// Times anything that can be repeated; `run` gives the nanoseconds that so many repeats took
/// on `clock`. At most 4,096 repeats make a sample.
pub fn measure_with(
    options: &MeasureOptions,
    clock: Clock,
    mut run: impl FnMut(u64) -> Result<f64>,
) -> Result<Measurement> {
    let min_ns = options.min_time.as_nanos() as f64;
    let start = Instant::now();
    let mut repeats = 1u64;
    loop {
        let took = run(repeats)?;
        let enough = took >= min_ns || repeats == MAX_REPEATS;
        if enough && start.elapsed() >= WARM_UP {
            break;
        }
        if !enough {
            let wanted = repeats as f64 * 1.2 * min_ns / took.max(1.0);
            // At most tenfold: the first run is slow, and a coarse clock may show nothing yet.
            repeats = (wanted as u64).clamp(repeats + 1, repeats * 10).min(MAX_REPEATS);
        }
    }
    let mut samples = (0..options.repetitions.max(1))
        .map(|_| Ok(run(repeats)? / repeats as f64))
        .collect::<Result<Vec<f64>>>()?;
    samples.sort_by(f64::total_cmp);
    let [p10_ns, median_ns, p90_ns] = [0.1, 0.5, 0.9].map(|share| quantile(&samples, share));
    if median_ns <= 0.0 {
        return Err(Error::Device(format!("the {} does not advance", clock.name())));
    }
    let (min_ns, max_ns) = (samples[0], samples[samples.len() - 1]);
    let samples = samples.len();
    Ok(Measurement { median_ns, p10_ns, p90_ns, min_ns, max_ns, samples, clock })
}

/// The value below which such a share of sorted samples lies, between two of them in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// What one repeat records.
#[derive(Clone, Copy)]
pub(super) enum Work<'a> {
    /// Dispatches.
    Dispatch(&'a dyn Fn(&mut Pass<'_>)),
    /// A copy of so many bytes.
    Copy(&'a Buffer, &'a Buffer, usize),
}

/// A device's clock, or the host's around a submission where the device has none.
pub struct Timer {
    gpu: Gpu,
    stamps: Option<Timestamps>,
}

impl Timer {
    /// A clock for work on this device.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self { gpu: gpu.clone(), stamps: Timestamps::new(gpu, 2)? })
    }

    /// Which clock it is.
    pub fn clock(&self) -> Clock {
        if self.stamps.is_some() { Clock::Device } else { Clock::Host }
    }

    /// Nanoseconds that `repeats` runs of an op take.
    pub fn run(&self, prepared: &Prepared, repeats: u64) -> Result<f64> {
        self.time(&|pass: &mut Pass<'_>| prepared.record(pass), repeats)
    }

    /// Nanoseconds that `repeats` recordings take.
    pub fn time(&self, record: &dyn Fn(&mut Pass<'_>), repeats: u64) -> Result<f64> {
        let mut total = 0.0;
        let mut left = repeats;
        while left > 0 {
            let now = left.min(MAX_REPEATS);
            total += self.submit(Work::Dispatch(record), now)?;
            left -= now;
        }
        Ok(total)
    }

    /// Nanoseconds of one submission of `repeats` times the work.
    pub(super) fn submit(&self, work: Work<'_>, repeats: u64) -> Result<f64> {
        let mut commands = self.gpu.commands("bench");
        self.record(&mut commands, work, repeats);
        let Some(stamps) = &self.stamps else {
            return Ok(self.gpu.submit_timed(commands)?.as_nanos() as f64);
        };
        commands.resolve(stamps);
        self.gpu.submit(commands)?;
        let ns = stamps.read(&self.gpu)?;
        Ok((ns[1] - ns[0]).max(0.0))
    }

    fn record(&self, commands: &mut Commands, work: Work<'_>, repeats: u64) {
        let stamp = |pass: &mut Pass<'_>, index| {
            if let Some(stamps) = &self.stamps {
                pass.stamp(stamps, index);
            }
        };
        match work {
            Work::Dispatch(record) => {
                let mut pass = commands.pass();
                stamp(&mut pass, 0);
                for _ in 0..repeats {
                    record(&mut pass);
                }
                stamp(&mut pass, 1);
            }
            Work::Copy(from, to, bytes) => {
                stamp(&mut commands.pass(), 0);
                for _ in 0..repeats {
                    commands.copy(from, to, bytes);
                }
                stamp(&mut commands.pass(), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(repetitions: usize) -> MeasureOptions {
        MeasureOptions { repetitions, min_time: Duration::from_millis(10) }
    }

    #[test]
    fn samples_are_long_enough_and_divided() {
        let mut longest = 0;
        let found = measure_with(&options(5), Clock::Device, |repeats| {
            longest = longest.max(repeats);
            Ok(repeats as f64 * 1e4)
        });
        let found = found.expect("the clock advances");
        assert_eq!((found.median_ns, found.min_ns, found.max_ns), (1e4, 1e4, 1e4));
        assert_eq!(found.samples, 5);
        assert!((1000..=2000).contains(&longest), "{longest} repeats of 10 us for 10 ms");
    }

    #[test]
    fn long_runs_are_not_repeated() {
        let mut calls = 0;
        let found = measure_with(&options(2), Clock::Host, |repeats| {
            assert_eq!(repeats, 1);
            calls += 1;
            std::thread::sleep(WARM_UP);
            Ok(f64::from(calls) * 2e7)
        });
        let found = found.expect("the clock advances");
        assert_eq!((found.median_ns, found.min_ns, found.max_ns), (5e7, 4e7, 6e7));
    }

    #[test]
    fn quantiles_lie_between_samples_in_proportion() {
        let sorted = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(
            [0.0, 0.1, 0.5, 0.9, 1.0].map(|s| quantile(&sorted, s)),
            [1.0, 1.5, 3.5, 5.5, 6.0]
        );
        assert_eq!(quantile(&[7.0], 0.9), 7.0);
    }

    #[test]
    fn a_stopped_clock_is_an_error() {
        let found = measure_with(&options(3), Clock::Device, |_| Ok(0.0));
        let error = found.expect_err("nothing was measured").to_string();
        assert!(error.contains("device clock does not advance"), "{error}");
    }
}
