//! GPT-NeoX (Black et al. 2022): decoder whose attention and feed-forward read the same input
//! side by side, with rotary positions on a part of every head, under the tensor names of
//! Hugging Face's `GPTNeoXForCausalLM`, with or without the `gpt_neox.` prefix.

use super::frame::decoder::{self, Decoder};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Value, Weight};
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Scope, Sequence};
use crate::ops::Activation;

pub(super) const FAMILY: Family = Family { model_type: "gpt_neox", build };

/// The output matrix and the word table.
const TABLES: [&str; 2] = ["embed_out.weight", "embed_in.weight"];

struct GptNeox {
    /// Whether the attention's projections have biases; norms and feed-forward always have.
    attention_bias: bool,
    sizes: Sizes,
    head_dim: usize,
    inner: usize,
    norm: Norm,
    rope: RopeConfig,
    /// Columns of a head that rotate.
    rotary_dim: usize,
    /// Positions that tables are computed for.
    positions: usize,
    /// Whether the feed-forward reads the layer's input, not the attention's result.
    parallel: bool,
    activation: Activation,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let Sizes { hidden_size, n_heads, .. } = sizes;
    config.check_divides("hidden_size", hidden_size, "num_attention_heads", n_heads)?;
    let head_dim = hidden_size / n_heads;
    let rope = RopeConfig::read(config, ["rotary_emb_base", "rotary_pct"], 1e4, 0.25)?;
    let rotary_dim = (head_dim as f64 * rope.fraction) as usize;
    if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || !head_dim.is_multiple_of(2) {
        let found = format!("{}, {rotary_dim} columns of {head_dim}", rope.fraction);
        return Err(config.error("rotary_pct", found, "a share that rotates in pairs"));
    }
    let activation = config.activation_or("hidden_act", Activation::GeluErf)?;
    let tied = config.bool_or("tie_word_embeddings", false)?;
    let parameters =
        Parameters::new(&files.checkpoints, &["gpt_neox."], options.dtype).biased(true);
    let model = GptNeox {
        attention_bias: config.bool_or("attention_bias", true)?,
        sizes,
        head_dim,
        inner: config.size("intermediate_size")?,
        norm: Norm {
            width: hidden_size,
            eps: config.eps("layer_norm_eps", 1e-5)?,
            kind: NormKind::Layer,
        },
        rope,
        rotary_dim,
        positions: options.positions(sizes.max_tokens),
        parallel: config.bool_or("use_parallel_residual", true)?,
        activation,
    };
    decoder::build(files, options, &parameters.tie(tied, TABLES), &model)
}

impl GptNeox {
    /// Rows stored as [head, (q k v), head_dim] in the order [(q k v), head, head_dim].
    fn by_projection(&self, weight: &Weight) -> Result<Weight> {
        let (n_heads, head_dim) = (self.sizes.n_heads, self.head_dim);
        let first = (0..3).flat_map(|which| (0..n_heads).map(move |head| 3 * head + which));
        let rows = first.map(|i| weight.rows(i * head_dim..(i + 1) * head_dim));
        let rows: Vec<_> = rows.collect::<Result<_>>()?;
        let stacked = Weight::stack(&rows.iter().collect::<Vec<_>>())?;
        Ok(stacked.named(weight.name()))
    }

    fn attend(&self, at: &mut Scope, sequence: &Sequence, x: Value) -> Result<Value> {
        let width = self.sizes.hidden_size;
        let name = at.name("attention.query_key_value");
        let mut own = at.scope("attention").biased(self.attention_bias);
        let weight = own.parameters().matrix(&format!("{name}.weight"), &[3 * width, width])?;
        let bias = own.parameters().bias(&name, 3 * width)?;
        let bias = bias.map(|bias| self.by_projection(&bias)).transpose()?;
        let packed = own.project(x, self.by_projection(&weight)?, bias)?;
        let attend = Attend {
            causal: true,
            rotary: Some(self.rope.rotary(&mut own, self.rotary_dim, self.positions)?),
            ..Attend::new(self.sizes.n_heads, self.head_dim)
        };
        let context = attend.to_self(&mut own, sequence, Heads::packed(packed, width))?;
        own.linear("dense", context, width)
    }
}

impl Decoder for GptNeox {
    const TABLES: [&str; 2] = TABLES;

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn layer(&self, at: &mut Scope, _layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let h = at.norm("input_layernorm", self.norm, x)?;
        let attended = self.attend(at, sequence, h)?;
        let after = at.add(attended, x)?;
        let read = if self.parallel { x } else { after };
        let h = at.norm("post_attention_layernorm", self.norm, read)?;
        let names = ["dense_h_to_4h", "dense_4h_to_h"];
        let out = at.scope("mlp").feed_forward(names, h, self.inner, self.activation)?;
        at.add(out, after)
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.norm("final_layer_norm", self.norm, x)
    }
}
