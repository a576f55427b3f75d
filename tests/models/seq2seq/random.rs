//! Encoder-decoders of random sizes: the device against the CPU, in whole passes and in steps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::json;
use tilewright::engine::{Device, Runner, TOLERANCE, model_inputs};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::ops::Rng;
use tilewright::{DType, Tensor};

use super::steps::{Most, Steps};
use crate::draft::Draft;
use crate::golden::assert_close;

/// What every family's configuration is made of.
#[derive(Clone, Debug)]
struct Shape {
    heads: usize,
    head_dim: usize,
    inner: usize,
    layers: [usize; 2],
    vocab: usize,
    flags: [bool; 4],
    batch: usize,
    source: usize,
    tokens: usize,
    seed: u64,
}

prop_compose! {
    fn shapes()(
        heads in 1usize..4, head_dim in 8usize..97, inner in 5usize..90,
        layers in prop::array::uniform2(1usize..3), vocab in 7usize..150,
        flags in any::<[bool; 4]>(),
        batch in 1usize..6, source in 1usize..131, tokens in 1usize..131, seed in any::<u64>(),
    ) -> Shape {
        Shape { heads, head_dim, inner, layers, vocab, flags, batch, source, tokens, seed }
    }
}

/// A family's configuration and tensors.
type Family = fn(&Shape) -> Draft;

fn t5(shape: &Shape) -> Draft {
    let Shape { heads, head_dim, inner, vocab, .. } = *shape;
    let [gated, tied, ..] = shape.flags;
    let (width, buckets, reach) = (heads * 11 + 4, 4 + inner % 20, 12 + vocab);
    let mut draft = Draft::new(json!({
        "model_type": "t5", "d_model": width, "d_kv": head_dim, "d_ff": inner, "num_heads": heads,
        "num_layers": shape.layers[0], "num_decoder_layers": shape.layers[1], "vocab_size": vocab,
        "relative_attention_num_buckets": buckets, "relative_attention_max_distance": reach,
        "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
        "tie_word_embeddings": tied,
    }));
    draft.matrix("shared.weight", [vocab, width]);
    if !tied {
        draft.matrix("lm_head.weight", [vocab, width]);
    }
    for (side, layers) in ["encoder", "decoder"].into_iter().zip(shape.layers) {
        let first = format!("{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        draft.matrix(first, [buckets, heads]);
        for layer in 0..layers {
            let mut parts = vec!["SelfAttention", "DenseReluDense"];
            if side == "decoder" {
                parts.insert(1, "EncDecAttention");
            }
            for (i, part) in parts.iter().enumerate() {
                let at = format!("{side}.block.{layer}.layer.{i}");
                draft.norm(&format!("{at}.layer_norm"), width, 1.0, false);
                let mut scaled = |name: &str, rows, columns, scale| {
                    let name = format!("{at}.{part}.{name}.weight");
                    draft.scaled_matrix(name, [rows, columns], scale);
                };
                if part.ends_with("Attention") {
                    // T5 does not scale scores: its queries are small instead, or a score's
                    // rounding would grow from layer to layer.
                    scaled("q", heads * head_dim, width, (head_dim as f32).sqrt().recip());
                }
                let mut matrix = |name: &str, rows, columns| scaled(name, rows, columns, 1.0);
                if part.ends_with("Attention") {
                    ["k", "v"].iter().for_each(|name| matrix(name, heads * head_dim, width));
                    matrix("o", width, heads * head_dim);
                    continue;
                }
                let ups: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
                ups.iter().for_each(|up| matrix(up, inner, width));
                matrix("wo", width, inner);
            }
        }
        draft.norm(&format!("{side}.final_layer_norm"), width, 1.0, false);
    }
    draft
}

/// BART, or Marian where the last flag says so.
fn bart(shape: &Shape) -> Draft {
    let Shape { heads, head_dim, inner, vocab, .. } = *shape;
    let [tied, before, embedding_norm, marian] = shape.flags;
    // A sinusoidal encoding has an even width.
    let width = heads * if marian { head_dim / 2 * 2 } else { head_dim };
    let positions = shape.source.max(shape.tokens);
    let mut draft = Draft::new(json!({
        "model_type": if marian { "marian" } else { "bart" }, "d_model": width,
        "encoder_layers": shape.layers[0], "decoder_layers": shape.layers[1],
        "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": inner, "decoder_ffn_dim": inner, "vocab_size": vocab,
        "max_position_embeddings": positions, "tie_word_embeddings": tied,
        "normalize_before": before, "add_final_layer_norm": before,
        "normalize_embedding": embedding_norm, "scale_embedding": marian,
    }));
    draft.matrix("model.shared.weight", [vocab, width]);
    if !tied {
        draft.matrix("lm_head.weight", [vocab, width]);
    }
    for (side, layers) in ["encoder", "decoder"].into_iter().zip(shape.layers) {
        if !marian {
            let name = format!("model.{side}.embed_positions.weight");
            draft.matrix(name, [positions + 2, width]);
        }
        if embedding_norm {
            draft.norm(&format!("model.{side}.layernorm_embedding"), width, 1.0, true);
        }
        if before {
            draft.norm(&format!("model.{side}.layer_norm"), width, 1.0, true);
        }
        for layer in 0..layers {
            let at = format!("model.{side}.layers.{layer}");
            let cross = (side == "decoder").then_some("encoder_attn");
            for part in ["self_attn"].into_iter().chain(cross) {
                for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    draft.linear(&format!("{at}.{part}.{name}"), [width, width], true);
                }
                draft.norm(&format!("{at}.{part}_layer_norm"), width, 1.0, true);
            }
            draft.linear(&format!("{at}.fc1"), [inner, width], true);
            draft.linear(&format!("{at}.fc2"), [width, inner], true);
            draft.norm(&format!("{at}.final_layer_norm"), width, 1.0, true);
        }
    }
    draft
}

fn vaswani(shape: &Shape) -> Draft {
    let Shape { heads, head_dim, inner, vocab, .. } = *shape;
    let [tied, norm_first, final_norm, gelu] = shape.flags;
    let width = heads * (head_dim / 2 * 2);
    let mut draft = Draft::new(json!({
        "model_type": "vaswani2017", "d_model": width, "nhead": heads, "dim_feedforward": inner,
        "num_encoder_layers": shape.layers[0], "num_decoder_layers": shape.layers[1],
        "activation": if gelu { "gelu" } else { "relu" }, "norm_first": norm_first,
        "final_norm": final_norm, "tie_embeddings": tied, "vocab_size": vocab,
        "max_len": shape.source.max(shape.tokens),
    }));
    let embeddings: &[&str] =
        if tied { &["src_embed"] } else { &["src_embed", "tgt_embed", "generator"] };
    embeddings.iter().for_each(|name| draft.matrix(format!("{name}.weight"), [vocab, width]));
    for (side, layers) in ["encoder", "decoder"].into_iter().zip(shape.layers) {
        for layer in 0..layers {
            let at = format!("transformer.{side}.layers.{layer}");
            let cross = (side == "decoder").then_some("multihead_attn");
            for part in ["self_attn"].into_iter().chain(cross) {
                draft.matrix(format!("{at}.{part}.in_proj_weight"), [3 * width, width]);
                draft.vector(format!("{at}.{part}.in_proj_bias"), 3 * width);
                draft.linear(&format!("{at}.{part}.out_proj"), [width, width], true);
            }
            draft.linear(&format!("{at}.linear1"), [inner, width], true);
            draft.linear(&format!("{at}.linear2"), [width, inner], true);
            let norms = if cross.is_some() { 3 } else { 2 };
            (1..=norms).for_each(|i| draft.norm(&format!("{at}.norm{i}"), width, 1.0, true));
        }
        if final_norm {
            draft.norm(&format!("transformer.{side}.norm"), width, 1.0, true);
        }
    }
    draft
}

fn encoder_decoder(shape: &Shape) -> Draft {
    let Shape { heads, head_dim, inner, vocab, .. } = *shape;
    // The decoder's heads are all of one width, its number of them its own.
    let widths = [heads * head_dim, (4 - heads) * head_dim];
    let positions = shape.source.max(shape.tokens);
    let section = |i: usize| {
        json!({
            "model_type": "bert", "hidden_size": widths[i], "num_hidden_layers": shape.layers[i],
            "num_attention_heads": widths[i] / head_dim, "intermediate_size": inner,
            "vocab_size": vocab, "max_position_embeddings": positions,
            "is_decoder": i == 1, "add_cross_attention": i == 1,
        })
    };
    let mut draft = Draft::new(json!({
        "model_type": "encoder-decoder", "encoder": section(0), "decoder": section(1),
    }));
    for (i, trunk) in ["encoder", "decoder.bert"].into_iter().enumerate() {
        let (width, layers, decoder) = (widths[i], shape.layers[i], i == 1);
        for (table, rows) in [("word", vocab), ("position", positions), ("token_type", 2)] {
            draft.matrix(format!("{trunk}.embeddings.{table}_embeddings.weight"), [rows, width]);
        }
        draft.norm(&format!("{trunk}.embeddings.LayerNorm"), width, 1.0, true);
        for layer in 0..layers {
            let at = format!("{trunk}.encoder.layer.{layer}");
            let cross = decoder.then_some("crossattention");
            for part in ["attention"].into_iter().chain(cross) {
                for name in ["self.query", "self.key", "self.value", "output.dense"] {
                    draft.linear(&format!("{at}.{part}.{name}"), [width, width], true);
                }
                draft.norm(&format!("{at}.{part}.output.LayerNorm"), width, 1.0, true);
            }
            draft.linear(&format!("{at}.intermediate.dense"), [inner, width], true);
            draft.linear(&format!("{at}.output.dense"), [width, inner], true);
            draft.norm(&format!("{at}.output.LayerNorm"), width, 1.0, true);
        }
    }
    let head = "decoder.cls.predictions";
    draft.linear(&format!("{head}.transform.dense"), [widths[1], widths[1]], true);
    draft.norm(&format!("{head}.transform.LayerNorm"), widths[1], 1.0, true);
    draft.vector(format!("{head}.bias"), vocab);
    if widths[0] != widths[1] {
        draft.linear("enc_to_dec_proj", [widths[1], widths[0]], true);
    }
    draft
}

/// Ids below `vocab` and a mask of rows of random lengths, the first one full.
fn rows(rng: &mut Rng, batch: usize, tokens: usize, vocab: usize) -> [Tensor; 2] {
    let ids = (0..batch * tokens).map(|_| rng.below(vocab) as u32).collect();
    let length = |row| if row == 0 { tokens } else { 1 + rng.below(tokens) };
    let lengths: Vec<usize> = (0..batch).map(length).collect();
    let mask = (0..batch * tokens).map(|i| u32::from(i % tokens < lengths[i / tokens])).collect();
    [ids, mask].map(|values| Tensor::u32([batch, tokens], values).unwrap())
}

fn check(family: Family, shape: &Shape) {
    let folder = family(shape).write(DType::F32, shape.seed);
    let path = &folder.0;
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    let what = format!("{shape:?} {config}");
    let options =
        BuildOptions { outputs: Outputs::Class { hidden_states: true }, ..BuildOptions::default() };
    let open = || models::open(path, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let (model, gpu) = (open(), super::gpu());
    let mut rng = Rng::new(!shape.seed);
    let [ids, mask] = rows(&mut rng, shape.batch, shape.source, shape.vocab);
    let [decoder_ids, decoder_mask] = rows(&mut rng, shape.batch, shape.tokens, shape.vocab);
    let inputs = BTreeMap::from([
        ("input_ids".to_owned(), ids),
        ("attention_mask".to_owned(), mask),
        ("decoder_input_ids".to_owned(), decoder_ids),
        ("decoder_attention_mask".to_owned(), decoder_mask),
    ]);
    let inputs = model_inputs(&model.info, inputs).unwrap();
    let given: Vec<_> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let want = Runner::new(model.graph, Device::cpu()).unwrap().run(&given).unwrap();
    let got = Runner::new(open().graph, gpu.clone()).unwrap().run(&given).unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    for (output, want) in &want {
        let side = if output.starts_with("encoder") { "" } else { "decoder_" };
        let mask = &inputs[&format!("{side}attention_mask")];
        assert_close(&got[output], want, Some(mask), TOLERANCE, &format!("{what}: {output}"));
    }
    let most = Most { batch: shape.batch, source: shape.source, context: shape.tokens };
    let steps = Steps::new(path, &gpu, most);
    steps.check(&inputs, &want, &[1, 40, 2], TOLERANCE, &what);
}

/// The same cases on every run and machine; `PROPTEST_RNG_SEED` draws others.
fn seed() -> RngSeed {
    match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(2017),
        chosen => chosen,
    }
}

/// Every case compiles pipelines of its own, so their number is what the test costs; families of
/// one shape share most of them.
fn config() -> Config {
    Config {
        cases: 3,
        rng_seed: seed(),
        failure_persistence: None,
        max_shrink_iters: 30,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn models_of_any_size(shape in shapes()) {
        for family in [t5 as Family, bart, vaswani, encoder_decoder] {
            check(family, &shape);
        }
    }
}
