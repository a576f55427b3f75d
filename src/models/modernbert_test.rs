#![cfg(test)]
//! A pre-norm encoder as one family file: norms before the blocks and after the last layer,
//! packed projections without biases, a gated feed-forward, and two bases of rotary positions,
//! against plain loops over the same weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::encoder::{self, Encoder};
use super::frame::heads::{Classifier, MaskedLm, Trunk};
use super::frame::sizes::{SIZE_NAMES, Sizes};
use super::model::{BuildOptions, Files, Model};
use crate::error::Result;
use crate::graph::{Executor, HostSession, HostWeights, SessionOptions, Value};
use crate::nn::{Attend, Heads, Norm, NormKind, Parameters, Rotary, Scope, Sequence};
use crate::ops::{Activation, Gated, Pairing, Rng, RopeScaling};
use crate::tensor::Tensor;
use crate::weights::{self, Checkpoint, Config};

const HEADS: super::frame::heads::Heads = super::frame::heads::Heads {
    pooler: None,
    classifier: Classifier { dense: "head.dense", activation: Activation::GeluErf, out: "out" },
    masked_lm: MaskedLm {
        dense: "head.dense",
        norm: "head.norm",
        decoder: "decoder",
        bias: "decoder.bias",
        activation: Activation::GeluErf,
    },
    detector: None,
    next_sentence: None,
};

struct PreNorm {
    sizes: Sizes,
    inner: usize,
    norm: Norm,
    /// Bases of even layers and of odd ones.
    thetas: [f64; 2],
}

fn build(files: &Files, options: &BuildOptions) -> Result<Model> {
    let config = &files.config;
    let sizes = Sizes::read(config, SIZE_NAMES)?;
    let family = PreNorm {
        sizes,
        inner: config.size("intermediate_size")?,
        norm: Norm {
            width: sizes.hidden_size,
            eps: config.eps("norm_eps", 1e-5)?,
            kind: NormKind::Layer,
        },
        thetas: [160_000.0, 10_000.0],
    };
    let parameters = Parameters::new(&files.checkpoints, &["model."], options.dtype);
    encoder::build(files, options, &parameters, &family)
}

impl Encoder for PreNorm {
    fn sizes(&self, _config: &Config) -> Result<Sizes> {
        Ok(self.sizes)
    }

    fn embed(
        &self,
        at: &mut Scope,
        ids: Value,
        _segments: Option<Value>,
        sequence: &Sequence,
    ) -> Result<Value> {
        at.layer("embeddings", |at| {
            let Sizes { vocab_size, hidden_size, .. } = self.sizes;
            let words = at.table("tok_embeddings.weight", vocab_size, hidden_size)?;
            let x = sequence.embed(at, ids, words, None, 1.0)?;
            at.norm("norm", self.norm, x)
        })
    }

    fn layer(&self, at: &mut Scope, layer: usize, sequence: &Sequence, x: Value) -> Result<Value> {
        let Sizes { hidden_size: width, n_heads, max_tokens, .. } = self.sizes;
        let head_dim = width / n_heads;
        let theta = self.thetas[layer % 2];
        let rotary =
            Rotary::new(at, theta, head_dim, max_tokens, RopeScaling::None, Pairing::Neox)?;
        let attend = Attend { rotary: Some(rotary), ..Attend::new(n_heads, head_dim) };
        // The embeddings' norm is the first layer's.
        let h = if layer == 0 { x } else { at.norm("attn_norm", self.norm, x)? };
        let packed = at.linear("attn.Wqkv", h, 3 * width)?;
        let h = attend.to_self(at, sequence, Heads::packed(packed, width))?;
        let h = at.linear("attn.Wo", h, width)?;
        let x = at.add(h, x)?;
        at.residual("mlp_norm", self.norm, true, x, |at, h| {
            let both = at.linear("mlp.Wi", h, 2 * self.inner)?;
            let h = at.apply(Gated { activation: Activation::GeluErf }, [Some(both), None])?;
            at.linear("mlp.Wo", h, width)
        })
    }

    fn finish(&self, at: &mut Scope, x: Value) -> Result<Value> {
        at.layer("final_norm", |at| at.norm("", self.norm, x))
    }

    fn heads(&self) -> &super::frame::heads::Heads {
        &HEADS
    }

    fn trunk<'a>(&'a self, config: &'a Config, last: Value) -> Trunk<'a> {
        Trunk {
            config,
            heads: &HEADS,
            last,
            norm: self.norm,
            activation: Activation::GeluErf,
            vocab_size: self.sizes.vocab_size,
            word_width: self.sizes.hidden_size,
        }
    }
}

const VOCAB: usize = 11;
const WIDTH: usize = 8;
const INNER: usize = 6;
const HEADS_N: usize = 2;
const LAYERS: usize = 3;
const CONFIG: &str = r#"{"model_type": "pre_norm", "vocab_size": 11, "hidden_size": 8,
    "intermediate_size": 6, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 16, "architectures": ["PreNormModel"]}"#;

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

    fn attention(&self, qkv: &Rows, theta: f64, real: &[bool]) -> Rows {
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
                    if real[j] { (dot / (dim as f64).sqrt()).exp() } else { 0.0 }
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
            let h = self.attention(&qkv, [160_000.0, 10_000.0][layer % 2], real);
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
fn a_pre_norm_encoder_is_one_file_and_agrees_with_plain_loops() {
    let weights = weights();
    let folder = std::env::temp_dir().join(format!("tilewright-pre-norm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let tensors: Vec<_> = weights.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
    weights::write(folder.join("model.safetensors"), &tensors).unwrap();
    let files = Files {
        config: Config::parse("config.json", CONFIG).unwrap(),
        checkpoints: vec![Arc::new(Checkpoint::open(&folder).unwrap())],
    };
    let model = build(&files, &BuildOptions::default()).unwrap();
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
