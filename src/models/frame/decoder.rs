//! What decoder-only language models share: inputs, the order of their parts, outputs.

use super::outputs::{hidden_states, language_model};
use super::sizes::Sizes;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::info::{Class, Kind, ModelInfo};
use crate::models::model::{BuildOptions, Files, Model, Outputs};
use crate::nn::Sequence;
use crate::tensor::{Dim, SymMeta};

/// The parts of a decoder in the order they run; a family writes these and [`build`] the rest.
pub trait Decoder {
    /// Rows in front of position 0 in a learned position table.
    const BASE: usize = 0;

    /// Token ids u32 [batch, tokens] to the input of layer 0.
    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value>;

    /// One layer.
    fn layer(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        layer: usize,
        x: Value,
    ) -> Result<Value>;

    /// What follows the last layer: the final norm.
    fn finish(&self, graph: &mut Graph, x: Value) -> Result<Value>;

    /// Hidden states [.., width] to logits [.., vocabulary].
    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value>;
}

/// Classes that decoders are supported as, the first where a configuration names none.
const CLASSES: [Class; 2] = [Class::CausalLm, Class::Base];

/// Builds the graph that `options` ask for, from a family's parts.
pub fn build<D: Decoder>(
    files: &Files,
    options: &BuildOptions,
    sizes: Sizes,
    decoder: &D,
) -> Result<Model> {
    let config = &files.config;
    let class = Class::of(config, &CLASSES)?;
    config.token_ids("eos_token_id", sizes.vocab_size)?;
    let mut graph = Graph::new();
    let (batch, tokens) = (graph.symbol("batch")?, graph.symbol("tokens")?);
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

    graph.enter("embeddings");
    let mut states = vec![decoder.embed(&mut graph, ids, &sequence)?];
    graph.leave();
    for layer in 0..sizes.n_layers {
        states.push(decoder.layer(&mut graph, &sequence, layer, states[layer])?);
    }
    graph.enter("final");
    let last = decoder.finish(&mut graph, states[sizes.n_layers])?;
    graph.leave();
    states[sizes.n_layers] = last;
    if matches!(options.outputs, Outputs::Class { .. }) {
        hidden_states(&mut graph, options, "", &states);
        graph.output("last_hidden_state", last);
    }
    if class == Class::CausalLm {
        language_model(&mut graph, options, last, |graph, x| {
            graph.enter("head");
            let logits = decoder.logits(graph, x)?;
            graph.leave();
            Ok(logits)
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
