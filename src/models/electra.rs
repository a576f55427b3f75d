//! ELECTRA (Clark et al. 2020), generator and discriminator: BERT's layers behind word tables
//! that may be narrower, and heads of their own.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike, Embeddings};
use super::frame::encoder;
use super::frame::heads::{Classifier, Heads, MaskedLm};
use super::frame::post_norm::BERT_LAYER;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "electra", build };

const HEADS: Heads = Heads {
    pooler: None,
    classifier: Classifier {
        dense: "classifier.dense",
        activation: Activation::GeluErf,
        out: "classifier.out_proj",
    },
    masked_lm: MaskedLm {
        dense: "generator_predictions.dense",
        norm: "generator_predictions.LayerNorm",
        decoder: "generator_lm_head",
        bias: "generator_lm_head.bias",
        activation: Activation::GeluErf,
    },
    detector: Some([
        "discriminator_predictions.dense",
        "discriminator_predictions.dense_prediction",
    ]),
    next_sentence: None,
};

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let parameters = Parameters::new(&files.checkpoints, &["electra."], options.dtype).biased(true);
    let eps = config.eps("layer_norm_eps", 1e-12)?;
    let block = bert_like::block(config, &BERT_FIELDS, BERT_LAYER, eps)?;
    let width = config.size_or("embedding_size", 128)?;
    let projection = (width != block.norm.width).then_some("embeddings_project");
    let encoder = BertLike {
        embeddings: Embeddings { projection, ..Embeddings::of(config, width)? },
        layers: bert_like::layers(config, &BERT_FIELDS, "encoder.layer")?,
        block,
        bias: None,
        heads: HEADS,
    };
    let parameters = encoder.tie(config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}
