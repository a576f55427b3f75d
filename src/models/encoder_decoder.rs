//! Two BERTs as one model (Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence
//! Generation Tasks"): an encoder, and a decoder that is causal and also attends to the
//! encoder's result. Each is BERT or RoBERTa, under the tensor names of Hugging Face's
//! `EncoderDecoderModel`.

use super::frame::encoder::{self, BERT_FIELDS, Encoder};
use super::frame::seq2seq::{self, Sizes, Stacks};
use super::info::DecoderInfo;
use super::model::{BuildOptions, Family, Files, Model};
use super::{bert, roberta};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Attend, Heads, Memory, Parameters, Sequence, linear};
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "encoder-decoder", build };

/// One of the two models, with the section of the configuration that describes it.
struct Half {
    model: Encoder,
    config: Config,
    max_tokens: usize,
}

struct EncoderDecoder {
    encoder: Half,
    decoder: Half,
    /// Tensors of neither half.
    parameters: Parameters,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    if config.bool_or("tie_encoder_decoder", false)? {
        return Err(config.error("tie_encoder_decoder", true, "false, with weights of its own"));
    }
    let parameters = Parameters::new(&files.checkpoints, &[], options.dtype).biased(true);
    let model = EncoderDecoder {
        encoder: Half::read(config, "encoder", &parameters)?,
        decoder: Half::read(config, "decoder", &parameters)?,
        parameters,
    };
    let info = |half: &Half| DecoderInfo {
        vocab_size: half.model.embeddings.vocab_size,
        max_tokens: half.max_tokens,
    };
    let sizes = Sizes {
        encoder: info(&model.encoder),
        decoder: info(&model.decoder),
        hidden_size: model.encoder.width(),
        n_layers: model.encoder.model.layers.len(),
        n_heads: model.encoder.model.block.attend.n_heads,
    };
    seq2seq::build(&model, config, options, sizes)
}

impl Half {
    /// The half that the section `side` describes, `encoder` or `decoder`.
    fn read(config: &Config, side: &str, parameters: &Parameters) -> Result<Self> {
        let missing = || config.error(side, "missing", "the configuration of that model");
        let config = config.section(side)?.ok_or_else(missing)?;
        let decoder = side == "decoder";
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
        let (read, prefixes): (fn(&Config, Parameters) -> Result<Encoder>, _) =
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
        let mut model = read(&config, parameters.with_prefixes(prefixes))?;
        // Whole names: `encoder.layer.0` alone would be a layer of either half.
        let stem = format!("{}encoder.layer", prefixes[0]);
        model.layers = encoder::layers(&config, &BERT_FIELDS, &stem)?;
        model.block.attend.causal = decoder;
        let max_tokens = model.embeddings.max_tokens(&config)?;
        model.tie(&config)?;
        Ok(Self { model, config, max_tokens })
    }

    fn width(&self) -> usize {
        self.model.block.norm.width
    }

    /// Embedded tokens, all of the first segment.
    fn embed(
        &self,
        graph: &mut Graph,
        side: &str,
        ids: Value,
        sequence: &Sequence,
    ) -> Result<Value> {
        graph.enter(side);
        let x = self.model.embed(graph, ids, None, sequence)?;
        graph.leave();
        Ok(x)
    }
}

impl EncoderDecoder {
    /// A decoder's layer: cross-attention stands between self-attention and feed-forward.
    fn layer(
        &self,
        graph: &mut Graph,
        at: &str,
        x: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Value> {
        let (block, width) = (&self.decoder.model.block, self.decoder.width());
        let p = &block.parameters;
        let name = |part: &str| format!("{at}.crossattention.{part}");
        let x = block.attention(graph, at, x, sequence)?;
        let q = linear(graph, p, &name("self.query"), x, width, width)?;
        let keys = |graph: &mut Graph, memory| self.cross_keys(graph, at, memory);
        let h = memory.attend(graph, &self.cross(), at, q.into(), keys)?;
        let h = linear(graph, p, &name("output.dense"), h, width, width)?;
        let x = block.close(graph, &name("output.LayerNorm"), h, x)?;
        block.feed_forward(graph, at, x)
    }
}

impl Stacks for EncoderDecoder {
    fn bases(&self) -> [usize; 2] {
        [&self.encoder, &self.decoder].map(|half| half.model.embeddings.base())
    }

    fn encode(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Vec<Value>> {
        let x = self.encoder.embed(graph, "encoder", ids, sequence)?;
        self.encoder.model.states(graph, x, sequence)
    }

    fn memory(&self, graph: &mut Graph, encoded: Value) -> Result<Value> {
        let (from, to) = (self.encoder.width(), self.decoder.width());
        if from == to {
            return Ok(encoded);
        }
        let name = "enc_to_dec_proj";
        graph.enter(name);
        let memory = linear(graph, &self.parameters, name, encoded, from, to)?;
        graph.leave();
        Ok(memory)
    }

    fn decoder_layers(&self) -> Vec<String> {
        self.decoder.model.layers.clone()
    }

    fn cross(&self) -> Attend {
        Attend { causal: false, ..self.decoder.model.block.attend.clone() }
    }

    fn cross_keys(&self, graph: &mut Graph, layer: &str, memory: Value) -> Result<[Heads; 2]> {
        let (p, width) = (&self.decoder.model.block.parameters, self.decoder.width());
        let mut project = |part| {
            let name = format!("{layer}.crossattention.self.{part}");
            linear(graph, p, &name, memory, width, width)
        };
        Ok([project("key")?.into(), project("value")?.into()])
    }

    fn decode(
        &self,
        graph: &mut Graph,
        ids: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Vec<Value>> {
        let mut states = vec![self.decoder.embed(graph, "decoder", ids, sequence)?];
        for (i, layer) in self.decoder.model.layers.iter().enumerate() {
            graph.enter(layer.clone());
            states.push(self.layer(graph, layer, states[i], sequence, memory)?);
            graph.leave();
        }
        Ok(states)
    }

    fn head(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("decoder");
        let logits = self.decoder.model.language_head(graph, &self.decoder.config, last)?;
        graph.leave();
        Ok(logits)
    }
}
