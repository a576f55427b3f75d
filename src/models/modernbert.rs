//! ModernBERT (Warner et al. 2024): norms before the blocks, gated feed-forwards, rotary positions
//! without a table, and layers that see a window to both sides between those that see everything.

use super::frame::encoder::{self, Encoder};
use super::frame::grouped::windows;
use super::frame::heads::{Classifier, Heads, MaskedLm, Trunk};
use super::frame::rope::{FULL, RopeConfig, SLIDING};
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::info::Class;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{self, Attend, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::{Activation, Gated, Pool};
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "modernbert", build };

const WORDS: &str = "embeddings.tok_embeddings.weight";
const DECODER: &str = "decoder.weight";

const HEADS: Heads = Heads {
    pooler: None,
    classifier: Classifier {
        dense: "head.dense",
        activation: Activation::GeluErf,
        out: "classifier",
    },
    masked_lm: MaskedLm {
        dense: "head.dense",
        norm: "head.norm",
        decoder: "decoder",
        bias: "decoder.bias",
        activation: Activation::GeluErf,
    },
    detector: None,
    next_sentence: None,
};

/// Which layers have biases.
struct Biases {
    attention: bool,
    feed_forward: bool,
    norm: bool,
    head: bool,
    decoder: bool,
}

struct ModernBert {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    activation: Activation,
    head_activation: Activation,
    /// Whether a text's label is read from the mean of its tokens, instead of from the first.
    mean: bool,
    biases: Biases,
    /// Frequencies of layers that see everything, and of those with a window.
    ropes: [RopeConfig; 2],
    /// Tokens that a layer's token sees on either side, itself counted in.
    windows: Vec<Option<usize>>,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let family = ModernBert::read(config)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype)
        .biased(family.biases.norm)
        .tie(tied, [DECODER, WORDS]);
    encoder::build(files, options, &parameters, &family)
}

impl ModernBert {
    fn read(config: &Config) -> Result<Self> {
        config.refuse(&["rope_scaling"])?;
        let sizes = Sizes::read(config, SIZE_NAMES)?;
        config.check_divides(
            "hidden_size",
            sizes.hidden_size,
            "num_attention_heads",
            sizes.n_heads,
        )?;
        let head_dim = sizes.hidden_size / sizes.n_heads;
        if !head_dim.is_multiple_of(2) {
            let expected = "so many that heads are even: their columns rotate in pairs";
            return Err(config.error("num_attention_heads", sizes.n_heads, expected));
        }
        let activation = |field| config.activation_or(field, Activation::GeluErf);
        let pooling = config.opt_str("classifier_pooling")?.unwrap_or("cls");
        if !["cls", "mean"].contains(&pooling) {
            return Err(config.error("classifier_pooling", format!("`{pooling}`"), "cls or mean"));
        }
        let period = config.size_or("global_attn_every_n_layers", 3)?;
        let half = config.size_or("local_attention", 128)? / 2;
        let slides = |layer: usize| !layer.is_multiple_of(period);
        let bias = |field, default| config.bool_or(field, default);
        Ok(Self {
            sizes,
            inner: config.size("intermediate_size")?,
            norm: Norm {
                width: sizes.hidden_size,
                eps: config.eps("norm_eps", 1e-5)?,
                kind: NormKind::Layer,
            },
            activation: activation("hidden_activation")?,
            head_activation: activation("classifier_activation")?,
            mean: pooling == "mean",
            biases: Biases {
                attention: bias("attention_bias", false)?,
                feed_forward: bias("mlp_bias", false)?,
                norm: bias("norm_bias", false)?,
                head: bias("classifier_bias", false)?,
                decoder: bias("decoder_bias", true)?,
            },
            ropes: [
                RopeConfig::of_kind(config, FULL, "global_rope_theta", 160_000.0)?,
                RopeConfig::of_kind(config, SLIDING, "local_rope_theta", 10_000.0)?,
            ],
            windows: windows(config, sizes.n_layers, Some(half + 1), slides)?,
        })
    }

    /// `norm(act(W h))`, which every head begins with.
    fn head(&self, at: &mut Scope, h: Value) -> Result<Value> {
        at.layer("head", |at| {
            let h = at.scope("").biased(self.biases.head).linear("dense", h, self.norm.width)?;
            let h = at.activate(self.head_activation, h)?;
            at.norm("norm", self.norm, h)
        })
    }
}

impl Encoder for ModernBert {
    fn sizes(&self, _config: &Config) -> Result<Sizes> {
        Ok(self.sizes)
    }

    fn embed(
        &self,
        at: &mut Scope,
        ids: Value,
        _segments: Option<Value>,
        sequence: &Sequence,
    ) -> Result<Value> {
        let words = at.table(WORDS, self.sizes.vocab_size, self.sizes.hidden_size)?;
        at.layer("embeddings", |at| {
            let x = sequence.embed(at, ids, words, None, 1.0)?;
            at.norm("norm", self.norm, x)
        })
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let Sizes { hidden_size: width, n_heads, max_tokens, .. } = self.sizes;
        let head_dim = width / n_heads;
        let window = self.windows[layer];
        let rotary = self.ropes[usize::from(window.is_some())].rotary(at, head_dim, max_tokens)?;
        let ahead = window.map_or(0, |window| window - 1);
        let attend =
            Attend { rotary: Some(rotary), window, ahead, ..Attend::new(n_heads, head_dim) };
        // The embeddings' norm is the first layer's.
        let h = if layer == 0 { x } else { at.norm("attn_norm", self.norm, x)? };
        let mut attention = at.scope("attn").biased(self.biases.attention);
        let packed = attention.linear("Wqkv", h, 3 * width)?;
        let h = attend.to_self(&mut attention, sequence, nn::Heads::packed(packed, width))?;
        let h = attention.linear("Wo", h, width)?;
        let x = at.add(h, x)?;
        at.residual("mlp_norm", self.norm, true, x, |at, h| {
            let mut mlp = at.scope("mlp").biased(self.biases.feed_forward);
            let both = mlp.linear("Wi", h, 2 * self.inner)?;
            let h = mlp.apply(Gated { activation: self.activation }, [Some(both), None])?;
            mlp.linear("Wo", h, width)
        })
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.layer("final_norm", |at| at.norm("", self.norm, x))
    }

    fn heads(&self) -> &Heads {
        &HEADS
    }

    fn trunk<'a>(&'a self, config: &'a Config, last: Value) -> Trunk<'a> {
        Trunk {
            config,
            heads: &HEADS,
            last,
            norm: self.norm,
            activation: self.head_activation,
            vocab_size: self.sizes.vocab_size,
            word_width: self.sizes.hidden_size,
        }
    }

    fn words(&self, at: &mut Scope, trunk: &Trunk<'_>) -> Result<Value> {
        let h = self.head(at, trunk.last)?;
        at.group("decoder", |at| {
            let y = at.output(DECODER, h, self.sizes.vocab_size)?;
            if !self.biases.decoder {
                return Ok(y);
            }
            let bias = at.vector("decoder.bias", &[self.sizes.vocab_size])?;
            at.add(y, bias)
        })
    }

    fn outputs(&self, at: &mut Scope, class: Class, trunk: &Trunk<'_>, mask: Value) -> Result<()> {
        let h = match class {
            Class::SequenceClassification if self.mean => {
                at.apply(Pool::Mean, [Some(trunk.last), Some(mask)])?
            }
            Class::SequenceClassification => at.apply(Pool::Cls, [Some(trunk.last), None])?,
            Class::Base => return trunk.outputs(at, class),
            Class::MaskedLm => {
                let logits = self.words(at, trunk)?;
                at.graph().output("logits", logits);
                return Ok(());
            }
            _ => trunk.last,
        };
        let h = self.head(at, h)?;
        let mut plain = at.scope("").biased(true);
        if class == Class::QuestionAnswering {
            return trunk.spans(&mut plain, "classifier", h);
        }
        let logits = trunk.labelled(&mut plain, "classifier", h)?;
        at.graph().output("logits", logits);
        Ok(())
    }
}
