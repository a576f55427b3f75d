//! GPTBigCode (Ben Allal et al. 2023, SantaCoder and StarCoder): GPT-2's layers with one key and value
//! head for all query heads, and projections stored `[n_out, n_in]`.

use super::frame::decoder::{self, Decoder};
use super::frame::sizes::Sizes;
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "gpt_bigcode", build };

struct GptBigCode {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    activation: Activation,
    /// Whether scores are divided by `sqrt(head_dim)`.
    scaled: bool,
}

/// The output matrix and the word table.
const TABLES: [&str; 2] = ["lm_head.weight", "wte.weight"];

const SIZE_NAMES: [&str; 5] = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"];

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    config.refuse(&["add_cross_attention"])?;
    if !config.bool_or("multi_query", true)? {
        return Err(config.error("multi_query", false, "true: one key and value head for all"));
    }
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    config.check_divides("n_embd", sizes.hidden_size, "n_head", sizes.n_heads)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let parameters =
        Parameters::new(&files.checkpoints, &["transformer."], options.dtype).biased(true);
    let model = GptBigCode {
        sizes,
        inner: config.size_or("n_inner", 4 * sizes.hidden_size)?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("layer_norm_epsilon", 1e-5)?,
            kind: NormKind::Layer,
        },
        activation: config.activation_or("activation_function", Activation::GeluTanh)?,
        scaled: config.bool_or("scale_attn_weights", true)?,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl Decoder for GptBigCode {
    const TABLES: [&str; 2] = TABLES;
    const POSITIONS: Option<&'static str> = Some("wpe.weight");

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer_name(&self, layer: usize) -> String {
        format!("h.{layer}")
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let Sizes { hidden_size: width, n_heads, .. } = self.sizes;
        let head_dim = width / n_heads;
        let h = at.norm("ln_1", self.norm, x)?;
        let packed = at.linear("attn.c_attn", h, width + 2 * head_dim)?;
        let part = |column| Heads { value: packed, column };
        let mut attend = Attend { n_kv_heads: 1, causal: true, ..Attend::new(n_heads, head_dim) };
        if !self.scaled {
            attend.scale = 1.0;
        }
        let qkv = [part(0), part(width), part(width + head_dim)];
        let context = attend.to_self(at, sequence, qkv)?;
        let out = at.linear("attn.c_proj", context, width)?;
        let x = at.add(out, x)?;
        at.residual("ln_2", self.norm, true, x, |at, h| {
            let h = at.linear("mlp.c_fc", h, self.inner)?;
            let h = at.activate(self.activation, h)?;
            at.linear("mlp.c_proj", h, width)
        })
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("ln_f", self.norm, x)
    }
}
