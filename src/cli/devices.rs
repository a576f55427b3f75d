//! `devices`: adapters, what each supports, which kernel variants run on it.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::context::Context;
use super::context::gpu_options;
use crate::error::Result;
use crate::gpu::{Adapter, Caps, Gpu, adapters, no_adapter};
use crate::ops::{Entry, Kernel, certify_all, registry};

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &Context, _args: Args) -> Result<()> {
    let found = adapters();
    let mut listed = Vec::new();
    for (index, adapter) in found.iter().enumerate() {
        let gpu = adapter.open(gpu_options());
        let details = gpu.as_ref().map_err(ToString::to_string).map(|gpu| {
            let variants = if context.verbose { verdicts(gpu) } else { Vec::new() };
            (gpu.caps().clone(), variants)
        });
        if context.json {
            listed.push(as_json(index, adapter, details));
        } else {
            show(context, index, adapter, details)?;
        }
    }
    if context.json {
        return context.line(&json!({"adapters": listed}).to_string());
    }
    if found.is_empty() {
        context.line(&no_adapter())?;
    }
    context.line("cpu: the reference route, always there")
}

/// (op, variant, verdict) of every variant on this device.
fn verdicts(gpu: &Gpu) -> Vec<(&'static str, &'static str, String)> {
    let kernels = registry().iter().flat_map(|e| e.kernels.iter().map(|k| (*e, *k)));
    kernels
        .map(|(entry, kernel)| (entry.name, kernel.name(), verdict(gpu, entry, kernel)))
        .collect()
}

/// A kernel's verdicts in one line: those of its forms (imports, activations, masks) that are off
/// are named.
fn verdict(gpu: &Gpu, entry: &'static Entry, kernel: &'static dyn Kernel) -> String {
    let forms = match certify_all(gpu, kernel, entry) {
        Ok(forms) => forms,
        Err(error) => return format!("not tried: {error}"),
    };
    let off: Vec<_> = forms.iter().filter_map(|(form, why)| Some((form, why.as_ref()?))).collect();
    match off.as_slice() {
        [] => "certified".to_owned(),
        [(form, why), ..] if form.is_empty() => format!("off: {why}"),
        [(form, why), ..] => {
            format!("off in {} of {} forms, first [{form}]: {why}", off.len(), forms.len())
        }
    }
}

type Details = std::result::Result<(Caps, Vec<(&'static str, &'static str, String)>), String>;

fn features(caps: &Caps) -> Vec<String> {
    let mut out = Vec::new();
    match (caps.subgroup, caps.subgroup_range) {
        (Some(size), _) => out.push(format!("subgroups of {size}")),
        (None, Some((min, max))) => out.push(format!("subgroups of {min} to {max}")),
        (None, None) => {}
    }
    for (has, name) in [
        (caps.f16, "f16"),
        (caps.timestamps, "timestamps"),
        (caps.pipeline_cache, "pipeline cache"),
    ] {
        if has {
            out.push(name.to_owned());
        }
    }
    out.extend(caps.cooperative.iter().map(|m| format!("cooperative matrix {m}")));
    out
}

fn as_json(index: usize, adapter: &Adapter, details: Details) -> Value {
    let mut value = json!({"index": index, "name": adapter.name(), "driver": adapter.driver(),
        "kind": adapter.kind()});
    if let Some(compiler) = adapter.compiler() {
        value["compiler"] = json!(compiler);
    }
    match details {
        Err(error) => value["error"] = json!(error),
        Ok((caps, variants)) => {
            value["features"] = json!(features(&caps));
            value["limits"] = json!({"max_binding": caps.max_binding, "max_buffer": caps.max_buffer,
                "workgroup_memory": caps.workgroup_memory,
                "max_invocations": caps.max_invocations,
                "max_storage_buffers": caps.max_storage_buffers});
            let row = |(op, kernel, verdict): &(&str, &str, String)| json!({"op": op, "variant": kernel, "verdict": verdict});
            value["variants"] = json!(variants.iter().map(row).collect::<Vec<_>>());
        }
    }
    value
}

fn show(context: &Context, index: usize, adapter: &Adapter, details: Details) -> Result<()> {
    context.line(&format!("{index}: {} ({})", adapter.name(), adapter.kind()))?;
    context.line(&format!("   driver    {}", adapter.driver()))?;
    if let Some(compiler) = adapter.compiler() {
        context.line(&format!("   compiler  {compiler}"))?;
    }
    let (caps, variants) = match details {
        Err(error) => return context.line(&format!("   cannot be opened: {error}")),
        Ok(details) => details,
    };
    context.line(&format!("   features  {}", features(&caps).join(", ")))?;
    context.line(&format!(
        "   limits    binding {} MiB, workgroup memory {} KiB, {} invocations, {} storage buffers",
        caps.max_binding >> 20,
        caps.workgroup_memory >> 10,
        caps.max_invocations,
        caps.max_storage_buffers
    ))?;
    if variants.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (op, kernel, verdict) in variants {
        table.add_row([format!("   {op}"), kernel.to_owned(), verdict]);
    }
    context.line(&table.to_string())
}
