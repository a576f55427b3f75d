//! `check FILE.wgsl`: a kernel of anybody's, on buffers that are described in words.

use std::path::Path;

use serde_json::json;

use super::context::Context;
use super::cost;
use super::findings::{listed, show};
use crate::error::{Error, Result};
use crate::ops::Rng;
use crate::simt::{Buffer, Machine, Program, Report, Setting, Source};

/// What a file needs beside itself.
#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// Workgroups in x, y, z
    #[arg(long, value_delimiter = ',', value_name = "X,Y,Z", requires = "file")]
    grid: Vec<u32>,
    /// What a variable is bound to: random, zero, poison (unwritten), iota (0, 1, 2 ...) or a .npy
    /// file; f32, u32, i32 or f16; a file needs no length
    #[arg(long, value_name = "NAME=WHAT:TYPE:LENGTH", requires = "file")]
    buffer: Vec<String>,
    /// The immediate block, field by field
    #[arg(long, value_delimiter = ',', value_name = "TYPE:VALUE", requires = "file")]
    params: Vec<String>,
}

/// Whether nothing is wrong with the kernel.
pub(crate) fn run(
    context: &Context,
    path: &Path,
    args: &FileArgs,
    subgroups: &[Option<u32>],
    machine: Option<&str>,
) -> Result<bool> {
    let machine = machine.map(Machine::named).transpose()?;
    let program = Program::new(&Source::read(path)?)?;
    let grid = match *args.grid.as_slice() {
        [x] => [x, 1, 1],
        [x, y] => [x, y, 1],
        [x, y, z] => [x, y, z],
        _ => return Err(Error::Argument("--grid says how many workgroups there are".to_owned())),
    };
    let mut params = Vec::new();
    for field in &args.params {
        params.extend(scalar(field)?);
    }
    let mut report = Report::default();
    let sizes = if subgroups.is_empty() { &[Some(32)][..] } else { subgroups };
    for &subgroup in sizes {
        let mut buffers = Vec::new();
        for (i, text) in args.buffer.iter().enumerate() {
            let (name, what) = text.split_once('=').ok_or_else(|| malformed(text))?;
            buffers.push((name, buffer(what, i as u64)?));
        }
        for (name, _) in &buffers {
            if !program.buffers().contains(name) {
                let known = program.buffers().join(", ");
                let message = format!("--buffer {name}: the kernel binds {known}");
                return Err(Error::Argument(message));
            }
        }
        let find = |name: &str| buffers.iter().find(|(n, _)| *n == name).map(|(_, b)| b);
        let setting = Setting { grid, subgroup, metered: machine.is_some() };
        report.merge(program.run(find, &params, setting)?);
    }
    let (cost, rounds) = (report.cost.take(), report.rounds);
    let findings = report.with_notes();
    let faults = findings.iter().filter(|f| !f.kind.is_note()).count();
    let name = path.display().to_string();
    if context.json {
        let mut all = json!({"kernel": name, "max_loop_rounds": rounds,
            "findings": listed(&findings)});
        if let (Some(cost), Some(machine)) = (&cost, machine) {
            all["cost"] = cost::json(&name, cost, machine);
        }
        context.line(&all.to_string())?;
    } else {
        show(context, &findings)?;
        if let (Some(cost), Some(machine)) = (&cost, machine) {
            cost::show(context, &name, cost, machine)?;
        }
        context.line(&format!("{name}: {faults} findings"))?;
    }
    Ok(faults == 0)
}

fn malformed(text: &str) -> Error {
    let message = "expected NAME=WHAT:TYPE:LENGTH, such as x=random:f32:4096";
    Error::Argument(format!("--buffer {text}: {message}"))
}

/// One value as bytes.
fn bytes(ty: &str, value: f64) -> Option<Vec<u8>> {
    Some(match ty {
        "f32" => (value as f32).to_le_bytes().to_vec(),
        "u32" => (value as u32).to_le_bytes().to_vec(),
        "i32" => (value as i32).to_le_bytes().to_vec(),
        "f16" => half::f16::from_f64(value).to_le_bytes().to_vec(),
        _ => return None,
    })
}

fn scalar(field: &str) -> Result<Vec<u8>> {
    let parsed = field.split_once(':').and_then(|(ty, value)| bytes(ty, value.parse().ok()?));
    parsed.ok_or_else(|| {
        Error::Argument(format!("--params {field}: expected TYPE:VALUE, such as u32:64 or f32:0.5"))
    })
}

fn buffer(what: &str, seed: u64) -> Result<Buffer> {
    if let Some((path, _)) = what.rsplit_once(".npy") {
        return npy(Path::new(&format!("{path}.npy")));
    }
    let parts: Vec<_> = what.split(':').collect();
    let [how, ty, length] = parts[..] else { return Err(malformed(what)) };
    let length: usize =
        length.parse().ok().filter(|&n| n <= 1 << 28).ok_or_else(|| malformed(what))?;
    let size = bytes(ty, 0.0).ok_or_else(|| malformed(what))?.len();
    let mut rng = Rng::new(seed);
    let whole = matches!(ty, "u32" | "i32");
    let mut value = |i: usize| match how {
        "zero" => Some(0.0),
        "iota" => Some(i as f64),
        "random" if whole => Some(rng.below(length) as f64),
        "random" => Some(f64::from(rng.normal())),
        _ => None,
    };
    if how == "poison" {
        return Ok(Buffer::poison(length * size));
    }
    let mut all = Vec::with_capacity(length * size);
    for i in 0..length {
        let value = value(i).and_then(|value| bytes(ty, value));
        all.extend(value.ok_or_else(|| malformed(what))?);
    }
    Ok(Buffer::new(&all))
}

/// The data of a `.npy` file (format 1 to 3), as it lies there.
fn npy(path: &Path) -> Result<Buffer> {
    let file = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let fail = |what: &str| Error::file(path, format!("is no .npy file that can be bound: {what}"));
    let short = || fail("it ends early");
    if file.get(..6) != Some(b"\x93NUMPY") {
        return Err(fail("its first bytes are others"));
    }
    let version = *file.get(6).ok_or_else(short)?;
    let (start, length) = if version == 1 {
        let bytes: [u8; 2] = file.get(8..10).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
        (10, usize::from(u16::from_le_bytes(bytes)))
    } else {
        let bytes: [u8; 4] = file.get(8..12).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
        (12, u32::from_le_bytes(bytes) as usize)
    };
    let header = file.get(start..start + length).ok_or_else(short)?;
    let header = String::from_utf8_lossy(header);
    if !["'<f4'", "'<u4'", "'<i4'", "'<f2'"].iter().any(|ty| header.contains(ty)) {
        return Err(fail("its elements are no f32, u32, i32 or f16"));
    }
    if header.contains("'fortran_order': True") {
        return Err(fail("its order is Fortran's"));
    }
    Ok(Buffer::new(&file[start + length..]))
}
