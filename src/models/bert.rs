//! BERT: post-norm encoder with learned positions and segments (Devlin et al. 2018), under
//! the tensor names of Hugging Face's `BertModel`, with or without the `bert.` prefix and
//! with `gamma`/`beta` for norm weights in old exports.

use super::outputs::hidden_states;
use super::{BuildOptions, Class, Family, Files, Kind, Model, ModelInfo, Outputs};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{
    Attend, Norm, NormKind, Parameters, Sequence, activation, add, feed_forward, linear, table,
};
use crate::ops::{Activate, Activation, Embedding, L2Normalize, Pool};
use crate::tensor::{Dim, SymMeta};
use crate::weights::{Config, Pooling};

pub(super) const FAMILY: Family = Family { model_type: "bert", build };

struct Bert {
    parameters: Parameters,
    norm: Norm,
    vocab_size: usize,
    max_tokens: usize,
    type_vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    n_layers: usize,
    n_heads: usize,
    activation: Activation,
}

/// Sizes beyond these are typing errors, not models.
const MOST: usize = 1 << 24;

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let hidden_size = config.usize_field("hidden_size", 1..=MOST)?;
    let n_heads = config.usize_field("num_attention_heads", 1..=MOST)?;
    config.check_divides("hidden_size", hidden_size, "num_attention_heads", n_heads)?;
    if let Some(kind) = config.opt_str("position_embedding_type")?.filter(|k| *k != "absolute") {
        return Err(config.error("position_embedding_type", kind, "`absolute`"));
    }
    if config.bool_or("is_decoder", false)? {
        return Err(config.error("is_decoder", true, "false: this is an encoder"));
    }
    let kind = config.activation_or("hidden_act", crate::weights::Activation::GeluErf)?;
    let bert = Bert {
        parameters: Parameters::new(&files.checkpoints, &["bert."], options.dtype),
        norm: Norm {
            width: hidden_size,
            eps: config.eps("layer_norm_eps", 1e-12)?,
            kind: NormKind::Layer,
        },
        vocab_size: config.usize_field("vocab_size", 1..=MOST)?,
        max_tokens: config.usize_field("max_position_embeddings", 1..=MOST)?,
        type_vocab_size: config.usize_or("type_vocab_size", 2, 1..=MOST)?,
        hidden_size,
        intermediate_size: config.usize_field("intermediate_size", 1..=MOST)?,
        n_layers: config.usize_field("num_hidden_layers", 1..=4096)?,
        n_heads,
        activation: activation(kind),
    };
    let mut graph = Graph::new();
    bert.graph(&mut graph, config, options)?;
    let info = ModelInfo {
        model_type: FAMILY.model_type.to_owned(),
        kind: Kind::Encoder,
        class: Class::of(config, &[Class::Base, Class::MaskedLm])?,
        vocab_size: bert.vocab_size,
        max_tokens: bert.max_tokens,
        type_vocab_size: bert.type_vocab_size,
        hidden_size,
        n_layers: bert.n_layers,
        n_heads,
        decoder: None,
        labels: Vec::new(),
    };
    Ok(Model { graph, info, notices: Vec::new() })
}

impl Bert {
    fn graph(&self, graph: &mut Graph, config: &Config, options: &BuildOptions) -> Result<()> {
        let (batch, tokens) = (graph.symbol("batch")?, graph.symbol("tokens")?);
        let ids = SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]);
        let input_ids = graph.input("input_ids", ids.clone());
        let mask = graph.input("attention_mask", ids.clone());
        let segments = graph.input("token_type_ids", ids);

        let mut states = vec![self.embeddings(graph, input_ids, segments)?];
        for layer in 0..self.n_layers {
            let x = states[states.len() - 1];
            states.push(self.layer(graph, layer, x, mask)?);
        }
        let last = states[states.len() - 1];
        match options.outputs {
            Outputs::Embedding { pooling, normalize } => {
                graph.enter("pooling");
                let op = if pooling == Pooling::Cls { Pool::Cls } else { Pool::Mean };
                let mask = (pooling == Pooling::Mean).then_some(mask);
                let mut pooled = graph.apply(op, [Some(last), mask])?;
                if normalize {
                    pooled = graph.apply(L2Normalize { eps: 1e-12 }, [Some(pooled)])?;
                }
                graph.leave();
                graph.output("embedding", pooled);
            }
            Outputs::Class { .. } => {
                hidden_states(graph, options, "", &states);
                self.class_outputs(graph, config, last)?;
            }
            Outputs::Encode | Outputs::Decode => {
                return Err(config.error("model_type", "an encoder", "a model that generates"));
            }
        }
        Ok(())
    }

    /// What the class named in `architectures` gives out; a bare trunk when none is named.
    fn class_outputs(&self, graph: &mut Graph, config: &Config, last: Value) -> Result<()> {
        match Class::of(config, &[Class::Base, Class::MaskedLm])? {
            Class::MaskedLm => {
                let logits = self.masked_lm(graph, last)?;
                graph.output("logits", logits);
                Ok(())
            }
            _ => {
                graph.output("last_hidden_state", last);
                if self.parameters.contains("pooler.dense.weight") {
                    let pooled = self.pooler(graph, last)?;
                    graph.output("pooler_output", pooled);
                }
                Ok(())
            }
        }
    }

    /// `LayerNorm(word[id] + position[i] + segment[type])`.
    fn embeddings(&self, graph: &mut Graph, ids: Value, segments: Value) -> Result<Value> {
        graph.enter("embeddings");
        let width = self.hidden_size;
        let mut get = |name: &str, rows| {
            table(
                graph,
                &self.parameters,
                &format!("embeddings.{name}_embeddings.weight"),
                rows,
                width,
            )
        };
        let words = get("word", self.vocab_size)?;
        let positions = get("position", self.max_tokens)?;
        let types = get("token_type", self.type_vocab_size)?;
        let op = Embedding::default();
        let operands = [Some(words), Some(ids), Some(positions), None, Some(types), Some(segments)];
        let sum = graph.apply(op, operands)?;
        let out = self.norm.apply(graph, &self.parameters, "embeddings.LayerNorm", sum)?;
        graph.leave();
        Ok(out)
    }

    fn layer(&self, graph: &mut Graph, layer: usize, x: Value, mask: Value) -> Result<Value> {
        let at = format!("encoder.layer.{layer}");
        let name = |part: &str| format!("{at}.{part}");
        let (p, width) = (&self.parameters, self.hidden_size);
        graph.enter(at.clone());
        let mut project =
            |n: &str| linear(graph, p, &name(&format!("attention.self.{n}")), x, width, width);
        let qkv = [project("query")?.into(), project("key")?.into(), project("value")?.into()];
        let attend = Attend::new(self.n_heads, width / self.n_heads);
        let context = attend.to_self(graph, &Sequence::whole(Some(mask)), &at, qkv)?;
        let out = linear(graph, p, &name("attention.output.dense"), context, width, width)?;
        let sum = add(graph, out, x)?;
        let x = self.norm.apply(graph, p, &name("attention.output.LayerNorm"), sum)?;

        let names = [name("intermediate.dense"), name("output.dense")];
        let sizes = [width, self.intermediate_size];
        let names = [names[0].as_str(), names[1].as_str()];
        let out = feed_forward(graph, p, names, x, sizes, self.activation)?;
        let sum = add(graph, out, x)?;
        let x = self.norm.apply(graph, p, &name("output.LayerNorm"), sum)?;
        graph.leave();
        Ok(x)
    }

    /// `tanh(W h[0] + b)`, the first token's state.
    fn pooler(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("pooler");
        let first = graph.apply(Pool::Cls, [Some(last), None])?;
        let width = self.hidden_size;
        let h = linear(graph, &self.parameters, "pooler.dense", first, width, width)?;
        let out = graph.apply(Activate { activation: Activation::Tanh }, [Some(h)])?;
        graph.leave();
        Ok(out)
    }

    /// `E LayerNorm(act(W h + b)) + bias` with the word table `E` as decoder, unless the
    /// checkpoint has one of its own.
    fn masked_lm(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("cls.predictions");
        let (p, width) = (&self.parameters, self.hidden_size);
        let h = linear(graph, p, "cls.predictions.transform.dense", last, width, width)?;
        let h = graph.apply(Activate { activation: self.activation }, [Some(h)])?;
        let h = self.norm.apply(graph, p, "cls.predictions.transform.LayerNorm", h)?;
        let own = "cls.predictions.decoder.weight";
        let table = if p.contains(own) { own } else { "embeddings.word_embeddings.weight" };
        let table = graph.weight(p.matrix(table, &[self.vocab_size, width])?);
        let y = graph.apply(crate::ops::Matmul::linear(), [Some(h), Some(table), None, None])?;
        let bias = ["cls.predictions.bias", "cls.predictions.decoder.bias"];
        let bias = bias.into_iter().find(|b| p.contains(b)).unwrap_or(bias[0]);
        let bias = graph.weight(p.vector(bias, &[self.vocab_size])?);
        let logits = add(graph, y, bias)?;
        graph.leave();
        Ok(logits)
    }
}
