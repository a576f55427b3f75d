//! The transformer of 2017 (Vaswani et al., "Attention Is All You Need") as torch's
//! `nn.Transformer` builds it, between embeddings with a sinusoidal encoding and a linear
//! generator. Attention tensors are torch's fused ones: query, key and value rows in turn.

use std::ops::Range;

use super::frame::seq2seq::{self, Sizes, Stacks};
use super::frame::sizes::{MOST, output_head};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{
    Attend, Heads, Memory, Norm, NormKind, Parameters, Sequence, activation, add, feed_forward,
    linear, sinusoid, table,
};
use crate::ops::{Activation, Matmul, Sinusoid};
use crate::weights;

pub(super) const FAMILY: Family = Family { model_type: "vaswani2017", build };

struct Vaswani {
    parameters: Parameters,
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
    let d_model = config.usize_field("d_model", 1..=MOST)?;
    let n_heads = config.usize_field("nhead", 1..=MOST)?;
    config.check_divides("d_model", d_model, "nhead", n_heads)?;
    let field = "positional_encoding";
    let interleaved = "sinusoidal_interleaved";
    if let Some(kind) = config.opt_str(field)?.filter(|kind| *kind != interleaved) {
        return Err(config.error(field, format!("`{kind}`"), format!("`{interleaved}`")));
    }
    let kind = config.activation_or("activation", weights::Activation::Relu)?;
    let max_tokens = config.usize_field("max_len", 1..=MOST)?;
    let scaled = config.bool_or("scale_embedding", true)?;
    let tied = config.bool_or("tie_embeddings", true)?;
    let model = Vaswani {
        parameters: Parameters::new(&files.checkpoints, &[], options.dtype)
            .biased(true)
            .tie(tied, [OUTPUT, SOURCE]),
        norm: Norm {
            width: d_model,
            eps: config.eps("layer_norm_eps", 1e-5)?,
            kind: NormKind::Layer,
        },
        attend: Attend::new(n_heads, d_model / n_heads),
        vocab_size: config.usize_field("vocab_size", 1..=MOST)?,
        positions: options.max_tokens.map_or(max_tokens, |most| most.clamp(1, max_tokens)),
        n_layers: config.usize_field("num_encoder_layers", 1..=4096)?,
        n_decoder_layers: config.usize_field("num_decoder_layers", 1..=4096)?,
        inner: config.usize_field("dim_feedforward", 1..=MOST)?,
        activation: activation(kind),
        norm_first: config.bool_or("norm_first", false)?,
        final_norm: config.bool_or("final_norm", true)?,
        tied,
        generator_bias: config.bool_or("generator_bias", false)?,
        scale: if scaled { (d_model as f64).sqrt() as f32 } else { 1.0 },
    };
    let size = DecoderInfo { vocab_size: model.vocab_size, max_tokens };
    let (n_layers, hidden_size) = (model.n_layers, d_model);
    let sizes = Sizes { encoder: size, decoder: size, hidden_size, n_layers, n_heads };
    seq2seq::build(&model, config, options, sizes)
}

impl Vaswani {
    /// Some of the three projections of the attention `name`, side by side: `range` counts in
    /// query, key, value.
    fn project(
        &self,
        graph: &mut Graph,
        name: &str,
        range: Range<usize>,
        x: Value,
    ) -> Result<Value> {
        let width = self.norm.width;
        let rows = range.start * width..range.end * width;
        let weight =
            self.parameters.matrix(&format!("{name}.in_proj_weight"), &[3 * width, width])?;
        let bias = self.parameters.vector(&format!("{name}.in_proj_bias"), &[3 * width])?;
        let weight = graph.weight(weight.rows(rows.clone())?);
        let bias = graph.weight(bias.rows(rows)?);
        let y = graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])?;
        add(graph, y, bias)
    }

    /// Hidden states of one stack, `encoder` or `decoder`; the latter attends to `memory` too.
    fn stack(
        &self,
        graph: &mut Graph,
        stack: &str,
        ids: Value,
        sequence: &Sequence,
        memory: Option<&Memory>,
    ) -> Result<Vec<Value>> {
        let (p, width) = (&self.parameters, self.norm.width);
        graph.enter(format!("{stack}.embed"));
        let own = if memory.is_some() && !self.tied { TARGET } else { SOURCE };
        let words = table(graph, p, own, self.vocab_size, width)?;
        let positions = sinusoid(graph, self.positions, width, Sinusoid::Interleaved)?;
        let x = sequence.embed(graph, ids, words, Some(positions), self.scale)?;
        graph.leave();
        let n_layers = if memory.is_some() { self.n_decoder_layers } else { self.n_layers };
        let mut states = vec![x];
        for layer in 0..n_layers {
            let at = layer_name(stack, layer);
            graph.enter(at.clone());
            states.push(self.layer(graph, &at, states[layer], sequence, memory)?);
            graph.leave();
        }
        if self.final_norm {
            let name = format!("transformer.{stack}.norm");
            graph.enter(name.clone());
            states[n_layers] = self.norm.apply(graph, p, &name, states[n_layers])?;
            graph.leave();
        }
        Ok(states)
    }

    fn layer(
        &self,
        graph: &mut Graph,
        at: &str,
        x: Value,
        sequence: &Sequence,
        memory: Option<&Memory>,
    ) -> Result<Value> {
        let (p, norm, width) = (&self.parameters, self.norm, self.norm.width);
        let first = self.norm_first;
        let name = |part: &str| format!("{at}.{part}");

        let attend = Attend { causal: memory.is_some(), ..self.attend.clone() };
        let mut x = norm.around(graph, p, &name("norm1"), first, x, |graph, h| {
            let value = self.project(graph, &name("self_attn"), 0..3, h)?;
            let qkv = [0, 1, 2].map(|i| Heads { value, column: i * width });
            let h = attend.to_self(graph, sequence, at, qkv)?;
            linear(graph, p, &name("self_attn.out_proj"), h, width, width)
        })?;
        if let Some(memory) = memory {
            x = norm.around(graph, p, &name("norm2"), first, x, |graph, h| {
                let q = self.project(graph, &name("multihead_attn"), 0..1, h)?.into();
                let keys = |graph: &mut Graph, memory| self.cross_keys(graph, at, memory);
                let h = memory.attend(graph, &self.attend, at, q, keys)?;
                linear(graph, p, &name("multihead_attn.out_proj"), h, width, width)
            })?;
        }
        let last = if memory.is_some() { "norm3" } else { "norm2" };
        norm.around(graph, p, &name(last), first, x, |graph, h| {
            let names = [name("linear1"), name("linear2")];
            let names = names.each_ref().map(String::as_str);
            feed_forward(graph, p, names, h, [width, self.inner], self.activation)
        })
    }
}

/// Checkpoint names of the word tables.
const OUTPUT: &str = "generator.weight";
const SOURCE: &str = "src_embed.weight";
const TARGET: &str = "tgt_embed.weight";

fn layer_name(stack: &str, layer: usize) -> String {
    format!("transformer.{stack}.layers.{layer}")
}

impl Stacks for Vaswani {
    fn encode(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Vec<Value>> {
        self.stack(graph, "encoder", ids, sequence, None)
    }

    fn decoder_layers(&self) -> Vec<String> {
        (0..self.n_decoder_layers).map(|layer| layer_name("decoder", layer)).collect()
    }

    fn cross(&self) -> Attend {
        self.attend.clone()
    }

    fn cross_keys(&self, graph: &mut Graph, layer: &str, memory: Value) -> Result<[Heads; 2]> {
        let value = self.project(graph, &format!("{layer}.multihead_attn"), 1..3, memory)?;
        Ok([0, 1].map(|i| Heads { value, column: i * self.norm.width }))
    }

    fn decode(
        &self,
        graph: &mut Graph,
        ids: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Vec<Value>> {
        self.stack(graph, "decoder", ids, sequence, Some(memory))
    }

    fn head(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("generator");
        let (p, sizes) = (&self.parameters, [self.vocab_size, self.norm.width]);
        let mut logits = output_head(graph, p, OUTPUT, sizes, last)?;
        if self.generator_bias {
            let bias = graph.weight(p.vector("generator.bias", &[self.vocab_size])?);
            logits = add(graph, logits, bias)?;
        }
        graph.leave();
        Ok(logits)
    }
}
