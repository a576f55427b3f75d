//! GPT-2: pre-norm decoder with learned positions (Radford et al. 2019), under the tensor
//! names of Hugging Face's `GPT2LMHeadModel`, with or without the `transformer.` prefix.
//! Projections are stored `[n_in, n_out]` ("Conv1D").

use super::frame::decoder::{self, Decoder};
use super::frame::sizes::Sizes;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "gpt2", build };

struct Gpt2 {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    activation: Activation,
    /// Whether scores are divided by `sqrt(head_dim)`.
    scaled: bool,
    /// Whether scores are also divided by the layer's number, from 1.
    scaled_by_layer: bool,
}

/// The output matrix and the word table.
const TABLES: [&str; 2] = ["lm_head.weight", "wte.weight"];

const SIZE_NAMES: [&str; 5] = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"];

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    config.check_divides("n_embd", sizes.hidden_size, "n_head", sizes.n_heads)?;
    check_features(config)?;
    let activation = config.activation_or("activation_function", Activation::GeluTanh)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let parameters =
        Parameters::new(&files.checkpoints, &["transformer."], options.dtype).biased(true);
    let model = Gpt2 {
        sizes,
        inner: config.size_or("n_inner", 4 * sizes.hidden_size)?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("layer_norm_epsilon", 1e-5)?,
            kind: NormKind::Layer,
        },
        activation,
        scaled: config.bool_or("scale_attn_weights", true)?,
        scaled_by_layer: config.bool_or("scale_attn_by_inverse_layer_idx", false)?,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

/// `reorder_and_upcast_attn` only says in which precision scores are computed; they are f32 here.
fn check_features(config: &Config) -> Result<()> {
    if config.bool_or("add_cross_attention", false)? {
        let expected = "false: a decoder that stands alone";
        return Err(config.error("add_cross_attention", true, expected));
    }
    if let Some(name) = config.architectures()?.iter().find(|n| n.contains("DoubleHeads")) {
        let expected = "GPT2LMHeadModel or GPT2Model";
        return Err(config.error("architectures", format!("`{name}`"), expected));
    }
    Ok(())
}

/// `x weight + bias` with a weight stored `[n_in, n_out]`.
fn conv1d(at: &mut Scope, name: &str, x: Value, n_out: usize) -> Result<Value> {
    let (name, n_in) = (at.name(name), at.width(x)?);
    let weight = at.parameters().transposed(&format!("{name}.weight"), [n_in, n_out])?;
    let bias = at.parameters().bias(&name, n_out)?;
    at.project(x, weight, bias)
}

impl Decoder for Gpt2 {
    const TABLES: [&str; 2] = TABLES;
    const POSITIONS: Option<&'static str> = Some("wpe.weight");

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer_name(&self, layer: usize) -> String {
        format!("h.{layer}")
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let Sizes { hidden_size: width, n_heads, .. } = self.sizes;
        let h = at.norm("ln_1", self.norm, x)?;
        let packed = conv1d(at, "attn.c_attn", h, 3 * width)?;
        let mut attend = Attend { causal: true, ..Attend::new(n_heads, width / n_heads) };
        if !self.scaled {
            attend.scale = 1.0;
        }
        if self.scaled_by_layer {
            attend.scale /= (layer + 1) as f32;
        }
        let context = attend.to_self(at, sequence, Heads::packed(packed, width))?;
        let out = conv1d(at, "attn.c_proj", context, width)?;
        let x = at.add(out, x)?;

        let h = at.norm("ln_2", self.norm, x)?;
        let h = conv1d(at, "mlp.c_fc", h, self.inner)?;
        let h = at.activate(self.activation, h)?;
        let out = conv1d(at, "mlp.c_proj", h, width)?;
        at.add(out, x)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("ln_f", self.norm, x)
    }
}
