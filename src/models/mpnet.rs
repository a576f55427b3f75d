//! MPNet (Song et al. 2020): BERT's layers with T5's relative position bias, RoBERTa's positions
//! and heads, and no segments.

use super::frame::bert_like::{self, BERT_FIELDS, BertLike, Bias, Embeddings};
use super::frame::encoder;
use super::frame::post_norm::LayerNames;
use super::model::{BuildOptions, Family, Files, Model};
use super::roberta;
use crate::error::Result;
use crate::nn::Parameters;

pub(super) const FAMILY: Family = Family { model_type: "mpnet", build };

const LAYER: LayerNames = LayerNames {
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention: ["attention.attn.o", "attention.LayerNorm"],
    up: "intermediate.dense",
    down: ["output.dense", "output.LayerNorm"],
};

/// The padding id positions are counted with, whatever the configuration says.
const PADDING: u32 = 1;

/// The buckets the model computes with, whatever the size of its table.
const BUCKETS: usize = 32;

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let buckets = config.usize_or("relative_attention_num_buckets", BUCKETS, 1..=1 << 20)?;
    if buckets != BUCKETS {
        return Err(config.error("relative_attention_num_buckets", buckets, BUCKETS));
    }
    let parameters = Parameters::new(&files.checkpoints, &["mpnet."], options.dtype).biased(true);
    let eps = config.eps("layer_norm_eps", 1e-12)?;
    let block = bert_like::block(config, &BERT_FIELDS, LAYER, eps)?;
    let embeddings = Embeddings::of(config, block.norm.width)?;
    let table = "encoder.relative_attention_bias.weight";
    let encoder = BertLike {
        embeddings: Embeddings { segments: 0, padding: Some(PADDING), ..embeddings },
        layers: bert_like::layers(config, &BERT_FIELDS, "encoder.layer")?,
        block,
        bias: Some(Bias { table, buckets, max_distance: 128 }),
        heads: roberta::HEADS,
    };
    let parameters = encoder.tie(config, &parameters)?;
    encoder::build(files, options, &parameters, &encoder)
}
