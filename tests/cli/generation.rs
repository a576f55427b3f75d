//! `generate`, `translate` and `summarize` as a user runs them: answers, and what is refused.

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::program::{command, copy_golden, cpu, device, finish, golden, keys, text};

fn gpt2() -> String {
    text(golden("gpt2"))
}

fn case(name: &str, number: usize) -> Value {
    let file = std::fs::read_to_string(golden(name).join("golden.json")).unwrap();
    let index: Value = serde_json::from_str(&file).unwrap();
    let mut all = index["cases"].as_array().unwrap().iter().filter(|c| c["kind"] == "generate");
    all.nth(number).unwrap().clone()
}

fn list(ids: &Value) -> String {
    let ids: Vec<_> = ids.as_array().unwrap().iter().map(Value::to_string).collect();
    ids.join(",")
}

#[test]
fn answers_are_transformers_on_both_devices() {
    for device in ["cpu".to_owned(), device()] {
        for name in ["gpt2", "llama_gqa", "t5", "marian"] {
            let case = case(name, 0);
            let (model, config) = (text(golden(name)), case["params"].to_string());
            let shared = ["generate", "--json", "--device", &device, "--model", &model];
            let shared = shared.into_iter().chain(["--generation-config", &config]);
            let prompt = case["text"].as_str().unwrap();
            let by_text = finish(command(shared.clone().chain(["--prompt", prompt]))).json();
            let ids = list(&case["prompt_ids"]);
            let by_ids = finish(command(shared.chain(["--prompt-ids", &ids]))).json();
            for answer in [by_text, by_ids] {
                assert_eq!(answer["ids"], case["new_ids"], "{name} on {device}");
                assert_eq!(answer["text"], case["new_text"], "{name} on {device}");
                assert_eq!(answer["new_tokens"], case["new_ids"].as_array().unwrap().len());
                let count = case["prompt_ids"].as_array().unwrap().len();
                assert_eq!(answer["prompt_tokens"], count, "{name}");
            }
        }
    }
}

#[test]
fn a_context_bounds_prompt_and_result() {
    for device in ["cpu".to_owned(), device()] {
        for name in ["gpt2", "llama_gqa"] {
            let model = text(golden(name));
            let run = |context: &str| {
                let args = ["generate", "--json", "--device", &device, "--model", &model];
                let rest = ["--prompt-ids", "5,9,11,12", "--context", context];
                let none = ["--generation-config", r#"{"eos_token_id": null}"#];
                finish(command(args.iter().chain(&rest).chain(&none)))
            };
            let whole = run("16").json()["ids"].as_array().unwrap().clone();
            assert_eq!(whole.len(), 12, "{name} on {device}");
            assert_eq!(run("7").json()["ids"].as_array().unwrap()[..], whole[..3]);
            run("4").fails(&["4 tokens leaves no room", "at most 4"]);
        }
    }
}

#[test]
fn caches_of_halves_tell_the_same_story() {
    let story = |device: &str, cache: &str| {
        let model = ["generate", "--quiet", "--model", "storyteller", "--max-new-tokens", "40"];
        let rest = ["--prompt", "Once upon a time", "--device", device, "--cache-dtype", cache];
        finish(command(model.iter().chain(&rest))).ok()
    };
    let want = story("cpu", "f32");
    assert!(want.len() > 80, "{want}");
    for device in ["cpu", &device()] {
        assert_eq!(story(device, "f16"), want, "{device}");
    }
    cpu(["generate", "--model", "storyteller", "--prompt", "x", "--cache-dtype", "bf16"])
        .misused("f16");
}

#[test]
fn json_has_the_keys_scripts_rely_on() {
    let args = ["generate", "--json", "--max-new-tokens", "3", "--prompt", "She", "--model"];
    let answer = cpu(args.into_iter().chain([&*gpt2()])).json();
    let wanted =
        ["text", "ids", "prompt_tokens", "new_tokens", "prefill_ms", "decode_tokens_per_s"];
    let keys = keys(&answer);
    assert!(wanted.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert_eq!(answer["new_tokens"], 3);
}

#[test]
fn several_prompts_are_answered_in_their_order() {
    let prompts = ["She doesn't know why", "We're sure that", "The"];
    let mut args = vec!["generate", "--json", "--max-new-tokens", "6"];
    prompts.iter().for_each(|prompt| args.extend(["--prompt", prompt]));
    let model = gpt2();
    let model = ["--model", &model];
    let together = cpu(args.iter().copied().chain(model)).jsonl();
    for (prompt, answer) in prompts.iter().zip(&together) {
        let alone = ["generate", "--json", "--max-new-tokens", "6", "--prompt", prompt];
        let alone = cpu(alone.into_iter().chain(model)).json();
        assert_eq!((&answer["prompt"], &answer["ids"]), (&json!(prompt), &alone["ids"]));
    }
}

#[test]
fn the_same_seed_draws_the_same_text() {
    let draw = |seed: &str| {
        let args = ["generate", "--json", "--temperature", "1.5", "--top-k", "40", "--top-p"];
        let args = args.into_iter().chain(["0.95", "--max-new-tokens", "24", "--seed", seed]);
        cpu(args.chain(["--prompt", "The", "--model", &gpt2()])).json()["ids"].clone()
    };
    assert_eq!(draw("5"), draw("5"));
    assert_ne!(draw("5"), draw("6"));
}

#[test]
fn a_stop_string_ends_the_text_in_front_of_it() {
    let all = case("t5", 0);
    let model = text(golden("t5"));
    let prompt = all["text"].as_str().unwrap();
    let config = all["params"].to_string();
    let args = ["generate", "--json", "--generation-config", &config, "--stop", "word"];
    let answer = cpu(args.into_iter().chain(["--prompt", prompt, "--model", &model])).json();
    let whole = all["new_text"].as_str().unwrap();
    let before = &whole[..whole.find("word").expect("the golden text has the word")];
    assert_eq!((&answer["text"], &answer["finish"]), (&json!(before), &json!("stop")));
}

#[test]
fn beams_and_greedy_agree_when_one_token_is_asked_for() {
    let model = text(golden("bart"));
    let run = |beams: &str| {
        let config = r#"{"eos_token_id":2,"pad_token_id":1,"decoder_start_token_id":2}"#;
        let args = ["summarize", "--json", "--num-beams", beams, "--max-new-tokens", "1"];
        let args = args.into_iter().chain(["--generation-config", config, "--model", &model]);
        cpu(args.chain(["Rain fell on the"])).json()
    };
    let (one, four) = (run("1"), run("4"));
    assert_eq!(one["ids"], four["ids"]);
    assert!(one["score"].is_null() && four["score"].as_f64().unwrap() < 0.0);
}

#[test]
fn texts_longer_than_in_training_are_taken_with_a_notice() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("t5", &model);
    let run = |words: usize, most: &str| {
        let args = ["generate", "--max-new-tokens", "2", "--model", model.to_str().unwrap()];
        let done = cpu(args.into_iter().chain(["--prompt", &"rain ".repeat(words)]));
        assert_eq!(words > 2, done.err.contains("the model was trained on at most "), "{done:?}");
        assert!(done.err.contains(most), "{done:?}");
        done.ok();
    };
    run(2, "");
    run(200, "at most 512\n");
    // Older folders say it in the model's configuration.
    std::fs::remove_file(model.join("tokenizer_config.json")).unwrap();
    let config = model.join("config.json");
    let json = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, json.replacen('{', r#"{"n_positions": 20,"#, 1)).unwrap();
    run(2, "");
    run(100, "at most 20\n");
}

#[test]
fn numbers_out_of_range_are_refused() {
    let model = gpt2();
    let with = |flag: &str, value: &str| {
        cpu(["generate", "--prompt", "x", "--model", &model, flag, value])
    };
    let huge = (1u64 << 63).to_string();
    for value in ["0", "-1", &huge, "1.5", "many"] {
        with("--max-new-tokens", value).misused("--max-new-tokens");
    }
    for value in ["0", "-1", "99999999"] {
        with("--num-beams", value).misused("--num-beams");
    }
    with("--top-k", "-1").misused("--top-k");
    with("--seed", "-1").misused("--seed");
    for (flag, value, name) in [
        ("--temperature", "NaN", "temperature"),
        ("--temperature", "-0.5", "temperature"),
        ("--temperature", "inf", "temperature"),
        ("--top-p", "-0.1", "top_p"),
        ("--top-p", "1.5", "top_p"),
        ("--top-p", "NaN", "top_p"),
        ("--repetition-penalty", "0", "repetition_penalty"),
        ("--repetition-penalty", "-2", "repetition_penalty"),
    ] {
        with(flag, value).fails(&[name]);
    }
    with("--stop", "").fails(&["empty stop string"]);
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = gpt2();
    let generate = |args: &[&str]| {
        cpu(["generate", "--model", &model].into_iter().chain(args.iter().copied()))
    };
    generate(&["--prompt-ids", "5,352,3"]).fails(&["352", "vocabulary of 352"]);
    generate(&["--prompt-ids", "5,x"]).misused("`x` is not a token id");
    generate(&["--prompt-ids", ""]).misused("is not a token id");
    generate(&["--prompt-ids", "-1"]).misused("--prompt-ids");
    generate(&[]).misused("--prompt");
    let long = vec!["7"; 81].join(",");
    generate(&["--prompt-ids", &long]).fails(&["81", "80"]);
    let full = vec!["7"; 80].join(",");
    generate(&["--prompt-ids", &full]).fails(&["80 tokens leaves no room", "at most 80"]);
    // What fits is generated, and the model's context ends it.
    let most = vec!["7"; 78].join(",");
    let args = ["--json", "--max-new-tokens", "50", "--prompt-ids", &most];
    let answer = generate(&args).json();
    assert_eq!((&answer["new_tokens"], &answer["finish"]), (&json!(2), &json!("length")));
    // GPT-2 begins a text without a prompt with its own first token.
    let answer = generate(&["--json", "--max-new-tokens", "2", "--prompt", ""]).json();
    assert_eq!((&answer["prompt_tokens"], &answer["new_tokens"]), (&json!(1), &json!(2)));
}

#[test]
fn a_chat_template_makes_the_prompt() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("gpt2", &model);
    let run = |args: &[&str]| {
        let model = text(&model);
        let shared = ["generate", "--json", "--max-new-tokens", "4", "--model", &model];
        cpu(shared.into_iter().chain(args.iter().copied()))
    };
    run(&["--chat", "--prompt", "she"]).fails(&["chat template"]);
    let template = "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}a:{% endif %}";
    std::fs::write(model.join("chat_template.jinja"), template).unwrap();
    let chat = run(&["--chat", "--system", "be short", "--prompt", "she"]).json();
    let plain = run(&["--prompt", "s: be short\nu: she\na:"]).json();
    assert_eq!(chat["ids"], plain["ids"]);
    std::fs::write(model.join("chat_template.jinja"), "{% for i in range(10**9) %}{% endfor %}")
        .unwrap();
    run(&["--chat", "--prompt", "she"]).fails(&["chat_template.jinja"]);
}

#[test]
fn models_that_cannot_do_it_are_refused() {
    let bert = text(golden("bert_base"));
    cpu(["generate", "--prompt", "x", "--model", &bert]).fails(&["generates"]);
    for command in ["translate", "summarize"] {
        cpu([command, "x", "--model", &gpt2()]).fails(&["gpt2", "encoder-decoder"]);
    }
}

#[test]
fn generation_configs_are_checked() {
    let model = gpt2();
    let with = |config: &str| {
        let args = ["generate", "--prompt", "x", "--model", &model];
        cpu(args.into_iter().chain(["--generation-config", config]))
    };
    for (config, wants) in [
        ("{", &["JSON"][..]),
        ("nowhere.json", &["nowhere.json"]),
        ("[]", &["generation config", "a list"]),
        ("null", &["generation config", "null"]),
        (r#"{"eos_token_id": 5000}"#, &["`eos_token_id`", "5000", "352"]),
        (r#"{"max_new_tokens": -3}"#, &["`max_new_tokens`", "-3"]),
        (r#"{"num_beams": 4, "do_sample": true}"#, &["do_sample", "num_beams"]),
        (r#"{"guidance_scale": 3.0}"#, &["`guidance_scale`", "not supported"]),
        (r#"{"temperature": "hot"}"#, &["`temperature`", "hot"]),
    ] {
        with(config).fails(wants);
    }
    // The folder's own file is as strict.
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("gpt2", &model);
    std::fs::write(model.join("generation_config.json"), r#"{"top_k": "all"}"#).unwrap();
    cpu(["generate", "--prompt", "x", "--model", &text(&model)])
        .fails(&["generation_config.json", "`top_k`"]);
}
