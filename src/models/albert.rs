//! ALBERT (Lan et al. 2019): layers that share their weights in groups, behind word tables
//! narrower than the layers.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike, Embeddings, Fields};
use super::frame::encoder;
use super::frame::heads::{Classifier, Heads, MaskedLm};
use super::frame::post_norm::LayerNames;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::Activation;
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "albert", build };

const FIELDS: Fields = Fields { activation: ("hidden_act", Activation::GeluTanh), ..BERT_FIELDS };

const LAYER: LayerNames = LayerNames {
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    attention: ["attention.dense", "attention.LayerNorm"],
    up: "ffn",
    down: ["ffn_output", "full_layer_layer_norm"],
};

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let parameters = Parameters::new(&files.checkpoints, &["albert."], options.dtype).biased(true);
    let eps = config.eps("layer_norm_eps", 1e-12)?;
    let block = bert_like::block(config, &FIELDS, LAYER, eps)?;
    let width = config.size_or("embedding_size", 128)?;
    let heads = Heads {
        pooler: Some("pooler"),
        classifier: Classifier { dense: "pooler", activation: Activation::Tanh, out: "classifier" },
        masked_lm: MaskedLm {
            dense: "predictions.dense",
            norm: "predictions.LayerNorm",
            decoder: "predictions.decoder",
            bias: "predictions.bias",
            activation: block.activation,
        },
        detector: None,
        next_sentence: None,
    };
    let encoder = BertLike {
        embeddings: Embeddings {
            projection: Some("encoder.embedding_hidden_mapping_in"),
            ..Embeddings::of(config, width)?
        },
        layers: layers(config)?,
        block,
        bias: None,
        heads,
    };
    let parameters = encoder.tie(config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}

/// The weights of every layer as it runs: a group of layers serves several times.
fn layers(config: &Config) -> Result<Vec<String>> {
    let count = config.layers(FIELDS.layers)?;
    let groups = config.usize_or("num_hidden_groups", 1, 1..=count)?;
    let inner = config.layers_or("inner_group_num", 1)?;
    let name = |i: usize, j: usize| {
        // In floating point as in the original, so that odd ratios round alike.
        let group = (i as f64 / (count as f64 / groups as f64)) as usize;
        format!("encoder.albert_layer_groups.{group}.albert_layers.{j}")
    };
    Ok((0..count).flat_map(|i| (0..inner).map(move |j| (i, j))).map(|(i, j)| name(i, j)).collect())
}
