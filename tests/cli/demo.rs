//! `demo`: the shipped models answer, alike on both devices, and as well as their cards say.

use serde_json::Value;

use crate::program::{command, cpu, device, finish};

const TASKS: [&str; 7] =
    ["story", "fill-mask", "sentiment", "entities", "answers", "translation", "summary"];

#[test]
fn every_shipped_model_answers_alike_on_device_and_cpu() {
    let lines = finish(command(["demo", "--json", "--device", &device()])).jsonl();
    let names: Vec<_> = lines.iter().map(|line| line["task"].as_str().unwrap()).collect();
    assert_eq!(names, TASKS);
    for line in &lines {
        assert_eq!(line["same_as_reference"], true, "{line}");
        let nodes = &line["nodes"];
        assert!(nodes["checked"].as_u64().unwrap() > 20, "{line}");
        assert_eq!(nodes["checked"], nodes["agree"], "{line}");
        let answers = line["answers"].as_array().unwrap();
        assert!(!answers.is_empty() && answers.iter().all(|a| a["answer"] != ""), "{line}");
    }
    // The CPU path answers by itself too, and says what it is.
    let done = cpu(["demo", "--only", "sentiment"]);
    assert!(done.ok().contains("on CPU"));
}

#[test]
fn held_out_accuracies_hold() {
    let lines = cpu(["demo", "--json", "--held-out"]).jsonl();
    let share = |task: &str| -> f64 {
        let line = lines.iter().find(|line| line["task"] == task);
        let line = line.unwrap_or_else(|| panic!("{task} is missing: {lines:?}"));
        assert!(line["examples"].as_u64().unwrap() >= 100, "{line}");
        line["share"].as_f64().unwrap()
    };
    for task in ["sentiment", "entities", "translation"] {
        assert!(share(task) >= 0.98, "{task}: {}", share(task));
    }
    // Several words fit most masks, and a summary may be right in other words.
    assert!(share("fill-mask") >= 0.75);
    assert!(share("summary") >= 0.9);
    assert!(share("answers") >= 0.98);
}

#[test]
fn unknown_tasks_are_named() {
    cpu(["demo", "--only", "poetry"]).fails(&["poetry", "story, fill-mask"]);
}

#[test]
fn shipped_models_go_by_their_names() {
    let tokens = cpu(["tokenize", "--json", "--model", "reader", "the food was good."]).json();
    assert!(tokens["ids"].as_array().unwrap().len() > 4, "{tokens}");
    let plan: Value = cpu(["plan", "--json", "--model", "translator", "--tokens", "64"]).json();
    let cache = plan["cache"].as_u64().unwrap();
    assert!(cache > 0, "{plan}");
    let halves = ["--cache-dtype", "f16", "--tokens", "64"];
    let half = cpu(["plan", "--json", "--model", "translator"].iter().chain(&halves)).json();
    assert_eq!(2 * half["cache"].as_u64().unwrap(), cache, "{half}");
    cpu(["plan", "--model", "novelist"]).fails(&["novelist", "shipped model", "storyteller"]);
}
