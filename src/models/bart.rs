//! BART (Lewis et al. 2020) and what was built of its code: mBART (Liu et al. 2020), Marian
//! (Junczys-Dowmunt et al. 2018) and Pegasus (Zhang et al. 2020), under the tensor names of
//! Hugging Face's `BartForConditionalGeneration`, with or without the `model.` prefix.

use super::frame::seq2seq::{self, Sizes, Stacks};
use super::frame::sizes::{MOST, output_head};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{
    Attend, Heads, Memory, Norm, NormKind, Parameters, Sequence, activation, add, feed_forward,
    linear, sinusoid, table,
};
use crate::ops::{Activation, Sinusoid};
use crate::weights::{self, Config};

/// What sets a family apart, where its configuration does not say otherwise.
struct Variant {
    /// Positions are computed, not learned.
    sinusoidal: bool,
    /// Norms come before the parts of a layer, not after them.
    normalize_before: bool,
    /// A norm follows each stack.
    final_norm: bool,
    /// A norm follows the embeddings.
    embedding_norm: bool,
}

const POST_NORM: Variant =
    Variant { sinusoidal: false, normalize_before: false, final_norm: false, embedding_norm: true };
const PRE_NORM: Variant =
    Variant { sinusoidal: false, normalize_before: true, final_norm: true, embedding_norm: true };

pub(super) const BART: Family =
    Family { model_type: "bart", build: |files, options| build(files, options, &POST_NORM) };
pub(super) const MBART: Family =
    Family { model_type: "mbart", build: |files, options| build(files, options, &PRE_NORM) };
pub(super) const MARIAN: Family = Family {
    model_type: "marian",
    build: |files, options| {
        let marian = Variant { sinusoidal: true, embedding_norm: false, ..POST_NORM };
        build(files, options, &marian)
    },
};
pub(super) const PEGASUS: Family = Family {
    model_type: "pegasus",
    build: |files, options| {
        let pegasus = Variant { sinusoidal: true, embedding_norm: false, ..PRE_NORM };
        build(files, options, &pegasus)
    },
};

/// Rows in front of position 0 in a learned table: BART kept its predecessor's padding rows.
const LEARNED_BASE: usize = 2;

/// The output matrix.
const HEAD: &str = "lm_head.weight";

/// One of the two stacks.
struct Stack {
    name: &'static str,
    vocab_size: usize,
    n_layers: usize,
    n_heads: usize,
    inner: usize,
    /// Checkpoint name of the word table.
    words: &'static str,
}

struct Bart {
    parameters: Parameters,
    norm: Norm,
    encoder: Stack,
    decoder: Stack,
    max_tokens: usize,
    /// Rows of the position table, where it is computed.
    sinusoid: Option<usize>,
    scale: f32,
    activation: Activation,
    normalize_before: bool,
    final_norm: bool,
    embedding_norm: bool,
    logits_bias: bool,
}

fn build(files: &Files, options: &BuildOptions, variant: &Variant) -> Result<Model> {
    let config = &files.config;
    let bart = Bart::read(files, options, variant)?;
    let info =
        |stack: &Stack| DecoderInfo { vocab_size: stack.vocab_size, max_tokens: bart.max_tokens };
    let sizes = Sizes {
        encoder: info(&bart.encoder),
        decoder: info(&bart.decoder),
        hidden_size: bart.norm.width,
        n_layers: bart.encoder.n_layers,
        n_heads: bart.encoder.n_heads,
    };
    seq2seq::build(&bart, config, options, sizes)
}

/// Fields of old files whose other value asks for what is not supported here.
fn check_features(config: &Config, variant: &Variant) -> Result<()> {
    let fixed =
        [("static_position_embeddings", variant.sinusoidal), ("do_blenderbot_90_layernorm", false)];
    for (field, only) in fixed {
        if config.bool_or(field, only)? != only {
            return Err(config.error(field, !only, format!("{only} for this model_type")));
        }
    }
    let base = config.usize_or("extra_pos_embeddings", LEARNED_BASE, 0..=MOST)?;
    if !variant.sinusoidal && base != LEARNED_BASE {
        return Err(config.error("extra_pos_embeddings", base, LEARNED_BASE));
    }
    Ok(())
}

impl Stack {
    /// `encoder` or `decoder`, whose fields carry that name.
    fn read(
        config: &Config,
        name: &'static str,
        d_model: usize,
        (words, vocab_size): (&'static str, usize),
    ) -> Result<Self> {
        let heads = format!("{name}_attention_heads");
        let n_heads = config.usize_field(&heads, 1..=MOST)?;
        config.check_divides("d_model", d_model, &heads, n_heads)?;
        Ok(Self {
            name,
            vocab_size,
            n_layers: config.usize_field(&format!("{name}_layers"), 1..=4096)?,
            n_heads,
            inner: config.usize_field(&format!("{name}_ffn_dim"), 1..=MOST)?,
            words,
        })
    }
}

/// Checkpoint name and rows of the encoder's and the decoder's word table: one for both, unless
/// the checkpoint has a stack's own. `parameters` are tied to the one that the output shares.
fn words(config: &Config, parameters: &mut Parameters) -> Result<[(&'static str, usize); 2]> {
    let source = config.usize_field("vocab_size", 1..=MOST)?;
    let target = config.usize_or("decoder_vocab_size", source, 1..=MOST)?;
    let own = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    let tied = config.bool_or("tie_word_embeddings", true)?;
    if !config.bool_or("share_encoder_decoder_embeddings", true)? {
        *parameters = parameters.tie(tied, [HEAD, own[1]]);
        return Ok([(own[0], source), (own[1], target)]);
    }
    if target != source {
        let expected = format!("{source} as `vocab_size`: the stacks share their embeddings");
        return Err(config.error("decoder_vocab_size", target, expected));
    }
    let shared = parameters.either(&["shared.weight", own[0], own[1]]);
    *parameters = parameters.tie(tied, [HEAD, shared]);
    Ok([(parameters.tied(own[0], shared)?, source), (parameters.tied(own[1], shared)?, source)])
}

impl Bart {
    fn read(files: &Files, options: &BuildOptions, variant: &Variant) -> Result<Self> {
        let config = &files.config;
        check_features(config, variant)?;
        let mut parameters =
            Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(true);
        let d_model = config.usize_field("d_model", 1..=MOST)?;
        let [source, target] = words(config, &mut parameters)?;
        let max_tokens = config.usize_field("max_position_embeddings", 1..=MOST)?;
        let rows = options.max_tokens.map_or(max_tokens, |most| most.clamp(1, max_tokens));
        let scaled = config.bool_or("scale_embedding", false)?;
        let kind = config.activation_or("activation_function", weights::Activation::GeluErf)?;
        // A buffer that is all zeros as long as nobody trained it: it may be left out.
        let logits_bias = config.bool_or("add_bias_logits", false)?;
        let logits_bias = logits_bias || parameters.contains("final_logits_bias");
        Ok(Self {
            norm: Norm { width: d_model, eps: 1e-5, kind: NormKind::Layer },
            encoder: Stack::read(config, "encoder", d_model, source)?,
            decoder: Stack::read(config, "decoder", d_model, target)?,
            max_tokens,
            sinusoid: variant.sinusoidal.then_some(rows),
            scale: if scaled { (d_model as f64).sqrt() as f32 } else { 1.0 },
            activation: activation(kind),
            normalize_before: config.bool_or("normalize_before", variant.normalize_before)?,
            final_norm: config.bool_or("add_final_layer_norm", variant.final_norm)?,
            embedding_norm: config.bool_or("normalize_embedding", variant.embedding_norm)?,
            logits_bias,
            parameters,
        })
    }

    /// Hidden states of one stack; the decoder attends to `memory` too.
    fn stack(
        &self,
        graph: &mut Graph,
        stack: &Stack,
        ids: Value,
        sequence: &Sequence,
        memory: Option<&Memory>,
    ) -> Result<Vec<Value>> {
        let (p, width, name) = (&self.parameters, self.norm.width, stack.name);
        graph.enter(format!("{name}.embed_tokens"));
        let words = table(graph, p, stack.words, stack.vocab_size, width)?;
        let stored = format!("{name}.embed_positions.weight");
        let positions = match self.sinusoid {
            // Rounded, or trained further: what the checkpoint has is what it was used with.
            Some(_) if p.contains(&stored) => table(graph, p, &stored, self.max_tokens, width)?,
            Some(rows) => sinusoid(graph, rows, width, Sinusoid::Halves)?,
            None => table(graph, p, &stored, LEARNED_BASE + self.max_tokens, width)?,
        };
        let mut x = sequence.embed(graph, ids, words, Some(positions), self.scale)?;
        if self.embedding_norm {
            x = self.norm.apply(graph, p, &format!("{name}.layernorm_embedding"), x)?;
        }
        graph.leave();
        let mut states = vec![x];
        for layer in 0..stack.n_layers {
            let at = format!("{name}.layers.{layer}");
            graph.enter(at.clone());
            states.push(self.layer(graph, stack, &at, states[layer], sequence, memory)?);
            graph.leave();
        }
        if self.final_norm {
            let name = format!("{name}.layer_norm");
            graph.enter(name.clone());
            let last = self.norm.apply(graph, p, &name, states[stack.n_layers])?;
            states[stack.n_layers] = last;
            graph.leave();
        }
        Ok(states)
    }

    fn layer(
        &self,
        graph: &mut Graph,
        stack: &Stack,
        at: &str,
        x: Value,
        sequence: &Sequence,
        memory: Option<&Memory>,
    ) -> Result<Value> {
        let (p, norm, width) = (&self.parameters, self.norm, self.norm.width);
        let first = self.normalize_before;
        let name = |part: &str| format!("{at}.{part}");
        let square =
            |graph: &mut Graph, part: &str, x| linear(graph, p, &name(part), x, width, width);

        let attend = Attend {
            causal: memory.is_some(),
            ..Attend::new(stack.n_heads, width / stack.n_heads)
        };
        let mut x =
            norm.around(graph, p, &name("self_attn_layer_norm"), first, x, |graph, h| {
                let mut project = |part| square(graph, &format!("self_attn.{part}_proj"), h);
                let qkv = [project("q")?.into(), project("k")?.into(), project("v")?.into()];
                let h = attend.to_self(graph, sequence, at, qkv)?;
                square(graph, "self_attn.out_proj", h)
            })?;
        if let Some(memory) = memory {
            let norm_name = name("encoder_attn_layer_norm");
            x = norm.around(graph, p, &norm_name, first, x, |graph, h| {
                let q = square(graph, "encoder_attn.q_proj", h)?.into();
                let keys = |graph: &mut Graph, memory| self.cross_keys(graph, at, memory);
                let h = memory.attend(graph, &self.cross(), at, q, keys)?;
                square(graph, "encoder_attn.out_proj", h)
            })?;
        }
        norm.around(graph, p, &name("final_layer_norm"), first, x, |graph, h| {
            let names = [name("fc1"), name("fc2")];
            let names = names.each_ref().map(String::as_str);
            feed_forward(graph, p, names, h, [width, stack.inner], self.activation)
        })
    }
}

impl Stacks for Bart {
    fn bases(&self) -> [usize; 2] {
        [if self.sinusoid.is_some() { 0 } else { LEARNED_BASE }; 2]
    }

    fn encode(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Vec<Value>> {
        self.stack(graph, &self.encoder, ids, sequence, None)
    }

    fn decoder_layers(&self) -> Vec<String> {
        (0..self.decoder.n_layers).map(|layer| format!("decoder.layers.{layer}")).collect()
    }

    fn cross(&self) -> Attend {
        Attend::new(self.decoder.n_heads, self.norm.width / self.decoder.n_heads)
    }

    fn cross_keys(&self, graph: &mut Graph, layer: &str, memory: Value) -> Result<[Heads; 2]> {
        let (p, width) = (&self.parameters, self.norm.width);
        let mut project = |part| {
            let name = format!("{layer}.encoder_attn.{part}_proj");
            linear(graph, p, &name, memory, width, width)
        };
        Ok([project("k")?.into(), project("v")?.into()])
    }

    fn decode(
        &self,
        graph: &mut Graph,
        ids: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Vec<Value>> {
        self.stack(graph, &self.decoder, ids, sequence, Some(memory))
    }

    fn head(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("lm_head");
        let (p, rows) = (&self.parameters, self.decoder.vocab_size);
        let mut logits = output_head(graph, p, HEAD, [rows, self.norm.width], last)?;
        if self.logits_bias {
            let bias = graph.weight(p.row_vector("final_logits_bias", rows)?);
            logits = add(graph, logits, bias)?;
        }
        graph.leave();
        Ok(logits)
    }
}
