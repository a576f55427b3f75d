//! Gemma 2 (Gemma Team 2024) and the text model of Gemma 3 (Gemma Team 2025): decoders with
//! norms before and after every block, layers that slide between layers that see everything,
//! soft caps (Gemma 2) and norms of single heads (Gemma 3), under the tensor names of Hugging
//! Face's `Gemma2ForCausalLM`, with or without the `model.` prefix.

use super::frame::decoder::{self, Decoder};
use super::frame::grouped::{GroupedAttention, GroupedSizes, windows};
use super::frame::rope::{FULL, RopeConfig, SLIDING};
use super::frame::sizes::{MOST, SIZE_NAMES, Sizes, TABLES, output_head, refuse};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Norm, NormKind, Parameters, Sequence, activation, add, gated_feed_forward, table};
use crate::ops::{Activation, Scale};
use crate::weights::Config;

pub(super) const GEMMA2: Family =
    Family { model_type: "gemma2", build: |files, options| build(files, options, Variant::Gemma2) };
pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    build: |files, options| build(files, options, Variant::Gemma3),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Gemma2,
    Gemma3,
}

struct Gemma {
    parameters: Parameters,
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
    refuse(config, &["use_bidirectional_attention"])?;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let defaults = [("num_key_value_heads", 4), ("head_dim", 256)];
    let grouped = GroupedSizes::read(config, &sizes, &defaults)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    // Biases are asked of the projections alone: there is no other layer that could have one.
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype)
        .biased(config.bool_or("attention_bias", false)?);
    let parameters = parameters.tie(tied, TABLES);
    let eps = config.eps("rms_norm_eps", 1e-6)?;
    let norm = |width| Norm { width, eps, kind: NormKind::RmsUnitOffset };
    let kind = config.activation_or("hidden_activation", crate::weights::Activation::GeluTanh)?;
    // Gemma 2 has caps unless a `null` takes them away; Gemma 3 has none.
    let cap = |field: &str, default: f32| match config.opt_f32(field, 1e-3..=1e6)? {
        None if variant == Variant::Gemma2 && !config.states(field) => Ok(Some(default)),
        found => Ok(found),
    };
    let (attention_cap, ropes) = match variant {
        Variant::Gemma2 => {
            let fields = ["rope_theta", "partial_rotary_factor"];
            (cap("attn_logit_softcapping", 50.0)?, [RopeConfig::read(config, fields, 1e4, 1.0)?; 2])
        }
        Variant::Gemma3 => {
            refuse(config, &["attn_logit_softcapping"])?;
            let full = RopeConfig::of_kind(config, FULL, "rope_theta", 1e6)?;
            let sliding = RopeConfig::of_kind(config, SLIDING, "rope_local_base_freq", 1e4)?;
            (None, [full, sliding])
        }
    };
    for rope in ropes {
        rope.check_whole(config)?;
    }
    let query_scalar = config.f32_or("query_pre_attn_scalar", 256.0, 1e-6..=1e9)?;
    let model = Gemma {
        sizes,
        inner: config.usize_field("intermediate_size", 1..=MOST)?,
        norm: norm(sizes.hidden_size),
        attention: GroupedAttention {
            qkv: parameters.clone(),
            out: parameters.clone(),
            head_norm: (variant == Variant::Gemma3).then(|| norm(grouped.head_dim)),
            sizes: grouped,
        },
        scale: f64::from(query_scalar).sqrt().recip() as f32,
        ropes,
        positions: sizes.positions(options),
        windows: layer_windows(config, variant, sizes.n_layers)?,
        attention_cap,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        activation: activation(kind),
        parameters: parameters.biased(false),
    };
    decoder::build(files, options, sizes, &model)
}

/// How many tokens each layer sees. Unless `layer_types` says otherwise, every second layer of
/// Gemma 2 slides, the first one too, and all but every sixth of Gemma 3.
fn layer_windows(config: &Config, variant: Variant, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = config.usize_or("sliding_window", 4096, 1..=MOST)?;
    let pattern = match variant {
        Variant::Gemma2 => 2,
        Variant::Gemma3 => {
            let names = ["sliding_window_pattern", "_sliding_window_pattern"];
            let name = if config.get(names[0]).is_some() { names[0] } else { names[1] };
            config.usize_or(name, 6, 1..=MOST)?
        }
    };
    windows(config, n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(pattern))
}

impl Decoder for Gemma {
    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, hidden_size, .. } = self.sizes;
        let words = table(graph, &self.parameters, TABLES[1], vocab_size, hidden_size)?;
        sequence.embed(graph, ids, words, None, (hidden_size as f64).sqrt() as f32)
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
        let window = self.windows[layer];
        let rope = &self.ropes[usize::from(window.is_some())];
        let mut attend = self.attention.attend(graph, rope, self.positions)?;
        (attend.window, attend.softcap, attend.scale) = (window, self.attention_cap, self.scale);
        let h = self.norm.apply(graph, p, &name("input_layernorm"), x)?;
        let out = self.attention.apply(graph, sequence, &attend, &at, h)?;
        let out = self.norm.apply(graph, p, &name("post_attention_layernorm"), out)?;
        let x = add(graph, out, x)?;

        let h = self.norm.apply(graph, p, &name("pre_feedforward_layernorm"), x)?;
        let names = ["gate", "up", "down"].map(|part| name(&format!("mlp.{part}_proj")));
        let names = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
        let sizes = [self.sizes.hidden_size, self.inner];
        let out = gated_feed_forward(graph, p, names, h, sizes, self.activation)?;
        let out = self.norm.apply(graph, p, &name("post_feedforward_layernorm"), out)?;
        let x = add(graph, out, x)?;
        graph.leave();
        Ok(x)
    }

    fn finish(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        self.norm.apply(graph, &self.parameters, "norm", x)
    }

    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let dims = [self.sizes.vocab_size, self.sizes.hidden_size];
        let logits = output_head(graph, &self.parameters, TABLES[0], dims, x)?;
        match self.logit_cap {
            None => Ok(logits),
            cap => graph.apply(Scale { scale: 1.0, cap }, [Some(logits)]),
        }
    }
}
