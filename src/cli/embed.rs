//! `embed`: sentence embeddings of texts or of a file's lines.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::context::Context;
use super::model::ModelArg;
use super::texts::Texts;
use crate::error::Result;
use crate::files::write_whole;
use crate::tasks::{EmbedOptions, Embedder, Embedding};
use crate::tensor::Tensor;
use crate::weights::{Pooling, write};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    texts: Texts,
    /// Form of the answer; --json is jsonl
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Where the answer goes instead of stdout; safetensors needs it
    #[arg(short, long, required_if_eq("format", "safetensors"))]
    output: Option<PathBuf>,
    /// How token vectors become one
    #[arg(long, value_enum, default_value = "auto")]
    pooling: PoolingArg,
    /// Scale each vector to length 1, whatever the model folder says
    #[arg(long)]
    normalize: bool,
    /// Print the weights of words instead, heaviest first: models with a head for masked tokens
    /// that were trained for it (SPLADE)
    #[arg(long, conflicts_with_all = ["format", "output", "pooling", "normalize", "similarity"])]
    sparse: bool,
    /// Print the cosine of every pair instead of the vectors
    #[arg(long, conflicts_with_all = ["format", "output"])]
    similarity: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Jsonl,
    Csv,
    Npy,
    Safetensors,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PoolingArg {
    /// What the model folder says, else mean
    Auto,
    Mean,
    Cls,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<()> {
    let texts = args.texts.read()?;
    let options = EmbedOptions {
        pooling: match args.pooling {
            _ if args.sparse => Some(Pooling::Splade),
            PoolingArg::Auto => None,
            PoolingArg::Mean => Some(Pooling::Mean),
            PoolingArg::Cls => Some(Pooling::Cls),
        },
        normalize: args.normalize.then_some(true),
        dtype: context.weight_dtype()?,
        batch: args.texts.batch,
    };
    let device = context.place()?;
    let embedder = Embedder::open(args.model.folder(context)?, device, options)?;
    embedder.notices().iter().for_each(|n| context.notice(n));
    let bar = context.bar("embedding", texts.len() as u64, false);
    let mut first_done = None;
    let start = Instant::now();
    let embeddings = embedder.embed_with(&texts, &mut context.load_progress(), &mut |done| {
        first_done.get_or_insert_with(|| start.elapsed());
        bar.set_position(done as u64);
        if context.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    context.warn(&embedder.warnings());
    let cut = embeddings.iter().filter(|e| e.truncated > 0).count();
    if cut > 0 {
        let most = embedder.max_tokens();
        context.notice(&format!("texts cut to the model's {most} tokens: {cut}"));
    }
    if args.sparse {
        sparse(context, &embedder, &texts, &embeddings)?;
    } else if args.similarity {
        similarity(context, &texts, &embeddings)?;
    } else {
        let width = embedder.width();
        match (&args.output, args.format) {
            (Some(path), Format::Safetensors) => {
                write(path, &[("embeddings", stack(&embeddings, width)?)])?;
            }
            (Some(path), format) => {
                write_whole(path, &render(format, &texts, &embeddings, width))?;
            }
            (None, format) => context.write(&render(format, &texts, &embeddings, width))?,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let tokens: usize = embeddings.iter().map(|e| e.tokens).sum();
    context.notice(&format!(
        "{} texts of {tokens} tokens in {seconds:.2} s on {}, loading included",
        texts.len(),
        embedder.device().name()
    ));
    Ok(())
}

fn stack(embeddings: &[Embedding], width: usize) -> Result<Tensor> {
    let values = embeddings.iter().flat_map(|e| e.vector.iter().copied()).collect();
    Tensor::f32([embeddings.len(), width], values)
}

fn render(format: Format, texts: &[String], embeddings: &[Embedding], width: usize) -> Vec<u8> {
    let object = |(text, e): (&String, &Embedding)| json!({"text": text, "embedding": e.vector});
    let rows = || texts.iter().zip(embeddings);
    match format {
        Format::Json => format!("{}\n", json!(rows().map(object).collect::<Vec<_>>())).into_bytes(),
        Format::Jsonl => rows().map(|r| format!("{}\n", object(r))).collect::<String>().into(),
        Format::Csv => {
            let line = |e: &Embedding| {
                let cells: Vec<_> = e.vector.iter().map(f32::to_string).collect();
                cells.join(",") + "\n"
            };
            embeddings.iter().map(line).collect::<String>().into()
        }
        Format::Npy | Format::Safetensors => npy(embeddings, width),
    }
}

/// NumPy's format 1.0: magic, version, padded header, little-endian rows.
fn npy(embeddings: &[Embedding], width: usize) -> Vec<u8> {
    let shape = format!("({}, {width})", embeddings.len());
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The header ends in a newline and the data start at a multiple of 64 bytes.
    let padding = 64 - (10 + header.len() + 1) % 64;
    header.extend(std::iter::repeat_n(' ', padding % 64));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    for value in embeddings.iter().flat_map(|e| &e.vector) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let length = (dot(a, a) * dot(b, b)).sqrt();
    // Not `> 0.0`: a NaN is to be seen.
    if length == 0.0 { 0.0 } else { dot(a, b) / length }
}

/// A line per text: ids, weights and spellings of the words that it gives weight.
fn sparse(
    context: &Context,
    embedder: &Embedder,
    texts: &[String],
    embeddings: &[Embedding],
) -> Result<()> {
    for (text, embedding) in texts.iter().zip(embeddings) {
        let (indices, values): (Vec<_>, Vec<_>) = embedding.sparse().into_iter().unzip();
        let spelled = |&id: &u32| embedder.tokenizer().token(id).unwrap_or_default();
        let tokens: Vec<_> = indices.iter().map(spelled).collect();
        let line = json!({"text": text, "indices": indices, "values": values, "tokens": tokens});
        context.line(&line.to_string())?;
    }
    Ok(())
}

fn similarity(context: &Context, texts: &[String], embeddings: &[Embedding]) -> Result<()> {
    for (i, (text, a)) in texts.iter().zip(embeddings).enumerate() {
        let row: Vec<_> = embeddings.iter().map(|b| cosine(&a.vector, &b.vector)).collect();
        if context.json {
            context.line(&json!({"text": text, "cosine": row}).to_string())?;
        } else {
            let cells: String = row.iter().map(|c| format!("{c:7.3}")).collect();
            context.line(&format!("{:>3}{cells}  {text}", i + 1))?;
        }
    }
    Ok(())
}
