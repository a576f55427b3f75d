//! Encoders in BERT's succession: embeddings in front of post-norm layers, under each family's
//! names and sizes.

use super::encoder::Encoder;
use super::heads::{Heads, Trunk};
use super::post_norm::{LayerNames, PostNorm};
use super::sizes::Sizes;
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Norm, NormKind, Parameters, RelativeBias, Scope, Sequence};
use crate::ops::{Activation, Embedding, PaddedPositions};
use crate::tensor::Dim;
use crate::weights::Config;

/// Names of the configuration's fields for a stack's sizes.
pub struct Fields {
    pub width: &'static str,
    pub inner: &'static str,
    pub heads: &'static str,
    pub layers: &'static str,
    /// The activation's field, and what holds without it.
    pub activation: (&'static str, Activation),
}

/// BERT's names, which most families keep.
pub const BERT_FIELDS: Fields = Fields {
    width: "hidden_size",
    inner: "intermediate_size",
    heads: "num_attention_heads",
    layers: "num_hidden_layers",
    activation: ("hidden_act", Activation::GeluErf),
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
pub struct BertLike {
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
pub fn block(config: &Config, fields: &Fields, names: LayerNames, eps: f32) -> Result<PostNorm> {
    let width = config.size(fields.width)?;
    let n_heads = config.size(fields.heads)?;
    config.check_divides(fields.width, width, fields.heads, n_heads)?;
    if let Some(kind) = config.opt_str("position_embedding_type")?.filter(|k| *k != "absolute") {
        return Err(config.error("position_embedding_type", format!("`{kind}`"), "`absolute`"));
    }
    let (field, default) = fields.activation;
    let activation = config.activation_or(field, default)?;
    Ok(PostNorm {
        names,
        norm: Norm { width, eps, kind: NormKind::Layer },
        inner: config.size(fields.inner)?,
        attend: Attend::new(n_heads, width / n_heads),
        activation,
    })
}

/// Names `{stem}.0`, `{stem}.1`, … of as many layers as the configuration has.
pub fn layers(config: &Config, fields: &Fields, stem: &str) -> Result<Vec<String>> {
    let count = config.layers(fields.layers)?;
    Ok((0..count).map(|i| format!("{stem}.{i}")).collect())
}

impl Embeddings {
    /// BERT's: sizes by their usual names, tables as wide as the layers.
    pub fn of(config: &Config, width: usize) -> Result<Self> {
        Ok(Self {
            width,
            vocab_size: config.size("vocab_size")?,
            positions: config.size("max_position_embeddings")?,
            segments: config.size_or("type_vocab_size", 2)?,
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

impl BertLike {
    /// How a layer attends to its own sequence.
    pub fn attend(&self, at: &mut Scope) -> Result<Attend> {
        let mut attend = self.block.attend.clone();
        if let Some(Bias { table, buckets, max_distance }) = self.bias {
            let table = at.parameters().vector(table, &[buckets, attend.n_heads])?;
            let table = at.weight(table);
            attend.bias = Some(RelativeBias::new(at, table, true, buckets, max_distance)?);
        }
        Ok(attend)
    }

    /// Ties the language-model head's matrix to the word table where the configuration does.
    pub fn tie(&self, config: &Config, parameters: &Parameters) -> Result<Parameters> {
        let tied = config.bool_or("tie_word_embeddings", true)?;
        let own = format!("{}.weight", self.heads.masked_lm.decoder);
        Ok(parameters.tie(tied, [&own, WORDS]))
    }
}

impl Encoder for BertLike {
    fn sizes(&self, config: &Config) -> Result<Sizes> {
        Ok(Sizes {
            vocab_size: self.embeddings.vocab_size,
            max_tokens: self.embeddings.max_tokens(config)?,
            hidden_size: self.block.norm.width,
            n_layers: self.layers.len(),
            n_heads: self.block.attend.n_heads,
        })
    }

    fn segments(&self) -> usize {
        self.embeddings.segments
    }

    fn embed(
        &self,
        at: &mut Scope,
        ids: Value,
        segments: Option<Value>,
        sequence: &Sequence,
    ) -> Result<Value> {
        let e = &self.embeddings;
        let x = at.layer("embeddings", |at| {
            let words = at.table("word_embeddings.weight", e.vocab_size, e.width)?;
            let positions = at.table("position_embeddings.weight", e.positions, e.width)?;
            // A step knows its position, and does not see the tokens before it.
            let which = match e.padding.filter(|_| sequence.cache.is_none()) {
                Some(pad) => Some(at.apply(PaddedPositions { pad }, [Some(ids)])?),
                None => sequence.positions,
            };
            let name = "token_type_embeddings.weight";
            let types = match segments {
                Some(_) => Some(at.table(name, e.segments, e.width)?),
                None => None,
            };
            let op = Embedding { scale: 1.0, offset: Dim::Const(sequence.base) };
            let operands = [Some(words), Some(ids), Some(positions), which, types, segments];
            let mut x = at.apply(op, operands)?;
            if segments.is_none() && e.segments > 0 {
                let first = at.parameters().first_row(&at.name(name), [e.segments, e.width])?;
                let first = at.weight(first);
                x = at.add(x, first)?;
            }
            at.norm("LayerNorm", Norm { width: e.width, ..self.block.norm }, x)
        })?;
        match e.projection {
            Some(name) => at.layer(name, |at| at.linear("", x, self.block.norm.width)),
            None => Ok(x),
        }
    }

    fn layer_name(&self, layer: usize) -> String {
        self.layers[layer].clone()
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let attend = self.attend(at)?;
        let x = self.block.attention(at, &attend, sequence, x)?;
        self.block.feed_forward(at, x)
    }

    fn heads(&self) -> &Heads {
        &self.heads
    }

    fn trunk<'a>(&'a self, config: &'a Config, last: Value) -> Trunk<'a> {
        Trunk {
            config,
            heads: &self.heads,
            last,
            norm: self.block.norm,
            activation: self.block.activation,
            vocab_size: self.embeddings.vocab_size,
            word_width: self.embeddings.width,
        }
    }
}
