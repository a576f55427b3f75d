//! `demo`: the shipped models on the best device, each answer with its speed and a proof that it
//! is right: the CPU reference's answer, and every node of the graph against it.

mod held_out;
mod stage;
mod tasks;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::context::{Context, failed};
use crate::engine::{self, Device, Shipped, by_name, model_inputs, verify};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::fuse;
use crate::models::{self, BuildOptions, Outputs};
use crate::tensor::Tensor;
use crate::text::{Batch, Tokenizer};
use held_out::Asked;
use stage::Stage;
use tasks::{TASKS, Task};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure every model on its held-out examples instead, which it was not trained with
    #[arg(long)]
    held_out: bool,
    /// Only these tasks: story, fill-mask, sentiment, entities, answers, translation, summary
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    only: Vec<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let unknown = args.only.iter().find(|name| TASKS.iter().all(|t| t.name != name.as_str()));
    if let Some(name) = unknown {
        let known: Vec<_> = TASKS.iter().map(|t| t.name).collect();
        let message = format!("--only {name}: the tasks are {}", known.join(", "));
        return Err(Error::Argument(message));
    }
    let stage = Stage { context, device: context.place()? };
    let wanted = |t: &&Task| args.only.is_empty() || args.only.iter().any(|n| n == t.name);
    let tasks: Vec<_> = TASKS.iter().filter(wanted).collect();
    if args.held_out {
        return measure(&stage, &tasks);
    }
    let mut wrong = Vec::new();
    for task in tasks {
        context.check_cancelled()?;
        if !show(&stage, task)? {
            wrong.push(task.name);
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => failed(format!("the CPU reference answers otherwise: {}", wrong.join(", "))),
    }
}

fn find(task: &Task) -> Result<Shipped> {
    engine::shipped(task.model).ok_or_else(|| {
        let message = "the shipped model is not there; it is looked for in TILEWRIGHT_MODELS, \
                       beside the program and in the source folder's assets/models";
        Error::Argument(format!("{}: {message}", task.model))
    })
}

/// The first examples with different answers: one label twice would say less than two.
fn examples(all: Vec<Asked>, count: usize) -> Vec<Asked> {
    let mut chosen: Vec<Asked> = Vec::with_capacity(count);
    for asked in all {
        if chosen.len() < count && chosen.iter().all(|c| c.expected != asked.expected) {
            chosen.push(asked);
        }
    }
    chosen
}

/// Runs and prints one task; whether device and CPU reference agree.
fn show(stage: &Stage<'_>, task: &Task) -> Result<bool> {
    let context = stage.context;
    let shipped = find(task)?;
    let asked: Vec<Asked> = examples(held_out::read(&shipped)?, task.shown);
    let done = (task.run)(stage, &stage.device, &shipped, &asked)?;
    let mut agrees = true;
    let mut proof = "on the CPU path, which is the reference".to_owned();
    let (mut same, mut nodes) = (None, None);
    if let Some(gpu) = stage.gpu() {
        let reference = (task.run)(stage, &Device::cpu(), &shipped, &asked)?;
        let equal = reference.answers == done.answers;
        let (count, right, worst) = check_nodes(gpu, &shipped, &asked)?;
        agrees = equal && right == count;
        let answers = if equal { "the same answers as" } else { "OTHER ANSWERS THAN" };
        proof = format!(
            "{answers} the CPU reference; {right} of {count} nodes agree with it, the worst within \
             {worst:.0e}"
        );
        (same, nodes) =
            (Some(equal), Some(json!({"checked": count, "agree": right, "worst": worst})));
    }
    if context.json {
        let answers = asked.iter().zip(&done.answers);
        let answers: Vec<_> = answers
            .map(|(asked, answer)| {
                let mut row = json!({"question": asked.question, "answer": answer,
                    "expected": asked.expected});
                if let Some(text) = &asked.context {
                    row["context"] = text.as_str().into();
                }
                row
            })
            .collect();
        let line = json!({"task": task.name, "model": task.model, "device": stage.device.name(),
            "answers": answers, "speed": done.speed, "unit": task.unit,
            "same_as_reference": same, "nodes": nodes});
        context.line(&line.to_string())?;
        return Ok(agrees);
    }
    context.line(&format!("{} ({})", task.name, task.model))?;
    for (asked, answer) in asked.iter().zip(&done.answers) {
        if let Some(text) = &asked.context {
            context.line(&format!("  : {text}"))?;
        }
        context.line(&format!("  > {}", asked.question))?;
        context.line(&format!("    {answer}"))?;
    }
    let (speed, name) = (done.speed, stage.device.name());
    context.line(&format!("  {speed:.0} {} on {name}; {proof}", task.unit))?;
    Ok(agrees)
}

/// Every node of the model's whole pass over the questions, on the device and on the CPU: how
/// many there are, how many agree, and the largest difference relative to a node's scale.
fn check_nodes(gpu: &Gpu, shipped: &Shipped, asked: &[Asked]) -> Result<(usize, usize, f64)> {
    let outputs = Outputs::Class { hidden_states: false };
    let options = BuildOptions { outputs, ..BuildOptions::default() };
    let model = match &shipped.head {
        Some(head) => models::open_head(&shipped.folder, head, &options)?,
        None => models::open(&shipped.folder, &options)?,
    };
    let tokenizer = Tokenizer::open(&shipped.folder)?;
    let encode = |a: &Asked| match &a.context {
        Some(context) => tokenizer.encode_pair(&a.question, context, true),
        None => tokenizer.encode(&a.question, true),
    };
    let encodings = asked.iter().map(encode).collect::<Result<_>>()?;
    let batch = Batch::new(encodings, Some(model.info.max_tokens), tokenizer.pad_id())?;
    let mut inputs: BTreeMap<String, Tensor> = BTreeMap::new();
    if model.info.decoder.is_some() {
        // What the decoder has written so far hardly matters here: it says the same again.
        inputs.insert("decoder_input_ids".to_owned(), batch.input_ids.clone());
    }
    if asked.iter().any(|a| a.context.is_some()) {
        inputs.insert("token_type_ids".to_owned(), batch.token_type_ids);
    }
    inputs.insert("input_ids".to_owned(), batch.input_ids);
    inputs.insert("attention_mask".to_owned(), batch.attention_mask);
    let inputs = model_inputs(&model.info, inputs)?;
    let graph = Arc::new(fuse(model.graph, &[])?);
    let checks =
        verify(&graph, Device::gpu(gpu), &by_name(&inputs), &mut |_| ControlFlow::Continue(()))?;
    let right = checks.iter().filter(|c| c.passed()).count();
    let relative = checks.iter().map(|c| c.max_abs / c.scale.max(f64::MIN_POSITIVE));
    Ok((checks.len(), right, relative.fold(0.0, f64::max)))
}

/// Accuracy of every task on its held-out examples.
fn measure(stage: &Stage<'_>, tasks: &[&Task]) -> Result<()> {
    let context = stage.context;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["task", "model", "measure", "right", "of", "share"]);
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for task in tasks {
        context.check_cancelled()?;
        let shipped = find(task)?;
        let asked = held_out::read(&shipped)?;
        let done = (task.run)(stage, &stage.device, &shipped, &asked)?;
        let Some((right, of)) = done.score else { continue };
        let share = 100.0 * right as f64 / of.max(1) as f64;
        if context.json {
            let line = json!({"task": task.name, "model": task.model, "measure": task.measure,
                "device": stage.device.name(), "examples": asked.len(), "right": right, "of": of,
                "share": share / 100.0});
            context.line(&line.to_string())?;
        }
        let share = format!("{share:.1} %");
        let (right, of) = (right.to_string(), of.to_string());
        table.add_row([task.name, task.model, task.measure, &right, &of, &share]);
    }
    if context.json {
        return Ok(());
    }
    context.line(&table.to_string())
}
