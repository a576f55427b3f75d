//! Two BERTs as one model (Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence
//! Generation Tasks"): an encoder, and a decoder that is causal and also attends to the
//! encoder's result. Each is BERT or RoBERTa, under the tensor names of Hugging Face's
//! `EncoderDecoderModel`.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike};
use super::frame::encoder::Encoder;
use super::frame::seq2seq::{self, Seen, Side, StackSizes, Stacks};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use super::{bert, roberta};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Parameters, Scope, Sequence};
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "encoder-decoder", build };

/// One of the two models, with the section of the configuration that describes it.
struct Half {
    model: BertLike,
    parameters: Parameters,
    config: Config,
    max_tokens: usize,
}

struct EncoderDecoder {
    encoder: Half,
    decoder: Half,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    if config.bool_or("tie_encoder_decoder", false)? {
        return Err(config.error("tie_encoder_decoder", true, "false, with weights of its own"));
    }
    let parameters = Parameters::new(&files.checkpoints, &[], options.dtype).biased(true);
    let model = EncoderDecoder {
        encoder: Half::read(config, Side::Encoder, &parameters)?,
        decoder: Half::read(config, Side::Decoder, &parameters)?,
    };
    let info = |half: &Half| DecoderInfo {
        vocab_size: half.model.embeddings.vocab_size,
        max_tokens: half.max_tokens,
    };
    let sizes = StackSizes {
        encoder: info(&model.encoder),
        decoder: info(&model.decoder),
        hidden_size: model.encoder.width(),
        n_layers: model.encoder.model.layers.len(),
        n_heads: model.encoder.model.block.attend.n_heads,
    };
    seq2seq::build(files, options, &parameters, sizes, &model)
}

impl Half {
    /// The half that the section `side` describes, `encoder` or `decoder`.
    fn read(config: &Config, side: Side, parameters: &Parameters) -> Result<Self> {
        let missing = || config.error(side.name(), "missing", "the configuration of that model");
        let config = config.section(side.name())?.ok_or_else(missing)?;
        let decoder = side == Side::Decoder;
        for field in ["is_decoder", "add_cross_attention"] {
            if config.bool_or(field, decoder)? != decoder {
                return Err(config.error(field, !decoder, format!("{decoder} in the {side}")));
            }
        }
        if let Some(width) = config.get("cross_attention_hidden_size") {
            let expected = "null: keys are as wide as the decoder";
            return Err(config.error("cross_attention_hidden_size", width, expected));
        }
        // A decoder has a head, so its trunk carries the prefix of its family.
        let (read, prefixes): (fn(&Config) -> Result<BertLike>, _) =
            match (config.model_type()?, decoder) {
                ("bert", false) => (bert::encoder, ["encoder."].as_slice()),
                ("bert", true) => (bert::encoder, ["decoder.bert.", "decoder."].as_slice()),
                ("roberta" | "xlm-roberta" | "camembert", false) => {
                    (roberta::encoder, ["encoder."].as_slice())
                }
                ("roberta" | "xlm-roberta" | "camembert", true) => {
                    (roberta::encoder, ["decoder.roberta.", "decoder."].as_slice())
                }
                (other, _) => {
                    let expected = "bert, roberta, xlm-roberta or camembert";
                    return Err(config.error("model_type", format!("`{other}`"), expected));
                }
            };
        let mut model = read(&config)?;
        // Whole names: `encoder.layer.0` alone would be a layer of either half.
        let stem = format!("{}encoder.layer", prefixes[0]);
        model.layers = bert_like::layers(&config, &BERT_FIELDS, &stem)?;
        model.block.attend.causal = decoder;
        let max_tokens = model.embeddings.max_tokens(&config)?;
        let parameters = model.tie(&config, &parameters.with_prefixes(prefixes))?;
        Ok(Self { model, parameters, config, max_tokens })
    }

    fn width(&self) -> usize {
        self.model.block.norm.width
    }
}

impl EncoderDecoder {
    fn half(&self, side: Side) -> &Half {
        match side {
            Side::Encoder => &self.encoder,
            Side::Decoder => &self.decoder,
        }
    }
}

impl Stacks for EncoderDecoder {
    fn bases(&self) -> [usize; 2] {
        [&self.encoder, &self.decoder].map(|half| half.model.embeddings.base())
    }

    fn n_layers(&self, side: Side) -> usize {
        self.half(side).model.layers.len()
    }

    /// All tokens are of the first segment.
    fn embed(&self, at: &mut Scope, side: Side, ids: Value, sequence: &Sequence) -> Result<Value> {
        let half = self.half(side);
        at.group(side.name(), |at| {
            half.model.embed(&mut at.with(&half.parameters), ids, None, sequence)
        })
    }

    fn layer_name(&self, side: Side, layer: usize) -> String {
        self.half(side).model.layer_name(layer)
    }

    /// In the decoder, cross-attention stands between self-attention and feed-forward.
    fn layer(&self, at: &mut Scope, seen: Seen, x: Value) -> Result<Value> {
        let Seen { side, sequence, memory } = seen;
        let half = self.half(side);
        let (block, width) = (&half.model.block, half.width());
        let at = &mut at.with(&half.parameters);
        let attend = half.model.attend(at)?;
        let mut x = block.attention(at, &attend, sequence, x)?;
        if let Some(memory) = memory {
            let norm = "crossattention.output.LayerNorm";
            x = at.residual(norm, block.norm, false, x, |at, x| {
                let q = at.linear("crossattention.self.query", x, width)?.into();
                let keys = |at: &mut Scope, memory| self.cross_keys(at, memory);
                let h = memory.attend(at, &self.cross(), q, keys)?;
                at.linear("crossattention.output.dense", h, width)
            })?;
        }
        block.feed_forward(at, x)
    }

    fn memory(&self, at: &mut Scope, encoded: Value) -> Result<Value> {
        let (from, to) = (self.encoder.width(), self.decoder.width());
        if from == to {
            return Ok(encoded);
        }
        at.layer("enc_to_dec_proj", |at| at.linear("", encoded, to))
    }

    fn cross(&self) -> Attend {
        Attend { causal: false, ..self.decoder.model.block.attend.clone() }
    }

    fn cross_keys(&self, at: &mut Scope, memory: Value) -> Result<[Heads; 2]> {
        let width = self.decoder.width();
        let mut at = at.with(&self.decoder.parameters);
        let k = at.linear("crossattention.self.key", memory, width)?;
        Ok([k.into(), at.linear("crossattention.self.value", memory, width)?.into()])
    }

    fn head(&self, at: &mut Scope, last: Value) -> Result<Value> {
        let half = &self.decoder;
        at.group(Side::Decoder.name(), |at| {
            let trunk = half.model.trunk(&half.config, last);
            trunk.masked_lm(&mut at.with(&half.parameters))
        })
    }
}
