//! Llama (Touvron et al. 2023) and the families that change little about it: Mistral (Jiang et
//! al. 2023, sliding window), Qwen2 (Yang et al. 2024, biases), Qwen3 (norms of single heads).
//! Pre-norm decoder with RMS norms, grouped rotary attention and gated feed-forward, under the
//! tensor names of Hugging Face's `LlamaForCausalLM`, with or without the `model.` prefix.

use super::frame::decoder::{self, Decoder};
use super::frame::grouped::{GroupedAttention, GroupedSizes, windows};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{MOST, SIZE_NAMES, Sizes, TABLES, output_head, refuse};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Norm, NormKind, Parameters, Sequence, activation, add, gated_feed_forward, table};
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
    parameters: Parameters,
    /// Holds the feed-forward's projections.
    feed_forward: Parameters,
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
    let parameters = parameters.tie(tied, TABLES);
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
    let kind = config.activation_or("hidden_act", crate::weights::Activation::Silu)?;
    let model = Llama {
        feed_forward: parameters.biased(mlp),
        sizes,
        inner: config.usize_field("intermediate_size", 1..=MOST)?,
        norm: norm(sizes.hidden_size),
        attention: GroupedAttention {
            qkv: parameters.biased(qkv),
            out: parameters.biased(out),
            head_norm: (variant == Variant::Qwen3).then(|| norm(grouped.head_dim)),
            sizes: grouped,
        },
        rope,
        positions: sizes.positions(options),
        windows: layer_windows(config, variant, sizes.n_layers)?,
        activation: activation(kind),
        parameters,
    };
    decoder::build(files, options, sizes, &model)
}

/// How many tokens each layer sees: all of Mistral's layers slide if it has a window, Qwen's
/// from `max_window_layers` on if `use_sliding_window` says so.
fn layer_windows(config: &Config, variant: Variant, n_layers: usize) -> Result<Vec<Option<usize>>> {
    match variant {
        Variant::Mistral => {
            refuse(config, &["attention_bias", "mlp_bias"])?;
            // Only a `null` takes the window away.
            let window = match config.opt_usize("sliding_window", 1..=MOST)? {
                None if !config.states("sliding_window") => Some(4096),
                found => found,
            };
            windows(config, n_layers, window, |_| window.is_some())
        }
        Variant::Qwen2 | Variant::Qwen3 => {
            refuse(config, &["mlp_bias"])?;
            let window = match config.bool_or("use_sliding_window", false)? {
                true => Some(config.usize_or("sliding_window", 4096, 1..=MOST)?),
                false => None,
            };
            let first = config.usize_or("max_window_layers", 28, 0..=MOST)?;
            windows(config, n_layers, window, |layer| window.is_some() && layer >= first)
        }
        Variant::Llama => {
            refuse(config, &["sliding_window", "use_sliding_window"])?;
            windows(config, n_layers, None, |_| false)
        }
    }
}

impl Decoder for Llama {
    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, hidden_size, .. } = self.sizes;
        let words = table(graph, &self.parameters, TABLES[1], vocab_size, hidden_size)?;
        sequence.embed(graph, ids, words, None, 1.0)
    }

    fn layer(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        layer: usize,
        x: Value,
    ) -> Result<Value> {
        let at = format!("layers.{layer}");
        let name = |part: &str| format!("{at}.{part}");
        let p = &self.parameters;
        graph.enter(at.clone());
        let h = self.norm.apply(graph, p, &name("input_layernorm"), x)?;
        let mut attend = self.attention.attend(graph, &self.rope, self.positions)?;
        attend.window = self.windows[layer];
        let out = self.attention.apply(graph, sequence, &attend, &at, h)?;
        let x = add(graph, out, x)?;

        let h = self.norm.apply(graph, p, &name("post_attention_layernorm"), x)?;
        let names = ["gate", "up", "down"].map(|part| name(&format!("mlp.{part}_proj")));
        let names = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
        let sizes = [self.sizes.hidden_size, self.inner];
        let out = gated_feed_forward(graph, &self.feed_forward, names, h, sizes, self.activation)?;
        let x = add(graph, out, x)?;
        graph.leave();
        Ok(x)
    }

    fn finish(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        self.norm.apply(graph, &self.parameters, "norm", x)
    }

    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let dims = [self.sizes.vocab_size, self.sizes.hidden_size];
        output_head(graph, &self.parameters, TABLES[0], dims, x)
    }
}
