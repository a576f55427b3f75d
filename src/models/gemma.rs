//! Gemma (Gemma Team 2024): Llama's layers with weights around 1 in norms and scaled embeddings. Gemma
//! 2 (Gemma Team 2024) and the text model of Gemma 3 (Gemma Team 2025): norms before and after every
//! block, layers that slide between layers that see everything, soft caps (Gemma 2) and norms of
//! single heads (Gemma 3). Under the tensor names of Hugging Face's `Gemma2ForCausalLM`, with or
//! without the `model.` prefix.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GATED, GroupedAttention, GroupedSizes, windows};
use super::frame::rope::{FULL, RopeConfig, SLIDING};
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::{Activation, Scale};
use crate::weights::Config;

pub(super) const GEMMA: Family =
    Family { model_type: "gemma", build: |files, options| build(files, options, Variant::Gemma) };
pub(super) const GEMMA2: Family =
    Family { model_type: "gemma2", build: |files, options| build(files, options, Variant::Gemma2) };
pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    build: |files, options| build(files, options, Variant::Gemma3),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Gemma,
    Gemma2,
    Gemma3,
}

struct Gemma {
    /// Whether blocks have norms behind them, too.
    sandwiched: bool,
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    attention: GroupedAttention,
    /// Factor of the dot products.
    scale: f32,
    /// Frequencies of layers that see everything, and of those that slide.
    ropes: [RopeConfig; 2],
    /// Positions that tables are computed for.
    positions: usize,
    /// How many tokens each layer sees.
    windows: Vec<Option<usize>>,
    attention_cap: Option<f32>,
    logit_cap: Option<f32>,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions, variant: Variant) -> Result<Model> {
    let config = &files.config;
    config.refuse(&["use_bidirectional_attention"])?;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let n_kv_heads = if variant == Variant::Gemma { 16 } else { 4 };
    let defaults = [("num_key_value_heads", n_kv_heads), ("head_dim", 256)];
    let grouped = GroupedSizes::read(config, &sizes, &defaults)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let bias = config.bool_or("attention_bias", false)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(false);
    let eps = config.eps("rms_norm_eps", 1e-6)?;
    let norm = |width| Norm { width, eps, kind: NormKind::RmsUnitOffset };
    let activation = match variant {
        // Its releases say `gelu` and mean the approximation.
        Variant::Gemma if config.opt_str("hidden_act")? == Some("gelu") => Activation::GeluTanh,
        Variant::Gemma => config.activation_or("hidden_act", Activation::GeluTanh)?,
        _ => config.activation_or("hidden_activation", Activation::GeluTanh)?,
    };
    // Gemma 2 has caps unless a `null` takes them away; Gemma 3 has none.
    let cap = |field: &str, default: f32| match config.opt_f32(field, 1e-3..=1e6)? {
        None if variant == Variant::Gemma2 && !config.states(field) => Ok(Some(default)),
        found => Ok(found),
    };
    let (attention_cap, ropes) = match variant {
        Variant::Gemma => {
            let later =
                ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"];
            config.refuse(&later)?;
            let fields = ["rope_theta", "partial_rotary_factor"];
            (None, [RopeConfig::read(config, fields, 1e4, 1.0)?; 2])
        }
        Variant::Gemma2 => {
            let fields = ["rope_theta", "partial_rotary_factor"];
            (cap("attn_logit_softcapping", 50.0)?, [RopeConfig::read(config, fields, 1e4, 1.0)?; 2])
        }
        Variant::Gemma3 => {
            config.refuse(&["attn_logit_softcapping"])?;
            let full = RopeConfig::of_kind(config, FULL, "rope_theta", 1e6)?;
            let sliding = RopeConfig::of_kind(config, SLIDING, "rope_local_base_freq", 1e4)?;
            (None, [full, sliding])
        }
    };
    for rope in ropes {
        rope.check_whole(config)?;
    }
    let query_scalar = match variant {
        Variant::Gemma => grouped.head_dim as f32,
        _ => config.f32_or("query_pre_attn_scalar", 256.0, 1e-6..=1e9)?,
    };
    let model = Gemma {
        sandwiched: variant != Variant::Gemma,
        sizes,
        inner: config.size("intermediate_size")?,
        norm: norm(sizes.hidden_size),
        attention: GroupedAttention {
            qkv_bias: bias,
            out_bias: bias,
            head_norm: (variant == Variant::Gemma3).then(|| norm(grouped.head_dim)),
            sizes: grouped,
        },
        scale: f64::from(query_scalar).sqrt().recip() as f32,
        ropes,
        positions: options.positions(sizes.max_tokens),
        windows: layer_windows(config, variant, sizes.n_layers)?,
        attention_cap,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        activation,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

/// How many tokens each layer sees. Unless `layer_types` says otherwise, every second layer of
/// Gemma 2 slides, the first one too, and all but every sixth of Gemma 3.
fn layer_windows(config: &Config, variant: Variant, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = config.size_or("sliding_window", 4096)?;
    let pattern = match variant {
        Variant::Gemma => {
            config.refuse(&["sliding_window"])?;
            return windows(config, n_layers, None, |_| false);
        }
        Variant::Gemma2 => 2,
        Variant::Gemma3 => {
            let names = ["sliding_window_pattern", "_sliding_window_pattern"];
            let name = if config.get(names[0]).is_some() { names[0] } else { names[1] };
            config.size_or(name, 6)?
        }
    };
    windows(config, n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(pattern))
}

impl Decoder for Gemma {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn embed(&self, at: &mut Scope, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, hidden_size, .. } = self.sizes;
        let words = at.table(TABLES[1], vocab_size, hidden_size)?;
        sequence.embed(at, ids, words, None, (hidden_size as f64).sqrt() as f32)
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let window = self.windows[layer];
        let rope = &self.ropes[usize::from(window.is_some())];
        let mut attend = self.attention.attend(at, rope, self.positions)?;
        (attend.window, attend.softcap, attend.scale) = (window, self.attention_cap, self.scale);
        let h = at.norm("input_layernorm", self.norm, x)?;
        let mut out = self.attention.apply(at, sequence, &attend, h)?;
        if self.sandwiched {
            out = at.norm("post_attention_layernorm", self.norm, out)?;
        }
        let x = at.add(out, x)?;

        let first = match self.sandwiched {
            true => "pre_feedforward_layernorm",
            false => "post_attention_layernorm",
        };
        let h = at.norm(first, self.norm, x)?;
        let mut mlp = at.scope("mlp");
        let out = mlp.gated_feed_forward(GATED, h, self.inner, self.activation)?;
        if !self.sandwiched {
            return at.add(out, x);
        }
        let out = at.norm("post_feedforward_layernorm", self.norm, out)?;
        at.add(out, x)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("norm", self.norm, x)
    }

    fn logits(&self, at: &mut Scope, x: Value) -> Result<Value> {
        let logits = at.output(TABLES[0], x, self.sizes.vocab_size)?;
        match self.logit_cap {
            None => Ok(logits),
            cap => at.apply(Scale { scale: 1.0, cap }, [Some(logits)]),
        }
    }
}
