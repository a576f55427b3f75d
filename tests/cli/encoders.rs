//! `fill-mask`, `classify`, `tag` and `answer`: text in, answer out.

use std::path::Path;

use serde_json::{Value, json};
use tilewright::Tensor;
use tilewright::weights::{self, SafeTensors};

use crate::folder::Folder;
use crate::program::{command, copy_golden, cpu, device, finish, golden, keys, text};

/// Runs a command on both devices; the answers' shapes and words must agree.
fn both(args: &[&str]) -> Vec<Value> {
    let on_cpu = cpu(args).jsonl();
    let on_device = finish(command(args.iter().chain(&["--device", &device()]))).jsonl();
    assert_eq!(on_cpu.len(), on_device.len());
    for (a, b) in on_cpu.iter().zip(&on_device) {
        same(a, b);
    }
    on_cpu
}

/// Equal but for the last digits of numbers.
fn same(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| same(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()));
            a.values().zip(b.values()).for_each(|(a, b)| same(a, b));
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() => {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 2e-5, "{a} {b}");
        }
        _ => assert_eq!(a, b),
    }
}

fn score(value: &Value) -> f64 {
    value["score"].as_f64().unwrap()
}

#[test]
fn fill_mask_gives_the_likeliest_tokens() {
    let model = text(golden("bert_mlm"));
    let rows = both(&["fill-mask", "--model", &model, "--json", "[MASK] Rain fell"]);
    assert_eq!(keys(&rows[0]), ["text", "tokens"]);
    let tokens = rows[0]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    assert_eq!(keys(&tokens[0]), ["token", "id", "score"]);
    assert_eq!((&tokens[0]["token"], &tokens[0]["id"]), (&json!("##out"), &json!(286)));
    assert!((score(&tokens[0]) - 0.374_417_3).abs() < 2e-5);

    // A line per mask, and of a pair too: the golden's first row.
    let second = "Translate [MASK] sentence: the house [MASK] small and";
    let args = ["fill-mask", "--model", &model, "--json", "--top-k", "2"];
    let rows = cpu(args.iter().chain(&["--pair", second, "Привет,"])).jsonl();
    assert_eq!(rows.len(), 2);
    let ids = |row: &Value| {
        row["tokens"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids(&rows[0]), ids(&rows[1])),
        (vec![json!(108), json!(159)], vec![json!(166), json!(127)])
    );

    let plain = cpu(["fill-mask", "--model", &model, "[MASK] Rain fell"]).ok();
    assert!(plain.starts_with("[MASK] Rain fell\n  0.3744  ##out\n"), "{plain}");
    let roberta = text(golden("roberta_mlm"));
    let rows = both(&["fill-mask", "--model", &roberta, "--json", "<mask> Пр"]);
    assert_eq!(rows[0]["tokens"][1]["token"], "Ġwor");
}

#[test]
fn classify_gives_labels() {
    let model = text(golden("bert_cls"));
    let folder = Folder::new();
    let lines = text(folder.file("lines", "The engine\nRain fell on the sea\n"));
    let rows = both(&["classify", "--model", &model, "--json", "--file", &lines]);
    assert_eq!(rows.len(), 2);
    assert_eq!(keys(&rows[0]), ["text", "labels"]);
    assert_eq!(rows[0]["text"], "The engine");
    let labels = rows[0]["labels"].as_array().unwrap();
    assert_eq!(keys(&labels[0]), ["label", "score"]);
    assert_eq!((labels.len(), &labels[0]["label"]), (2, &json!("NEGATIVE")));
    assert!((score(&labels[0]) - 0.528_969_9).abs() < 2e-5);

    let args = ["classify", "--model", &model, "--json", "--top-k", "1"];
    let pair = ["Translate the sentence: the", "--pair", "Rain fell on the old red car while Anna"];
    let row = cpu(args.iter().chain(&pair)).json();
    assert_eq!(row["labels"].as_array().unwrap().len(), 1);
    assert!((score(&row["labels"][0]) - 0.613_043_2).abs() < 2e-5);
    let distil = text(golden("distilbert_cls"));
    let plain = cpu(["classify", "--model", &distil, "Rain fell on"]).ok();
    assert_eq!(plain, "negative 0.4240  neutral 0.3513  positive 0.2247  Rain fell on\n");
}

#[test]
fn problem_types_change_scores() {
    let folder = Folder::new();
    let model = folder.0.join("model");
    copy_golden("bert_cls", &model);
    let path = model.join("config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let scores = |problem: &str| {
        let mut config = config.clone();
        config["problem_type"] = json!(problem);
        std::fs::write(&path, config.to_string()).unwrap();
        let row = cpu(["classify", "--json", "--model", &text(&model), "The engine"]).json();
        let labels = row["labels"].as_array().unwrap();
        assert!(score(&labels[0]) >= score(&labels[1]));
        let find = |name: &str| score(labels.iter().find(|l| l["label"] == name).unwrap());
        [find("NEGATIVE"), find("POSITIVE")]
    };
    let logits = scores("regression");
    let file = SafeTensors::open(golden("bert_cls/golden.safetensors")).unwrap();
    let want = file.read("single.logits").unwrap();
    for (got, want) in logits.iter().zip(want.as_f32().unwrap()) {
        assert!((got - f64::from(*want)).abs() < 1e-5);
    }
    let sigmoid = logits.map(|x| 1.0 / (1.0 + (-x).exp()));
    for (got, want) in scores("multi_label_classification").iter().zip(sigmoid) {
        assert!((got - want).abs() < 1e-9);
    }
    assert!((scores("single_label_classification").iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let mut config = config.clone();
    config["problem_type"] = json!("guessing");
    std::fs::write(&path, config.to_string()).unwrap();
    cpu(["classify", "--model", &text(&model), "x"]).fails(&["`problem_type`", "guessing"]);
}

#[test]
fn tag_gives_entities_with_their_places() {
    let model = text(golden("bert_ner"));
    let given = "The engine read";
    let rows = both(&["tag", "--model", &model, "--json", given, ""]);
    assert_eq!(keys(&rows[0]), ["text", "entities"]);
    let entities = rows[0]["entities"].as_array().unwrap();
    assert_eq!(keys(&entities[0]), ["label", "text", "start", "end", "score"]);
    let short: Vec<_> = entities.iter().map(|e| (&e["label"], &e["text"], &e["start"])).collect();
    let want = [
        (&json!("PER"), &json!("The"), &json!(0)),
        (&json!("ORG"), &json!("engine"), &json!(4)),
        (&json!("PER"), &json!("read"), &json!(11)),
    ];
    assert_eq!(short, want);
    assert_eq!(rows[1]["entities"], json!([]));
    let pieces = both(&["tag", "--model", &model, "--json", "--aggregation", "none", given]);
    assert_eq!(pieces[0]["entities"][2]["label"], "I-LOC");
    let mean = both(&["tag", "--model", &model, "--json", "--aggregation", "mean", given]);
    assert_ne!(mean[0]["entities"][1]["score"], rows[0]["entities"][1]["score"]);
    let plain = cpu(["tag", "--model", &model, given]).ok();
    assert!(plain.contains("  ORG  0.2274      4..10  engine\n"), "{plain}");
    // Characters, not bytes.
    let russian = "Привет, Анна!";
    let rows = cpu(["tag", "--model", &model, "--json", russian]).jsonl();
    for entity in rows[0]["entities"].as_array().unwrap() {
        let place = ["start", "end"].map(|k| entity[k].as_u64().unwrap() as usize);
        let stretch: String = russian.chars().skip(place[0]).take(place[1] - place[0]).collect();
        assert_eq!(entity["text"], stretch);
    }
}

#[test]
fn answer_finds_a_stretch_of_the_context() {
    let model = text(golden("bert_qa"));
    let (question, context) =
        ("What colour is the car?", "The engine reads a page of text, and ever");
    let args = ["answer", "--model", &model, "--json", "--question", question];
    let rows = both(&[&args[..], &["--context", context]].concat());
    assert_eq!(rows.len(), 1);
    assert_eq!(keys(&rows[0]), ["answer", "start", "end", "score"]);
    assert_eq!(rows[0]["answer"], "a pa");
    assert_eq!((&rows[0]["start"], &rows[0]["end"]), (&json!(17), &json!(21)));

    let folder = Folder::new();
    let file = text(folder.file("context", context));
    let questions = text(folder.file("questions", format!("Who?\n{question}\n")));
    let more = ["--context-file", &file, "--top-k", "3", "--max-answer-tokens", "1"];
    let base = ["answer", "--model", &model, "--json", "--file", &questions];
    let rows = cpu(base.iter().chain(&more)).jsonl();
    assert_eq!(rows.len(), 6);
    assert!(rows[3..].is_sorted_by(|a, b| score(a) >= score(b)));
    let twice = ["--question", "Who?", "--question", question];
    let args = ["answer", "--model", &model, "--json"];
    assert_eq!(cpu(args.iter().chain(&twice).chain(&more)).jsonl(), rows);
    let plain = cpu(["answer", "--model", &model, "--question", question, "--context", context]);
    assert_eq!(plain.ok(), "0.0080     17..21  a pa\n");
}

#[test]
fn bad_calls_of_encoder_tasks_are_named() {
    let [mlm, cls, ner, qa] =
        ["mlm", "cls", "ner", "qa"].map(|n| text(golden(&format!("bert_{n}"))));
    cpu(["fill-mask", "--model", &mlm, "no mask"]).fails(&["text 1", "`[MASK]`"]);
    cpu(["fill-mask", "--model", &mlm, "[MASK]", ""]).fails(&["text 2", "`[MASK]`"]);
    let long = "word ".repeat(90);
    let ask = ["answer", "--model", &qa, "--question"];
    cpu(ask.iter().chain(&["", "--context", "x"])).fails(&["question 1"]);
    cpu(ask.iter().chain(&["Who?", "--context", ""])).fails(&["context 1"]);
    cpu(ask.iter().chain(&[&*long, "--context", "x"])).fails(&["80 tokens", "no room"]);
    cpu(["classify", "--model", &mlm, "x"]).fails(&["MaskedLm", "SequenceClassification"]);
    cpu(["tag", "--model", &cls, "x"]).fails(&["needs TokenClassification"]);
    cpu(["fill-mask", "--model", &ner, "[MASK]"]).fails(&["`architectures`", "ForMaskedLM"]);
    cpu(["classify", "--model", &text(golden("gpt2")), "x"]).fails(&["CausalLm"]);
    for (command, model) in [("fill-mask", &mlm), ("classify", &cls)] {
        for k in ["0", "-1", "many"] {
            cpu([command, "--model", model, "--top-k", k, "x"]).misused("--top-k");
        }
        cpu([command, "--model", model]).misused("TEXTS");
    }
    cpu(["tag", "--model", &ner, "--aggregation", "max", "x"]).misused("mean");
    cpu(["answer", "--model", &qa, "--context", "x"]).misused("--question");
    cpu(ask.iter().chain(&["Who?"])).misused("--context");
    for flag in ["--top-k", "--max-answer-tokens"] {
        cpu(ask.iter().chain(&["Who?", "--context", "x", flag, "0"])).misused(flag);
    }
    let nowhere = text(Folder::new().0.join("nowhere"));
    cpu(["tag", "--model", &ner, "--file", &nowhere]).fails(&[&nowhere]);
}

#[test]
fn blank_lines_of_a_file_lose_no_other() {
    let folder = Folder::new();
    let lines = |lines: &str| text(folder.file("lines.txt", lines));
    let run = |args: &[&str], model: &str, lines: &str| {
        let model = text(golden(model));
        cpu(args.iter().copied().chain(["--json", "--model", &model, "--file", lines]))
    };
    let done = run(&["classify"], "bert_cls", &lines("Rain\n\nthe house\n \n"));
    assert!(done.err.contains("no labels: 2"), "{done:?}");
    let counts: Vec<_> =
        done.jsonl().iter().map(|r| r["labels"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 0, 2, 0]);
    // No answer stands for a blank line here.
    for (args, model, file) in [
        (&["fill-mask", "--top-k", "1"][..], "bert_mlm", "[MASK] fell\n\n \n[MASK]\n"),
        (&["answer", "--context", "Rain fell on the house"], "bert_qa", "\nWho?\n \nWhere?\n"),
    ] {
        let done = run(args, model, &lines(file));
        assert!(done.err.contains("lines.txt: blank lines passed over: 2"), "{done:?}");
        assert_eq!(done.jsonl().len(), 2, "{args:?}");
    }
    for command in ["tag", "embed"] {
        let rows = run(&[command], "bert_ner", &lines("Rain\n\nthe house\n")).jsonl();
        assert_eq!(rows.len(), 3, "{command}");
    }
}

/// A head's folder under a trunk: its configuration and random tensors.
fn add_head(trunk: &Path, name: &str, class: &str, labels: Value, tensors: &[(&str, &[usize])]) {
    let folder = trunk.join("heads").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let config = std::fs::read(trunk.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["architectures"] = json!([class]);
    config["id2label"] = labels;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensor = |shape: &[usize]| {
        let shape = tilewright::tensor::Shape::new(shape).unwrap();
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 100.0;
        Tensor::f32(shape, (0..shape.numel()).map(value).collect()).unwrap()
    };
    let tensors: Vec<_> = tensors.iter().map(|(n, shape)| (*n, tensor(shape))).collect();
    weights::write(folder.join("model.safetensors"), &tensors).unwrap();
}

#[test]
fn heads_are_exchanged_on_one_trunk() {
    let folder = Folder::new();
    let trunk = folder.0.join("trunk");
    copy_golden("bert_base", &trunk);
    let mood = json!({"0": "sad", "1": "so-so", "2": "glad"});
    let tensors: [(&str, &[usize]); 2] =
        [("classifier.weight", &[3, 48]), ("classifier.bias", &[3])];
    add_head(&trunk, "mood", "BertForSequenceClassification", mood, &tensors);
    let kinds = json!({"0": "O", "1": "B-X", "2": "I-X"});
    add_head(&trunk, "things", "BertForTokenClassification", kinds, &tensors);
    let model = text(&trunk);

    let args = ["classify", "--model", &model, "--json", "Rain fell on", "--head"];
    let by_name = cpu(args.iter().chain(&["mood"])).json();
    let place = text(trunk.join("heads/mood"));
    assert_eq!(cpu(args.iter().chain(&[&*place])).json(), by_name);
    assert_eq!(by_name["labels"].as_array().unwrap().len(), 3);
    let row = both(&["tag", "--model", &model, "--json", "--head", "things", "Rain fell on"]);
    assert_eq!(keys(&row[0]), ["text", "entities"]);

    // The program's own projection of what the trunk pools.
    let [input, output] = ["in", "out"].map(|n| text(folder.0.join(n)));
    let ids = Tensor::u32([1, 7], vec![2, 50, 222, 38, 287, 203, 3]).unwrap();
    weights::write(&input, &[("input_ids", ids)]).unwrap();
    let run = ["run", "--model", &model, "--input", &input, "--output", &output];
    cpu(run).ok();
    let pooled = SafeTensors::open(&output).unwrap().read("pooler_output").unwrap();
    cpu(run.iter().chain(&["--head", "mood"])).ok();
    let logits = SafeTensors::open(&output).unwrap().read("logits").unwrap();
    let head = SafeTensors::open(trunk.join("heads/mood/model.safetensors")).unwrap();
    let [weight, bias] = ["weight", "bias"].map(|n| head.read(&format!("classifier.{n}")).unwrap());
    let (weight, pooled) = (weight.as_f32().unwrap(), pooled.as_f32().unwrap());
    for (i, &logit) in logits.as_f32().unwrap().iter().enumerate() {
        let row = weight[i * 48..(i + 1) * 48].iter().zip(pooled);
        let want = row.map(|(w, x)| w * x).sum::<f32>() + bias.as_f32().unwrap()[i];
        assert!((logit - want).abs() < 1e-4, "{logit} {want}");
    }

    cpu(args.iter().chain(&["none"])).fails(&["heads/none", "--head"]);
    cpu(args.iter().chain(&["things"])).fails(&["TokenClassification"]);
    add_head(&trunk, "two", "BertForSequenceClassification", json!({"0": "a", "1": "b"}), &tensors);
    cpu(args.iter().chain(&["two"])).fails(&["classifier.weight", "[3, 48]", "[2, 48]"]);
    let gap = json!({"0": "a", "2": "b"});
    add_head(&trunk, "gap", "BertForSequenceClassification", gap, &tensors);
    cpu(args.iter().chain(&["gap"])).fails(&["`id2label`"]);
}
