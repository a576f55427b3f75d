//! The roof: every op that ships.

use super::op::Entry;
use super::{
    activation, add, argmax, attention, cache, column, cross_entropy, embedding, gated, gather,
    layer_norm, matmul, padded_positions, pool, positions, rms_norm, rope, rope_append, sample,
    scale, softmax, splade,
};
use crate::error::{Error, Result};

/// Every op.
pub fn registry() -> &'static [&'static Entry] {
    static REGISTRY: &[&Entry] = &[
        &activation::GELU_ERF,
        &activation::GELU_TANH,
        &activation::QUICK_GELU,
        &activation::RELU,
        &activation::SIGMOID,
        &activation::SILU,
        &activation::TANH,
        &add::ENTRY,
        &argmax::ENTRY,
        &column::ENTRY,
        &cross_entropy::ENTRY,
        &attention::ENTRY,
        &cache::ENTRY,
        &embedding::ENTRY,
        &gated::GEGLU,
        &gated::GEGLU_TANH,
        &gated::REGLU,
        &gated::SWIGLU,
        &gather::ENTRY,
        &layer_norm::ENTRY,
        &matmul::ENTRY,
        &padded_positions::ENTRY,
        &pool::L2_NORMALIZE,
        &pool::POOL,
        &positions::ENTRY,
        &rms_norm::ENTRY,
        &rope::ENTRY,
        &rope_append::ENTRY,
        &sample::ENTRY,
        &scale::ENTRY,
        &softmax::ENTRY,
        &softmax::LOG_ENTRY,
        &splade::ENTRY,
    ];
    REGISTRY
}

/// The registry entry of a name or alias; the error lists what exists.
pub fn find(name: &str) -> Result<&'static Entry> {
    let hit = |e: &&&Entry| e.name == name || e.aliases.contains(&name);
    registry().iter().find(hit).copied().ok_or_else(|| {
        let known: Vec<_> = registry().iter().map(|e| e.name).collect();
        Error::Argument(format!("no op is named `{name}`; there are {}", known.join(", ")))
    })
}
