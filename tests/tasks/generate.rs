//! Generation against transformers' ids: every golden folder that generates, alone and in a
//! batch, on the device and on the CPU; and how the device is driven while it decodes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tilewright::engine::Device;
use tilewright::gpu::GpuOptions;
use tilewright::tasks::{GenerateOptions, Generation, TextGenerator};
use tilewright::weights::GenerationConfig;

use crate::common;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

pub fn devices() -> [Device; 2] {
    [Device::gpu(&common::shared()), Device::cpu()]
}

fn golden(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Folders whose goldens have cases of generation.
fn generating() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(goldens()).expect("the goldens");
    let mut folders: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    folders.retain(|f| f.join("golden.json").is_file());
    folders.retain(|f| cases(&golden(f), "generate").next().is_some());
    folders.sort();
    folders
}

fn cases<'a>(golden: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let all = golden["cases"].as_array().expect("cases").iter();
    all.filter(move |case| case["kind"] == kind)
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("ids").iter();
    list.map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn config(model: &TextGenerator, case: &Value) -> GenerationConfig {
    model.parse_config(&case["params"].to_string()).expect("a generation config")
}

fn generate(
    model: &TextGenerator,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
) -> Vec<Generation> {
    let go_on = &mut |_: tilewright::tasks::Event<'_>| ControlFlow::Continue(());
    model.generate_ids(prompts, config, 0, go_on).expect("a generation").0
}

fn check(case: &Value, got: &Generation, what: &str) {
    assert_eq!(got.ids, ids(&case["new_ids"]), "{what}: ids");
    let finish = case["finish"].as_str().expect("finish");
    assert_eq!(got.finish.name(), finish, "{what}: finish");
    assert_eq!(got.text, case["new_text"].as_str().expect("text"), "{what}: text");
}

#[test]
fn greedy_ids_and_text_match_transformers_one_by_one_and_batched() {
    let folders = generating();
    assert!(folders.len() >= 16, "goldens are missing: {folders:?}");
    for device in devices() {
        for folder in &folders {
            let golden = golden(folder);
            let model =
                TextGenerator::open(folder, device.clone(), GenerateOptions::default()).unwrap();
            for case in cases(&golden, "generate") {
                let what = format!("{} {} on {}", folder.display(), case["name"], device.name());
                let prompt = ids(&case["prompt_ids"]);
                assert_eq!(
                    model.encode(&[case["text"].as_str().unwrap()], true).unwrap()[0],
                    prompt,
                    "{what}: prompt"
                );
                let got = generate(&model, &[prompt], &config(&model, case));
                check(case, &got[0], &what);
            }
            for batch in cases(&golden, "generate_batch") {
                let names = batch["rows"].as_array().unwrap();
                let find = |name: &Value| {
                    cases(&golden, "generate").find(|c| c["name"] == *name).expect("a named case")
                };
                let rows: Vec<_> = names.iter().map(find).collect();
                let prompts: Vec<_> = rows.iter().map(|c| ids(&c["prompt_ids"])).collect();
                let got = generate(&model, &prompts, &config(&model, rows[0]));
                for (case, got) in rows.iter().zip(&got) {
                    let what = format!("{} batched on {}", folder.display(), device.name());
                    check(case, got, &what);
                }
            }
        }
    }
}

/// GPT-2's golden has 80 positions: the long prompt may go on for 4 tokens, the short one for all.
#[test]
fn a_long_prompt_cuts_no_other_short() {
    for device in devices() {
        let folder = goldens().join("gpt2");
        let model = TextGenerator::open(folder, device, GenerateOptions::default()).unwrap();
        let mut config = model.config().clone();
        (config.max_new_tokens, config.eos_token_id) = (Some(9), Vec::new());
        let long: Vec<u32> = (0..76).map(|i| 60 + i % 40).collect();
        let prompts = [vec![70, 71], long, vec![90, 61, 62]];
        let together = generate(&model, &prompts, &config);
        for (prompt, got) in prompts.iter().zip(&together) {
            let alone = &generate(&model, std::slice::from_ref(prompt), &config)[0];
            assert_eq!(got.ids.len(), 9.min(80 - prompt.len()));
            assert_eq!(got, alone);
        }
    }
}

#[test]
fn decoding_waits_for_no_step_and_makes_nothing_per_token() {
    let gpu = common::open(GpuOptions::default());
    let model =
        TextGenerator::open(goldens().join("gpt2"), Device::gpu(&gpu), GenerateOptions::default())
            .unwrap();
    let config = GenerationConfig { max_new_tokens: Some(40), ..GenerationConfig::default() };
    let prompt = vec![vec![50, 257, 287, 78]];
    let go_on = &mut |_: tilewright::tasks::Event<'_>| ControlFlow::Continue(());
    // The first generation loads, compiles and allocates.
    let (first, _) = model.generate_ids(&prompt, &config, 0, go_on).unwrap();
    assert_eq!(first[0].ids.len(), 40);
    let before = gpu.counters();
    let (again, timing) = model.generate_ids(&prompt, &config, 0, go_on).unwrap();
    let after = gpu.counters();
    assert_eq!(first, again, "the same prompt gives the same ids");
    assert_eq!(
        (after.buffers, after.bind_groups, after.pipelines),
        (before.buffers, before.bind_groups, before.pipelines),
        "a token makes no buffer, bind group or pipeline"
    );
    // One submission for the prompt and one per further token, nothing in between.
    assert_eq!(after.submissions - before.submissions, 40);
    assert!(timing.steps_ahead >= 4, "only {} steps were on their way", timing.steps_ahead);
}
