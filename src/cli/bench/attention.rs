//! `bench attention`: which attentions its options stand for.

use super::presets::{Bias, Preset, Spec};
use super::sizes::{Maybe, Sizes, combinations, maybe_number, maybe_size, size};
use super::work::Heads;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::tensor::DType;

#[derive(Debug, Default, clap::Args)]
pub(super) struct AttentionArgs {
    /// Heads, masks, bias and scale of a model; options beside it win
    #[arg(long, value_enum, value_delimiter = ',')]
    preset: Vec<Preset>,
    /// Sequences at once [default: 1]
    #[arg(long)]
    batch: Option<Sizes>,
    /// Tokens of all sequences together, such as 32k: the batch is N / seq
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "batch")]
    total_tokens: Option<usize>,
    /// Query heads [default: 12]
    #[arg(long)]
    heads: Option<Sizes>,
    /// Key and value heads [default: as many as query heads]
    #[arg(long)]
    kv_heads: Option<Sizes>,
    /// Elements per head [default: 64]
    #[arg(long)]
    dim: Option<Sizes>,
    /// Tokens [default: 128,512]
    #[arg(long)]
    seq: Option<Sizes>,
    /// Queries, the last of the tokens [default: all of them]; 1 is a step of generation
    #[arg(long)]
    queries: Option<Sizes>,
    /// Whether a query sees only tokens up to its own [default: no]
    #[arg(long, value_enum)]
    causal: Option<Causal>,
    /// Keys that a query sees: its own and those before it, and as many behind it without --causal
    /// [default: none]
    #[arg(long, value_name = "N|none", value_delimiter = ',', value_parser = maybe_size)]
    window: Vec<Maybe<usize>>,
    /// Bends scores into (-X, X) [default: none]
    #[arg(long, value_name = "X|none", value_delimiter = ',', value_parser = maybe_number)]
    softcap: Vec<Maybe<f32>>,
    /// What is added to the scores [default: none]
    #[arg(long, value_enum, value_delimiter = ',')]
    bias: Vec<Bias>,
    /// Factor of the scores [default: 1 / sqrt(dim)]
    #[arg(long, value_name = "X")]
    scale: Option<f32>,
    /// A mask of keys; --mask alone pads sequences at their ends, a quarter of all keys
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..=1,
        default_missing_value = "padding")]
    mask: Vec<Mask>,
    /// Also time materialised attention: products, scale, mask and softmax one after another
    #[arg(long, value_enum)]
    pub baseline: Option<Baseline>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Causal {
    No,
    Yes,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum Mask {
    None,
    Padding,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Baseline {
    Naive,
}

/// What there is to choose from, all combinations of which are measured.
struct Lists {
    batch: Vec<usize>,
    windows: Vec<Option<usize>>,
    softcaps: Vec<Option<f32>>,
    biases: Vec<Bias>,
    masks: Vec<Mask>,
}

/// Every attention that the options stand for, keys and values stored as `dtypes` say.
pub(super) fn attentions(args: &AttentionArgs, dtypes: &[Option<Format>]) -> Result<Vec<Heads>> {
    let storage = |format: &Option<Format>| match format.unwrap_or(Format::F32) {
        Format::F32 => Ok(DType::F32),
        Format::F16 => Ok(DType::F16),
        other => Err(Error::Argument(format!(
            "--dtype {other}: attention reads keys and values stored in f32 or f16"
        ))),
    };
    let dtypes = dtypes.iter().map(storage).collect::<Result<Vec<_>>>()?;
    if args.preset.is_empty() {
        return of_one(args, None, &dtypes);
    }
    let mut all = Vec::new();
    for preset in &args.preset {
        all.extend(of_one(args, Some(preset.spec()), &dtypes)?);
    }
    Ok(all)
}

fn of_one(args: &AttentionArgs, preset: Option<Spec>, dtypes: &[DType]) -> Result<Vec<Heads>> {
    let spec = preset.unwrap_or(Preset::BertBase.spec());
    // Sizes are positive: 0 stands for one that was not given.
    let or = |sizes: &Option<Sizes>, default: &[usize]| {
        sizes.as_ref().map_or(default.to_vec(), |sizes| sizes.0.clone())
    };
    let causal: &[usize] = match args.causal {
        None if spec.causal => &[1],
        None | Some(Causal::No) => &[0],
        Some(Causal::Yes) => &[1],
        Some(Causal::Both) => &[0, 1],
    };
    let lists = Lists {
        batch: if args.total_tokens.is_some() { vec![0] } else { or(&args.batch, &[1]) },
        windows: given(args.window.iter().map(|w| w.0), spec.window),
        softcaps: given(args.softcap.iter().map(|s| s.0), spec.softcap),
        biases: given(args.bias.iter().copied(), spec.bias),
        masks: given(args.mask.iter().copied(), Mask::None),
    };
    let places = |n: usize| (0..n).collect::<Vec<_>>();
    let all = combinations([
        &lists.batch,
        &or(&args.heads, &[spec.heads]),
        &or(&args.kv_heads, &[preset.map_or(0, |preset| preset.kv_heads)]),
        &or(&args.dim, &[spec.dim]),
        &places(lists.windows.len()),
        &places(lists.softcaps.len()),
        &places(lists.biases.len()),
        &places(lists.masks.len()),
        &places(dtypes.len()),
        causal,
        &or(&args.seq, &[128, 512]),
        &or(&args.queries, &[0]),
    ])?;
    let one = |sizes: [usize; 12]| {
        let [batch, heads, kv, dim, window, softcap, bias, mask, dtype, causal, seq, queries] =
            sizes;
        let batch = match args.total_tokens {
            None => batch,
            Some(total) if total >= seq => total / seq,
            Some(total) => {
                let message = format!("--total-tokens {total} is less than one --seq {seq}");
                return Err(Error::Argument(message));
            }
        };
        if queries > seq {
            let message = format!("--queries {queries} exceeds --seq {seq}");
            return Err(Error::Argument(message));
        }
        Ok(Heads {
            batch,
            heads,
            kv_heads: if kv == 0 { heads } else { kv },
            dim,
            queries: if queries == 0 { seq } else { queries },
            keys: seq,
            causal: causal == 1,
            window: lists.windows[window],
            softcap: lists.softcaps[softcap],
            bias: lists.biases[bias],
            scale: args.scale.or(spec.scale),
            padded: lists.masks[mask] == Mask::Padding,
            dtype: dtypes[dtype],
            swept: args.total_tokens.is_some(),
        })
    };
    all.into_iter().map(one).collect()
}

/// What was given, else the default.
fn given<T>(values: impl Iterator<Item = T>, default: T) -> Vec<T> {
    let values: Vec<_> = values.collect();
    if values.is_empty() { vec![default] } else { values }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AttentionArgs,
    }

    fn parsed(line: &str) -> Result<Vec<Heads>> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| Error::Argument(e.to_string()))?;
        attentions(&line.args, &[None])
    }

    #[test]
    fn options_beside_a_preset_win() {
        let all = parsed("--preset gemma-2-9b --seq 8k --softcap none --causal no").expect("valid");
        let [found] = all.as_slice() else { panic!("{} rows", all.len()) };
        assert_eq!((found.heads, found.kv_heads, found.dim), (16, 8, 256));
        assert_eq!((found.window, found.softcap, found.causal), (Some(4096), None, false));
        assert_eq!(parsed("--preset t5-base --seq 8").expect("valid")[0].scale, Some(1.0));
    }

    #[test]
    fn lists_multiply_and_total_tokens_divide_into_sequences() {
        let line = "--total-tokens 1k --seq 128-512*2 --mask none,padding --bias none,t5,tensor";
        let all = parsed(line).expect("valid");
        assert_eq!(all.len(), 3 * 2 * 3);
        assert!(all.iter().all(|heads| heads.batch * heads.keys == 1024));
        assert!(parsed("--mask --seq 4").expect("valid")[0].padded);
        assert!(parsed("--total-tokens 64 --seq 128").is_err());
        assert!(parsed("--total-tokens 64 --batch 2").is_err());
    }

    #[test]
    fn keys_are_stored_in_what_the_op_reads() {
        let args = AttentionArgs::default();
        assert_eq!(attentions(&args, &[None, Some(Format::F16)]).expect("valid").len(), 4);
        let error = attentions(&args, &[Some(Format::BF16)]).expect_err("refused").to_string();
        assert!(error.contains("--dtype bf16: attention"), "{error}");
    }
}
