//! OPT (Zhang et al. 2022): decoder with learned positions, pre-norm or post-norm, under the
//! tensor names of Hugging Face's `OPTForCausalLM`, with or without the `model.decoder.` prefix.

use super::frame::decoder::{self, Decoder};
use super::frame::sizes::{MOST, SIZE_NAMES, Sizes, TABLES, output_head};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{
    Attend, Norm, NormKind, Parameters, Sequence, activation, add, feed_forward, linear, table,
};
use crate::ops::{Activation, LayerNorm, PaddedPositions};

pub(super) const FAMILY: Family = Family { model_type: "opt", build };

struct Opt {
    /// Linear layers, with biases or without.
    parameters: Parameters,
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
    let kind = config.activation_or("activation_function", crate::weights::Activation::Relu)?;
    let pre_norm = config.bool_or("do_layer_norm_before", true)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let prefixes = &["model.decoder.", "decoder."];
    let parameters = Parameters::new(&files.checkpoints, prefixes, options.dtype)
        .biased(config.bool_or("enable_bias", true)?);
    let model = Opt {
        parameters: parameters.tie(tied, TABLES),
        sizes,
        word_width: config.usize_or("word_embed_proj_dim", hidden_size, 1..=MOST)?,
        inner: config.usize_field("ffn_dim", 1..=MOST)?,
        norm: Norm { width: hidden_size, eps: 1e-5, kind: NormKind::Layer },
        affine: config.bool_or("layer_norm_elementwise_affine", true)?,
        pre_norm,
        final_norm: pre_norm && !config.bool_or("_remove_final_layer_norm", false)?,
        activation: activation(kind),
    };
    decoder::build(files, options, sizes, &model)
}

impl Opt {
    fn norm(&self, graph: &mut Graph, name: &str, x: Value) -> Result<Value> {
        if self.affine {
            return self.norm.apply(graph, &self.parameters.biased(true), name, x);
        }
        let op = LayerNorm { eps: self.norm.eps, with_sum: false };
        graph.apply(op, [Some(x), None, None, None])
    }

    /// Between the word table's width and the hidden size, where they differ.
    fn project(
        &self,
        graph: &mut Graph,
        name: &str,
        x: Value,
        [n_in, n_out]: [usize; 2],
    ) -> Result<Value> {
        if n_in == n_out {
            return Ok(x);
        }
        linear(graph, &self.parameters.biased(false), name, x, n_in, n_out)
    }
}

impl Decoder for Opt {
    /// Of the two rows that a position table has in front, the first is never read.
    const BASE: usize = 1;

    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, max_tokens, hidden_size: width, .. } = self.sizes;
        let p = &self.parameters;
        let words = table(graph, p, TABLES[1], vocab_size, self.word_width)?;
        let rows = p.matrix("embed_positions.weight", &[max_tokens + 2, width])?;
        let positions = graph.weight(rows.rows(1..max_tokens + 2)?);
        // Counted from 1, without padding wherever it stands.
        let counted = match (sequence.positions, sequence.mask) {
            (None, Some(mask)) => Some(graph.apply(PaddedPositions { pad: 0 }, [Some(mask)])?),
            (given, _) => given,
        };
        let sequence = Sequence { positions: counted, ..sequence.clone() };
        if self.word_width == width {
            return sequence.embed(graph, ids, words, Some(positions), 1.0);
        }
        let words = sequence.embed(graph, ids, words, None, 1.0)?;
        let words = self.project(graph, "project_in", words, [self.word_width, width])?;
        let positions = sequence.embed_positions(graph, ids, positions)?;
        add(graph, words, positions)
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
        let Sizes { hidden_size: width, n_heads, .. } = self.sizes;
        let p = &self.parameters;
        // Each block has one norm, of its input or of its result.
        let before = |graph: &mut Graph, norm: &str, x| match self.pre_norm {
            true => self.norm(graph, &name(norm), x),
            false => Ok(x),
        };
        let after = |graph: &mut Graph, norm: &str, x| match self.pre_norm {
            true => Ok(x),
            false => self.norm(graph, &name(norm), x),
        };
        graph.enter(at.clone());
        let h = before(graph, "self_attn_layer_norm", x)?;
        let mut project = |part: &str| {
            linear(graph, p, &name(&format!("self_attn.{part}_proj")), h, width, width)
        };
        let qkv = [project("q")?.into(), project("k")?.into(), project("v")?.into()];
        let attend = Attend { causal: true, ..Attend::new(n_heads, width / n_heads) };
        let context = attend.to_self(graph, sequence, &at, qkv)?;
        let out = linear(graph, p, &name("self_attn.out_proj"), context, width, width)?;
        let x = add(graph, out, x)?;
        let x = after(graph, "self_attn_layer_norm", x)?;

        let h = before(graph, "final_layer_norm", x)?;
        let names = [name("fc1"), name("fc2")];
        let names = [names[0].as_str(), names[1].as_str()];
        let out = feed_forward(graph, p, names, h, [width, self.inner], self.activation)?;
        let x = add(graph, out, x)?;
        let x = after(graph, "final_layer_norm", x)?;
        graph.leave();
        Ok(x)
    }

    fn finish(&self, graph: &mut Graph, mut x: Value) -> Result<Value> {
        if self.final_norm {
            x = self.norm(graph, "final_layer_norm", x)?;
        }
        self.project(graph, "project_out", x, [self.sizes.hidden_size, self.word_width])
    }

    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let dims = [self.sizes.vocab_size, self.word_width];
        output_head(graph, &self.parameters, TABLES[0], dims, x)
    }
}
