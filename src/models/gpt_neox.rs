//! GPT-NeoX (Black et al. 2022): decoder whose attention and feed-forward read the same input
//! side by side, with rotary positions on a part of every head, under the tensor names of
//! Hugging Face's `GPTNeoXForCausalLM`, with or without the `gpt_neox.` prefix.

use super::frame::decoder::{self, Decoder};
use super::frame::rope::RopeConfig;
use super::frame::sizes::{MOST, SIZE_NAMES, Sizes, output_head};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value, Weight};
use crate::nn::{
    Attend, Heads, Norm, NormKind, Parameters, Sequence, activation, add, feed_forward, linear,
    table,
};
use crate::ops::{Activation, Matmul};

pub(super) const FAMILY: Family = Family { model_type: "gpt_neox", build };

/// The output matrix and the word table.
const TABLES: [&str; 2] = ["embed_out.weight", "embed_in.weight"];

struct GptNeox {
    /// Norms and feed-forward, which always have biases.
    parameters: Parameters,
    /// Holds the attention's projections.
    attention: Parameters,
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
    let kind = config.activation_or("hidden_act", crate::weights::Activation::GeluErf)?;
    let tied = config.bool_or("tie_word_embeddings", false)?;
    let parameters =
        Parameters::new(&files.checkpoints, &["gpt_neox."], options.dtype).biased(true);
    let parameters = parameters.tie(tied, TABLES);
    let model = GptNeox {
        attention: parameters.biased(config.bool_or("attention_bias", true)?),
        parameters,
        sizes,
        head_dim,
        inner: config.usize_field("intermediate_size", 1..=MOST)?,
        norm: Norm {
            width: hidden_size,
            eps: config.eps("layer_norm_eps", 1e-5)?,
            kind: NormKind::Layer,
        },
        rope,
        rotary_dim,
        positions: sizes.positions(options),
        parallel: config.bool_or("use_parallel_residual", true)?,
        activation: activation(kind),
    };
    decoder::build(files, options, sizes, &model)
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

    fn attend(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        layer: &str,
        x: Value,
    ) -> Result<Value> {
        let (p, width) = (&self.attention, self.sizes.hidden_size);
        let name = format!("{layer}.attention.query_key_value");
        let weight = p.matrix(&format!("{name}.weight"), &[3 * width, width])?;
        let weight = graph.weight(self.by_projection(&weight)?);
        let mut packed = graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])?;
        if let Some(bias) = p.bias(&name, 3 * width)? {
            let bias = graph.weight(self.by_projection(&bias)?);
            packed = add(graph, packed, bias)?;
        }
        let attend = Attend {
            causal: true,
            rotary: Some(self.rope.rotary(graph, self.rotary_dim, self.positions)?),
            ..Attend::new(self.sizes.n_heads, self.head_dim)
        };
        let qkv = [0, 1, 2].map(|i| Heads { value: packed, column: i * width });
        let context = attend.to_self(graph, sequence, layer, qkv)?;
        linear(graph, p, &format!("{layer}.attention.dense"), context, width, width)
    }
}

impl Decoder for GptNeox {
    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, hidden_size, .. } = self.sizes;
        let words = table(graph, &self.parameters, TABLES[1], vocab_size, hidden_size)?;
        sequence.embed(graph, ids, words, None, 1.0)
    }

    fn layer(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        layer: usize,
        x: Value,
    ) -> Result<Value> {
        let at = format!("layers.{layer}");
        let name = |part: &str| format!("{at}.{part}");
        let p = &self.parameters;
        graph.enter(at.clone());
        let h = self.norm.apply(graph, p, &name("input_layernorm"), x)?;
        let attended = self.attend(graph, sequence, &at, h)?;
        let after = add(graph, attended, x)?;
        let read = if self.parallel { x } else { after };
        let h = self.norm.apply(graph, p, &name("post_attention_layernorm"), read)?;
        let names = [name("mlp.dense_h_to_4h"), name("mlp.dense_4h_to_h")];
        let names = [names[0].as_str(), names[1].as_str()];
        let sizes = [self.sizes.hidden_size, self.inner];
        let out = feed_forward(graph, p, names, h, sizes, self.activation)?;
        let x = add(graph, out, after)?;
        graph.leave();
        Ok(x)
    }

    fn finish(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        self.norm.apply(graph, &self.parameters, "final_layer_norm", x)
    }

    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let dims = [self.sizes.vocab_size, self.sizes.hidden_size];
        output_head(graph, &self.parameters, TABLES[0], dims, x)
    }
}
