#![cfg(test)]
//! ModernBERT against plain loops over the same weights: norms, windows and two bases of rotary
//! positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{BuildOptions, Files};
use super::modernbert::FAMILY;
use crate::graph::{Executor, HostSession, HostWeights, SessionOptions};
use crate::ops::{Activation, Rng};
use crate::tensor::Tensor;
use crate::weights::{self, Checkpoint, Config};

const VOCAB: usize = 11;
const WIDTH: usize = 8;
const INNER: usize = 6;
const HEADS_N: usize = 2;
const LAYERS: usize = 3;
const CONFIG: &str = r#"{"model_type": "modernbert", "vocab_size": 11, "hidden_size": 8,
    "intermediate_size": 6, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 16, "local_attention": 4, "global_attn_every_n_layers": 2,
    "architectures": ["ModernBertModel"]}"#;

type Rows = Vec<Vec<f64>>;

/// The model in f64, one text after the other.
struct Plain(BTreeMap<String, Tensor>);

impl Plain {
    fn weight(&self, name: &str) -> Vec<f64> {
        let found = self.0[&format!("model.{name}.weight")].as_f32().unwrap();
        found.iter().map(|&v| f64::from(v)).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let w = self.weight(name);
        let row = |x: &Vec<f64>| {
            w.chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        x.iter().map(row).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let w = self.weight(name);
        let row = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let square = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            x.iter().zip(&w).map(|(v, w)| (v - mean) / (square + 1e-5).sqrt() * w).collect()
        };
        x.iter().map(row).collect()
    }

    fn attention(&self, qkv: &Rows, (theta, reach): (f64, usize), real: &[bool]) -> Rows {
        let dim = WIDTH / HEADS_N;
        let part = |token: usize, which: usize, head: usize| {
            let at = which * WIDTH + head * dim;
            let x = &qkv[token][at..at + dim];
            if which == 2 {
                return x.to_vec();
            }
            let half = dim / 2;
            let mut out = x.to_vec();
            for i in 0..half {
                let angle = token as f64 * theta.powf(-2.0 * i as f64 / dim as f64);
                out[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
                out[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
            }
            out
        };
        let token = |i: usize| {
            let mut row = Vec::new();
            for head in 0..HEADS_N {
                let q = part(i, 0, head);
                let score = |j: usize| {
                    let dot: f64 = q.iter().zip(part(j, 1, head)).map(|(q, k)| q * k).sum();
                    if real[j] && i.abs_diff(j) <= reach {
                        (dot / (dim as f64).sqrt()).exp()
                    } else {
                        0.0
                    }
                };
                let weights: Vec<f64> = (0..qkv.len()).map(score).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..dim {
                    let mixed = weights.iter().enumerate().map(|(j, w)| w * part(j, 2, head)[d]);
                    row.push(mixed.sum::<f64>() / total);
                }
            }
            row
        };
        (0..qkv.len()).map(token).collect()
    }

    fn run(&self, ids: &[u32], real: &[bool]) -> Rows {
        let sum = |a: &Rows, b: &Rows| -> Rows {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        let words = self.weight("embeddings.tok_embeddings");
        let row = |&id: &u32| words[id as usize * WIDTH..][..WIDTH].to_vec();
        let mut x = self.norm("embeddings.norm", &ids.iter().map(row).collect());
        for layer in 0..LAYERS {
            let name = |part: &str| format!("layers.{layer}.{part}");
            let h = if layer == 0 { x.clone() } else { self.norm(&name("attn_norm"), &x) };
            let qkv = self.linear(&name("attn.Wqkv"), &h);
            let h = self.attention(&qkv, [(160_000.0, ids.len()), (10_000.0, 2)][layer % 2], real);
            x = sum(&x, &self.linear(&name("attn.Wo"), &h));
            let both = self.linear(&name("mlp.Wi"), &self.norm(&name("mlp_norm"), &x));
            let gated = |row: &Vec<f64>| {
                let (gate, up) = row.split_at(INNER);
                let f = |g: f64| Activation::GeluErf.reference(g);
                gate.iter().zip(up).map(|(g, u)| f(*g) * u).collect()
            };
            let h: Rows = both.iter().map(gated).collect();
            x = sum(&x, &self.linear(&name("mlp.Wo"), &h));
        }
        self.norm("final_norm", &x)
    }
}

fn weights() -> BTreeMap<String, Tensor> {
    let mut rng = Rng::new(11);
    let mut all = BTreeMap::new();
    let mut put = |name: &str, dims: &[usize]| {
        let shape = crate::tensor::Shape::new(dims).unwrap();
        let values = (0..shape.numel()).map(|_| rng.normal() * 0.5).collect();
        all.insert(format!("model.{name}.weight"), Tensor::f32(shape, values).unwrap());
    };
    put("embeddings.tok_embeddings", &[VOCAB, WIDTH]);
    put("embeddings.norm", &[WIDTH]);
    put("final_norm", &[WIDTH]);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("layers.{layer}.{part}");
        if layer > 0 {
            put(&name("attn_norm"), &[WIDTH]);
        }
        put(&name("attn.Wqkv"), &[3 * WIDTH, WIDTH]);
        put(&name("attn.Wo"), &[WIDTH, WIDTH]);
        put(&name("mlp_norm"), &[WIDTH]);
        put(&name("mlp.Wi"), &[2 * INNER, WIDTH]);
        put(&name("mlp.Wo"), &[WIDTH, INNER]);
    }
    all
}

#[test]
fn layers_agree_with_plain_loops() {
    let weights = weights();
    let folder = std::env::temp_dir().join(format!("tilewright-modernbert-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let tensors: Vec<_> = weights.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    weights::write(folder.join("model.safetensors"), &tensors).unwrap();
    let files = Files {
        config: Config::parse("config.json", CONFIG).unwrap(),
        checkpoints: vec![Arc::new(Checkpoint::open(&folder).unwrap())],
    };
    let model = (FAMILY.build)(&files, &BuildOptions::default()).unwrap();
    let layers: Vec<_> = model.graph.nodes().iter().map(|n| n.layer.as_str()).collect();
    for layer in ["embeddings", "layers.0", "layers.2", "final_norm"] {
        assert!(layers.contains(&layer), "{layers:?}");
    }

    let ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3];
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0];
    let inputs = [ids, mask].map(|v| Tensor::u32([2, 5], v.to_vec()).unwrap());
    let inputs = [("input_ids", &inputs[0]), ("attention_mask", &inputs[1])];
    let host = Arc::new(HostWeights::default());
    let session = HostSession::new(Arc::new(model.graph), &host, &SessionOptions::default());
    let got = session.run(&inputs).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();

    let plain = Plain(weights);
    let want = (0..2).flat_map(|row| {
        let real: Vec<_> = mask[row * 5..][..5].iter().map(|&m| m == 1).collect();
        plain.run(&ids[row * 5..][..5], &real)
    });
    let want: Vec<f64> = want.flatten().collect();
    let got = got["last_hidden_state"].as_f32().unwrap();
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{i}: {got} is not {want}");
    }
}
