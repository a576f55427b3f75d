//! Self-attention with rotary positions and grouped heads, as Llama and the families after it
//! have it, and the kinds of layers these are made of.

use super::rope::{FULL, RopeConfig, SLIDING};
use super::sizes::{MOST, Sizes};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Attend, Norm, Parameters, Sequence, linear};
use crate::weights::Config;

/// Projections named `self_attn.{q,k,v,o}_proj`, and where there are norms of single heads,
/// `self_attn.{q,k}_norm`.
pub struct GroupedAttention {
    /// Holds the query, key and value projections.
    pub qkv: Parameters,
    /// Holds the output projection.
    pub out: Parameters,
    /// Norm of every query and key head, before it rotates.
    pub head_norm: Option<Norm>,
    pub sizes: GroupedSizes,
}

/// Sizes of [`GroupedAttention`].
#[derive(Clone, Copy, Debug)]
pub struct GroupedSizes {
    pub width: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
}

impl GroupedSizes {
    /// `num_key_value_heads` and `head_dim`. Those that are not there are the family's `defaults`,
    /// as transformers has them; without one, or `null`, as many as there are query heads, and
    /// their share of the hidden size.
    pub fn read(
        config: &Config,
        sizes: &Sizes,
        defaults: &[(&'static str, usize)],
    ) -> Result<Self> {
        let config = config.with_defaults(defaults.iter().map(|&(name, n)| (name, n.into())));
        let Sizes { hidden_size: width, n_heads, .. } = *sizes;
        let n_kv_heads = config.usize_or("num_key_value_heads", n_heads, 1..=MOST)?;
        config.check_divides("num_attention_heads", n_heads, "num_key_value_heads", n_kv_heads)?;
        let head_dim = match config.opt_usize("head_dim", 1..=MOST)? {
            Some(head_dim) => head_dim,
            None => {
                config.check_divides("hidden_size", width, "num_attention_heads", n_heads)?;
                width / n_heads
            }
        };
        if !head_dim.is_multiple_of(2) {
            let expected = "even: the columns of a head rotate in pairs";
            return Err(config.error("head_dim", head_dim, expected));
        }
        Ok(Self { width, n_heads, n_kv_heads, head_dim })
    }
}

impl GroupedAttention {
    /// Causal attention of these heads, to be given what else a layer has.
    pub fn attend(&self, graph: &mut Graph, rope: &RopeConfig, positions: usize) -> Result<Attend> {
        let GroupedSizes { n_heads, n_kv_heads, head_dim, .. } = self.sizes;
        let rotary = Some(rope.rotary(graph, head_dim, positions)?);
        Ok(Attend { n_kv_heads, causal: true, rotary, ..Attend::new(n_heads, head_dim) })
    }

    /// The attention of `layer`, output projection included.
    pub fn apply(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        attend: &Attend,
        layer: &str,
        x: Value,
    ) -> Result<Value> {
        let GroupedSizes { width, n_heads, n_kv_heads, head_dim } = self.sizes;
        let name = |part: &str| format!("{layer}.self_attn.{part}");
        let mut project = |which: &str, heads: usize| {
            let y = linear(
                graph,
                &self.qkv,
                &name(&format!("{which}_proj")),
                x,
                width,
                heads * head_dim,
            )?;
            match self.head_norm.filter(|_| which != "v") {
                Some(norm) => norm.apply(graph, &self.qkv, &name(&format!("{which}_norm")), y),
                None => Ok(y),
            }
        };
        let q = project("q", n_heads)?.into();
        let [k, v] = [project("k", n_kv_heads)?.into(), project("v", n_kv_heads)?.into()];
        let context = attend.to_self(graph, sequence, layer, [q, k, v])?;
        linear(graph, &self.out, &name("o_proj"), context, n_heads * head_dim, width)
    }
}

/// How many tokens each layer sees, `None` for all: a layer whose kind is sliding sees
/// `window`. Kinds are those of `layer_types`, or `slides` tells where the configuration has no
/// such list. Errors name a kind that is not known, a list of another length, a missing window.
pub fn windows(
    config: &Config,
    n_layers: usize,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let kinds = config.strings("layer_types")?;
    if config.get("layer_types").is_some() && kinds.len() != n_layers {
        let expected = format!("one for each of {n_layers} layers");
        return Err(config.error("layer_types", format!("a list of {}", kinds.len()), expected));
    }
    let mut windows = Vec::with_capacity(n_layers);
    for layer in 0..n_layers {
        let sliding = match kinds.get(layer).copied() {
            None => slides(layer),
            Some(FULL) => false,
            Some(SLIDING) => true,
            Some(other) => {
                let found = format!("`{}` at layer {layer}", crate::files::one_line(other));
                return Err(config.error("layer_types", found, format!("{FULL} or {SLIDING}")));
            }
        };
        if sliding && window.is_none() {
            let found = format!("absent, but layer {layer} slides");
            return Err(config.error("sliding_window", found, "the tokens that such a layer sees"));
        }
        windows.push(window.filter(|_| sliding));
    }
    Ok(windows)
}
