//! Against transformers: `tests/goldens/decoding.json` has what its `generate` answers for a toy
//! model, whose logits `tools/decoding_cases.py` describes.

#![cfg(test)]

use serde_json::Value;

use super::{BeamSearch, Processors, Sampler};
use crate::weights::{Config, Decoding, GenerationConfig};

/// The logits after `ids`, as in `tools/decoding_cases.py`.
fn logits(ids: &[u32], vocab: u32, seed: u32, spread: f64) -> Vec<f32> {
    let before = if ids.len() > 1 { ids[ids.len() - 2] } else { 0 };
    let last = ids[ids.len() - 1];
    let logit = |token: u32| {
        let mut x = before.wrapping_mul(0x9E37_79B1)
            ^ last.wrapping_mul(0x85EB_CA77)
            ^ token.wrapping_mul(0xC2B2_AE3D)
            ^ seed.wrapping_add(ids.len() as u32).wrapping_mul(0x27D4_EB2F);
        x = (x ^ (x >> 15)).wrapping_mul(0x2C1B_3C6D);
        x = (x ^ (x >> 12)).wrapping_mul(0x297A_2D39);
        x ^= x >> 15;
        ((f64::from(x >> 12) - f64::from(1 << 19)) / f64::from(1 << 16) * spread) as f32
    };
    (0..vocab).map(logit).collect()
}

fn golden(part: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/decoding.json");
    let text = std::fs::read_to_string(path).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file[part].as_array_mut().map(std::mem::take).unwrap()
}

fn number(case: &Value, field: &str) -> u32 {
    case[field].as_u64().unwrap() as u32
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn config(case: &Value, vocab: u32) -> GenerationConfig {
    let model = Config::parse("config.json", "{}").unwrap();
    let json = case["params"].to_string();
    GenerationConfig::from_argument(&json, &model, vocab as usize).unwrap()
}

fn beam_search(
    config: &GenerationConfig,
    prompt: &[u32],
    model: impl Fn(&[u32]) -> Vec<f32>,
) -> (Vec<u32>, f32) {
    let mut search = BeamSearch::new(config, prompt).unwrap();
    loop {
        let before: Vec<Vec<u32>> =
            (0..search.beams()).map(|beam| search.ids(beam).unwrap().to_vec()).collect();
        let rows: Vec<Vec<f32>> = before.iter().map(|ids| model(ids)).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let step = search.advance(&rows).unwrap();
        for (beam, (parent, token)) in step.parents.iter().zip(&step.tokens).enumerate() {
            let expected = [before[*parent].as_slice(), &[*token]].concat();
            assert_eq!(search.ids(beam).unwrap(), expected);
        }
        if step.done {
            let best = search.finish().swap_remove(0);
            return (best.ids, best.score);
        }
    }
}

fn greedy(
    config: &GenerationConfig,
    prompt: &[u32],
    model: impl Fn(&[u32]) -> Vec<f32>,
) -> Vec<u32> {
    let processors = Processors::new(config, prompt.len()).unwrap();
    let mut sampler = Sampler::new(config, 0).unwrap();
    let mut ids = prompt.to_vec();
    while ids.len() < processors.max_length() {
        let mut row = model(&ids);
        let raw = row.clone();
        processors.apply(&ids, &mut row);
        assert!(!processors.is_trivial() || row == raw);
        if let Some(mask) = processors.mask(ids.len(), row.len()) {
            let masked: Vec<f32> = raw.iter().zip(mask).map(|(x, m)| x + m).collect();
            assert_eq!(sampler.sample(&masked).ok(), sampler.sample(&row).ok());
        }
        // A row without any token left: transformers takes the first.
        let token = sampler.sample(&row).unwrap_or(0);
        ids.push(token);
        if config.eos_token_id.contains(&token) {
            break;
        }
    }
    ids.split_off(prompt.len())
}

#[test]
fn generation_gives_the_ids_of_transformers() {
    let mut beams = 0;
    let mut wrong = Vec::new();
    let cases = golden("generate");
    for (i, case) in cases.iter().enumerate() {
        let (vocab, seed) = (number(case, "vocab"), number(case, "seed"));
        let spread = case["spread"].as_f64().unwrap();
        let config = config(case, vocab);
        let prompt = ids(&case["prompt"]);
        let model = |ids: &[u32]| logits(ids, vocab, seed, spread);
        let (found, score) = match config.decoding().unwrap() {
            Decoding::Beam => {
                beams += 1;
                let (found, score) = beam_search(&config, &prompt, model);
                (found, Some(score))
            }
            _ => (greedy(&config, &prompt, model), None),
        };
        let expected = case["score"].as_f64();
        let near = match (score, expected) {
            (Some(score), Some(expected)) => {
                (f64::from(score) - expected).abs() <= 1e-5 * expected.abs().max(1.0)
            }
            (None, None) => true,
            _ => false,
        };
        if found != ids(&case["ids"]) || !near {
            wrong.push(format!("case {i}: {found:?} {score:?}, expected {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 400 && beams >= 200, "{} cases, {beams} with beams", cases.len());
}

#[test]
fn sampling_leaves_the_distribution_of_transformers() {
    let cases = golden("sample");
    for case in &cases {
        let vocab = number(case, "vocab");
        let spread = case["spread"].as_f64().unwrap();
        let row = logits(&[1], vocab, number(case, "seed"), spread);
        let sampler = Sampler::new(&config(case, vocab), 0).unwrap();
        let mut kept = sampler.kept(&row).unwrap();
        kept.sort_unstable_by_key(|(id, _)| *id);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let expected = case["kept"].as_array().unwrap();
        assert_eq!(kept.len(), expected.len(), "{case}");
        for ((id, weight), pair) in kept.iter().zip(expected) {
            assert_eq!(u64::from(*id), pair[0].as_u64().unwrap(), "{case}");
            let expected = pair[1].as_f64().unwrap();
            assert!((weight / total - expected).abs() <= 1e-5 * expected, "{id}: {case}");
        }
    }
    assert!(cases.len() >= 50);
}
