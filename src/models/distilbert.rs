//! DistilBERT (Sanh et al. 2019): BERT's layers without segments and pooler, under names of its
//! own.

use super::frame::bert_like::{self, BertLike, Embeddings, Fields};
use super::frame::encoder;
use super::frame::heads::{Classifier, Heads, MaskedLm};
use super::frame::post_norm::LayerNames;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "distilbert", build };

const FIELDS: Fields = Fields {
    width: "dim",
    inner: "hidden_dim",
    heads: "n_heads",
    layers: "n_layers",
    activation: ("activation", Activation::GeluErf),
};

const LAYER: LayerNames = LayerNames {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention: ["attention.out_lin", "sa_layer_norm"],
    up: "ffn.lin1",
    down: ["ffn.lin2", "output_layer_norm"],
};

/// The norms' epsilon, which the configuration does not give.
const EPS: f32 = 1e-12;

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let parameters =
        Parameters::new(&files.checkpoints, &["distilbert."], options.dtype).biased(true);
    let block = bert_like::block(config, &FIELDS, LAYER, EPS)?;
    let heads = Heads {
        pooler: None,
        classifier: Classifier {
            dense: "pre_classifier",
            activation: Activation::Relu,
            out: "classifier",
        },
        masked_lm: MaskedLm {
            dense: "vocab_transform",
            norm: "vocab_layer_norm",
            decoder: "vocab_projector",
            bias: "vocab_projector.bias",
            activation: block.activation,
        },
        detector: None,
        next_sentence: None,
    };
    let encoder = BertLike {
        embeddings: Embeddings { segments: 0, ..Embeddings::of(config, block.norm.width)? },
        layers: bert_like::layers(config, &FIELDS, "transformer.layer")?,
        block,
        bias: None,
        heads,
    };
    let parameters = encoder.tie(config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}
