//! Granite 3 (IBM 2024): Llama's layers, with four multipliers of the configuration: of embeddings, of
//! scores, of what each block adds, and a divisor of logits.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GATED, GroupedAttention, GroupedSizes};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::{Activation, Scale};

pub(super) const FAMILY: Family = Family { model_type: "granite", build };

struct Granite {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    attention: GroupedAttention,
    mlp_bias: bool,
    rope: RopeConfig,
    /// Positions that tables are computed for.
    positions: usize,
    activation: Activation,
    /// Factors of embeddings, of scores, of what a block adds, and of logits.
    embedding: f32,
    score: f32,
    block: f32,
    logit: f32,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    config.refuse(&["sliding_window"])?;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let bias = config.bool_or("attention_bias", false)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype);
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 1e4, 1.0)?;
    rope.check_whole(config)?;
    let factor = |field: &str| config.f32_or(field, 1.0, 1e-6..=1e6);
    let model = Granite {
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
            sizes: GroupedSizes::read(config, &sizes, &[])?,
        },
        mlp_bias: config.bool_or("mlp_bias", false)?,
        rope,
        positions: options.positions(sizes.max_tokens),
        activation: config.activation_or("hidden_act", Activation::Silu)?,
        embedding: factor("embedding_multiplier")?,
        score: factor("attention_multiplier")?,
        block: factor("residual_multiplier")?,
        logit: factor("logits_scaling")?.recip(),
    };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Granite {
    /// `x` and a block's result, by its factor.
    fn join(&self, at: &mut Scope, out: Value, x: Value) -> Result<Value> {
        let out = at.apply(Scale { scale: self.block, cap: None }, [Some(out)])?;
        at.add(out, x)
    }
}

impl Decoder for Granite {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn embed(&self, at: &mut Scope, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, hidden_size, .. } = self.sizes;
        let words = at.table(TABLES[1], vocab_size, hidden_size)?;
        sequence.embed(at, ids, words, None, self.embedding)
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let mut attend = self.attention.attend(at, &self.rope, self.positions)?;
        attend.scale = self.score;
        let h = at.norm("input_layernorm", self.norm, x)?;
        let out = self.attention.apply(at, sequence, &attend, h)?;
        let x = self.join(at, out, x)?;
        let h = at.norm("post_attention_layernorm", self.norm, x)?;
        let mut mlp = at.scope("mlp").biased(self.mlp_bias);
        let out = mlp.gated_feed_forward(GATED, h, self.inner, self.activation)?;
        self.join(at, out, x)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm, x)
    }

    fn logits(&self, at: &mut Scope, x: Value) -> Result<Value> {
        let logits = at.output(TABLES[0], x, self.sizes.vocab_size)?;
        at.apply(Scale { scale: self.logit, cap: None }, [Some(logits)])
    }
}
