//! OLMo 2 (OLMo Team 2024): a decoder whose norms stand behind its blocks, with norms of all query
//! and of all key heads at once.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GATED, GroupedSizes};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "olmo2", build };

struct Olmo2 {
    sizes: Sizes,
    grouped: GroupedSizes,
    inner: usize,
    eps: f32,
    bias: bool,
    rope: RopeConfig,
    /// Positions that tables are computed for.
    positions: usize,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    config.refuse(&["sliding_window", "clip_qkv"])?;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(false);
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 1e4, 1.0)?;
    rope.check_whole(config)?;
    let model = Olmo2 {
        sizes,
        grouped: GroupedSizes::read(config, &sizes, &[])?,
        inner: config.size("intermediate_size")?,
        eps: config.eps("rms_norm_eps", 1e-5)?,
        bias: config.bool_or("attention_bias", false)?,
        rope,
        positions: options.positions(sizes.max_tokens),
        activation: config.activation_or("hidden_act", Activation::Silu)?,
    };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Olmo2 {
    fn norm(&self, width: usize) -> Norm {
        Norm { width, eps: self.eps, kind: NormKind::Rms }
    }

    fn attention(&self, at: &mut Scope, sequence: &Sequence, x: Value) -> Result<Value> {
        let GroupedSizes { width, n_heads, n_kv_heads, head_dim } = self.grouped;
        let [queries, keys] = [n_heads, n_kv_heads].map(|n| n * head_dim);
        let mut at = at.scope("self_attn").biased(self.bias);
        let q = at.linear("q_proj", x, queries)?;
        let q = at.norm("q_norm", self.norm(queries), q)?;
        let k = at.linear("k_proj", x, keys)?;
        let k = at.norm("k_norm", self.norm(keys), k)?;
        let v = at.linear("v_proj", x, keys)?;
        let rotary = Some(self.rope.rotary(&mut at, head_dim, self.positions)?);
        let attend = Attend { n_kv_heads, causal: true, rotary, ..Attend::new(n_heads, head_dim) };
        let context = attend.to_self(&mut at, sequence, [q.into(), k.into(), v.into()])?;
        at.linear("o_proj", context, width)
    }
}

impl Decoder for Olmo2 {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let norm = self.norm(self.sizes.hidden_size);
        let out = self.attention(at, sequence, x)?;
        let out = at.norm("post_attention_layernorm", norm, out)?;
        let x = at.add(out, x)?;
        let mut mlp = at.scope("mlp");
        let out = mlp.gated_feed_forward(GATED, x, self.inner, self.activation)?;
        let out = at.norm("post_feedforward_layernorm", norm, out)?;
        at.add(out, x)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm(self.sizes.hidden_size), x)
    }
}
