//! SmolLM3 (Hugging Face 2025): Llama's layers, some of which have no rotary positions.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GATED, GroupedAttention, GroupedSizes};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "smollm3", build };

struct SmolLm3 {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    attention: GroupedAttention,
    mlp_bias: bool,
    rope: RopeConfig,
    /// Which layers rotate.
    rotates: Vec<bool>,
    /// Positions that tables are computed for.
    positions: usize,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    config.refuse(&["use_sliding_window"])?;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let bias = config.bool_or("attention_bias", false)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype);
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 2e6, 1.0)?;
    rope.check_whole(config)?;
    let model = SmolLm3 {
        sizes,
        inner: config.size("intermediate_size")?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("rms_norm_eps", 1e-6)?,
            kind: NormKind::Rms,
        },
        attention: GroupedAttention {
            qkv_bias: bias,
            out_bias: bias,
            head_norm: None,
            sizes: GroupedSizes::read(config, &sizes, &[("num_key_value_heads", 4)])?,
        },
        mlp_bias: config.bool_or("mlp_bias", false)?,
        rope,
        rotates: rotates(config, sizes.n_layers)?,
        positions: options.positions(sizes.max_tokens),
        activation: config.activation_or("hidden_act", Activation::Silu)?,
    };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

/// `no_rope_layers`, in which 1 says that a layer does rotate; without it every
/// `no_rope_layer_interval`th does not.
fn rotates(config: &Config, n_layers: usize) -> Result<Vec<bool>> {
    let Some(list) = config.get("no_rope_layers").and_then(|list| list.as_array()) else {
        let interval = config.size_or("no_rope_layer_interval", 4)?;
        return Ok((1..=n_layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    let flag = |value: &serde_json::Value| value.as_u64().filter(|n| *n < 2).map(|n| n == 1);
    match list.iter().map(flag).collect::<Option<Vec<_>>>() {
        Some(flags) if flags.len() == n_layers => Ok(flags),
        _ => {
            let found = format!("a list of {}", list.len());
            let expected = format!("0 or 1 for each of {n_layers} layers");
            Err(config.error("no_rope_layers", found, expected))
        }
    }
}

impl Decoder for SmolLm3 {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let mut attend = self.attention.attend(at, &self.rope, self.positions)?;
        attend.rotary = attend.rotary.filter(|_| self.rotates[layer]);
        let h = at.norm("input_layernorm", self.norm, x)?;
        let out = self.attention.apply(at, sequence, &attend, h)?;
        let x = at.add(out, x)?;
        let h = at.norm("post_attention_layernorm", self.norm, x)?;
        let mut mlp = at.scope("mlp").biased(self.mlp_bias);
        let out = mlp.gated_feed_forward(GATED, h, self.inner, self.activation)?;
        at.add(out, x)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm, x)
    }
}
