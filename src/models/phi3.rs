//! Phi-3 and Phi-4 (Abdin et al. 2024): Llama's layers with queries, keys and values in one projection,
//! gate and inner layer in another, and heads that may rotate in part.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::GroupedSizes;
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::{Activation, Gated};

pub(super) const FAMILY: Family = Family { model_type: "phi3", build };

struct Phi3 {
    sizes: Sizes,
    grouped: GroupedSizes,
    inner: usize,
    norm: Norm,
    rope: RopeConfig,
    /// Columns of a head that rotate.
    rotary_dim: usize,
    /// Positions that tables are computed for.
    positions: usize,
    window: Option<usize>,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let grouped = GroupedSizes::read(config, &sizes, &[])?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(false);
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 1e4, 1.0)?;
    let rotary_dim = (grouped.head_dim as f64 * rope.fraction) as usize;
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
        let expected = format!("a share of {} columns that rotate in pairs", grouped.head_dim);
        return Err(config.error("partial_rotary_factor", rope.fraction, expected));
    }
    let model = Phi3 {
        sizes,
        grouped,
        inner: config.size("intermediate_size")?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("rms_norm_eps", 1e-5)?,
            kind: NormKind::Rms,
        },
        rope,
        rotary_dim,
        positions: options.positions(sizes.max_tokens),
        window: config.opt_size("sliding_window")?,
        activation: config.activation_or("hidden_act", Activation::Silu)?,
    };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Decoder for Phi3 {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let GroupedSizes { width, n_heads, n_kv_heads, head_dim } = self.grouped;
        let [queries, keys] = [n_heads, n_kv_heads].map(|n| n * head_dim);
        let rotary = Some(self.rope.rotary(at, self.rotary_dim, self.positions)?);
        let attend = Attend {
            n_kv_heads,
            causal: true,
            window: self.window,
            rotary,
            ..Attend::new(n_heads, head_dim)
        };
        let h = at.norm("input_layernorm", self.norm, x)?;
        let packed = at.linear("self_attn.qkv_proj", h, queries + 2 * keys)?;
        let part = |column| Heads { value: packed, column };
        let context =
            attend.to_self(at, sequence, [part(0), part(queries), part(queries + keys)])?;
        let out = at.linear("self_attn.o_proj", context, width)?;
        let x = at.add(out, x)?;
        at.residual("post_attention_layernorm", self.norm, true, x, |at, h| {
            let both = at.linear("mlp.gate_up_proj", h, 2 * self.inner)?;
            let h = at.apply(Gated { activation: self.activation }, [Some(both), None])?;
            at.linear("mlp.down_proj", h, width)
        })
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm, x)
    }
}
