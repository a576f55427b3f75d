//! RoBERTa (Liu et al. 2019) and what keeps its architecture, XLM-RoBERTa and CamemBERT: BERT's
//! layers, with positions that begin behind the padding id, and heads of its own.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike, Embeddings};
use super::frame::encoder;
use super::frame::heads::{Classifier, Heads, MaskedLm};
use super::frame::post_norm::BERT_LAYER;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "roberta", build };
pub(super) const XLM: Family = Family { model_type: "xlm-roberta", build };
pub(super) const CAMEMBERT: Family = Family { model_type: "camembert", build };

/// RoBERTa's heads; MPNet has the same.
pub(super) const HEADS: Heads = Heads {
    pooler: Some("pooler.dense"),
    classifier: Classifier {
        dense: "classifier.dense",
        activation: Activation::Tanh,
        out: "classifier.out_proj",
    },
    masked_lm: MaskedLm {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: "lm_head.decoder",
        bias: "lm_head.bias",
        activation: Activation::GeluErf,
    },
    detector: None,
    next_sentence: None,
};

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let parameters = Parameters::new(&files.checkpoints, &["roberta."], options.dtype).biased(true);
    let encoder = encoder(&files.config)?;
    let parameters = encoder.tie(&files.config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}

/// The encoder that `config` describes.
pub(super) fn encoder(config: &Config) -> Result<BertLike> {
    let eps = config.eps("layer_norm_eps", 1e-12)?;
    let block = bert_like::block(config, &BERT_FIELDS, BERT_LAYER, eps)?;
    let embeddings = Embeddings::of(config, block.norm.width)?;
    let padding = config.token_id("pad_token_id", embeddings.vocab_size)?.unwrap_or(1);
    Ok(BertLike {
        embeddings: Embeddings { padding: Some(padding), ..embeddings },
        layers: bert_like::layers(config, &BERT_FIELDS, "encoder.layer")?,
        block,
        bias: None,
        heads: HEADS,
    })
}
