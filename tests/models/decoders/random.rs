//! Decoders of random shapes and features: the device against the CPU, in a whole pass and in
//! steps. A failing case is shrunk and printed by proptest.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Value, json};
use tilewright::Tensor;
use tilewright::engine::{Device, Runner, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::ops::Rng;
use tilewright::tensor::DType;

use super::steps::Steps;
use crate::draft::Draft;
use crate::golden::{LIMIT, assert_close};

const VOCAB: usize = 71;
const MOST_TOKENS: usize = 133;

/// What every family's shape is made from.
#[derive(Clone, Debug)]
struct Shape {
    /// Half of a head's width: rotations take columns in pairs.
    half_head: usize,
    n_kv_heads: usize,
    per_group: usize,
    n_layers: usize,
    inner: usize,
    /// Lengths of the texts.
    lengths: Vec<usize>,
    /// Decides on features, storage, weights and texts.
    seed: u64,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let lengths = prop::collection::vec(1usize..131, 1..6);
    (4usize..49, 1usize..4, 1usize..4, 1usize..3, 1usize..140, lengths, any::<u64>()).prop_map(
        |(half_head, n_kv_heads, per_group, n_layers, inner, lengths, seed)| Shape {
            half_head,
            n_kv_heads,
            per_group,
            n_layers,
            inner,
            lengths,
            seed,
        },
    )
}

impl Shape {
    fn n_heads(&self) -> usize {
        self.n_kv_heads * self.per_group
    }

    fn head_dim(&self) -> usize {
        2 * self.half_head
    }
}

fn flag(rng: &mut Rng) -> bool {
    rng.below(2) == 1
}

fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())].clone()
}

/// The same cases on every run and machine; `PROPTEST_RNG_SEED` draws others.
fn seed() -> RngSeed {
    match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(2017),
        chosen => chosen,
    }
}

/// A configuration's fields over those in common.
fn config(shape: &Shape, family: &str, class: &str, width: usize, more: &Value) -> Value {
    let mut config = json!({
        "model_type": family,
        "architectures": [class],
        "vocab_size": VOCAB,
        "hidden_size": width,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads(),
        "intermediate_size": shape.inner,
        "max_position_embeddings": MOST_TOKENS,
    });
    let fields = config.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    config
}

fn gpt2(shape: &Shape, rng: &mut Rng) -> Draft {
    // An odd head now and then: nothing rotates here.
    let n = shape.n_heads() * (shape.head_dim() - rng.below(2));
    let config = json!({
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": VOCAB,
        "n_positions": MOST_TOKENS,
        "n_embd": n,
        "n_layer": shape.n_layers,
        "n_head": shape.n_heads(),
        "n_inner": shape.inner,
        "activation_function": pick(rng, &["gelu_new", "gelu", "relu", "silu"]),
        "scale_attn_by_inverse_layer_idx": flag(rng),
    });
    let mut draft = Draft::new(config);
    let prefix = pick(rng, &["", "transformer."]);
    draft.matrix(format!("{prefix}wte.weight"), [VOCAB, n]);
    draft.matrix(format!("{prefix}wpe.weight"), [MOST_TOKENS, n]);
    for layer in 0..shape.n_layers {
        let at = format!("{prefix}h.{layer}");
        draft.norm(&format!("{at}.ln_1"), n, 1.0, true);
        draft.norm(&format!("{at}.ln_2"), n, 1.0, true);
        // Stored [n_in, n_out].
        for (part, n_in, n_out) in [
            ("attn.c_attn", n, 3 * n),
            ("attn.c_proj", n, n),
            ("mlp.c_fc", n, shape.inner),
            ("mlp.c_proj", shape.inner, n),
        ] {
            draft.matrix(format!("{at}.{part}.weight"), [n_in, n_out]);
            draft.vector(format!("{at}.{part}.bias"), n_out);
        }
    }
    draft.norm(&format!("{prefix}ln_f"), n, 1.0, true);
    draft
}

fn opt(shape: &Shape, rng: &mut Rng) -> Draft {
    let n = shape.n_heads() * (shape.head_dim() - rng.below(2));
    let (words, bias, affine) = (pick(rng, &[n, n + 3, 5]), flag(rng), flag(rng));
    let (pre_norm, no_final) = (flag(rng), flag(rng));
    let more = json!({
        "ffn_dim": shape.inner,
        "word_embed_proj_dim": words,
        "do_layer_norm_before": pre_norm,
        "_remove_final_layer_norm": no_final,
        "enable_bias": bias,
        "layer_norm_elementwise_affine": affine,
    });
    let mut draft = Draft::new(config(shape, "opt", "OPTForCausalLM", n, &more));
    let prefix = pick(rng, &["model.decoder.", "decoder.", ""]);
    draft.matrix(format!("{prefix}embed_tokens.weight"), [VOCAB, words]);
    draft.matrix(format!("{prefix}embed_positions.weight"), [MOST_TOKENS + 2, n]);
    if words != n {
        draft.linear(&format!("{prefix}project_in"), [n, words], false);
        draft.linear(&format!("{prefix}project_out"), [words, n], false);
    }
    for layer in 0..shape.n_layers {
        let at = format!("{prefix}layers.{layer}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            draft.linear(&format!("{at}.self_attn.{part}"), [n, n], bias);
        }
        draft.linear(&format!("{at}.fc1"), [shape.inner, n], bias);
        draft.linear(&format!("{at}.fc2"), [n, shape.inner], bias);
        for norm in ["self_attn_layer_norm", "final_layer_norm"] {
            if affine {
                draft.norm(&format!("{at}.{norm}"), n, 1.0, true);
            }
        }
    }
    if affine && pre_norm && !no_final {
        draft.norm(&format!("{prefix}final_layer_norm"), n, 1.0, true);
    }
    draft
}

fn gpt_neox(shape: &Shape, rng: &mut Rng) -> Draft {
    let n = shape.n_heads() * shape.head_dim();
    let bias = flag(rng);
    // Columns are rounded down, so the share lies a little above theirs, but not above 1.
    let rotated = 2 * (1 + rng.below(shape.half_head));
    let share = ((rotated as f64 + 0.25) / shape.head_dim() as f64).min(1.0);
    let more = json!({
        "rotary_pct": share,
        "rotary_emb_base": pick(rng, &[100, 10_000]),
        "use_parallel_residual": flag(rng),
        "attention_bias": bias,
    });
    let mut draft = Draft::new(config(shape, "gpt_neox", "GPTNeoXForCausalLM", n, &more));
    draft.matrix("gpt_neox.embed_in.weight", [VOCAB, n]);
    draft.matrix("embed_out.weight", [VOCAB, n]);
    for layer in 0..shape.n_layers {
        let at = format!("gpt_neox.layers.{layer}");
        draft.linear(&format!("{at}.attention.query_key_value"), [3 * n, n], bias);
        draft.linear(&format!("{at}.attention.dense"), [n, n], bias);
        draft.linear(&format!("{at}.mlp.dense_h_to_4h"), [shape.inner, n], true);
        draft.linear(&format!("{at}.mlp.dense_4h_to_h"), [n, shape.inner], true);
        draft.norm(&format!("{at}.input_layernorm"), n, 1.0, true);
        draft.norm(&format!("{at}.post_attention_layernorm"), n, 1.0, true);
    }
    draft.norm("gpt_neox.final_layer_norm", n, 1.0, true);
    draft
}

/// Rotary scaling in the older layout or the newer.
fn rope(rng: &mut Rng) -> Value {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let linear = json!({"rope_type": "linear", "factor": 2.5});
    let mut section = pick(rng, &[json!({"rope_type": "default"}), linear, llama3]);
    if flag(rng) {
        return json!({"rope_theta": 500.0, "rope_scaling": section});
    }
    section["rope_theta"] = json!(3e4);
    json!({"rope_parameters": section})
}

fn merge(mut a: Value, b: &Value) -> Value {
    a.as_object_mut().unwrap().extend(b.as_object().unwrap().clone());
    a
}

fn layer_types(shape: &Shape, rng: &mut Rng) -> Value {
    let kinds = ["full_attention", "sliding_attention"];
    (0..shape.n_layers).map(|_| pick(rng, &kinds)).collect()
}

/// The parts that Llama and all after it share: biases of q, k, v; of o; of the feed-forward.
fn grouped(
    draft: &mut Draft,
    shape: &Shape,
    width: usize,
    [qkv, out, mlp]: [bool; 3],
    head_norms: Option<f32>,
) {
    let (queries, keys) = (shape.n_heads() * shape.head_dim(), shape.n_kv_heads * shape.head_dim());
    draft.matrix("model.embed_tokens.weight", [VOCAB, width]);
    for layer in 0..shape.n_layers {
        let at = format!("model.layers.{layer}");
        for (part, rows) in [("q", queries), ("k", keys), ("v", keys)] {
            draft.linear(&format!("{at}.self_attn.{part}_proj"), [rows, width], qkv);
        }
        draft.linear(&format!("{at}.self_attn.o_proj"), [width, queries], out);
        if let Some(middle) = head_norms {
            draft.norm(&format!("{at}.self_attn.q_norm"), shape.head_dim(), middle, false);
            draft.norm(&format!("{at}.self_attn.k_norm"), shape.head_dim(), middle, false);
        }
        draft.linear(&format!("{at}.mlp.gate_proj"), [shape.inner, width], mlp);
        draft.linear(&format!("{at}.mlp.up_proj"), [shape.inner, width], mlp);
        draft.linear(&format!("{at}.mlp.down_proj"), [width, shape.inner], mlp);
    }
}

fn llama(shape: &Shape, rng: &mut Rng, family: &str, class: &str) -> Draft {
    let width = 7 + rng.below(90);
    let (attention_bias, mlp_bias, tied) = (flag(rng), flag(rng), flag(rng));
    let mut more = merge(
        rope(rng),
        &json!({
            "num_key_value_heads": shape.n_kv_heads,
            "head_dim": shape.head_dim(),
            "tie_word_embeddings": tied,
        }),
    );
    let window = 1 + rng.below(40);
    let (biases, features) = match family {
        "llama" => (
            [attention_bias, attention_bias, mlp_bias],
            json!({"attention_bias": attention_bias, "mlp_bias": mlp_bias}),
        ),
        "gemma" => (
            [attention_bias, attention_bias, false],
            json!({"attention_bias": attention_bias, "hidden_act": "gelu"}),
        ),
        "granite" => (
            [attention_bias, attention_bias, mlp_bias],
            json!({
                "attention_bias": attention_bias, "mlp_bias": mlp_bias,
                "attention_multiplier": 0.3, "embedding_multiplier": 2.5,
                "residual_multiplier": 0.6, "logits_scaling": 3.0,
            }),
        ),
        "smollm3" => (
            [attention_bias, attention_bias, mlp_bias],
            json!({
                "attention_bias": attention_bias, "mlp_bias": mlp_bias,
                "no_rope_layers": (0..shape.n_layers).map(|_| rng.below(2)).collect::<Vec<_>>(),
            }),
        ),
        "mistral" => ([false; 3], json!({"sliding_window": pick(rng, &[None, Some(window)])})),
        "qwen2" => (
            [true, false, false],
            json!({
                "use_sliding_window": true, "sliding_window": window,
                "max_window_layers": rng.below(3),
            }),
        ),
        _ => (
            [attention_bias, attention_bias, false],
            json!({
                "use_sliding_window": true, "sliding_window": window,
                "layer_types": layer_types(shape, rng), "attention_bias": attention_bias,
            }),
        ),
    };
    more = merge(more, &features);
    let mut draft = Draft::new(config(shape, family, class, width, &more));
    grouped(&mut draft, shape, width, biases, (family == "qwen3").then_some(1.0));
    // Gemma's are added to 1.
    let middle = if family == "gemma" { 0.0 } else { 1.0 };
    for layer in 0..shape.n_layers {
        let at = format!("model.layers.{layer}");
        draft.norm(&format!("{at}.input_layernorm"), width, middle, false);
        draft.norm(&format!("{at}.post_attention_layernorm"), width, middle, false);
    }
    draft.norm("model.norm", width, middle, false);
    if !tied {
        draft.matrix("lm_head.weight", [VOCAB, width]);
    }
    draft
}

fn gemma(shape: &Shape, rng: &mut Rng, family: &str, class: &str) -> Draft {
    let width = 7 + rng.below(90);
    let bias = flag(rng);
    let cap = |rng: &mut Rng| pick(rng, &[None, Some(2.5), Some(30.0)]);
    let mut more = json!({
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim(),
        "attention_bias": bias,
        "sliding_window": 1 + rng.below(40),
        "query_pre_attn_scalar": 1 + rng.below(100),
        "final_logit_softcapping": cap(rng),
    });
    if flag(rng) {
        more["layer_types"] = layer_types(shape, rng);
    }
    let features = if family == "gemma2" {
        merge(rope(rng), &json!({"attn_logit_softcapping": cap(rng)}))
    } else {
        json!({
            "sliding_window_pattern": 1 + rng.below(3),
            "rope_theta": 2e5,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "rope_local_base_freq": 700.0,
        })
    };
    more = merge(more, &features);
    let mut draft = Draft::new(config(shape, family, class, width, &more));
    grouped(&mut draft, shape, width, [bias, bias, false], (family != "gemma2").then_some(0.0));
    for layer in 0..shape.n_layers {
        for norm in [
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ] {
            draft.norm(&format!("model.layers.{layer}.{norm}"), width, 0.0, false);
        }
    }
    draft.norm("model.norm", width, 0.0, false);
    draft
}

fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| Device::gpu(&crate::common::shared()))
}

/// Random texts of these lengths, and as inputs padded on the right.
fn texts(lengths: &[usize], rng: &mut Rng) -> (Vec<Vec<u32>>, BTreeMap<String, Tensor>) {
    let mut id = || rng.below(VOCAB) as u32;
    let texts: Vec<Vec<u32>> = lengths.iter().map(|n| (0..*n).map(|_| id()).collect()).collect();
    let longest = lengths.iter().max().copied().unwrap();
    let padded = |value: &dyn Fn(&[u32], usize) -> u32| {
        let row = |text: &Vec<u32>| (0..longest).map(|i| value(text, i)).collect::<Vec<_>>();
        let values = texts.iter().flat_map(row).collect();
        Tensor::u32([texts.len(), longest], values).unwrap()
    };
    let ids = padded(&|text, i| text.get(i).copied().unwrap_or(0));
    let mask = padded(&|text, i| u32::from(i < text.len()));
    (texts, [("input_ids".to_owned(), ids), ("attention_mask".to_owned(), mask)].into())
}

/// Cuts `total` into a few steps of random lengths.
fn cut(total: usize, rng: &mut Rng) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut left = total;
    while left > 0 {
        let most = if lengths.len() < 4 { left } else { 1 };
        let now = if lengths.len() == 7 { left } else { 1 + rng.below(most) };
        lengths.push(now);
        left -= now;
    }
    lengths
}

fn check(shape: &Shape, draft: impl FnOnce(&Shape, &mut Rng) -> Draft) {
    let mut rng = Rng::new(shape.seed);
    let draft = draft(shape, &mut rng);
    let dtype = pick(&mut rng, &[DType::F32, DType::F16, DType::BF16]);
    let folder = draft.write(dtype, shape.seed);
    let (texts, inputs) = texts(&shape.lengths, &mut rng);
    let run = |device: &Device| {
        let outputs = Outputs::Class { hidden_states: true };
        let options = BuildOptions { outputs, ..BuildOptions::default() };
        let model = models::open(&folder.0, &options).unwrap();
        let inputs = model_inputs(&model.info, inputs.clone()).unwrap();
        let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
        Runner::new(model.graph, device.clone()).unwrap().run(&given).unwrap()
    };
    let (got, want) = (run(gpu()), run(&Device::cpu()));
    assert_eq!(want.len(), shape.n_layers + 3);
    for (output, want) in &want {
        let mask = Some(&inputs["attention_mask"]);
        assert_close(&got[output], want, mask, LIMIT, &format!("{dtype} {output}"));
    }
    let longest = shape.lengths.iter().max().copied().unwrap();
    let lengths = cut(longest, &mut rng);
    let most = lengths.iter().max().copied().unwrap();
    let mut steps = Steps::new(&folder.0, gpu(), [texts.len(), most, longest + 3]);
    steps.check(&texts, &want["logits"], &lengths, LIMIT, &format!("{dtype}"));
}

/// Every case compiles pipelines of its own, so their number is what the test costs.
fn cases() -> Config {
    Config {
        cases: 2,
        rng_seed: seed(),
        failure_persistence: None,
        max_shrink_iters: 20,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn gpt2_of_any_shape(shape in shapes()) {
        check(&shape, gpt2);
    }

    #[test]
    fn opt_of_any_shape(shape in shapes()) {
        check(&shape, opt);
    }

    #[test]
    fn gpt_neox_of_any_shape(shape in shapes()) {
        check(&shape, gpt_neox);
    }

    #[test]
    fn llama_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "llama", "LlamaForCausalLM"));
    }

    #[test]
    fn mistral_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "mistral", "MistralForCausalLM"));
    }

    #[test]
    fn qwen2_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "qwen2", "Qwen2ForCausalLM"));
    }

    #[test]
    fn qwen3_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "qwen3", "Qwen3ForCausalLM"));
    }

    #[test]
    fn gemma_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "gemma", "GemmaForCausalLM"));
    }

    #[test]
    fn granite_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "granite", "GraniteForCausalLM"));
    }

    #[test]
    fn smollm3_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| llama(shape, rng, "smollm3", "SmolLM3ForCausalLM"));
    }

    #[test]
    fn gemma2_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| gemma(shape, rng, "gemma2", "Gemma2ForCausalLM"));
    }

    #[test]
    fn gemma3_of_any_shape(shape in shapes()) {
        check(&shape, |shape, rng| gemma(shape, rng, "gemma3_text", "Gemma3ForCausalLM"));
    }
}
