//! What encoders in BERT's succession share: embeddings, a stack of post-norm layers, and the
//! outputs on top. A family's file fills in names and sizes.

use super::heads::{Heads, Trunk};
use super::outputs::{hidden_states, picked, pool};
use super::post_norm::{LayerNames, PostNorm};
use super::sizes::MOST;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::info::{Class, Kind, ModelInfo, labels};
use crate::models::model::{BuildOptions, Files, Model, Outputs};
use crate::nn::{
    Attend, Norm, NormKind, Parameters, RelativeBias, Sequence, activation, add, linear, table,
};
use crate::ops::{Embedding, PaddedPositions};
use crate::tensor::{Dim, SymMeta};
use crate::weights::{self, Config};

/// Names of the configuration's fields for a stack's sizes.
pub struct Fields {
    pub width: &'static str,
    pub inner: &'static str,
    pub heads: &'static str,
    pub layers: &'static str,
    /// The activation's field, and what holds without it.
    pub activation: (&'static str, weights::Activation),
}

/// BERT's names, which most families keep.
pub const BERT_FIELDS: Fields = Fields {
    width: "hidden_size",
    inner: "intermediate_size",
    heads: "num_attention_heads",
    layers: "num_hidden_layers",
    activation: ("hidden_act", weights::Activation::GeluErf),
};

/// The embedding in front of the layers: `LayerNorm(word[id] + position[i] + segment[type])`,
/// under BERT's tensor names.
#[derive(Clone)]
pub struct Embeddings {
    /// Width of the tables.
    pub width: usize,
    pub vocab_size: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the segment table; 0 without one.
    pub segments: usize,
    /// The padding id, where positions begin behind it and leave padding out (RoBERTa).
    pub padding: Option<u32>,
    /// Projection to the layers' width, where the tables are narrower.
    pub projection: Option<&'static str>,
}

/// Relative position bias of attention scores: the table's name and buckets (MPNet).
#[derive(Clone, Copy)]
pub struct Bias {
    pub table: &'static str,
    pub buckets: usize,
    pub max_distance: usize,
}

/// An encoder of any of the families.
pub struct Encoder {
    pub embeddings: Embeddings,
    pub block: PostNorm,
    /// Name of every layer in the order they run.
    pub layers: Vec<String>,
    pub bias: Option<Bias>,
    pub heads: Heads,
}

/// The word table's name.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Reads a stack's sizes, and refuses what none of the families' files can do.
pub fn block(
    config: &Config,
    parameters: Parameters,
    fields: &Fields,
    names: LayerNames,
    eps: f32,
) -> Result<PostNorm> {
    let width = config.usize_field(fields.width, 1..=MOST)?;
    let n_heads = config.usize_field(fields.heads, 1..=MOST)?;
    config.check_divides(fields.width, width, fields.heads, n_heads)?;
    if let Some(kind) = config.opt_str("position_embedding_type")?.filter(|k| *k != "absolute") {
        return Err(config.error("position_embedding_type", format!("`{kind}`"), "`absolute`"));
    }
    let (field, default) = fields.activation;
    let kind = config.activation_or(field, default)?;
    Ok(PostNorm {
        parameters,
        names,
        norm: Norm { width, eps, kind: NormKind::Layer },
        inner: config.usize_field(fields.inner, 1..=MOST)?,
        attend: Attend::new(n_heads, width / n_heads),
        activation: activation(kind),
    })
}

/// Names `{stem}.0`, `{stem}.1`, … of as many layers as the configuration has.
pub fn layers(config: &Config, fields: &Fields, stem: &str) -> Result<Vec<String>> {
    let count = config.usize_field(fields.layers, 1..=4096)?;
    Ok((0..count).map(|i| format!("{stem}.{i}")).collect())
}

impl Embeddings {
    /// BERT's: sizes by their usual names, tables as wide as the layers.
    pub fn of(config: &Config, width: usize) -> Result<Self> {
        Ok(Self {
            width,
            vocab_size: config.usize_field("vocab_size", 1..=MOST)?,
            positions: config.usize_field("max_position_embeddings", 1..=MOST)?,
            segments: config.usize_or("type_vocab_size", 2, 1..=MOST)?,
            padding: None,
            projection: None,
        })
    }

    /// Rows of the position table in front of the first token's: those of the padding id and
    /// of all below it.
    pub fn base(&self) -> usize {
        self.padding.map_or(0, |pad| pad as usize + 1)
    }

    /// The longest input. Errors when the position table ends before the first token's row.
    pub fn max_tokens(&self, config: &Config) -> Result<usize> {
        self.positions.checked_sub(self.base()).filter(|tokens| *tokens > 0).ok_or_else(|| {
            let expected = "more positions than lie before the first token's";
            config.error("max_position_embeddings", self.positions, expected)
        })
    }
}

impl Encoder {
    /// Embedded tokens f32 [batch, tokens, width]; without `segments` all are of segment 0.
    pub fn embed(
        &self,
        graph: &mut Graph,
        ids: Value,
        segments: Option<Value>,
        sequence: &Sequence,
    ) -> Result<Value> {
        graph.enter("embeddings");
        let (e, p) = (&self.embeddings, &self.block.parameters);
        let words = table(graph, p, WORDS, e.vocab_size, e.width)?;
        let name = "embeddings.position_embeddings.weight";
        let positions = table(graph, p, name, e.positions, e.width)?;
        // A step knows its position, and does not see the tokens before it.
        let at = match e.padding.filter(|_| sequence.cache.is_none()) {
            Some(pad) => Some(graph.apply(PaddedPositions { pad }, [Some(ids)])?),
            None => sequence.positions,
        };
        let name = "embeddings.token_type_embeddings.weight";
        let types = match segments {
            Some(_) => Some(table(graph, p, name, e.segments, e.width)?),
            None => None,
        };
        let op = Embedding { scale: 1.0, offset: Dim::Const(sequence.base) };
        let operands = [Some(words), Some(ids), Some(positions), at, types, segments];
        let mut x = graph.apply(op, operands)?;
        if segments.is_none() && e.segments > 0 {
            let first = graph.weight(p.first_row(name, [e.segments, e.width])?);
            x = add(graph, x, first)?;
        }
        let norm = Norm { width: e.width, ..self.block.norm };
        x = norm.apply(graph, p, "embeddings.LayerNorm", x)?;
        graph.leave();
        if let Some(name) = e.projection {
            graph.enter(name);
            x = linear(graph, p, name, x, e.width, self.block.norm.width)?;
            graph.leave();
        }
        Ok(x)
    }

    /// The input of every layer and the last one's output.
    pub fn states(
        &self,
        graph: &mut Graph,
        embedded: Value,
        sequence: &Sequence,
    ) -> Result<Vec<Value>> {
        let mut block = self.block.clone();
        if let Some(bias) = self.bias {
            let dims = [bias.buckets, block.attend.n_heads];
            let table = graph.weight(block.parameters.vector(bias.table, &dims)?);
            let (buckets, distance) = (bias.buckets, bias.max_distance);
            block.attend.bias = Some(RelativeBias::new(graph, table, true, buckets, distance)?);
        }
        let mut states = vec![embedded];
        let mut x = embedded;
        for name in &self.layers {
            x = block.layer(graph, name, x, sequence)?;
            states.push(x);
        }
        Ok(states)
    }

    /// Ties the language-model head's matrix to the word table where the configuration does.
    pub fn tie(&mut self, config: &Config) -> Result<()> {
        let tied = config.bool_or("tie_word_embeddings", true)?;
        let own = format!("{}.weight", self.heads.masked_lm.decoder);
        self.block.parameters = self.block.parameters.tie(tied, [&own, WORDS]);
        Ok(())
    }

    /// The whole model of an encoder's folder.
    pub fn build(mut self, files: &Files, options: &BuildOptions) -> Result<Model> {
        let config = &files.config;
        self.tie(config)?;
        if config.bool_or("is_decoder", false)? {
            return Err(config.error("is_decoder", true, "false: this is an encoder"));
        }
        let max_tokens = self.embeddings.max_tokens(config)?;
        // A sentence embedding is made of the trunk alone, whatever head the folder has.
        let class = match options.outputs {
            Outputs::Class { .. } => Class::of(config, &self.heads.classes())?,
            Outputs::MaskedTokens => {
                Class::of(config, &self.heads.masked_classes())?;
                Class::MaskedLm
            }
            _ => Class::Base,
        };
        let mut graph = Graph::new();
        let (batch, tokens) = (graph.symbol("batch")?, graph.symbol("tokens")?);
        let ids = SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]);
        let input_ids = graph.input("input_ids", ids.clone());
        let mask = graph.input("attention_mask", ids.clone());
        let segments = self.embeddings.segments > 0;
        let segments = segments.then(|| graph.input("token_type_ids", ids));
        let sequence = Sequence::whole(Some(mask));
        let embedded = self.embed(&mut graph, input_ids, segments, &sequence)?;
        let states = self.states(&mut graph, embedded, &sequence)?;
        let last = states[states.len() - 1];
        match options.outputs {
            Outputs::Embedding { pooling, normalize } => {
                pool(&mut graph, last, mask, pooling, normalize)?;
            }
            Outputs::Class { .. } => {
                hidden_states(&mut graph, options, "", &states);
                self.heads.outputs(&mut graph, class, &self.trunk(config, last))?;
            }
            Outputs::MaskedTokens => {
                let picked = picked(&mut graph, last)?;
                self.heads.outputs(&mut graph, class, &self.trunk(config, picked))?;
            }
            Outputs::Encode | Outputs::Decode => {
                return Err(config.error("model_type", "an encoder", "a model that generates"));
            }
        }
        let labels = match class {
            Class::SequenceClassification | Class::TokenClassification => labels(config)?,
            _ => Vec::new(),
        };
        let info = ModelInfo {
            model_type: config.model_type()?.to_owned(),
            kind: Kind::Encoder,
            class,
            vocab_size: self.embeddings.vocab_size,
            max_tokens,
            type_vocab_size: self.embeddings.segments,
            hidden_size: self.block.norm.width,
            n_layers: self.layers.len(),
            n_heads: self.block.attend.n_heads,
            decoder: None,
            labels,
        };
        Ok(Model { graph, info, notices: Vec::new() })
    }

    /// `logits` [.., vocabulary] by the family's language-model head.
    pub fn language_head(&self, graph: &mut Graph, config: &Config, last: Value) -> Result<Value> {
        self.trunk(config, last).masked_lm(graph, &self.heads.masked_lm)
    }

    fn trunk<'a>(&'a self, config: &'a Config, last: Value) -> Trunk<'a> {
        Trunk {
            config,
            parameters: &self.block.parameters,
            last,
            norm: self.block.norm,
            activation: self.block.activation,
            vocab_size: self.embeddings.vocab_size,
            word_width: self.embeddings.width,
        }
    }
}
