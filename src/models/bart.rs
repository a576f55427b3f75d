//! BART (Lewis et al. 2020) and what was built of its code: mBART (Liu et al. 2020), Marian
//! (Junczys-Dowmunt et al. 2018) and Pegasus (Zhang et al. 2020), under the tensor names of
//! Hugging Face's `BartForConditionalGeneration`, with or without the `model.` prefix.

use super::frame::seq2seq::{self, Seen, Side, StackSizes, Stacks};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence, sinusoid};
use crate::ops::{Activation, Sinusoid};
use crate::weights::Config;

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
    vocab_size: usize,
    n_layers: usize,
    n_heads: usize,
    inner: usize,
    /// Checkpoint name of the word table.
    words: &'static str,
}

struct Bart {
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
    let mut parameters =
        Parameters::new(&files.checkpoints, &["model."], options.dtype).biased(true);
    let bart = Bart::read(config, options, variant, &mut parameters)?;
    let info =
        |stack: &Stack| DecoderInfo { vocab_size: stack.vocab_size, max_tokens: bart.max_tokens };
    let sizes = StackSizes {
        encoder: info(&bart.encoder),
        decoder: info(&bart.decoder),
        hidden_size: bart.norm.width,
        n_layers: bart.encoder.n_layers,
        n_heads: bart.encoder.n_heads,
    };
    seq2seq::build(files, options, &parameters, sizes, &bart)
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
    let base = config.usize_or("extra_pos_embeddings", LEARNED_BASE, 0..=Config::MOST)?;
    if !variant.sinusoidal && base != LEARNED_BASE {
        return Err(config.error("extra_pos_embeddings", base, LEARNED_BASE));
    }
    Ok(())
}

impl Stack {
    /// The stack of one side, whose fields carry its name.
    fn read(
        config: &Config,
        side: Side,
        d_model: usize,
        (words, vocab_size): (&'static str, usize),
    ) -> Result<Self> {
        let heads = format!("{side}_attention_heads");
        let n_heads = config.size(&heads)?;
        config.check_divides("d_model", d_model, &heads, n_heads)?;
        Ok(Self {
            vocab_size,
            n_layers: config.layers(&format!("{side}_layers"))?,
            n_heads,
            inner: config.size(&format!("{side}_ffn_dim"))?,
            words,
        })
    }
}

/// Checkpoint name and rows of the encoder's and the decoder's word table: one for both, unless
/// the checkpoint has a stack's own. `parameters` are tied to the one that the output shares.
fn words(config: &Config, parameters: &mut Parameters) -> Result<[(&'static str, usize); 2]> {
    let source = config.size("vocab_size")?;
    let target = config.size_or("decoder_vocab_size", source)?;
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
    fn read(
        config: &Config,
        options: &BuildOptions,
        variant: &Variant,
        parameters: &mut Parameters,
    ) -> Result<Self> {
        check_features(config, variant)?;
        let d_model = config.size("d_model")?;
        let [source, target] = words(config, parameters)?;
        let max_tokens = config.size("max_position_embeddings")?;
        let rows = options.positions(max_tokens);
        let scaled = config.bool_or("scale_embedding", false)?;
        let activation = config.activation_or("activation_function", Activation::GeluErf)?;
        // A buffer that is all zeros as long as nobody trained it: it may be left out.
        let logits_bias = config.bool_or("add_bias_logits", false)?;
        let logits_bias = logits_bias || parameters.contains("final_logits_bias");
        Ok(Self {
            norm: Norm { width: d_model, eps: 1e-5, kind: NormKind::Layer },
            encoder: Stack::read(config, Side::Encoder, d_model, source)?,
            decoder: Stack::read(config, Side::Decoder, d_model, target)?,
            max_tokens,
            sinusoid: variant.sinusoidal.then_some(rows),
            scale: if scaled { (d_model as f64).sqrt() as f32 } else { 1.0 },
            activation,
            normalize_before: config.bool_or("normalize_before", variant.normalize_before)?,
            final_norm: config.bool_or("add_final_layer_norm", variant.final_norm)?,
            embedding_norm: config.bool_or("normalize_embedding", variant.embedding_norm)?,
            logits_bias,
        })
    }

    fn stack(&self, side: Side) -> &Stack {
        match side {
            Side::Encoder => &self.encoder,
            Side::Decoder => &self.decoder,
        }
    }

    /// The position table of one side.
    fn positions(&self, at: &mut Scope) -> Result<Value> {
        let (width, stored) = (self.norm.width, "embed_positions.weight");
        match self.sinusoid {
            // Rounded, or trained further: what the checkpoint has is what it was used with.
            Some(_) if at.parameters().contains(&at.name(stored)) => {
                at.table(stored, self.max_tokens, width)
            }
            Some(rows) => sinusoid(at, rows, width, Sinusoid::Halves),
            None => at.table(stored, LEARNED_BASE + self.max_tokens, width),
        }
    }
}

impl Stacks for Bart {
    fn bases(&self) -> [usize; 2] {
        [if self.sinusoid.is_some() { 0 } else { LEARNED_BASE }; 2]
    }

    fn n_layers(&self, side: Side) -> usize {
        self.stack(side).n_layers
    }

    fn embed(&self, at: &mut Scope, side: Side, ids: Value, sequence: &Sequence) -> Result<Value> {
        let stack = self.stack(side);
        at.group(&format!("{side}.embed_tokens"), |at| {
            let words = at.table(stack.words, stack.vocab_size, self.norm.width)?;
            let mut at = at.scope(side.name());
            let positions = self.positions(&mut at)?;
            let x = sequence.embed(&mut at, ids, words, Some(positions), self.scale)?;
            match self.embedding_norm {
                true => at.norm("layernorm_embedding", self.norm, x),
                false => Ok(x),
            }
        })
    }

    fn layer(&self, at: &mut Scope, seen: Seen, x: Value) -> Result<Value> {
        let Seen { side, sequence, memory } = seen;
        let (stack, norm, width) = (self.stack(side), self.norm, self.norm.width);
        let first = self.normalize_before;
        let attend = Attend {
            causal: side == Side::Decoder,
            ..Attend::new(stack.n_heads, width / stack.n_heads)
        };
        let mut x = at.residual("self_attn_layer_norm", norm, first, x, |at, h| {
            let mut at = at.scope("self_attn");
            let qkv = at.qkv(["q_proj", "k_proj", "v_proj"], h, width)?;
            let h = attend.to_self(&mut at, sequence, qkv)?;
            at.linear("out_proj", h, width)
        })?;
        if let Some(memory) = memory {
            x = at.residual("encoder_attn_layer_norm", norm, first, x, |at, h| {
                let q = at.linear("encoder_attn.q_proj", h, width)?.into();
                let keys = |at: &mut Scope, memory| self.cross_keys(at, memory);
                let h = memory.attend(at, &self.cross(), q, keys)?;
                at.linear("encoder_attn.out_proj", h, width)
            })?;
        }
        at.residual("final_layer_norm", norm, first, x, |at, h| {
            at.feed_forward(["fc1", "fc2"], h, stack.inner, self.activation)
        })
    }

    fn finish(&self, at: &mut Scope, side: Side, x: Value) -> Result<Value> {
        match self.final_norm {
            true => at.layer(&format!("{side}.layer_norm"), |at| at.norm("", self.norm, x)),
            false => Ok(x),
        }
    }

    fn cross(&self) -> Attend {
        Attend::new(self.decoder.n_heads, self.norm.width / self.decoder.n_heads)
    }

    fn cross_keys(&self, at: &mut Scope, memory: Value) -> Result<[Heads; 2]> {
        let width = self.norm.width;
        let k = at.linear("encoder_attn.k_proj", memory, width)?;
        Ok([k.into(), at.linear("encoder_attn.v_proj", memory, width)?.into()])
    }

    fn head(&self, at: &mut Scope, last: Value) -> Result<Value> {
        at.group("lm_head", |at| {
            let rows = self.decoder.vocab_size;
            let logits = at.output(HEAD, last, rows)?;
            if !self.logits_bias {
                return Ok(logits);
            }
            let bias = at.parameters().row_vector("final_logits_bias", rows)?;
            let bias = at.weight(bias);
            at.add(logits, bias)
        })
    }
}
