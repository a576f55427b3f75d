//! Cases drawn at random from an op's own. Dimensions that are alike stay alike, values are drawn from
//! the case's, optional operands go now and then, attributes are the op's to draw, and what the op's
//! checks or its reference refuse is drawn again.

use std::collections::BTreeMap;

use super::op::Case;
use super::rng::Rng;
use super::tolerance::Tolerance;
use crate::error::Result;
use crate::gpu::Caps;
use crate::tensor::{DType, Shape, Tensor};

/// Elements of all operands of a drawn case.
const LARGEST: usize = 1 << 15;
/// Elements of results below which a mean over them says nothing that each one's bound does not:
/// a drawn case may have a few small ones alone.
const FEW: usize = 256;
/// Results of a smaller magnitude lose digits in f16, whatever the kernel.
const SMALL: f64 = 1e-2;
/// Draws before a case is given up.
const TRIES: usize = 50;

/// Up to `n` cases, each from a seed of its own that its label tells.
pub fn random_cases(cases: &[Case], n: usize, seed: u64) -> Vec<Case> {
    (0..n as u64).filter_map(|i| draw(cases, seed.wrapping_add(i))).collect()
}

fn draw(cases: &[Case], seed: u64) -> Option<Case> {
    let mut rng = Rng::new(seed);
    (0..TRIES).find_map(|_| {
        let from = cases.get(rng.below(cases.len()))?;
        attempt(from, seed, &mut rng).ok().flatten()
    })
}

/// A case, or none where it is too large or nothing changed.
fn attempt(from: &Case, seed: u64, rng: &mut Rng) -> Result<Option<Case>> {
    let mut drawn = BTreeMap::new();
    let mut inputs = Vec::new();
    let (mut total, mut shapes) = (0, Vec::new());
    let op = if rng.below(2) == 0 { from.op.drawn(rng) } else { None };
    let narrow = if from.op.stores_f16(0) { rng.below(2) == 0 } else { from.narrow };
    let mut changed = op.is_some() || narrow != from.narrow;
    for tensor in &from.inputs {
        let left_out = rng.below(8) == 0;
        let Some(tensor) = tensor.as_ref().filter(|_| !left_out) else {
            changed |= tensor.is_some();
            inputs.push(None);
            continue;
        };
        let old = tensor.shape();
        let dims: Vec<_> = old
            .dims()
            .iter()
            .map(|&dim| *drawn.entry(dim).or_insert_with(|| dimension(dim, rng)))
            .collect();
        let shape = Shape::new(&dims)?;
        total += shape.numel();
        if total > LARGEST {
            return Ok(None);
        }
        shapes.push(shape.to_string());
        inputs.push(Some(resampled(tensor, shape, rng)?));
    }
    changed |= drawn.iter().any(|(old, new)| old != new);
    if !changed {
        return Ok(None);
    }
    let mut label = format!("random {seed}: {}, now {}", from.label, shapes.join(" "));
    if let Some(op) = &op {
        label = format!("{label} of {op:?}");
    }
    if narrow {
        label.push_str(", to f16");
    }
    let op = op.unwrap_or_else(|| from.op.clone());
    let mut case = Case { label, op, inputs, narrow, ..from.clone() };
    // The op's own checks, for any device.
    case.with_call(&Caps::baseline(), |_| ())?;
    let results = case.reference()?;
    if case.narrow && !from.narrow && largest(&results)? < SMALL {
        return Ok(None);
    }
    case.tolerance = tolerance(&from.tolerance, &results)?;
    Ok(Some(case))
}

/// Near the old one as a rule, or anything up to twice as much; often a whole group of four.
fn dimension(old: usize, rng: &mut Rng) -> usize {
    match rng.below(6) {
        0 | 1 => old,
        2 => old + 1,
        3 => old.saturating_sub(1).max(1),
        4 => 1 + rng.below(2 * old + 4),
        _ => (1 + rng.below(old / 2 + 2)) * 4,
    }
}

fn resampled(tensor: &Tensor, shape: Shape, rng: &mut Rng) -> Result<Tensor> {
    let count = shape.numel();
    // Integers of a fixed number are settings, each with a meaning of its own.
    if tensor.dtype() == DType::U32 && shape == tensor.shape() {
        return Ok(tensor.clone());
    }
    if tensor.dtype() == DType::U32 {
        let old = tensor.as_u32()?;
        let value = |_| if old.is_empty() { 0 } else { old[rng.below(old.len())] };
        return Tensor::u32(shape, (0..count).map(value).collect());
    }
    let old = tensor.to_f32()?;
    let value = |_| if old.is_empty() { rng.normal() } else { old[rng.below(old.len())] };
    Tensor::f32(shape, (0..count).map(value).collect())?.cast(tensor.dtype())
}

/// The largest finite magnitude.
fn largest(results: &[Tensor]) -> Result<f64> {
    let mut largest = 0f64;
    for result in results {
        let finite = |v: &f32| v.is_finite().then(|| f64::from(v.abs()));
        largest = result.to_f32()?.iter().filter_map(finite).fold(largest, f64::max);
    }
    Ok(largest)
}

/// Bounds per element belong to the old operands: what stands in for them is as wide as a sum of
/// so many terms of the results' size needs.
fn tolerance(old: &Tolerance, results: &[Tensor]) -> Result<Tolerance> {
    let mut new = old.clone();
    if new.bound.take().is_some() {
        new.nmse = new.nmse.max(1e-9);
        new.abs = new.abs.max(1e-5 * largest(results)?.max(1.0));
        new.rel = new.rel.max(1e-4);
    }
    let elements: usize = results.iter().map(|r| r.shape().numel()).sum();
    if new.rel > 0.0 && elements < FEW {
        new.nmse = f64::INFINITY;
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::{Attention, Matmul, find};

    fn drawn(op: &str) -> Vec<Case> {
        let entry = find(op).expect("a registered op");
        let cases = random_cases(&(entry.cases)(), 150, 5);
        // Some seeds draw nothing that the op takes.
        assert!(cases.len() > 100, "{} cases", cases.len());
        cases
    }

    #[test]
    fn a_seed_draws_attributes_operands_and_storage_besides_shapes() {
        let (mut masks, mut windows, mut storage) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for case in drawn("attention") {
            let op = case.op.downcast::<Attention>().expect("an attention");
            windows.insert((op.causal, op.window.is_some(), op.ahead > 0, op.softcap.is_some()));
            masks.insert(case.inputs.iter().map(Option::is_some).collect::<Vec<_>>());
            storage.insert(case.narrow);
        }
        // Ahead goes with a window that is not causal.
        assert_eq!(windows.len(), 10, "{windows:?}");
        assert!(masks.len() >= 5, "{masks:?}");
        assert_eq!(storage.len(), 2);
        let of = |case: &Case| case.op.downcast::<Matmul>().expect("a product").activation;
        let activations: BTreeSet<_> = drawn("matmul").iter().map(|c| of(c).code()).collect();
        assert_eq!(activations.len(), 8);
    }

    #[test]
    fn a_seed_draws_the_same_every_time() {
        let labels = || drawn("matmul").into_iter().map(|c| c.label).collect::<Vec<_>>();
        assert_eq!(labels(), labels());
    }
}
