//! Encoders of random sizes, classes and storage: the device against the CPU.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Value, json};
use tilewright::Tensor;
use tilewright::engine::{Device, Runner, TOLERANCE, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::ops::Rng;
use tilewright::tensor::DType;

use crate::draft::Draft;
use crate::golden::assert_close;

/// What every family's model is made of.
#[derive(Clone, Debug)]
struct Shape {
    heads: usize,
    head_dim: usize,
    inner: usize,
    layers: usize,
    /// Width of word tables that are narrower than the layers.
    narrow: usize,
    vocab: usize,
    labels: usize,
    class: &'static str,
    activation: &'static str,
    dtype: DType,
    batch: usize,
    tokens: usize,
    seed: u64,
}

impl Shape {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

const CLASSES: [&str; 5] = [
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
];

prop_compose! {
    fn shapes()(
        heads in 1usize..5, head_dim in 8usize..97, inner in 5usize..150, layers in 1usize..4,
        narrow in 7usize..40, vocab in 7usize..200, labels in 1usize..9,
        class in prop::sample::select(&CLASSES[..]),
        activation in prop::sample::select(&["gelu", "gelu_new", "relu", "silu"][..]),
        dtype in prop::sample::select(&[DType::F32, DType::F32, DType::F16, DType::BF16][..]),
        batch in 1usize..6, tokens in 1usize..131, seed in any::<u64>(),
    ) -> Shape {
        Shape {
            heads, head_dim, inner, layers, narrow, vocab, labels, class, activation, dtype, batch,
            tokens, seed,
        }
    }
}

/// The padding id of families whose positions begin behind it.
const PAD: usize = 1;

/// A family's names, in the order of [`add_layer`] and [`add_heads`].
struct Names {
    model_type: &'static str,
    prefix: &'static str,
    layer: &'static str,
    parts: [&'static str; 8],
    pooler: Option<&'static str>,
    /// Projections of the classification head.
    classifier: [&'static str; 2],
    /// Projection, norm and bias of the masked LM.
    masked_lm: [&'static str; 3],
    segments: usize,
    /// Positions begin behind the padding id.
    padded: bool,
    narrow: bool,
}

const BERT_PARTS: [&str; 8] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
];

const BERT: Names = Names {
    model_type: "bert",
    prefix: "bert.",
    layer: "encoder.layer",
    parts: BERT_PARTS,
    pooler: Some("pooler.dense"),
    classifier: ["bert.pooler.dense", "classifier"],
    masked_lm: [
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ],
    segments: 2,
    padded: false,
    narrow: false,
};

const ROBERTA: Names = Names {
    model_type: "roberta",
    prefix: "roberta.",
    classifier: ["classifier.dense", "classifier.out_proj"],
    masked_lm: ["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"],
    segments: 1,
    padded: true,
    ..BERT
};

const DISTILBERT: Names = Names {
    model_type: "distilbert",
    // Saved without its prefix, as a bare model is.
    prefix: "",
    layer: "transformer.layer",
    parts: [
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
    ],
    pooler: None,
    classifier: ["pre_classifier", "classifier"],
    masked_lm: ["vocab_transform", "vocab_layer_norm", "vocab_projector.bias"],
    segments: 0,
    ..BERT
};

const ALBERT: Names = Names {
    model_type: "albert",
    prefix: "albert.",
    layer: "encoder.albert_layer_groups",
    parts: [
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.dense",
        "attention.LayerNorm",
        "ffn",
        "ffn_output",
        "full_layer_layer_norm",
    ],
    pooler: Some("pooler"),
    classifier: ["albert.pooler", "classifier"],
    masked_lm: ["predictions.dense", "predictions.LayerNorm", "predictions.bias"],
    narrow: true,
    ..BERT
};

const ELECTRA: Names = Names {
    model_type: "electra",
    prefix: "electra.",
    pooler: None,
    classifier: ["classifier.dense", "classifier.out_proj"],
    masked_lm: [
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head.bias",
    ],
    narrow: true,
    ..BERT
};

const MPNET: Names = Names {
    model_type: "mpnet",
    prefix: "mpnet.",
    parts: [
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
        "attention.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    ],
    segments: 0,
    ..ROBERTA
};

/// Its tensors are named by [`modernbert`].
const MODERNBERT: Names = Names { model_type: "modernbert", pooler: None, segments: 0, ..BERT };

/// Groups of ALBERT's layers.
const GROUPS: usize = 2;

/// The same cases on every run and machine; `PROPTEST_RNG_SEED` draws others.
fn seed() -> RngSeed {
    match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(2017),
        chosen => chosen,
    }
}

fn config(names: &Names, shape: &Shape) -> Value {
    let positions = shape.tokens + if names.padded { PAD + 1 } else { 0 };
    let labels: BTreeMap<_, _> =
        (0..shape.labels).map(|i| (i.to_string(), format!("L{i}"))).collect();
    let mut config = json!({
        "model_type": names.model_type,
        "architectures": [format!("Any{}", shape.class)],
        "vocab_size": shape.vocab, "max_position_embeddings": positions, "pad_token_id": PAD,
        "id2label": labels,
    });
    let more = match names.model_type {
        "distilbert" => json!({
            "dim": shape.width(), "hidden_dim": shape.inner, "n_heads": shape.heads,
            "n_layers": shape.layers, "activation": shape.activation,
        }),
        _ => json!({
            "hidden_size": shape.width(), "intermediate_size": shape.inner,
            "num_attention_heads": shape.heads, "num_hidden_layers": shape.layers,
            "hidden_act": shape.activation, "layer_norm_eps": 1e-6,
            "type_vocab_size": names.segments.max(1), "embedding_size": shape.narrow,
            "num_hidden_groups": GROUPS.min(shape.layers),
        }),
    };
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn draft(names: &Names, shape: &Shape) -> Draft {
    if names.model_type == MODERNBERT.model_type {
        return modernbert(shape);
    }
    let config = config(names, shape);
    let positions = config["max_position_embeddings"].as_u64().unwrap() as usize;
    let (width, p) = (shape.width(), names.prefix);
    let words = if names.narrow { shape.narrow } else { width };
    let mut draft = Draft::new(config);
    draft.matrix(format!("{p}embeddings.word_embeddings.weight"), [shape.vocab, words]);
    draft.matrix(format!("{p}embeddings.position_embeddings.weight"), [positions, words]);
    if names.segments > 0 {
        let types = format!("{p}embeddings.token_type_embeddings.weight");
        draft.matrix(types, [names.segments, words]);
    }
    draft.norm(&format!("{p}embeddings.LayerNorm"), words, 1.0, true);
    match names.model_type {
        "albert" => {
            draft.linear(&format!("{p}encoder.embedding_hidden_mapping_in"), [width, words], true);
        }
        "electra" if words != width => {
            draft.linear(&format!("{p}embeddings_project"), [width, words], true);
        }
        "mpnet" => {
            let name = format!("{p}encoder.relative_attention_bias.weight");
            draft.matrix(name, [32, shape.heads]);
        }
        _ => {}
    }
    let albert = names.model_type == "albert";
    let stored = if albert { GROUPS.min(shape.layers) } else { shape.layers };
    for layer in 0..stored {
        let inner = if albert { ".albert_layers.0" } else { "" };
        let at = format!("{p}{}.{layer}{inner}", names.layer);
        let [q, k, v, out, norm, up, down, last] = names.parts.map(|part| format!("{at}.{part}"));
        [q, k, v, out].iter().for_each(|name| draft.linear(name, [width, width], true));
        draft.norm(&norm, width, 1.0, true);
        draft.linear(&up, [shape.inner, width], true);
        draft.linear(&down, [width, shape.inner], true);
        draft.norm(&last, width, 1.0, true);
    }
    heads(names, shape, words, &mut draft);
    draft
}

/// Norms before the blocks, packed projections, and biases that the configuration asks for.
fn modernbert(shape: &Shape) -> Draft {
    // Columns rotate in pairs.
    let shape = Shape { head_dim: shape.head_dim & !1, ..shape.clone() };
    let Shape { inner, vocab, labels, .. } = shape;
    let width = shape.width();
    let mut rng = Rng::new(shape.seed);
    let [attention, mlp, norm, head, decoder] = [(); 5].map(|()| rng.below(2) == 1);
    let mut config = config(&MODERNBERT, &shape);
    let more = json!({
        "attention_bias": attention, "mlp_bias": mlp, "norm_bias": norm, "classifier_bias": head,
        "decoder_bias": decoder, "norm_eps": 1e-6, "hidden_activation": shape.activation,
        "classifier_activation": shape.activation, "local_attention": 1 + rng.below(90),
        "global_attn_every_n_layers": 1 + rng.below(3), "local_rope_theta": 5e3,
        "classifier_pooling": if rng.below(2) == 0 { "mean" } else { "cls" },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut draft = Draft::new(config);
    draft.matrix("model.embeddings.tok_embeddings.weight", [vocab, width]);
    draft.norm("model.embeddings.norm", width, 1.0, norm);
    for layer in 0..shape.layers {
        let at = |part: &str| format!("model.layers.{layer}.{part}");
        if layer > 0 {
            draft.norm(&at("attn_norm"), width, 1.0, norm);
        }
        draft.linear(&at("attn.Wqkv"), [3 * width, width], attention);
        draft.linear(&at("attn.Wo"), [width, width], attention);
        draft.norm(&at("mlp_norm"), width, 1.0, norm);
        draft.linear(&at("mlp.Wi"), [2 * inner, width], mlp);
        draft.linear(&at("mlp.Wo"), [width, inner], mlp);
    }
    draft.norm("model.final_norm", width, 1.0, norm);
    if shape.class != "Model" {
        draft.linear("head.dense", [width, width], head);
        draft.norm("head.norm", width, 1.0, norm);
    }
    match shape.class {
        "Model" => {}
        "ForMaskedLM" if decoder => draft.vector("decoder.bias", vocab),
        "ForMaskedLM" => {}
        "ForQuestionAnswering" => draft.linear("classifier", [2, width], true),
        _ => draft.linear("classifier", [labels, width], true),
    }
    draft
}

fn heads(names: &Names, shape: &Shape, words: usize, draft: &mut Draft) {
    let width = shape.width();
    match shape.class {
        "ForMaskedLM" => {
            let [dense, norm, bias] = names.masked_lm;
            draft.linear(dense, [words, width], true);
            draft.norm(norm, words, 1.0, true);
            draft.vector(bias, shape.vocab);
        }
        "ForSequenceClassification" => {
            let [dense, out] = names.classifier;
            draft.linear(dense, [width, width], true);
            draft.linear(out, [shape.labels, width], true);
        }
        "ForTokenClassification" => draft.linear("classifier", [shape.labels, width], true),
        "ForQuestionAnswering" => draft.linear("qa_outputs", [2, width], true),
        _ => {
            if let Some(pooler) = names.pooler {
                draft.linear(&format!("{}{pooler}", names.prefix), [width, width], true);
            }
        }
    }
}

/// Ids and a mask of rows of random lengths, the first one full; padding behind them.
fn inputs(names: &Names, shape: &Shape) -> BTreeMap<String, Tensor> {
    let mut rng = Rng::new(!shape.seed);
    let (batch, tokens) = (shape.batch, shape.tokens);
    let (mut ids, mut mask, mut types) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..batch {
        let length = if row == 0 { tokens } else { 1 + rng.below(tokens) };
        for token in 0..tokens {
            let real = token < length;
            ids.push(if real { rng.below(shape.vocab) } else { PAD } as u32);
            types.push(rng.below(names.segments.max(1)) as u32);
            mask.push(u32::from(real));
        }
    }
    let mut all = vec![("input_ids", ids), ("attention_mask", mask)];
    if names.segments > 0 {
        all.push(("token_type_ids", types));
    }
    let tensor = |values| Tensor::u32([batch, tokens], values).unwrap();
    all.into_iter().map(|(name, values)| (name.to_owned(), tensor(values))).collect()
}

fn check(names: &Names, shape: &Shape, gpu: &Device) {
    let folder = draft(names, shape).write(shape.dtype, shape.seed);
    let what = format!("{} {shape:?}", names.model_type);
    let outputs = Outputs::Class { hidden_states: true };
    let options = BuildOptions { outputs, ..BuildOptions::default() };
    let open = || models::open(&folder.0, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let model = open();
    let inputs = model_inputs(&model.info, inputs(names, shape)).unwrap();
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let want = Runner::new(model.graph, Device::cpu()).unwrap().run(&given).unwrap();
    let got = Runner::new(open().graph, gpu.clone()).unwrap().run(&given).unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(want.len() > shape.layers + 1, "{what}: {:?}", want.keys());
    for (name, want) in &want {
        let all = ["pooler_output", "logits"].contains(&name.as_str());
        let per_text = all && want.shape().rows() == shape.batch;
        // One number per token: rows of the mask are its elements.
        let flat = Tensor::f32([want.shape().numel(), 1], want.as_f32().unwrap().to_vec());
        let want = if name.ends_with("_logits") { &flat.unwrap() } else { want };
        let got = &got[name];
        let same = Tensor::f32(want.shape(), got.as_f32().unwrap().to_vec()).unwrap();
        let mask = (!per_text).then_some(&inputs["attention_mask"]);
        assert_close(&same, want, mask, TOLERANCE, &format!("{what}: {name}"));
    }
}

proptest! {
    // Every case compiles pipelines of its own, so their number is what the test costs.
    #![proptest_config(Config {
        cases: 3, rng_seed: seed(), failure_persistence: None, max_shrink_iters: 30, ..Config::default()
    })]

    #[test]
    fn encoders_of_any_size(shape in shapes()) {
        let [gpu, _] = super::devices();
        for names in [BERT, ROBERTA, DISTILBERT, ALBERT, ELECTRA, MPNET, MODERNBERT] {
            check(&names, &shape, &gpu);
        }
    }
}
