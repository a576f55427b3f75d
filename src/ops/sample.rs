//! `index` drawn with probability proportional to `exp(x / temperature)` over the innermost
//! dimension, among the top-k, top-p and min-p columns in this order; at temperature 0 the first
//! column of the largest value.
//!
//! Shapes: x f32 `[B, V]`; settings u32 `[6]`, see [`Sampling::settings`]; index u32 `[B]`.
//! Top-k keeps the k largest values (Fan et al. 2018), top-p the fewest largest whose probability
//! reaches p (Holtzman et al. 2020), min-p those at least p times as probable as the best (Nguyen
//! et al. 2024); equal values stay or go together. The draw is the largest of `x / temperature`
//! plus Gumbel noise (Gumbel 1954) from a hash of seed, step, row and column.

use std::sync::Arc;

use super::kernel::Dispatch;
use super::op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op};
use super::request::Request;
use super::rng::Rng;
use super::rounds;
use super::rows;
use super::single::Single;
use super::tolerance::Tolerance;
use crate::error::{Error, Result};
use crate::gpu::{Spec, fold};
use crate::tensor::{DType, Dim, Sizes, Sym, SymMeta, Tensor};

const X: usize = 0;
const SETTINGS: usize = 1;

/// How one of many tokens is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f32,
    /// Only the k largest; 0 for all.
    pub top_k: u32,
    /// Only the largest whose probabilities reach this; 1 for all.
    pub top_p: f32,
    /// Only those at least this times as probable as the best; 0 for all.
    pub min_p: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the largest.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };

    /// The op's operand: the numbers' bits, the seed in two halves.
    pub fn settings(&self) -> Result<Tensor> {
        let seed = [self.seed as u32, (self.seed >> 32) as u32];
        let Self { temperature, top_k, top_p, min_p, .. } = *self;
        let numbers = [temperature.to_bits(), top_k, top_p.to_bits(), min_p.to_bits()];
        Tensor::u32([6], [&numbers[..], &seed].concat())
    }

    fn read(settings: &Tensor) -> Result<Self> {
        let &[temperature, top_k, top_p, min_p, low, high] = settings.as_u32()? else {
            return Err(Error::op("sample", format!("settings {} must be [6]", settings.meta())));
        };
        let [temperature, top_p, min_p] = [temperature, top_p, min_p].map(f32::from_bits);
        let seed = u64::from(low) | u64::from(high) << 32;
        Ok(Self { temperature, top_k, top_p, min_p, seed })
    }
}

/// A drawn column of each row; operands `x settings`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Differs from step to step, so that each draws anew.
    pub step: Dim,
}

crate::params! {
    /// Twin of `Params` in `shaders/sample.wgsl`.
    struct Params { rows: u32, cols: u32, step: u32 }
}

static KERNELS: [&dyn Kernel; 1] =
    [&Single::new(crate::shader!("sample"), Params::FIELDS, spec, dispatch, rounds)];

/// One step of PCG's generator and its output permutation, as in the shader.
fn hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// Gumbel noise from the upper 23 bits of a hash.
fn gumbel(bits: u32) -> f64 {
    let v = (f64::from(bits >> 9) + 0.5) / 8_388_608.0;
    -(-(-v).ln_1p()).ln()
}

impl Sampling {
    /// The column of one row.
    fn choose(&self, row: &[f32], number: u32, step: u32) -> u32 {
        let order: Vec<usize> = {
            let mut order: Vec<usize> = (0..row.len()).collect();
            // Stable: equal values stay in the order of their columns.
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            order
        };
        let best = order.first().copied().unwrap_or(0);
        if self.temperature <= 0.0 {
            return best as u32;
        }
        let scaled = |c: usize| f64::from(row[c]) / f64::from(self.temperature);
        let weight = |c: usize| (scaled(c) - scaled(best)).exp();
        let all = row.len();
        let mut kept = if self.top_k > 0 { all.min(self.top_k as usize) } else { all };
        let tied = |kept: usize| {
            let last = row[order[kept - 1]];
            kept + order[kept..].iter().take_while(|&&c| row[c] == last).count()
        };
        kept = tied(kept);
        if self.top_p < 1.0 {
            let wanted =
                f64::from(self.top_p) * order[..kept].iter().map(|&c| weight(c)).sum::<f64>();
            let mut mass = 0.0;
            let reached = order[..kept].iter().position(|&c| {
                mass += weight(c);
                mass >= wanted
            });
            kept = tied(reached.map_or(kept, |at| at + 1)).min(kept);
        }
        let floor = f64::from(self.min_p);
        let stream =
            hash(number ^ hash(step ^ hash(self.seed as u32 ^ hash((self.seed >> 32) as u32))));
        let noise = |c: usize| gumbel(hash(stream.wrapping_add(hash(c as u32 ^ stream))));
        let mut drawn = (f64::NEG_INFINITY, best);
        for &c in order[..kept].iter().filter(|&&c| weight(c) >= floor) {
            let value = scaled(c) + noise(c);
            if value > drawn.0 {
                drawn = (value, c);
            }
        }
        drawn.1 as u32
    }
}

/// Columns of a lane per round of the walks that look for a bound, as in the shader.
const STEPS: usize = 4;
/// Digits of a bound, two bits each.
const DIGITS: usize = 16;

fn spec(_op: &Sample, call: &Call<'_>) -> Spec {
    Spec::new().set("THREADS", rows::threads(call.input(0).shape.last(), call.caps))
}

fn dispatch(op: &Sample, call: &Call<'_>) -> Dispatch {
    let x = call.input(X).shape;
    let step = op.step.eval(call.sizes) as u32;
    let params = Params { rows: x.rows() as u32, cols: x.last() as u32, step };
    Dispatch::new(&params, fold(x.rows()))
}

fn rounds(_op: &Sample, call: &Call<'_>) -> u64 {
    let cols = call.input(X).shape.last();
    let threads = rows::threads(cols, call.caps);
    let turns = |steps: usize| cols.div_ceil(steps * threads as usize);
    let once = rounds::of_loop(turns(1), 0) + rounds::of_tree(threads);
    let tail = rounds::of_loop(STEPS - 1, 0);
    let three = rounds::of_loop(turns(STEPS), 0) + tail + 3 * rounds::of_tree(threads);
    let bound = rounds::of_loop(DIGITS, three);
    // The largest value, the top-k bound, the weight of all above it, the top-p bound, the draw.
    once + bound + three + bound + once
}

impl Op for Sample {
    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["x", "settings"]
    }

    fn outputs(&self) -> &'static [&'static str] {
        &["index"]
    }

    fn infer(&self, inputs: &[Option<SymMeta>]) -> Result<Vec<SymMeta>> {
        let fail = |message: String| Err(Error::op("sample", message));
        let [Some(x), Some(settings)] = inputs else {
            return fail("expected operands x, settings".to_owned());
        };
        rows::columns("sample", "x", x)?;
        if *settings != SymMeta::u32([6usize]) {
            return fail(format!("settings {settings} must be u32[6]"));
        }
        Ok(vec![SymMeta { dims: x.lead().to_vec(), dtype: DType::U32 }])
    }

    fn reference(&self, args: &Args<'_>) -> Result<Vec<Tensor>> {
        let x = args.need(X)?;
        let sampling = Sampling::read(args.need(SETTINGS)?)?;
        let step = self.step.eval(args.sizes) as u32;
        let rows = x.as_f32()?.chunks_exact(x.shape().last()).enumerate();
        let index = rows.map(|(b, row)| sampling.choose(row, b as u32, step)).collect();
        let shape = x.shape();
        let lead = shape.dims().split_last().map_or(&[][..], |(_, lead)| lead);
        Ok(vec![Tensor::u32(crate::tensor::Shape::new(lead)?, index)?])
    }

    fn dims(&self) -> Vec<Dim> {
        vec![self.step]
    }

    fn cost(&self, call: &Call<'_>) -> Cost {
        Cost::new(call.input(X).shape.numel() as f64, call)
    }
}

/// Registry entry.
pub static ENTRY: Entry = Entry {
    name: "sample",
    aliases: &[],
    summary: "index drawn by exp(x / temperature) among top-k, top-p, min-p",
    kernels: &KERNELS,
    cases,
    long_cases,
    build,
};

fn build(request: &mut Request) -> Result<Built> {
    let x = request.need(&["x", "logits"])?;
    let sampling = Sampling {
        temperature: request.get("temperature")?.unwrap_or(1.0),
        top_k: request.get("top_k")?.unwrap_or(0),
        top_p: request.get("top_p")?.unwrap_or(1.0),
        min_p: request.get("min_p")?.unwrap_or(0.0),
        seed: request.get("seed")?.unwrap_or(0),
    };
    let step = Dim::Const(request.get("step")?.unwrap_or(0));
    Ok((Arc::new(Sample { step }), vec![Some(x), Some(sampling.settings()?)]))
}

/// A draw is exact unless its two best columns are closer than f32 rounds, about one in 10^5, or a
/// probability ends as close to a bound; none of these few is.
fn cases() -> Vec<Case> {
    let mut rng = Rng::new(47);
    let mut cases = Vec::new();
    let ways = [
        ("greedy", Sampling::GREEDY),
        ("all", Sampling { temperature: 1.0, seed: 3, ..Sampling::GREEDY }),
        ("cool", Sampling { temperature: 0.4, seed: 5 << 33, ..Sampling::GREEDY }),
        ("top 5", Sampling { temperature: 1.5, top_k: 5, seed: 7, ..Sampling::GREEDY }),
        ("top 0.8", Sampling { temperature: 1.2, top_p: 0.8, seed: 11, ..Sampling::GREEDY }),
        ("top 0", Sampling { temperature: 1.2, top_p: 0.0, seed: 11, ..Sampling::GREEDY }),
        ("min 0.2", Sampling { temperature: 0.9, min_p: 0.2, seed: 13, ..Sampling::GREEDY }),
        (
            "top 40 and 0.9",
            Sampling { temperature: 0.7, top_k: 40, top_p: 0.9, seed: 17, ..Sampling::GREEDY },
        ),
    ];
    for (rows, cols) in [(1, 1), (3, 63), (5, 65), (2, 1031), (2, 4100)] {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 2.0);
        for (what, sampling) in ways {
            let op = Sample { step: Dim::Sym(Sym(0)) };
            let label = format!("{rows}x{cols} {what}");
            let inputs = vec![Some(x.clone()), sampling.settings().ok()];
            let case = Case::new(label, op, inputs, Tolerance::exact());
            cases.push(Case { sizes: Sizes::default().with(Sym(0), 9 + cols), ..case });
        }
    }
    cases
}

/// The largest vocabularies, with every set: bounds are found by one walk per bit.
fn long_cases() -> Vec<Case> {
    let mut rng = Rng::new(48);
    let warm = Sampling { temperature: 0.8, seed: 19, ..Sampling::GREEDY };
    let ways = [
        ("top 1", Sampling { top_k: 1, ..warm }),
        ("top 50", Sampling { top_k: 50, ..warm }),
        ("top 0.9", Sampling { top_p: 0.9, ..warm }),
        ("top 50 and 0.9", Sampling { top_k: 50, top_p: 0.9, ..warm }),
    ];
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 262_144), (2, 128_256)] {
        let x = rng.tensor_with([rows, cols], |r| r.normal() * 3.0);
        for (what, sampling) in ways {
            let inputs = vec![Some(x.clone()), sampling.settings().ok()];
            let op = Sample { step: Dim::Const(21) };
            cases.push(Case::new(format!("{rows}x{cols} {what}"), op, inputs, Tolerance::exact()));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let row = [1.0f32, 0.0, -1.0, 2.0, -30.0];
        let sampling = Sampling { temperature: 0.8, seed: 99, ..Sampling::GREEDY };
        let mut counts = [0.0f64; 5];
        let draws = 20_000;
        for step in 0..draws {
            counts[sampling.choose(&row, 0, step) as usize] += 1.0;
        }
        let weights = row.map(|v| (f64::from(v) / 0.8).exp());
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let (share, expected) = (count / f64::from(draws), weight / total);
            // Four standard deviations.
            let allowed = 4.0 * (expected / f64::from(draws)).sqrt() + 1e-9;
            assert!((share - expected).abs() <= allowed, "{share} instead of {expected}");
        }
    }

    #[test]
    fn only_the_sets_asked_for_are_drawn_from() {
        let row = [0.0f32, 3.0, 2.0, 2.9, -1.0, 1.0];
        let drawn = |sampling: Sampling| {
            let mut seen: Vec<u32> = (0..500).map(|step| sampling.choose(&row, 1, step)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let warm = Sampling { temperature: 1.0, seed: 4, ..Sampling::GREEDY };
        assert_eq!(drawn(Sampling { top_k: 2, ..warm }), [1, 3]);
        assert_eq!(drawn(Sampling { top_p: 0.7, ..warm }), [1, 3]);
        assert_eq!(drawn(Sampling { top_p: 0.0, ..warm }), [1]);
        assert_eq!(drawn(Sampling { min_p: 0.3, ..warm }), [1, 2, 3]);
        assert_eq!(drawn(warm), [0, 1, 2, 3, 4, 5]);
        assert_eq!(drawn(Sampling::GREEDY), [1]);
    }
}
