//! The frame of encoder-decoders: which inputs a graph takes and what it gives out, around the
//! two stacks that a family builds.

use super::outputs::{hidden_states, language_model, pool};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::info::{Class, DecoderInfo, Kind, ModelInfo};
use crate::models::model::{BuildOptions, Model, Outputs};
use crate::nn::{Attend, Heads, Memory, Sequence};
use crate::tensor::{Dim, SymMeta};
use crate::weights::Config;

/// What a family builds. Hidden states are listed from the input of layer 0 to the output of the
/// last layer, after the final norm where there is one; f32 [batch, tokens, width] each.
pub trait Stacks {
    /// What learned position tables of encoder and decoder hold in front of position 0's row.
    fn bases(&self) -> [usize; 2] {
        [0, 0]
    }

    /// Hidden states of the encoder for `ids` u32 [batch, source].
    fn encode(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Vec<Value>>;

    /// What the decoder attends to, given the encoder's last hidden state.
    fn memory(&self, _graph: &mut Graph, encoded: Value) -> Result<Value> {
        Ok(encoded)
    }

    /// Names of the decoder's layers, in order.
    fn decoder_layers(&self) -> Vec<String>;

    /// How the decoder attends to the encoder's result.
    fn cross(&self) -> Attend;

    /// Keys and values that a decoder layer makes of what it attends to.
    fn cross_keys(&self, graph: &mut Graph, layer: &str, memory: Value) -> Result<[Heads; 2]>;

    /// Hidden states of the decoder for `ids` u32 [batch, tokens].
    fn decode(
        &self,
        graph: &mut Graph,
        ids: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Vec<Value>>;

    /// `logits` [.., vocabulary] of the decoder's last hidden state.
    fn head(&self, graph: &mut Graph, last: Value) -> Result<Value>;
}

/// Sizes that every encoder-decoder has.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
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

/// Builds the graph that `options` ask for, from a family's stacks: both of them, or the encoder
/// alone where the class is one (`T5EncoderModel`) or an embedding is asked for. Errors where
/// another configuration is of one stack alone.
pub fn build(
    stacks: &impl Stacks,
    config: &Config,
    options: &BuildOptions,
    sizes: Sizes,
) -> Result<Model> {
    let class = Class::of(config, &[Class::Seq2SeqLm, Class::Base, Class::Encoder])?;
    if class == Class::Encoder || matches!(options.outputs, Outputs::Embedding { .. }) {
        return encoder_alone(stacks, config, options, sizes);
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
    match options.outputs {
        Outputs::Encode => encode(&mut graph, stacks, options)?,
        Outputs::Decode => decode(&mut graph, stacks, options)?,
        _ => class_outputs(&mut graph, stacks, options, class)?,
    }
    let info = info(config, sizes, Kind::EncoderDecoder, class)?;
    Ok(Model { graph, info, notices: Vec::new() })
}

fn info(config: &Config, sizes: Sizes, kind: Kind, class: Class) -> Result<ModelInfo> {
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
    stacks: &impl Stacks,
    config: &Config,
    options: &BuildOptions,
    sizes: Sizes,
) -> Result<Model> {
    let mut graph = Graph::new();
    let (mask, encoded) = encoder(&mut graph, stacks, "tokens")?;
    let last = encoded[encoded.len() - 1];
    match options.outputs {
        Outputs::Class { .. } => {
            hidden_states(&mut graph, options, "", &encoded);
            graph.output("last_hidden_state", last);
        }
        Outputs::Embedding { pooling, normalize } => {
            pool(&mut graph, last, mask, pooling, normalize)?;
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
fn encoder(graph: &mut Graph, stacks: &impl Stacks, length: &str) -> Result<(Value, Vec<Value>)> {
    let dims = [Dim::Sym(graph.symbol("batch")?), Dim::Sym(graph.symbol(length)?)];
    let ids = graph.input("input_ids", SymMeta::u32(dims));
    let mask = graph.input("attention_mask", SymMeta::u32(dims));
    let sequence = Sequence::whole(Some(mask)).with_base(stacks.bases()[0]);
    Ok((mask, stacks.encode(graph, ids, &sequence)?))
}

fn class_outputs(
    graph: &mut Graph,
    stacks: &impl Stacks,
    options: &BuildOptions,
    class: Class,
) -> Result<()> {
    let (mask, encoded) = encoder(graph, stacks, "source")?;
    let dims = [Dim::Sym(graph.symbol("batch")?), Dim::Sym(graph.symbol("tokens")?)];
    let ids = graph.input("decoder_input_ids", SymMeta::u32(dims));
    let own = graph.input("decoder_attention_mask", SymMeta::u32(dims));
    let encoder_last = encoded[encoded.len() - 1];
    let memory = Memory::Hidden { value: stacks.memory(graph, encoder_last)?, mask };
    let sequence = Sequence::whole(Some(own)).with_base(stacks.bases()[1]);
    let decoded = stacks.decode(graph, ids, &sequence, &memory)?;
    let decoder_last = decoded[decoded.len() - 1];
    if options.outputs != Outputs::MaskedTokens {
        // The decoder's is the model's where no head follows.
        let name = if class == Class::Base { "last" } else { "decoder_last" };
        graph.output("encoder_last_hidden_state", encoder_last);
        graph.output(format!("{name}_hidden_state"), decoder_last);
    }
    hidden_states(graph, options, "encoder_", &encoded);
    hidden_states(graph, options, "decoder_", &decoded);
    if class == Class::Base {
        return Ok(());
    }
    language_model(graph, options, decoder_last, |graph, last| stacks.head(graph, last))
}

fn encode(graph: &mut Graph, stacks: &impl Stacks, options: &BuildOptions) -> Result<()> {
    let (_, encoded) = encoder(graph, stacks, "source")?;
    let last = encoded[encoded.len() - 1];
    graph.output("encoder_last_hidden_state", last);
    let (memory, attend) = (stacks.memory(graph, last)?, stacks.cross());
    for layer in stacks.decoder_layers() {
        graph.enter(layer.clone());
        let keys = stacks.cross_keys(graph, &layer, memory)?;
        Memory::keep(graph, &attend, &layer, keys, options.cache)?;
        graph.leave();
    }
    Ok(())
}

fn decode(graph: &mut Graph, stacks: &impl Stacks, options: &BuildOptions) -> Result<()> {
    let (batch, tokens) = (graph.symbol("batch")?, graph.symbol("tokens")?);
    let ids = graph.input("input_ids", SymMeta::u32([Dim::Sym(batch), Dim::Sym(tokens)]));
    // An encoder-decoder's prompt is the start token: no row is padded on the left.
    let sequence = Sequence::step(graph, ids, false, stacks.bases()[1], options.cache)?;
    let memory = Memory::kept(graph, Dim::Sym(batch), options.cache)?;
    let decoded = stacks.decode(graph, ids, &sequence, &memory)?;
    let last = decoded[decoded.len() - 1];
    language_model(graph, options, last, |graph, last| stacks.head(graph, last))
}
