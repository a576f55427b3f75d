//! T5 (Raffel et al. 2020) and T5 v1.1, FLAN and mT5 (Xue et al. 2021): pre-norm stacks without
//! biases, RMS norms, scores that are not scaled, and positions only as a bias by the bucketed
//! distance of two tokens. Names are those of `T5ForConditionalGeneration`.

use super::frame::seq2seq::{self, Sizes, Stacks};
use super::frame::sizes::{MOST, output_head};
use super::info::{DecoderInfo, UNLIMITED};
use super::model::{BuildOptions, Family, Files, Model};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{
    Attend, Heads, Memory, Norm, NormKind, Parameters, RelativeBias, Sequence, activation, add,
    feed_forward, gated_feed_forward, linear, table,
};
use crate::ops::{Activation, Scale};
use crate::weights::Config;

pub(super) const T5: Family = Family { model_type: "t5", build };
pub(super) const MT5: Family = Family { model_type: "mt5", build };

/// The output matrix.
const HEAD: &str = "lm_head.weight";

struct T5Model {
    parameters: Parameters,
    norm: Norm,
    attend: Attend,
    vocab_size: usize,
    d_model: usize,
    d_ff: usize,
    n_layers: usize,
    n_decoder_layers: usize,
    n_buckets: usize,
    max_distance: usize,
    activation: Activation,
    gated: bool,
    /// Factor of hidden states before the output table.
    head_scale: Option<f32>,
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let t5 = T5Model::read(files, options)?;
    let size = DecoderInfo { vocab_size: t5.vocab_size, max_tokens: UNLIMITED };
    let sizes = Sizes {
        encoder: size,
        decoder: size,
        hidden_size: t5.d_model,
        n_layers: t5.n_layers,
        n_heads: t5.attend.n_heads,
    };
    seq2seq::build(&t5, config, options, sizes)
}

/// `feed_forward_proj`: an activation, or `gated-` and the gate's; `dense_act_fn` and
/// `is_gated_act` say the same apart in newer files and win there. T5 v1.1 was trained with the
/// tanh form under the name `gated-gelu`.
fn feed_forward_kind(config: &Config, default: &str) -> Result<(bool, Activation)> {
    let field = "feed_forward_proj";
    let proj = config.opt_str(field)?.unwrap_or(default);
    let (gated, name) = match proj.split_once('-') {
        None => (false, proj),
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", name)) => (true, name),
        Some(_) => {
            let expected = "an activation, or `gated-` and one";
            return Err(config.error(field, format!("`{proj}`"), expected));
        }
    };
    let kind = match config.opt_str("dense_act_fn")? {
        Some(name) => config.activation_named("dense_act_fn", name)?,
        None => config.activation_named(field, name)?,
    };
    Ok((config.bool_or("is_gated_act", gated)?, activation(kind)))
}

impl T5Model {
    fn read(files: &Files, options: &BuildOptions) -> Result<Self> {
        let config = &files.config;
        let parameters = Parameters::new(&files.checkpoints, &[], options.dtype).biased(false);
        let mt5 = config.model_type()? == MT5.model_type;
        let size = |field| config.usize_field(field, 1..=MOST);
        let d_model = size("d_model")?;
        let n_layers = config.usize_field("num_layers", 1..=4096)?;
        let field = "relative_attention_num_buckets";
        let n_buckets = config.usize_or(field, 32, 4..=1 << 16)?;
        // Half of a decoder's buckets hold one distance each; the others lie beyond them.
        let reach = n_buckets / 2 + 1..=1 << 20;
        let max_distance = config.usize_or("relative_attention_max_distance", 128, reach)?;
        let default = if mt5 { "gated-gelu" } else { "relu" };
        let (gated, activation) = feed_forward_kind(config, default)?;
        let tied = config.opt_bool("tie_word_embeddings")?;
        // T5 scales before its table where that was tied when it was trained; mT5 never does.
        let scaled = !mt5 && config.bool_or("scale_decoder_outputs", tied != Some(false))?;
        let parameters = parameters.tie(tied != Some(false), [HEAD, words(&parameters)]);
        Ok(Self {
            norm: Norm {
                width: d_model,
                eps: config.eps("layer_norm_epsilon", 1e-6)?,
                kind: NormKind::Rms,
            },
            attend: Attend { scale: 1.0, ..Attend::new(size("num_heads")?, size("d_kv")?) },
            vocab_size: size("vocab_size")?,
            d_model,
            d_ff: size("d_ff")?,
            n_layers,
            n_decoder_layers: config.usize_or("num_decoder_layers", n_layers, 1..=4096)?,
            n_buckets,
            max_distance,
            activation,
            gated,
            head_scale: scaled.then(|| (1.0 / (d_model as f64).sqrt()) as f32),
            parameters,
        })
    }

    /// Hidden states of one stack, `encoder` or `decoder`; the latter attends to `memory` too.
    fn stack(
        &self,
        graph: &mut Graph,
        stack: &str,
        ids: Value,
        sequence: &Sequence,
        memory: Option<&Memory>,
    ) -> Result<Vec<Value>> {
        let p = &self.parameters;
        graph.enter(format!("{stack}.embed_tokens"));
        let words = p.tied(&format!("{stack}.embed_tokens.weight"), words(p))?.to_owned();
        let words = table(graph, p, &words, self.vocab_size, self.d_model)?;
        let x = sequence.embed(graph, ids, words, None, 1.0)?;
        graph.leave();
        let name = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let bias = p.vector(&name, &[self.n_buckets, self.attend.n_heads])?;
        let bias = graph.weight(bias);
        let both = memory.is_none();
        let bias = RelativeBias::new(graph, bias, both, self.n_buckets, self.max_distance)?;
        let attend = Attend { causal: !both, bias: Some(bias), ..self.attend.clone() };
        let mut states = vec![x];
        for layer in 0..if both { self.n_layers } else { self.n_decoder_layers } {
            let name = format!("{stack}.block.{layer}");
            graph.enter(name.clone());
            let x = states[states.len() - 1];
            states.push(self.block(graph, &name, x, sequence, &attend, memory)?);
            graph.leave();
        }
        graph.enter(format!("{stack}.final_layer_norm"));
        let last = states.len() - 1;
        let name = format!("{stack}.final_layer_norm");
        states[last] = self.norm.apply(graph, p, &name, states[last])?;
        graph.leave();
        Ok(states)
    }

    /// `x + part(norm(x))` for self-attention, cross-attention and feed-forward.
    fn block(
        &self,
        graph: &mut Graph,
        block: &str,
        x: Value,
        sequence: &Sequence,
        attend: &Attend,
        memory: Option<&Memory>,
    ) -> Result<Value> {
        let (p, width) = (&self.parameters, self.d_model);
        let inner = self.attend.n_heads * self.attend.head_dim;
        let name = |part: &str| format!("{block}.layer.{part}");

        let h = self.norm.apply(graph, p, &name("0.layer_norm"), x)?;
        let mut project =
            |part| linear(graph, p, &name(&format!("0.SelfAttention.{part}")), h, width, inner);
        let qkv = [project("q")?.into(), project("k")?.into(), project("v")?.into()];
        let h = attend.to_self(graph, sequence, block, qkv)?;
        let h = linear(graph, p, &name("0.SelfAttention.o"), h, inner, width)?;
        let mut x = add(graph, h, x)?;

        if let Some(memory) = memory {
            let h = self.norm.apply(graph, p, &name("1.layer_norm"), x)?;
            let q = linear(graph, p, &name("1.EncDecAttention.q"), h, width, inner)?;
            let keys = |graph: &mut Graph, memory| self.cross_keys(graph, block, memory);
            let h = memory.attend(graph, &self.attend, block, q.into(), keys)?;
            let h = linear(graph, p, &name("1.EncDecAttention.o"), h, inner, width)?;
            x = add(graph, h, x)?;
        }

        let last = if memory.is_some() { "2" } else { "1" };
        let name = |part: &str| name(&format!("{last}.{part}"));
        let h = self.norm.apply(graph, p, &name("layer_norm"), x)?;
        let sizes = [width, self.d_ff];
        let h = if self.gated {
            let names = ["wi_0", "wi_1", "wo"].map(|n| name(&format!("DenseReluDense.{n}")));
            let names = names.each_ref().map(String::as_str);
            gated_feed_forward(graph, p, names, h, sizes, self.activation)?
        } else {
            let names = ["wi", "wo"].map(|n| name(&format!("DenseReluDense.{n}")));
            let names = names.each_ref().map(String::as_str);
            feed_forward(graph, p, names, h, sizes, self.activation)?
        };
        add(graph, h, x)
    }
}

/// Checkpoint name of the table that both stacks embed with, unless they have their own.
fn words(parameters: &Parameters) -> &'static str {
    parameters.either(&[
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
    ])
}

impl Stacks for T5Model {
    fn encode(&self, graph: &mut Graph, ids: Value, sequence: &Sequence) -> Result<Vec<Value>> {
        self.stack(graph, "encoder", ids, sequence, None)
    }

    fn decoder_layers(&self) -> Vec<String> {
        (0..self.n_decoder_layers).map(|layer| format!("decoder.block.{layer}")).collect()
    }

    fn cross(&self) -> Attend {
        self.attend.clone()
    }

    fn cross_keys(&self, graph: &mut Graph, layer: &str, memory: Value) -> Result<[Heads; 2]> {
        let inner = self.attend.n_heads * self.attend.head_dim;
        let mut project = |part| {
            let name = format!("{layer}.layer.1.EncDecAttention.{part}");
            linear(graph, &self.parameters, &name, memory, self.d_model, inner)
        };
        Ok([project("k")?.into(), project("v")?.into()])
    }

    fn decode(
        &self,
        graph: &mut Graph,
        ids: Value,
        sequence: &Sequence,
        memory: &Memory,
    ) -> Result<Vec<Value>> {
        self.stack(graph, "decoder", ids, sequence, Some(memory))
    }

    fn head(&self, graph: &mut Graph, last: Value) -> Result<Value> {
        graph.enter("lm_head");
        let mut x = last;
        if let Some(scale) = self.head_scale {
            x = graph.apply(Scale { scale, cap: None }, [Some(x)])?;
        }
        let dims = [self.vocab_size, self.d_model];
        let logits = output_head(graph, &self.parameters, HEAD, dims, x)?;
        graph.leave();
        Ok(logits)
    }
}
