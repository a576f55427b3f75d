//! What decoder-only language models share: inputs, the order of their parts, outputs.

use super::outputs::{hidden_states, language_model};
use super::{BuildOptions, Class, Files, Kind, Model, ModelInfo, Outputs};
use crate::error::Result;
use crate::files::show;
use crate::graph::{Graph, Value};
use crate::nn::{Parameters, Sequence};
use crate::ops::Matmul;
use crate::tensor::{Dim, SymMeta};
use crate::weights::Config;

/// Sizes beyond these are typing errors, not models.
pub(super) const MOST: usize = 1 << 24;

/// Sizes that every decoder has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub vocab_size: usize,
    pub max_tokens: usize,
    pub hidden_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
}

/// The configuration's names of [`Sizes`], in their order.
pub(super) const SIZE_NAMES: [&str; 5] = [
    "vocab_size",
    "max_position_embeddings",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
];

/// The output matrix and the word table, as most families name them.
pub(super) const TABLES: [&str; 2] = ["lm_head.weight", "embed_tokens.weight"];

impl Sizes {
    /// Read under `names`, each within its bounds.
    pub fn read(config: &Config, names: [&str; 5]) -> Result<Self> {
        let [vocab_size, max_tokens, hidden_size, n_layers, n_heads] = names;
        Ok(Self {
            vocab_size: config.usize_field(vocab_size, 1..=MOST)?,
            max_tokens: config.usize_field(max_tokens, 1..=MOST)?,
            hidden_size: config.usize_field(hidden_size, 1..=MOST)?,
            n_layers: config.usize_field(n_layers, 1..=4096)?,
            n_heads: config.usize_field(n_heads, 1..=MOST)?,
        })
    }

    /// Rows of a position table that is computed: as many as will be used, where that is known.
    pub fn positions(&self, options: &BuildOptions) -> usize {
        options.max_tokens.map_or(self.max_tokens, |most| most.clamp(1, self.max_tokens))
    }
}

/// An error that names the first of `fields` that is switched on (neither absent nor `null`,
/// `false`, 0 or empty): the family has no code for them.
pub(super) fn refuse(config: &Config, fields: &[&str]) -> Result<()> {
    use serde_json::Value as Json;
    let on = |field: &&&str| match config.get(field) {
        None | Some(Json::Bool(false)) => false,
        Some(Json::Number(n)) => n.as_f64() != Some(0.0),
        Some(Json::String(text)) => !text.is_empty(),
        Some(Json::Array(items)) => !items.is_empty(),
        Some(Json::Object(items)) => !items.is_empty(),
        Some(Json::Bool(true) | Json::Null) => true,
    };
    match fields.iter().find(on).and_then(|field| Some((field, config.get(field)?))) {
        None => Ok(()),
        Some((field, value)) => {
            let expected = format!("none: `{}` models have no such feature", config.model_type()?);
            Err(config.error(field, show(value), expected))
        }
    }
}

/// The parts of a decoder in the order they run; a family writes these and [`build`] the rest.
pub(super) trait Decoder {
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
pub(super) fn build<D: Decoder>(
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

/// Logits by the output matrix `own` [vocabulary, width], or by the word table that the parameters
/// tie it to.
pub(super) fn output_head(
    graph: &mut Graph,
    parameters: &Parameters,
    own: &str,
    dims: [usize; 2],
    x: Value,
) -> Result<Value> {
    let weight = graph.weight(parameters.output(own, &dims)?);
    graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])
}
