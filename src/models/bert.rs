//! BERT: post-norm encoder with learned positions and segments (Devlin et al. 2018), under
//! the tensor names of Hugging Face's `BertModel`, with or without the `bert.` prefix and
//! with `gamma`/`beta` for norm weights in old exports.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike, Embeddings};
use super::frame::encoder;
use super::frame::heads::{Classifier, Heads, MaskedLm};
use super::frame::post_norm::BERT_LAYER;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "bert", build };

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let parameters = Parameters::new(&files.checkpoints, &["bert."], options.dtype).biased(true);
    let encoder = encoder(&files.config)?;
    let parameters = encoder.tie(&files.config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}

/// The encoder that `config` describes.
pub(super) fn encoder(config: &Config) -> Result<BertLike> {
    let eps = config.eps("layer_norm_eps", 1e-12)?;
    let block = bert_like::block(config, &BERT_FIELDS, BERT_LAYER, eps)?;
    let heads = Heads {
        pooler: Some("pooler.dense"),
        classifier: Classifier {
            dense: "pooler.dense",
            activation: Activation::Tanh,
            out: "classifier",
        },
        masked_lm: MaskedLm {
            dense: "cls.predictions.transform.dense",
            norm: "cls.predictions.transform.LayerNorm",
            decoder: "cls.predictions.decoder",
            bias: "cls.predictions.bias",
            activation: block.activation,
        },
        detector: None,
        next_sentence: Some("cls.seq_relationship"),
    };
    Ok(BertLike {
        embeddings: Embeddings::of(config, block.norm.width)?,
        layers: bert_like::layers(config, &BERT_FIELDS, "encoder.layer")?,
        block,
        bias: None,
        heads,
    })
}
