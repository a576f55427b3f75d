//! T5 (Raffel et al. 2020) and T5 v1.1, FLAN and mT5 (Xue et al. 2021): pre-norm stacks without
//! biases, RMS norms, scores that are not scaled, and positions only as a bias by the bucketed
//! distance of two tokens. Names are those of `T5ForConditionalGeneration`.

use super::frame::seq2seq::{self, Seen, Side, StackSizes, Stacks};
use super::info::{DecoderInfo, UNLIMITED};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, RelativeBias, Scope, Sequence};
use crate::ops::{Activation, Scale};
use crate::weights::Config;

pub(super) const T5: Family = Family { model_type: "t5", build };
pub(super) const MT5: Family = Family { model_type: "mt5", build };

/// The output matrix.
const HEAD: &str = "lm_head.weight";

struct T5Model {
    norm: Norm,
    attend: Attend,
    vocab_size: usize,
    d_model: usize,
    d_ff: usize,
    n_layers: usize,
    n_decoder_layers: usize,
    n_buckets: usize,
    max_distance: usize,
    activation: Activation,
    gated: bool,
    /// Factor of hidden states before the output table.
    head_scale: Option<f32>,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let parameters = Parameters::new(&files.checkpoints, &[], options.dtype).biased(false);
    let t5 = T5Model::read(config)?;
    let tied = config.opt_bool("tie_word_embeddings")? != Some(false);
    let parameters = parameters.tie(tied, [HEAD, words(&parameters)]);
    let size = DecoderInfo { vocab_size: t5.vocab_size, max_tokens: UNLIMITED };
    let sizes = StackSizes {
        encoder: size,
        decoder: size,
        hidden_size: t5.d_model,
        n_layers: t5.n_layers,
        n_heads: t5.attend.n_heads,
    };
    seq2seq::build(files, options, &parameters, sizes, &t5)
}

/// `feed_forward_proj`: an activation, or `gated-` and the gate's; `dense_act_fn` and
/// `is_gated_act` say the same apart in newer files and win there. T5 v1.1 was trained with the
/// tanh form under the name `gated-gelu`.
fn feed_forward_kind(config: &Config, default: &str) -> Result<(bool, Activation)> {
    let field = "feed_forward_proj";
    let proj = config.opt_str(field)?.unwrap_or(default);
    let (gated, name) = match proj.split_once('-') {
        None => (false, proj),
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", name)) => (true, name),
        Some(_) => {
            let expected = "an activation, or `gated-` and one";
            return Err(config.error(field, format!("`{proj}`"), expected));
        }
    };
    let kind = match config.opt_str("dense_act_fn")? {
        Some(name) => config.activation_named("dense_act_fn", name)?,
        None => config.activation_named(field, name)?,
    };
    Ok((config.bool_or("is_gated_act", gated)?, kind))
}

impl T5Model {
    fn read(config: &Config) -> Result<Self> {
        let mt5 = config.model_type()? == MT5.model_type;
        let d_model = config.size("d_model")?;
        let n_layers = config.layers("num_layers")?;
        let field = "relative_attention_num_buckets";
        let n_buckets = config.usize_or(field, 32, 4..=1 << 16)?;
        // Half of a decoder's buckets hold one distance each; the others lie beyond them.
        let reach = n_buckets / 2 + 1..=1 << 20;
        let max_distance = config.usize_or("relative_attention_max_distance", 128, reach)?;
        let default = if mt5 { "gated-gelu" } else { "relu" };
        let (gated, activation) = feed_forward_kind(config, default)?;
        let tied = config.opt_bool("tie_word_embeddings")?;
        // T5 scales before its table where that was tied when it was trained; mT5 never does.
        let scaled = !mt5 && config.bool_or("scale_decoder_outputs", tied != Some(false))?;
        Ok(Self {
            norm: Norm {
                width: d_model,
                eps: config.eps("layer_norm_epsilon", 1e-6)?,
                kind: NormKind::Rms,
            },
            attend: Attend {
                scale: 1.0,
                ..Attend::new(config.size("num_heads")?, config.size("d_kv")?)
            },
            vocab_size: config.size("vocab_size")?,
            d_model,
            d_ff: config.size("d_ff")?,
            n_layers,
            n_decoder_layers: config.layers_or("num_decoder_layers", n_layers)?,
            n_buckets,
            max_distance,
            activation,
            gated,
            head_scale: scaled.then(|| (1.0 / (d_model as f64).sqrt()) as f32),
        })
    }

    /// How a stack attends to itself: with the bias of its first layer.
    fn attend(&self, at: &mut Scope, side: Side) -> Result<Attend> {
        let name = format!("{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let table = at.parameters().vector(&name, &[self.n_buckets, self.attend.n_heads])?;
        let table = at.weight(table);
        let both = side == Side::Encoder;
        let bias = Some(RelativeBias::new(at, table, both, self.n_buckets, self.max_distance)?);
        Ok(Attend { causal: !both, bias, ..self.attend.clone() })
    }
}

/// Checkpoint name of the table that both stacks embed with, unless they have their own.
fn words(parameters: &Parameters) -> &'static str {
    parameters.either(&[
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
    ])
}

impl Stacks for T5Model {
    fn n_layers(&self, side: Side) -> usize {
        match side {
            Side::Encoder => self.n_layers,
            Side::Decoder => self.n_decoder_layers,
        }
    }

    fn embed(&self, at: &mut Scope, side: Side, ids: Value, sequence: &Sequence) -> Result<Value> {
        at.group(&format!("{side}.embed_tokens"), |at| {
            let own = format!("{side}.embed_tokens.weight");
            let words = at.parameters().tied(&own, words(at.parameters()))?.to_owned();
            let words = at.table(&words, self.vocab_size, self.d_model)?;
            sequence.embed(at, ids, words, None, 1.0)
        })
    }

    fn layer_name(&self, side: Side, layer: usize) -> String {
        format!("{side}.block.{layer}")
    }

    /// `x + part(norm(x))` for self-attention, cross-attention and feed-forward.
    fn layer(&self, at: &mut Scope, seen: Seen, x: Value) -> Result<Value> {
        let Seen { side, sequence, memory } = seen;
        let (norm, width) = (self.norm, self.d_model);
        let inner = self.attend.n_heads * self.attend.head_dim;
        let attend = self.attend(at, side)?;
        let mut x = at.scope("layer.0").residual("layer_norm", norm, true, x, |at, h| {
            let mut at = at.scope("SelfAttention");
            let qkv = at.qkv(["q", "k", "v"], h, inner)?;
            let h = attend.to_self(&mut at, sequence, qkv)?;
            at.linear("o", h, width)
        })?;
        if let Some(memory) = memory {
            x = at.residual("layer.1.layer_norm", norm, true, x, |at, h| {
                let q = at.linear("layer.1.EncDecAttention.q", h, inner)?.into();
                let keys = |at: &mut Scope, memory| self.cross_keys(at, memory);
                let h = memory.attend(at, &self.attend, q, keys)?;
                at.linear("layer.1.EncDecAttention.o", h, width)
            })?;
        }
        let last = if memory.is_some() { "layer.2" } else { "layer.1" };
        at.scope(last).residual("layer_norm", norm, true, x, |at, h| {
            let (mut at, f) = (at.scope("DenseReluDense"), self.activation);
            match self.gated {
                true => at.gated_feed_forward(["wi_0", "wi_1", "wo"], h, self.d_ff, f),
                false => at.feed_forward(["wi", "wo"], h, self.d_ff, f),
            }
        })
    }

    fn finish(&self, at: &mut Scope, side: Side, x: Value) -> Result<Value> {
        at.layer(&format!("{side}.final_layer_norm"), |at| at.norm("", self.norm, x))
    }

    fn cross(&self) -> Attend {
        self.attend.clone()
    }

    fn cross_keys(&self, at: &mut Scope, memory: Value) -> Result<[Heads; 2]> {
        let inner = self.attend.n_heads * self.attend.head_dim;
        let mut at = at.scope("layer.1.EncDecAttention");
        Ok([at.linear("k", memory, inner)?.into(), at.linear("v", memory, inner)?.into()])
    }

    fn head(&self, at: &mut Scope, last: Value) -> Result<Value> {
        at.group("lm_head", |at| {
            let x = match self.head_scale {
                Some(scale) => at.apply(Scale { scale, cap: None }, [Some(last)])?,
                None => last,
            };
            at.output(HEAD, x, self.vocab_size)
        })
    }
}
