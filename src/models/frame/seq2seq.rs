//! The frame of encoder-decoders: which inputs a graph takes and what it gives out, around the
//! parts of the two stacks that a family writes.

use std::fmt;

use super::outputs::{hidden_states, language_model, pool};
use crate::error::Result;
use crate::graph::{Graph, Size, Value};
use crate::models::info::{Class, DecoderInfo, Kind, ModelInfo};
use crate::models::model::{BuildOptions, Files, Model, Outputs};
use crate::nn::{Attend, Heads, Memory, Parameters, Scope, Sequence};
use crate::tensor::{Dim, SymMeta};
use crate::weights::{Config, Pooling};

/// One of the two stacks; written as checkpoints do, `encoder` or `decoder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Encoder,
    Decoder,
}

impl Side {
    /// As checkpoints write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a stack's layers work with besides their input.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which stack it is.
    pub side: Side,
    /// Where the tokens stand.
    pub sequence: &'a Sequence,
    /// What the decoder's layers attend to; the encoder's have none.
    pub memory: Option<&'a Memory>,
}

/// The parts of both stacks in the order they run; a family writes these and [`build`] the rest.
/// Hidden states are f32 [batch, tokens, width].
pub trait Stacks {
    /// What learned position tables of encoder and decoder hold in front of position 0's row.
    fn bases(&self) -> [usize; 2] {
        [0, 0]
    }

    /// Layers of a stack.
    fn n_layers(&self, side: Side) -> usize;

    /// Token ids u32 [batch, tokens] to the input of a stack's layer 0.
    fn embed(&self, at: &mut Scope, side: Side, ids: Value, sequence: &Sequence) -> Result<Value>;

    /// The name of a layer.
    fn layer_name(&self, side: Side, layer: usize) -> String {
        format!("{side}.layers.{layer}")
    }

    /// One layer, in its place; the decoder's attends to a memory too.
    fn layer(&self, at: &mut Scope, seen: Seen, x: Value) -> Result<Value>;

    /// What follows a stack's last layer: the final norm.
    fn finish(&self, _at: &mut Scope, _side: Side, x: Value) -> Result<Value> {
        Ok(x)
    }

    /// What the decoder attends to, given the encoder's last hidden state.
    fn memory(&self, _at: &mut Scope, encoded: Value) -> Result<Value> {
        Ok(encoded)
    }

    /// How the decoder attends to the encoder's result.
    fn cross(&self) -> Attend;

    /// Keys and values that a decoder's layer makes of what it attends to, in its place.
    fn cross_keys(&self, at: &mut Scope, memory: Value) -> Result<[Heads; 2]>;

    /// `logits` [.., vocabulary] of the decoder's last hidden state.
    fn head(&self, at: &mut Scope, last: Value) -> Result<Value>;
}

/// Sizes that every encoder-decoder has.
#[derive(Clone, Copy, Debug)]
pub struct StackSizes {
    /// Vocabulary and longest input of the encoder.
    pub encoder: DecoderInfo,
    /// The same of the decoder.
    pub decoder: DecoderInfo,
    /// Width of the encoder's hidden states.
    pub hidden_size: usize,
    /// Layers of the encoder.
    pub n_layers: usize,
    /// Attention heads of the encoder.
    pub n_heads: usize,
}

/// Hidden states of a stack for `ids` u32 [batch, tokens], from the input of layer 0 to the
/// output of the last layer, after the final norm where there is one.
fn stack(at: &mut Scope, stacks: &impl Stacks, seen: Seen, ids: Value) -> Result<Vec<Value>> {
    let Seen { side, sequence, .. } = seen;
    let mut x = stacks.embed(at, side, ids, sequence)?;
    let mut states = vec![x];
    for layer in 0..stacks.n_layers(side) {
        let name = stacks.layer_name(side, layer);
        x = at.layer(&name, |at| stacks.layer(at, seen, x))?;
        states.push(x);
    }
    let last = states.len() - 1;
    states[last] = stacks.finish(at, side, x)?;
    Ok(states)
}

/// Builds the graph that `options` ask for, from a family's stacks: both of them, or the encoder
/// alone where the class is one (`T5EncoderModel`) or an embedding is asked for. Errors where
/// another configuration is of one stack alone.
pub fn build(
    files: &Files,
    options: &BuildOptions,
    parameters: &Parameters,
    sizes: StackSizes,
    stacks: &impl Stacks,
) -> Result<Model> {
    let config = &files.config;
    let class = Class::of(config, &[Class::Seq2SeqLm, Class::Base, Class::Encoder])?;
    if class == Class::Encoder || matches!(options.outputs, Outputs::Embedding { .. }) {
        return encoder_alone(config, options, parameters, sizes, stacks);
    }
    for (field, wanted) in [("is_encoder_decoder", true), ("is_decoder", false)] {
        if config.bool_or(field, wanted)? != wanted {
            return Err(config.error(field, !wanted, format!("{wanted}, with both stacks")));
        }
    }
    config.token_ids("eos_token_id", sizes.decoder.vocab_size)?;
    config.token_id("decoder_start_token_id", sizes.decoder.vocab_size)?;
    let mut graph = Graph::new();
    if class == Class::Base && !matches!(options.outputs, Outputs::Class { .. }) {
        let expected = "a class with a language-model head";
        return Err(config.error("architectures", "a model without a head", expected));
    }
    let mut at = Scope::new(&mut graph, parameters);
    match options.outputs {
        Outputs::Encode => encode(&mut at, stacks, options)?,
        Outputs::Decode => decode(&mut at, stacks, options)?,
        _ => class_outputs(&mut at, stacks, options, class)?,
    }
    let info = info(config, sizes, Kind::EncoderDecoder, class)?;
    Ok(Model { graph, info, notices: Vec::new() })
}

fn info(config: &Config, sizes: StackSizes, kind: Kind, class: Class) -> Result<ModelInfo> {
    Ok(ModelInfo {
        model_type: config.model_type()?.to_owned(),
        kind,
        class,
        vocab_size: sizes.encoder.vocab_size,
        max_tokens: sizes.encoder.max_tokens,
        type_vocab_size: 0,
        hidden_size: sizes.hidden_size,
        n_layers: sizes.n_layers,
        n_heads: sizes.n_heads,
        decoder: (kind == Kind::EncoderDecoder).then_some(sizes.decoder),
        labels: Vec::new(),
    })
}

/// An encoder without its decoder: hidden states, or an embedding of the last one.
fn encoder_alone(
    config: &Config,
    options: &BuildOptions,
    parameters: &Parameters,
    sizes: StackSizes,
    stacks: &impl Stacks,
) -> Result<Model> {
    let mut graph = Graph::new();
    let mut at = Scope::new(&mut graph, parameters);
    let (mask, encoded) = encoder(&mut at, stacks, Size::Tokens)?;
    let last = encoded[encoded.len() - 1];
    match options.outputs {
        Outputs::Class { .. } => {
            hidden_states(at.graph(), options, "", &encoded);
            at.graph().output("last_hidden_state", last);
        }
        Outputs::Embedding { pooling: Pooling::Splade, .. } => {
            let expected = "an encoder with a head for masked tokens, as SPLADE needs";
            return Err(config.error("architectures", "an encoder alone", expected));
        }
        Outputs::Embedding { pooling, normalize } => {
            pool(&mut at, last, mask, pooling, normalize)?;
        }
        Outputs::MaskedTokens | Outputs::Encode | Outputs::Decode => {
            let expected = "a class with a language-model head";
            return Err(config.error("architectures", "an encoder alone", expected));
        }
    }
    let info = info(config, sizes, Kind::Encoder, Class::Encoder)?;
    Ok(Model { graph, info, notices: Vec::new() })
}

/// `input_ids` and `attention_mask` u32 [batch, length], and the encoder's hidden states.
fn encoder(at: &mut Scope, stacks: &impl Stacks, length: Size) -> Result<(Value, Vec<Value>)> {
    let graph = at.graph();
    let dims = [Dim::Sym(graph.symbol(Size::Batch)?), Dim::Sym(graph.symbol(length)?)];
    let ids = graph.input("input_ids", SymMeta::u32(dims));
    let mask = graph.input("attention_mask", SymMeta::u32(dims));
    let sequence = Sequence::whole(Some(mask)).with_base(stacks.bases()[0]);
    let seen = Seen { side: Side::Encoder, sequence: &sequence, memory: None };
    Ok((mask, stack(at, stacks, seen, ids)?))
}

fn class_outputs(
    at: &mut Scope,
    stacks: &impl Stacks,
    options: &BuildOptions,
    class: Class,
) -> Result<()> {
    let (mask, encoded) = encoder(at, stacks, Size::Source)?;
    let graph = at.graph();
    let dims = [Dim::Sym(graph.symbol(Size::Batch)?), Dim::Sym(graph.symbol(Size::Tokens)?)];
    let ids = graph.input("decoder_input_ids", SymMeta::u32(dims));
    let own = graph.input("decoder_attention_mask", SymMeta::u32(dims));
    let encoder_last = encoded[encoded.len() - 1];
    let memory = Memory::Hidden { value: stacks.memory(at, encoder_last)?, mask };
    let sequence = Sequence::whole(Some(own)).with_base(stacks.bases()[1]);
    let seen = Seen { side: Side::Decoder, sequence: &sequence, memory: Some(&memory) };
    let decoded = stack(at, stacks, seen, ids)?;
    let decoder_last = decoded[decoded.len() - 1];
    if options.outputs != Outputs::MaskedTokens {
        // The decoder's is the model's where no head follows.
        let name = if class == Class::Base { "last" } else { "decoder_last" };
        at.graph().output("encoder_last_hidden_state", encoder_last);
        at.graph().output(format!("{name}_hidden_state"), decoder_last);
    }
    hidden_states(at.graph(), options, "encoder_", &encoded);
    hidden_states(at.graph(), options, "decoder_", &decoded);
    if class == Class::Base {
        return Ok(());
    }
    language_model(at, options, decoder_last, |at, last| stacks.head(at, last))
}

fn encode(at: &mut Scope, stacks: &impl Stacks, options: &BuildOptions) -> Result<()> {
    let (_, encoded) = encoder(at, stacks, Size::Source)?;
    let last = encoded[encoded.len() - 1];
    at.graph().output("encoder_last_hidden_state", last);
    let (memory, attend) = (stacks.memory(at, last)?, stacks.cross());
    for layer in 0..stacks.n_layers(Side::Decoder) {
        at.layer(&stacks.layer_name(Side::Decoder, layer), |at| {
            let keys = stacks.cross_keys(at, memory)?;
            Memory::keep(at, &attend, keys, options.cache)
        })?;
    }
    Ok(())
}

fn decode(at: &mut Scope, stacks: &impl Stacks, options: &BuildOptions) -> Result<()> {
    let graph = at.graph();
    let (batch, tokens) = (graph.symbol(Size::Batch)?, graph.symbol(Size::Tokens)?);
    let ids = graph.input("input_ids", SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]));
    // An encoder-decoder's prompt is the start token: no row is padded on the left.
    let sequence = Sequence::step(graph, ids, false, stacks.bases()[1], options.cache)?;
    let memory = Memory::kept(graph, Dim::Sym(batch), options.cache)?;
    let seen = Seen { side: Side::Decoder, sequence: &sequence, memory: Some(&memory) };
    let decoded = stack(at, stacks, seen, ids)?;
    let last = decoded[decoded.len() - 1];
    language_model(at, options, last, |at, last| stacks.head(at, last))
}
