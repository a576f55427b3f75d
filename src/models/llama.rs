//! Llama (Touvron et al. 2023) and the families that change little about it: Mistral (Jiang et
//! al. 2023, sliding window), Qwen2 (Yang et al. 2024, biases), Qwen3 (norms of single heads).
//! Pre-norm decoder with RMS norms, grouped rotary attention and gated feed-forward, under the
//! tensor names of Hugging Face's `LlamaForCausalLM`, with or without the `model.` prefix.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::grouped::{GATED, GroupedAttention, GroupedSizes, windows};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const LLAMA: Family =
    Family { model_type: "llama", build: |files, options| build(files, options, Variant::Llama) };
pub(super) const MISTRAL: Family = Family {
    model_type: "mistral",
    build: |files, options| build(files, options, Variant::Mistral),
};
pub(super) const QWEN2: Family =
    Family { model_type: "qwen2", build: |files, options| build(files, options, Variant::Qwen2) };
pub(super) const QWEN3: Family =
    Family { model_type: "qwen3", build: |files, options| build(files, options, Variant::Qwen3) };

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

struct Llama {
    /// Whether the feed-forward's projections have biases.
    mlp_bias: bool,
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    attention: GroupedAttention,
    rope: RopeConfig,
    /// Positions that tables are computed for.
    positions: usize,
    /// How many tokens each layer sees.
    windows: Vec<Option<usize>>,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions, variant: Variant) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let defaults: &[_] = match variant {
        Variant::Llama => &[],
        Variant::Mistral => &[("num_key_value_heads", 8)],
        Variant::Qwen2 => &[("num_key_value_heads", 32)],
        Variant::Qwen3 => &[("num_key_value_heads", 32), ("head_dim", 128)],
    };
    let grouped = GroupedSizes::read(config, &sizes, defaults)?;
    let tied = config.bool_or("tie_word_embeddings", false)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype);
    let eps = config.eps("rms_norm_eps", 1e-6)?;
    let norm = |width| Norm { width, eps, kind: NormKind::Rms };
    let stated = |field: &str| config.bool_or(field, false);
    // Mistral has no biases to switch on, Qwen2 has them always.
    let [qkv, out, mlp] = match variant {
        Variant::Llama => {
            [stated("attention_bias")?, stated("attention_bias")?, stated("mlp_bias")?]
        }
        Variant::Mistral => [false; 3],
        Variant::Qwen2 => [true, false, false],
        Variant::Qwen3 => [stated("attention_bias")?, stated("attention_bias")?, false],
    };
    let rope = RopeConfig::read(config, ["rope_theta", "partial_rotary_factor"], 1e4, 1.0)?;
    rope.check_whole(config)?;
    let activation = config.activation_or("hidden_act", Activation::Silu)?;
    let model = Llama {
        mlp_bias: mlp,
        sizes,
        inner: config.size("intermediate_size")?,
        norm: norm(sizes.hidden_size),
        attention: GroupedAttention {
            qkv_bias: qkv,
            out_bias: out,
            head_norm: (variant == Variant::Qwen3).then(|| norm(grouped.head_dim)),
            sizes: grouped,
        },
        rope,
        positions: options.positions(sizes.max_tokens),
        windows: layer_windows(config, variant, sizes.n_layers)?,
        activation,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

/// How many tokens each layer sees: all of Mistral's layers slide if it has a window, Qwen's
/// from `max_window_layers` on if `use_sliding_window` says so.
fn layer_windows(config: &Config, variant: Variant, n_layers: usize) -> Result<Vec<Option<usize>>> {
    match variant {
        Variant::Mistral => {
            config.refuse(&["attention_bias", "mlp_bias"])?;
            // Only a `null` takes the window away.
            let window = match config.opt_size("sliding_window")? {
                None if !config.states("sliding_window") => Some(4096),
                found => found,
            };
            windows(config, n_layers, window, |_| window.is_some())
        }
        Variant::Qwen2 | Variant::Qwen3 => {
            config.refuse(&["mlp_bias"])?;
            let window = match config.bool_or("use_sliding_window", false)? {
                true => Some(config.size_or("sliding_window", 4096)?),
                false => None,
            };
            let first = config.usize_or("max_window_layers", 28, 0..=Config::MOST)?;
            windows(config, n_layers, window, |layer| window.is_some() && layer >= first)
        }
        Variant::Llama => {
            config.refuse(&["sliding_window", "use_sliding_window"])?;
            windows(config, n_layers, None, |_| false)
        }
    }
}

impl Decoder for Llama {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let h = at.norm("input_layernorm", self.norm, x)?;
        let mut attend = self.attention.attend(at, &self.rope, self.positions)?;
        attend.window = self.windows[layer];
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
