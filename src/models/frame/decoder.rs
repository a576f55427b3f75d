//! The frame of decoder-only language models: inputs, the order of the parts that a family
//! writes, outputs.

use super::outputs::{hidden_states, language_model};
use super::sizes::Sizes;
use crate::error::Result;
use crate::graph::{Graph, Size, Value};
use crate::models::info::{Class, Kind, ModelInfo};
use crate::models::model::{BuildOptions, Files, Model, Outputs};
use crate::nn::{Parameters, Scope, Sequence};
use crate::tensor::{Dim, SymMeta};

/// The output matrix and the word table, as most families name them.
pub const TABLES: [&str; 2] = ["lm_head.weight", "embed_tokens.weight"];

/// The parts of a decoder in the order they run; a family writes these and [`build`] the rest.
/// Hidden states are f32 [batch, tokens, width].
pub trait Decoder {
    /// Rows in front of position 0 in a learned position table.
    const BASE: usize = 0;

    /// The output matrix and the word table.
    const TABLES: [&str; 2] = TABLES;

    /// The learned position table, a row per token that a text may have, where there is one.
    const POSITIONS: Option<&'static str> = None;

    /// Its sizes.
    fn sizes(&self) -> Sizes;

    /// Token ids u32 [batch, tokens] to the input of layer 0: rows of the word table, and of
    /// the positions' where there is one.
    fn embed(&self, at: &mut Scope, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, max_tokens, hidden_size, .. } = self.sizes();
        let words = at.table(Self::TABLES[1], vocab_size, hidden_size)?;
        let positions = Self::POSITIONS.map(|name| at.table(name, max_tokens, hidden_size));
        sequence.embed(at, ids, words, positions.transpose()?, 1.0)
    }

    /// The name of a layer.
    fn layer_name(&self, layer: usize) -> String {
        format!("layers.{layer}")
    }

    /// One layer, in its place.
    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value>;

    /// What follows the last layer: the final norm.
    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value>;

    /// Hidden states [.., width] to logits [.., vocabulary]: the output matrix.
    fn logits(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.output(Self::TABLES[0], x, self.sizes().vocab_size)
    }
}

/// Classes that decoders are supported as, the first where a configuration names none.
const CLASSES: [Class; 2] = [Class::CausalLm, Class::Base];

/// Builds the graph that `options` ask for, from a family's parts.
pub fn build<D: Decoder>(
    files: &Files,
    options: &BuildOptions,
    parameters: &Parameters,
    decoder: &D,
) -> Result<Model> {
    let sizes = decoder.sizes();
    let config = &files.config;
    let class = Class::of(config, &CLASSES)?;
    config.token_ids("eos_token_id", sizes.vocab_size)?;
    let mut graph = Graph::new();
    let (batch, tokens) = (graph.symbol(Size::Batch)?, graph.symbol(Size::Tokens)?);
    let meta = SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]);
    let ids = graph.input("input_ids", meta.clone());
    let sequence = match options.outputs {
        Outputs::MaskedTokens if class != Class::CausalLm => {
            let expected = "a class with a language-model head";
            return Err(config.error("architectures", "a model without a head", expected));
        }
        Outputs::Class { .. } | Outputs::MaskedTokens => {
            let mask = graph.input("attention_mask", meta);
            Sequence::whole(Some(mask)).with_base(D::BASE)
        }
        Outputs::Decode if class == Class::CausalLm => {
            Sequence::step(&mut graph, ids, true, D::BASE, options.cache)?
        }
        Outputs::Decode => {
            let expected = "a class with a language-model head, for generation";
            return Err(config.error("architectures", "a model without a head", expected));
        }
        Outputs::Embedding { .. } | Outputs::Encode => {
            return Err(config.error("model_type", "a decoder", "a model with an encoder"));
        }
    };

    let mut at = Scope::new(&mut graph, parameters);
    let mut x = at.group("embeddings", |at| decoder.embed(at, ids, &sequence))?;
    let mut states = vec![x];
    for layer in 0..sizes.n_layers {
        x = at.layer(&decoder.layer_name(layer), |at| decoder.layer(at, layer, &sequence, x))?;
        states.push(x);
    }
    let last = at.group("final", |at| decoder.finish(at, x))?;
    states[sizes.n_layers] = last;
    if matches!(options.outputs, Outputs::Class { .. }) {
        hidden_states(at.graph(), options, "", &states);
        at.graph().output("last_hidden_state", last);
    }
    if class == Class::CausalLm {
        language_model(&mut at, options, last, |at, x| {
            at.group("head", |at| decoder.logits(at, x))
        })?;
    }
    let info = ModelInfo {
        model_type: config.model_type()?.to_owned(),
        kind: Kind::Decoder,
        class,
        vocab_size: sizes.vocab_size,
        max_tokens: sizes.max_tokens,
        type_vocab_size: 0,
        hidden_size: sizes.hidden_size,
        n_layers: sizes.n_layers,
        n_heads: sizes.n_heads,
        decoder: None,
        labels: Vec::new(),
    };
    Ok(Model { graph, info, notices: Vec::new() })
}
