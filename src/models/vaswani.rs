//! The transformer of 2017 (Vaswani et al., "Attention Is All You Need") as torch's
//! `nn.Transformer` builds it, between embeddings with a sinusoidal encoding and a linear
//! generator. Attention tensors are torch's fused ones: query, key and value rows in turn.

use std::ops::Range;

use super::frame::seq2seq::{self, Seen, Side, StackSizes, Stacks};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence, sinusoid};
use crate::ops::{Activation, Sinusoid};

pub(super) const FAMILY: Family = Family { model_type: "vaswani2017", build };

struct Vaswani {
    norm: Norm,
    attend: Attend,
    vocab_size: usize,
    /// Rows of the position table.
    positions: usize,
    n_layers: usize,
    n_decoder_layers: usize,
    inner: usize,
    activation: Activation,
    norm_first: bool,
    final_norm: bool,
    tied: bool,
    generator_bias: bool,
    scale: f32,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let d_model = config.size("d_model")?;
    let n_heads = config.size("nhead")?;
    config.check_divides("d_model", d_model, "nhead", n_heads)?;
    let field = "positional_encoding";
    let interleaved = "sinusoidal_interleaved";
    if let Some(kind) = config.opt_str(field)?.filter(|kind| *kind != interleaved) {
        return Err(config.error(field, format!("`{kind}`"), format!("`{interleaved}`")));
    }
    let activation = config.activation_or("activation", Activation::Relu)?;
    let max_tokens = config.size("max_len")?;
    let scaled = config.bool_or("scale_embedding", true)?;
    let tied = config.bool_or("tie_embeddings", true)?;
    let parameters = Parameters::new(&files.checkpoints, &[], options.dtype).biased(true);
    let parameters = parameters.tie(tied, [OUTPUT, SOURCE]);
    let model = Vaswani {
        norm: Norm {
            width: d_model,
            eps: config.eps("layer_norm_eps", 1e-5)?,
            kind: NormKind::Layer,
        },
        attend: Attend::new(n_heads, d_model / n_heads),
        vocab_size: config.size("vocab_size")?,
        positions: options.positions(max_tokens),
        n_layers: config.layers("num_encoder_layers")?,
        n_decoder_layers: config.layers("num_decoder_layers")?,
        inner: config.size("dim_feedforward")?,
        activation,
        norm_first: config.bool_or("norm_first", false)?,
        final_norm: config.bool_or("final_norm", true)?,
        tied,
        generator_bias: config.bool_or("generator_bias", false)?,
        scale: if scaled { (d_model as f64).sqrt() as f32 } else { 1.0 },
    };
    let size = DecoderInfo { vocab_size: model.vocab_size, max_tokens };
    let (n_layers, hidden_size) = (model.n_layers, d_model);
    let sizes = StackSizes { encoder: size, decoder: size, hidden_size, n_layers, n_heads };
    seq2seq::build(files, options, &parameters, sizes, &model)
}

impl Vaswani {
    /// Some of the three projections of the attention `name`, side by side: `range` counts in
    /// query, key, value.
    fn project(&self, at: &mut Scope, name: &str, range: Range<usize>, x: Value) -> Result<Value> {
        let width = self.norm.width;
        let rows = range.start * width..range.end * width;
        let (name, p) = (at.name(name), at.parameters());
        let weight = p.matrix(&format!("{name}.in_proj_weight"), &[3 * width, width])?;
        let bias = p.vector(&format!("{name}.in_proj_bias"), &[3 * width])?;
        at.project(x, weight.rows(rows.clone())?, Some(bias.rows(rows)?))
    }
}

/// Checkpoint names of the word tables.
const OUTPUT: &str = "generator.weight";
const SOURCE: &str = "src_embed.weight";
const TARGET: &str = "tgt_embed.weight";

impl Stacks for Vaswani {
    fn n_layers(&self, side: Side) -> usize {
        match side {
            Side::Encoder => self.n_layers,
            Side::Decoder => self.n_decoder_layers,
        }
    }

    fn embed(&self, at: &mut Scope, side: Side, ids: Value, sequence: &Sequence) -> Result<Value> {
        at.group(&format!("{side}.embed"), |at| {
            let own = if side == Side::Decoder && !self.tied { TARGET } else { SOURCE };
            let words = at.table(own, self.vocab_size, self.norm.width)?;
            let positions = sinusoid(at, self.positions, self.norm.width, Sinusoid::Interleaved)?;
            sequence.embed(at, ids, words, Some(positions), self.scale)
        })
    }

    fn layer_name(&self, side: Side, layer: usize) -> String {
        format!("transformer.{side}.layers.{layer}")
    }

    fn layer(&self, at: &mut Scope, seen: Seen, x: Value) -> Result<Value> {
        let Seen { side, sequence, memory } = seen;
        let (norm, width) = (self.norm, self.norm.width);
        let first = self.norm_first;
        let attend = Attend { causal: side == Side::Decoder, ..self.attend.clone() };
        let mut x = at.residual("norm1", norm, first, x, |at, h| {
            let packed = self.project(at, "self_attn", 0..3, h)?;
            let h = attend.to_self(at, sequence, Heads::packed(packed, width))?;
            at.linear("self_attn.out_proj", h, width)
        })?;
        if let Some(memory) = memory {
            x = at.residual("norm2", norm, first, x, |at, h| {
                let q = self.project(at, "multihead_attn", 0..1, h)?.into();
                let keys = |at: &mut Scope, memory| self.cross_keys(at, memory);
                let h = memory.attend(at, &self.attend, q, keys)?;
                at.linear("multihead_attn.out_proj", h, width)
            })?;
        }
        let last = if memory.is_some() { "norm3" } else { "norm2" };
        at.residual(last, norm, first, x, |at, h| {
            at.feed_forward(["linear1", "linear2"], h, self.inner, self.activation)
        })
    }

    fn finish(&self, at: &mut Scope, side: Side, x: Value) -> Result<Value> {
        match self.final_norm {
            true => at.layer(&format!("transformer.{side}.norm"), |at| at.norm("", self.norm, x)),
            false => Ok(x),
        }
    }

    fn cross(&self) -> Attend {
        self.attend.clone()
    }

    fn cross_keys(&self, at: &mut Scope, memory: Value) -> Result<[Heads; 2]> {
        let packed = self.project(at, "multihead_attn", 1..3, memory)?;
        Ok(Heads::packed(packed, self.norm.width))
    }

    fn head(&self, at: &mut Scope, last: Value) -> Result<Value> {
        at.group("generator", |at| {
            let logits = at.output(OUTPUT, last, self.vocab_size)?;
            if !self.generator_bias {
                return Ok(logits);
            }
            let bias = at.vector("generator.bias", &[self.vocab_size])?;
            at.add(logits, bias)
        })
    }
}
