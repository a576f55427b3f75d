//! GPT-2: pre-norm decoder with learned positions (Radford et al. 2019), under the tensor
//! names of Hugging Face's `GPT2LMHeadModel`, with or without the `transformer.` prefix.
//! Projections are stored `[n_in, n_out]` ("Conv1D").

use super::frame::decoder::{self, Decoder};
use super::frame::sizes::{MOST, Sizes, output_head};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Sequence, activation, add, table};
use crate::ops::{Activate, Activation, Matmul};
use crate::weights::Config;

pub(super) const FAMILY: Family = Family { model_type: "gpt2", build };

struct Gpt2 {
    parameters: Parameters,
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    activation: Activation,
    /// Whether scores are divided by `sqrt(head_dim)`.
    scaled: bool,
    /// Whether scores are also divided by the layer's number, from 1.
    scaled_by_layer: bool,
}

/// The output matrix and the word table.
const TABLES: [&str; 2] = ["lm_head.weight", "wte.weight"];

const SIZE_NAMES: [&str; 5] = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"];

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    config.check_divides("n_embd", sizes.hidden_size, "n_head", sizes.n_heads)?;
    check_features(config)?;
    let kind = config.activation_or("activation_function", crate::weights::Activation::GeluTanh)?;
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let parameters =
        Parameters::new(&files.checkpoints, &["transformer."], options.dtype).biased(true);
    let model = Gpt2 {
        parameters: parameters.tie(tied, TABLES),
        sizes,
        inner: config.usize_or("n_inner", 4 * sizes.hidden_size, 1..=MOST)?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("layer_norm_epsilon", 1e-5)?,
            kind: NormKind::Layer,
        },
        activation: activation(kind),
        scaled: config.bool_or("scale_attn_weights", true)?,
        scaled_by_layer: config.bool_or("scale_attn_by_inverse_layer_idx", false)?,
    };
    decoder::build(files, options, sizes, &model)
}

/// `reorder_and_upcast_attn` only says in which precision scores are computed; they are f32 here.
fn check_features(config: &Config) -> Result<()> {
    if config.bool_or("add_cross_attention", false)? {
        let expected = "false: a decoder that stands alone";
        return Err(config.error("add_cross_attention", true, expected));
    }
    if let Some(name) = config.architectures()?.iter().find(|n| n.contains("DoubleHeads")) {
        let expected = "GPT2LMHeadModel or GPT2Model";
        return Err(config.error("architectures", format!("`{name}`"), expected));
    }
    Ok(())
}

impl Gpt2 {
    /// `x weight + bias` with a weight stored `[n_in, n_out]`.
    fn conv1d(
        &self,
        graph: &mut Graph,
        name: &str,
        x: Value,
        [n_in, n_out]: [usize; 2],
    ) -> Result<Value> {
        let weight = self.parameters.transposed(&format!("{name}.weight"), [n_in, n_out])?;
        let weight = graph.weight(weight);
        let bias = graph.weight(self.parameters.vector(&format!("{name}.bias"), &[n_out])?);
        let y = graph.apply(Matmul::linear(), [Some(x), Some(weight), None, None])?;
        add(graph, y, bias)
    }
}

impl Decoder for Gpt2 {
    fn embed(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Value> {
        let Sizes { vocab_size, max_tokens, hidden_size, .. } = self.sizes;
        let words = table(graph, &self.parameters, TABLES[1], vocab_size, hidden_size)?;
        let positions = table(graph, &self.parameters, "wpe.weight", max_tokens, hidden_size)?;
        sequence.embed(graph, ids, words, Some(positions), 1.0)
    }

    fn layer(
        &self,
        graph: &mut Graph,
        sequence: &Sequence,
        layer: usize,
        x: Value,
    ) -> Result<Value> {
        let at = format!("h.{layer}");
        let name = |part: &str| format!("{at}.{part}");
        let Sizes { hidden_size: width, n_heads, .. } = self.sizes;
        let p = &self.parameters;
        graph.enter(at.clone());
        let h = self.norm.apply(graph, p, &name("ln_1"), x)?;
        let packed = self.conv1d(graph, &name("attn.c_attn"), h, [width, 3 * width])?;
        let mut attend = Attend { causal: true, ..Attend::new(n_heads, width / n_heads) };
        if !self.scaled {
            attend.scale = 1.0;
        }
        if self.scaled_by_layer {
            attend.scale /= (layer + 1) as f32;
        }
        let qkv = [0, 1, 2].map(|i| Heads { value: packed, column: i * width });
        let context = attend.to_self(graph, sequence, &at, qkv)?;
        let out = self.conv1d(graph, &name("attn.c_proj"), context, [width, width])?;
        let x = add(graph, out, x)?;

        let h = self.norm.apply(graph, p, &name("ln_2"), x)?;
        let h = self.conv1d(graph, &name("mlp.c_fc"), h, [width, self.inner])?;
        let h = graph.apply(Activate { activation: self.activation }, [Some(h)])?;
        let out = self.conv1d(graph, &name("mlp.c_proj"), h, [self.inner, width])?;
        let x = add(graph, out, x)?;
        graph.leave();
        Ok(x)
    }

    fn finish(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        self.norm.apply(graph, &self.parameters, "ln_f", x)
    }

    fn logits(&self, graph: &mut Graph, x: Value) -> Result<Value> {
        let dims = [self.sizes.vocab_size, self.sizes.hidden_size];
        output_head(graph, &self.parameters, TABLES[0], dims, x)
    }
}
