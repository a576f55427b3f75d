//! What every subcommand shares: global flags, the device, output, progress, Ctrl-C.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::Device;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::gpu::{Choice, Gpu, GpuOptions, Selector, adapters, select};
use crate::graph::{Policy, PrecisionMode, Progress, Tune};
use crate::ops::registry;

/// Flags that stand before or after any subcommand.
#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Device: auto, cpu, an index from `devices`, or a part of an adapter's name
    #[arg(long, global = true, env = "TILEWRIGHT_DEVICE", default_value = "auto")]
    device: String,
    /// Storage of weights; `bench` takes several, and for attention that of keys and values
    #[arg(long, global = true, value_enum, value_delimiter = ',', default_value = "auto")]
    dtype: Vec<WeightType>,
    /// Digits that kernels may lose: none (exact), those beyond f16 in factors of products (fast),
    /// or as the checkpoint has them (auto)
    #[arg(long, global = true, default_value = "auto", value_name = "auto|exact|fast")]
    precision: PrecisionMode,
    /// Whether kernels are timed at a model's first use: within two seconds (quick, not on
    /// software drivers) or at every size (full); findings are kept
    #[arg(long, global = true, default_value = "quick", value_name = "off|quick|full")]
    tune: Tune,
    /// The kernel to use for an op, or for all that have it, wherever it can run; may be repeated
    #[arg(long, global = true, value_name = "[OP=]NAME", value_parser = kernel_of_op)]
    kernel: Vec<(String, String)>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// No notices and no progress
    #[arg(long, global = true)]
    quiet: bool,
    /// More detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

fn kernel_of_op(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((op, name)) if !op.is_empty() && !name.is_empty() => {
            Ok((op.to_owned(), name.to_owned()))
        }
        None if !text.is_empty() => Ok((String::new(), text.to_owned())),
        _ => Err("expected OP=NAME, such as matmul=matmul_tiled, or NAME".to_owned()),
    }
}

/// Kernels that were asked for, each with an op: a name alone stands for all that list it.
fn forced(kernels: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (op, name) in kernels {
        if !op.is_empty() {
            all.push((op, name));
            continue;
        }
        let listing = registry().iter().filter(|e| e.kernels.iter().any(|k| k.name() == name));
        let found = all.len();
        all.extend(listing.map(|entry| (entry.name.to_owned(), name.clone())));
        if all.len() == found {
            return Err(Error::Argument(format!("--kernel {name}: no op has such a kernel")));
        }
    }
    Ok(all)
}

/// How weights are stored on the device.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightType {
    /// As the file has them
    Auto,
    F32,
    F16,
    Bf16,
    /// Blocks of 32 with a scale, for linear layers and tables whose rows are whole blocks
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0", hide = true)]
    Q4_0,
}

/// Global state of one run of the program.
pub(crate) struct Context {
    pub json: bool,
    pub verbose: bool,
    quiet: bool,
    selector: Selector,
    dtype: Vec<WeightType>,
    policy: Policy,
    cancelled: Arc<AtomicBool>,
    late: Arc<AtomicBool>,
}

impl Context {
    pub fn new(global: Global) -> Result<Self> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let late = Arc::new(AtomicBool::new(false));
        let no_grace = Arc::clone(&late);
        // The first Ctrl-C asks long loops to stop; the second one does not wait for them.
        let handler = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            if !no_grace.load(Ordering::SeqCst) {
                // Without the thread, Ctrl-C waits for the next look at the flag: no worse.
                let _ = std::thread::Builder::new().spawn(stop_after_grace);
            }
        };
        ctrlc::set_handler(handler)
            .map_err(|e| Error::Argument(format!("cannot listen for Ctrl-C: {e}")))?;
        let selector = global.device.parse().unwrap_or_default();
        Ok(Self {
            json: global.json,
            verbose: global.verbose > 0,
            quiet: global.quiet,
            selector,
            dtype: global.dtype,
            policy: Policy {
                precision: global.precision,
                force: forced(global.kernel)?,
                tune: global.tune,
            },
            cancelled,
            late,
        })
    }

    /// From here on the first Ctrl-C is answered by the command however long that takes: it has
    /// results to print.
    pub fn answers_late(&self) {
        self.late.store(true, Ordering::SeqCst);
    }

    /// The device that was asked for; says on stderr which one `auto` took.
    pub fn device(&self) -> Result<Choice> {
        let choice = select(&self.selector, gpu_options())?;
        match &choice {
            Choice::Gpu(gpu) if self.selector == Selector::Auto => {
                self.notice(&format!("using {}", gpu.caps().name));
            }
            Choice::Cpu(reason) if self.selector == Selector::Auto => {
                self.notice(&format!("using the CPU: {reason}"));
            }
            _ => {}
        }
        Ok(choice)
    }

    /// How kernels are to be chosen.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where models run: the device that was asked for, with the policy that was.
    pub fn place(&self) -> Result<Device> {
        self.place_on(self.device()?)
    }

    /// The same on a device that is open already.
    pub fn place_on(&self, choice: Choice) -> Result<Device> {
        match choice {
            Choice::Gpu(gpu) => Ok(Device::with_policy(&gpu, self.policy.clone())),
            Choice::Cpu(_) => match self.policy.force.first() {
                None => Ok(Device::cpu()),
                Some((op, name)) => Err(Error::Argument(format!(
                    "--kernel {op}={name}: the CPU path has one route for every op"
                ))),
            },
        }
    }

    /// A GPU, software ones included: for commands that make no sense without kernels.
    pub fn gpu(&self) -> Result<Gpu> {
        let selector = match &self.selector {
            // A software adapter is better than none here.
            Selector::Auto => match select(&Selector::Auto, gpu_options())? {
                Choice::Gpu(gpu) => return Ok(gpu),
                Choice::Cpu(reason) if adapters().is_empty() => {
                    let message = format!("this command runs kernels: {reason}");
                    return Err(Error::NoAdapter(message));
                }
                Choice::Cpu(_) => Selector::Index(0),
            },
            other => other.clone(),
        };
        match select(&selector, gpu_options())? {
            Choice::Gpu(gpu) => {
                self.notice(&format!("using {}", gpu.caps().name));
                Ok(gpu)
            }
            Choice::Cpu(_) => {
                Err(Error::Argument("this command runs kernels: --device cpu has none".to_owned()))
            }
        }
    }

    /// The format weights are to be stored in; `None` keeps the file's dtype.
    pub fn weight_dtype(&self) -> Result<Option<Format>> {
        match self.weight_dtypes()?.as_slice() {
            [one] => Ok(*one),
            _ => Err(Error::Argument(
                "--dtype: one storage of weights; only `bench` of an op takes several".to_owned(),
            )),
        }
    }

    /// All that were asked for, where one after another is meant.
    pub fn weight_dtypes(&self) -> Result<Vec<Option<Format>>> {
        let one = |dtype: &WeightType| match dtype {
            WeightType::Auto => Ok(None),
            WeightType::F32 => Ok(Some(Format::F32)),
            WeightType::F16 => Ok(Some(Format::F16)),
            WeightType::Bf16 => Ok(Some(Format::BF16)),
            WeightType::Q8_0 => Ok(Some(Format::Q8_0)),
            WeightType::Q4_0 => Err(Error::Argument(
                "--dtype q4_0 is not supported yet; use auto, f32, f16, bf16 or q8_0".to_owned(),
            )),
        };
        self.dtype.iter().map(one).collect()
    }

    /// The device as it was asked for on the command line; `None` for `auto`.
    pub fn asked_device(&self) -> Option<String> {
        match &self.selector {
            Selector::Auto => None,
            Selector::Cpu => Some("cpu".to_owned()),
            Selector::Index(index) => Some(index.to_string()),
            Selector::Name(name) => Some(name.clone()),
        }
    }

    /// Whether the CPU route was asked for by name.
    pub fn forced_cpu(&self) -> bool {
        self.selector == Selector::Cpu
    }

    /// A line on stderr that is not an answer.
    pub fn notice(&self, message: &str) {
        if !self.quiet {
            complain(message);
        }
    }

    /// Warnings about what was read, which `--quiet` does not silence.
    pub fn warn(&self, warnings: &[String]) {
        warnings.iter().for_each(|w| complain(&format!("warning: {w}")));
    }

    /// Writes a line of the answer to stdout.
    pub fn line(&self, text: &str) -> Result<()> {
        self.write(format!("{text}\n").as_bytes())
    }

    /// Writes bytes of the answer to stdout. A closed pipe or full disk is an error value,
    /// which `println!` would turn into a panic.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| Error::io("stdout", e))
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// [`Error::Cancelled`] once Ctrl-C was pressed.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A progress bar on stderr, drawn only on a terminal.
    pub fn bar(&self, what: &str, total: u64, bytes: bool) -> ProgressBar {
        let bar = ProgressBar::new(total);
        let visible = !self.quiet && !self.json && std::io::stderr().is_terminal();
        if !visible {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let count = if bytes {
            "{bytes}/{total_bytes} {bytes_per_sec}"
        } else {
            "{human_pos}/{human_len} {per_sec}, {eta} left"
        };
        let template = format!("{{prefix}} [{{bar:30}}] {count} {{wide_msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.with_prefix(what.to_owned())
    }

    /// A callback that shows loading progress and stops at Ctrl-C.
    pub fn load_progress(&self) -> impl FnMut(Progress<'_>) -> ControlFlow<()> + use<> {
        let bar = self.bar("loading", 0, true);
        let cancelled = Arc::clone(&self.cancelled);
        move |progress: Progress<'_>| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            if progress.done >= progress.total {
                bar.finish_and_clear();
            }
            if cancelled.load(Ordering::SeqCst) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
}

/// Ends the process when Ctrl-C was not answered: a long forward pass on the CPU, a driver or
/// another crate does not look at the flag. Files are written whole or not at all, so none is
/// left half done.
fn stop_after_grace() {
    std::thread::sleep(Duration::from_secs(1));
    complain(&format!("error: {}", Error::Cancelled));
    std::process::exit(1);
}

/// Writes a line to stderr. `eprintln!` panics when nobody reads it or the disk is full.
pub(super) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// The longest text that is read whole; `/dev/zero` and pipes may have no end.
const MAX_TEXT_FILE: u64 = 256 << 20;

/// Reads a whole text file or pipe, with its name in the error.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(MAX_TEXT_FILE + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_TEXT_FILE {
        let message = format!("is longer than {} MiB; split it", MAX_TEXT_FILE >> 20);
        return Err(Error::file(path, message));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::file(path, format!("is not UTF-8 text: invalid byte at offset {at}"))
    })?;
    // Some editors begin UTF-8 files with a byte-order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The lines of a text file or pipe.
pub(super) fn read_lines(path: &Path) -> Result<Vec<String>> {
    Ok(read_text(path)?.lines().map(str::to_owned).collect())
}

/// Parser of sizes such as `--batch`: at least 1, and beyond 2^24 a typing error.
pub(super) fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1 << 24)
}

/// How the program opens devices: compiled pipelines and verdicts are kept between runs in
/// the user's cache folder.
pub(super) fn gpu_options() -> GpuOptions {
    GpuOptions { cache_dir: cache_dir(), ..GpuOptions::default() }
}

/// `TILEWRIGHT_CACHE`, else the platform's cache folder.
fn cache_dir() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("TILEWRIGHT_CACHE") {
        return Some(dir);
    }
    let base = if cfg!(windows) {
        var("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        var("HOME").map(|home| home.join("Library/Caches"))
    } else {
        var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")))
    };
    base.map(|dir| dir.join("tilewright"))
}

/// A failed check, already reported on stdout.
pub(super) fn failed(message: impl Into<String>) -> Result<()> {
    Err(Error::Argument(message.into()))
}
