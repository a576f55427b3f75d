//! StarCoder2 (Lozhkov et al. 2024): layer norms with biases, grouped rotary attention, a window in all
//! layers or none, and a plain feed-forward.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GroupedAttention, GroupedSizes};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "starcoder2", build };

struct StarCoder2 {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    attention: GroupedAttention,
    bias: bool,
    rope: RopeConfig,
    /// Positions that tables are computed for.
    positions: usize,
    window: Option<usize>,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let bias = config.bool_or("use_bias", true)?;
    // Norms have biases always.
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(true);
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 1e4, 1.0)?;
    rope.check_whole(config)?;
    let model = StarCoder2 {
        sizes,
        inner: config.size("intermediate_size")?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("norm_epsilon", 1e-5)?,
            kind: NormKind::Layer,
        },
        attention: GroupedAttention {
            qkv_bias: bias,
            out_bias: bias,
            head_norm: None,
            sizes: GroupedSizes::read(config, &sizes, &[("num_key_value_heads", 2)])?,
        },
        bias,
        rope,
        positions: options.positions(sizes.max_tokens),
        window: config.opt_size("sliding_window")?,
        activation: config.activation_or("hidden_act", Activation::GeluTanh)?,
    };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Decoder for StarCoder2 {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let mut attend = self.attention.attend(at, &self.rope, self.positions)?;
        attend.window = self.window;
        let h = at.norm("input_layernorm", self.norm, x)?;
        let out = self.attention.apply(at, sequence, &attend, h)?;
        let x = at.add(out, x)?;
        at.residual("post_attention_layernorm", self.norm, true, x, |at, h| {
            let mut mlp = at.scope("mlp").biased(self.bias);
            let h = mlp.linear("c_fc", h, self.inner)?;
            let h = mlp.activate(self.activation, h)?;
            mlp.linear("c_proj", h, self.sizes.hidden_size)
        })
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm, x)
    }
}
