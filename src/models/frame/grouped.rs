//! Self-attention with rotary positions and grouped heads, as Llama and the families after it
//! have it, and the kinds of layers these are made of.

use super::rope::{FULL, RopeConfig, SLIDING};
use super::sizes::Sizes;
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, Scope, Sequence};
use crate::weights::Config;

/// Projections named `self_attn.{q,k,v,o}_proj`, and where there are norms of single heads,
/// `self_attn.{q,k}_norm`.
pub struct GroupedAttention {
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has one.
    pub out_bias: bool,
    /// Norm of every query and key head, before it rotates.
    pub head_norm: Option<Norm>,
    pub sizes: GroupedSizes,
}

/// Names of a gated feed-forward's projections, below `mlp`.
pub const GATED: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

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
        let n_kv_heads = config.size_or("num_key_value_heads", n_heads)?;
        config.check_divides("num_attention_heads", n_heads, "num_key_value_heads", n_kv_heads)?;
        let head_dim = match config.opt_size("head_dim")? {
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
    pub fn attend(&self, at: &mut Scope, rope: &RopeConfig, positions: usize) -> Result<Attend> {
        let GroupedSizes { n_heads, n_kv_heads, head_dim, .. } = self.sizes;
        let rotary = Some(rope.rotary(at, head_dim, positions)?);
        Ok(Attend { n_kv_heads, causal: true, rotary, ..Attend::new(n_heads, head_dim) })
    }

    /// A layer's attention, output projection included.
    pub fn apply(
        &self,
        at: &mut Scope,
        sequence: &Sequence,
        attend: &Attend,
        x: Value,
    ) -> Result<Value> {
        let GroupedSizes { width, n_heads, n_kv_heads, head_dim } = self.sizes;
        let mut qkv = at.scope("self_attn").biased(self.qkv_bias);
        let q = self.heads(&mut qkv, ["q_proj", "q_norm"], x, n_heads)?;
        let k = self.heads(&mut qkv, ["k_proj", "k_norm"], x, n_kv_heads)?;
        let v = qkv.linear("v_proj", x, n_kv_heads * head_dim)?.into();
        let context = attend.to_self(at, sequence, [q, k, v])?;
        at.scope("self_attn").biased(self.out_bias).linear("o_proj", context, width)
    }

    /// Queries or keys, each head normalised where a family does so.
    fn heads(
        &self,
        at: &mut Scope,
        [project, norm]: [&str; 2],
        x: Value,
        n_heads: usize,
    ) -> Result<Heads> {
        let heads = at.linear(project, x, n_heads * self.sizes.head_dim)?;
        Ok(match self.head_norm {
            Some(attributes) => at.norm(norm, attributes, heads)?.into(),
            None => heads.into(),
        })
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
