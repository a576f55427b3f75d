//! The frame of encoders: inputs, the order of the parts that a family writes, and the outputs of
//! each model class on top.

use super::heads::{Heads, Trunk};
use super::outputs::{hidden_states, picked, pool};
use super::sizes::Sizes;
use crate::error::Result;
use crate::graph::{Graph, Size, Value};
use crate::models::info::{Class, Kind, ModelInfo, labels};
use crate::models::model::{BuildOptions, Files, Model, Outputs};
use crate::nn::{Parameters, Scope, Sequence};
use crate::tensor::{Dim, SymMeta};
use crate::weights::{Config, Pooling};

/// The parts of an encoder in the order they run; a family writes these and [`build`] the rest.
/// Hidden states are f32 [batch, tokens, width].
pub trait Encoder {
    /// Its sizes. Errors where the configuration leaves no room for a token.
    fn sizes(&self, config: &Config) -> Result<Sizes>;

    /// Segments that tokens may be of; 0 where the model takes none.
    fn segments(&self) -> usize {
        0
    }

    /// Token ids u32 [batch, tokens] to the input of layer 0; without `segments` of the same
    /// shape all tokens are of segment 0.
    fn embed(
        &self,
        at: &mut Scope,
        ids: Value,
        segments: Option<Value>,
        sequence: &Sequence,
    ) -> Result<Value>;

    /// The name of a layer.
    fn layer_name(&self, layer: usize) -> String {
        format!("layers.{layer}")
    }

    /// One layer, in its place.
    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value>;

    /// What follows the last layer: a pre-norm stack's final norm.
    fn finish(&self, _at: &mut Scope, x: Value) -> Result<Value> {
        Ok(x)
    }

    /// The heads that it may carry.
    fn heads(&self) -> &Heads;

    /// What heads build on, given the last hidden state.
    fn trunk<'a>(&'a self, config: &'a Config, last: Value) -> Trunk<'a>;

    /// `logits` [batch, tokens, vocabulary] of the head for masked tokens.
    fn words(&self, at: &mut Scope, trunk: &Trunk<'_>) -> Result<Value> {
        trunk.masked_lm(at)
    }

    /// Adds what `class` gives out; a family with heads of another shape writes its own. `mask`
    /// is 1 for the tokens that count.
    fn outputs(&self, at: &mut Scope, class: Class, trunk: &Trunk<'_>, _mask: Value) -> Result<()> {
        trunk.outputs(at, class)
    }
}

/// Builds the graph that `options` ask for, from a family's parts.
pub fn build<E: Encoder>(
    files: &Files,
    options: &BuildOptions,
    parameters: &Parameters,
    encoder: &E,
) -> Result<Model> {
    let config = &files.config;
    if config.bool_or("is_decoder", false)? {
        return Err(config.error("is_decoder", true, "false: this is an encoder"));
    }
    let (sizes, segments) = (encoder.sizes(config)?, encoder.segments());
    let mut graph = Graph::new();
    let dims = [Dim::Sym(graph.symbol(Size::Batch)?), Dim::Sym(graph.symbol(Size::Tokens)?)];
    let ids = graph.input("input_ids", SymMeta::u32(dims));
    let mask = graph.input("attention_mask", SymMeta::u32(dims));
    let types = (segments > 0).then(|| graph.input("token_type_ids", SymMeta::u32(dims)));
    // A sentence embedding is made of the trunk alone, whatever head the folder has.
    let heads = encoder.heads();
    let class = match options.outputs {
        Outputs::Class { .. } => Class::of(config, &heads.classes())?,
        Outputs::MaskedTokens | Outputs::Embedding { pooling: Pooling::Splade, .. } => {
            Class::of(config, &heads.masked_classes())?;
            Class::MaskedLm
        }
        _ => Class::Base,
    };
    let sequence = Sequence::whole(Some(mask));
    let mut at = Scope::new(&mut graph, parameters);
    let mut x = encoder.embed(&mut at, ids, types, &sequence)?;
    let mut states = vec![x];
    for layer in 0..sizes.n_layers {
        x = at.layer(&encoder.layer_name(layer), |at| encoder.layer(at, layer, &sequence, x))?;
        states.push(x);
    }
    let last = encoder.finish(&mut at, x)?;
    states[sizes.n_layers] = last;
    match options.outputs {
        Outputs::Embedding { pooling, normalize } => {
            let pooled = match pooling {
                Pooling::Splade => encoder.words(&mut at, &encoder.trunk(config, last))?,
                _ => last,
            };
            pool(&mut at, pooled, mask, pooling, normalize)?;
        }
        Outputs::Class { .. } => {
            hidden_states(at.graph(), options, "", &states);
            encoder.outputs(&mut at, class, &encoder.trunk(config, last), mask)?;
        }
        Outputs::MaskedTokens => {
            let picked = picked(at.graph(), last)?;
            encoder.outputs(&mut at, class, &encoder.trunk(config, picked), mask)?;
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
        vocab_size: sizes.vocab_size,
        max_tokens: sizes.max_tokens,
        type_vocab_size: segments,
        hidden_size: sizes.hidden_size,
        n_layers: sizes.n_layers,
        n_heads: sizes.n_heads,
        decoder: None,
        labels,
    };
    Ok(Model { graph, info, notices: Vec::new() })
}
