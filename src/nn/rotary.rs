//! Rotary positions: tables of angles, and their use on queries and keys.

use super::kept::Heads;
use super::scope::Scope;
use super::sequence::Sequence;
use crate::error::Result;
use crate::graph::{Graph, Value, Weight, WeightSource};
use crate::ops::{Pairing, Rope, RopeScaling, rope_frequencies};
use crate::tensor::{Meta, Shape};
use std::sync::Arc;

/// What a table's rows hold of every pair's angle.
#[derive(Clone, Copy, Debug)]
enum Part {
    Cos,
    Sin,
}

/// A table [positions, pairs] that is computed as it is read: models have room for far more
/// positions than most of their texts.
struct Table {
    part: Part,
    frequencies: Vec<f64>,
    origin: String,
}

impl WeightSource for Table {
    fn origin(&self) -> Option<String> {
        Some(self.origin.clone())
    }

    fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let pairs = self.frequencies.len();
        for (i, out) in (offset / 4..).zip(out.as_chunks_mut::<4>().0) {
            let angle = (i / pairs) as f64 * self.frequencies[i % pairs];
            let value = match self.part {
                Part::Cos => angle.cos(),
                Part::Sin => angle.sin(),
            };
            *out = (value as f32).to_le_bytes();
        }
        Ok(())
    }
}

/// Rotary positions: tables of angles and how columns pair up.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    cos: Value,
    sin: Value,
    rotary_dim: usize,
    pairing: Pairing,
}

impl Rotary {
    /// Tables for positions below `max_positions`; see [`rope_frequencies`]. Nothing is
    /// computed before they are loaded, and equal ones are shared.
    pub fn new(
        at: &mut Scope,
        theta: f64,
        rotary_dim: usize,
        max_positions: usize,
        scaling: RopeScaling,
        pairing: Pairing,
    ) -> Result<Self> {
        let frequencies = rope_frequencies(theta, rotary_dim, scaling);
        let meta = Meta::f32(Shape::new(&[max_positions, frequencies.len()])?);
        let mut table = |name: &str, part: Part| {
            let origin = format!("{name} {theta} {rotary_dim} {max_positions} {scaling:?}");
            let source = Table { part, frequencies: frequencies.clone(), origin };
            at.weight(Weight::new(name, meta, Arc::new(source)))
        };
        let (cos, sin) = (table("rotary.cos", Part::Cos), table("rotary.sin", Part::Sin));
        Ok(Self { cos, sin, rotary_dim, pairing })
    }

    pub(super) fn apply(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        x: Heads,
        n_heads: usize,
        head_dim: usize,
    ) -> Result<Heads> {
        let op = Rope {
            n_heads,
            head_dim,
            rotary_dim: self.rotary_dim,
            pairing: self.pairing,
            heads_first: false,
            column: x.column,
            offset: sequence.past,
        };
        let operands = [Some(x.value), Some(self.cos), Some(self.sin), sequence.positions];
        Ok(graph.apply(op, operands)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rope_tables;

    #[test]
    fn a_table_reads_like_the_one_computed_at_once() {
        let scaling = RopeScaling::Linear { factor: 8.0 };
        let (cos, sin) = rope_tables(1e4, 6, 0..50, scaling).unwrap();
        for (part, want) in [(Part::Cos, cos), (Part::Sin, sin)] {
            let frequencies = rope_frequencies(1e4, 6, scaling);
            let table = Table { part, frequencies, origin: String::new() };
            let mut bytes = vec![0; 4 * 100];
            table.read(4 * 31, &mut bytes).unwrap();
            assert_eq!(bytes, &want.as_bytes()[4 * 31..4 * 131], "{part:?}");
        }
    }
}
