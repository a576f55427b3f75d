//! OPT (Zhang et al. 2022): decoder with learned positions, pre-norm or post-norm, under the
//! tensor names of Hugging Face's `OPTForCausalLM`, with or without the `model.decoder.` prefix.

use super::frame::decoder::{self, Decoder, TABLES};
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::{Activation, LayerNorm, PaddedPositions};

pub(super) const FAMILY: Family = Family { model_type: "opt", build };

struct Opt {
    sizes: Sizes,
    /// Width of the word table.
    word_width: usize,
    inner: usize,
    norm: Norm,
    /// Whether norms have weights and biases.
    affine: bool,
    /// Whether norms stand before the blocks.
    pre_norm: bool,
    /// Whether a norm follows the last layer.
    final_norm: bool,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let Sizes { hidden_size, n_heads, .. } = sizes;
    config.check_divides("hidden_size", hidden_size, "num_attention_heads", n_heads)?;
    let activation = config.activation_or("activation_function", Activation::Relu)?;
    let pre_norm = config.bool_or("do_layer_norm_before", true)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let prefixes = &["model.decoder.", "decoder."];
    let parameters = Parameters::new(&files.checkpoints, prefixes, options.dtype)
        .biased(config.bool_or("enable_bias", true)?);
    let model = Opt {
        sizes,
        word_width: config.size_or("word_embed_proj_dim", hidden_size)?,
        inner: config.size("ffn_dim")?,
        norm: Norm { width: hidden_size, eps: 1e-5, kind: NormKind::Layer },
        affine: config.bool_or("layer_norm_elementwise_affine", true)?,
        pre_norm,
        final_norm: pre_norm && !config.bool_or("_remove_final_layer_norm", false)?,
        activation,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Opt {
    fn norm(&self, at: &mut Scope, name: &str, x: Value) -> Result<Value> {
        if self.affine {
            // Whether or not the linear layers have biases.
            return at.scope("").biased(true).norm(name, self.norm, x);
        }
        let op = LayerNorm { eps: self.norm.eps, with_sum: false };
        at.apply(op, [Some(x), None, None, None])
    }

    /// Between the word table's width and the hidden size, where they differ.
    fn project(&self, at: &mut Scope, name: &str, x: Value, n_out: usize) -> Result<Value> {
        if self.word_width == self.sizes.hidden_size {
            return Ok(x);
        }
        at.scope("").biased(false).linear(name, x, n_out)
    }

    /// A part of a layer with its residual connection and its one norm, of its input or of its
    /// result.
    fn block(
        &self,
        at: &mut Scope,
        norm: &str,
        x: Value,
        part: impl FnOnce(&mut Scope, Value) -> Result<Value>,
    ) -> Result<Value> {
        let h = if self.pre_norm { self.norm(at, norm, x)? } else { x };
        let out = part(at, h)?;
        let x = at.add(out, x)?;
        if self.pre_norm { Ok(x) } else { self.norm(at, norm, x) }
    }
}

impl Decoder for Opt {
    /// Of the two rows that a position table has in front, the first is never read.
    const BASE: usize = 1;

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn embed(&self, at: &mut Scope, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, max_tokens, hidden_size: width, .. } = self.sizes;
        let words = at.table(TABLES[1], vocab_size, self.word_width)?;
        let rows = at.parameters().matrix("embed_positions.weight", &[max_tokens + 2, width])?;
        let positions = at.weight(rows.rows(1..max_tokens + 2)?);
        // Counted from 1, without padding wherever it stands.
        let counted = match (sequence.positions, sequence.mask) {
            (None, Some(mask)) => Some(at.apply(PaddedPositions { pad: 0 }, [Some(mask)])?),
            (given, _) => given,
        };
        let sequence = Sequence { positions: counted, ..sequence.clone() };
        if self.word_width == width {
            return sequence.embed(at, ids, words, Some(positions), 1.0);
        }
        let words = sequence.embed(at, ids, words, None, 1.0)?;
        let words = self.project(at, "project_in", words, width)?;
        let positions = sequence.embed_positions(at, ids, positions)?;
        at.add(words, positions)
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let Sizes { hidden_size: width, n_heads, .. } = self.sizes;
        let attend = Attend { causal: true, ..Attend::new(n_heads, width / n_heads) };
        let x = self.block(at, "self_attn_layer_norm", x, |at, h| {
            let mut at = at.scope("self_attn");
            let qkv = at.qkv(["q_proj", "k_proj", "v_proj"], h, width)?;
            let context = attend.to_self(&mut at, sequence, qkv)?;
            at.linear("out_proj", context, width)
        })?;
        self.block(at, "final_layer_norm", x, |at, h| {
            at.feed_forward(["fc1", "fc2"], h, self.inner, self.activation)
        })
    }

    fn finish(&self, at: &mut Scope, mut x: Value) -> Result<Value> {
        if self.final_norm {
            x = self.norm(at, "final_layer_norm", x)?;
        }
        self.project(at, "project_out", x, self.word_width)
    }
}
