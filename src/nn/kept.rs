//! Queries, keys and values as layers hand them on, and what is kept of them.

use crate::graph::{Graph, Value};
use crate::tensor::{DType, Dim, SymMeta};

/// Queries, keys or values: f32 [batch, tokens, columns] with heads side by side from `column`
/// on.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The value.
    pub value: Value,
    /// First column of the first head.
    pub column: usize,
}

impl Heads {
    /// The parts, `width` columns each, of one projection that has them side by side.
    pub fn packed<const N: usize>(value: Value, width: usize) -> [Self; N] {
        std::array::from_fn(|i| Self { value, column: i * width })
    }
}

impl From<Value> for Heads {
    fn from(value: Value) -> Self {
        Self { value, column: 0 }
    }
}

/// How keys and values are kept from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Sequences.
    pub batch: Dim,
    /// Tokens there is room for.
    pub length: Dim,
    /// f32 or f16, in which values beyond 65,504 are saturated and the width must be even.
    pub dtype: DType,
}

impl Cache {
    /// The states that keep keys and values of `layer`, `[batch, length, width]` each.
    pub(super) fn states(&self, graph: &mut Graph, layer: &str, width: usize) -> [Value; 2] {
        ["k_cache", "v_cache"].map(|which| {
            let dims = vec![self.batch, self.length, Dim::Const(width)];
            graph.state(format!("{layer}.{which}"), SymMeta { dims, dtype: self.dtype })
        })
    }
}
