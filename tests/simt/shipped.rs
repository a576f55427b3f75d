//! Every kernel that ships, on machines that are not here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tilewright::gpu::{Loops, ShaderSource, Spec, assemble_with, load};
use tilewright::ops::{
    Case, CheckOptions, Checked, Checker, Kernel, Outcome, Stage, idle_barriers, imagined, registry,
};
use tilewright::simt::{Kind, Place};

const SIZES: [Option<u32>; 6] = [None, Some(4), Some(8), Some(16), Some(32), Some(64)];
const FRAGMENTS: [u32; 2] = [8, 16];

/// What a case found, one a line.
fn told(one: &Checked) -> String {
    let Checked { op, kernel, machine, case, outcome, report } = one;
    let found: Vec<_> = report.findings.iter().map(|f| format!("\n    {f}")).collect();
    format!("{op}/{kernel} {case} on {machine}: {outcome:?}{}", found.concat())
}

fn passed(one: &Checked) -> bool {
    matches!(one.outcome, Outcome::Passed { .. })
}

/// Barriers that no case needs and that stay all the same, each with its reason.
const IDLE: [(&str, &str); 0] = [];

/// All cases of all kernels: results right, nothing found; every kernel that runs without naga's
/// checks is among them, and every barrier keeps something apart.
#[test]
fn every_kernel_is_clean_at_every_subgroup_size() {
    let checker = Checker::default();
    let mut all = Vec::new();
    for size in SIZES {
        let start = Instant::now();
        let options = CheckOptions { subgroups: vec![size], ..CheckOptions::default() };
        let before = all.len();
        for entry in registry() {
            all.extend(checker.check_entry(entry, &options, |_| true));
        }
        let ran = all[before..].iter().filter(|c| passed(c)).count();
        println!("{size:?}: {ran} cases in {:.1} s", start.elapsed().as_secs_f64());
        assert!(ran > 300, "only {ran} cases ran at {size:?}");
    }
    let wrong: Vec<_> = all.iter().filter(|c| !c.is_clean()).map(told).collect();
    assert!(wrong.is_empty(), "{} are not clean:\n{}", wrong.len(), wrong.join("\n"));

    let covered: BTreeSet<_> = all.iter().filter(|c| passed(c)).map(|c| c.kernel).collect();
    for kernel in registry().iter().flat_map(|e| e.kernels.iter()) {
        let trusted = kernel.stages().iter().any(|stage| stage.trusted);
        assert!(!trusted || covered.contains(kernel.name()), "{} is not covered", kernel.name());
    }

    let idle: BTreeSet<_> = idle_barriers(&all).iter().map(Place::to_string).collect();
    let known: BTreeSet<_> = IDLE.iter().map(|(place, _)| (*place).to_owned()).collect();
    assert_eq!(idle, known, "barriers that no case needs");
}

/// The checker's loader with one barrier left out.
fn without(barrier: &Place) -> Checker {
    let barrier = barrier.clone();
    Checker::with_loader(move |stage: &Stage, spec: &Spec| {
        let text = assemble_with(stage.source, spec, Loops::Unrolled)?;
        let hit = |n: usize| {
            text.origin(n + 1).is_some_and(|o| o.file() == barrier.file && o.line == barrier.line)
        };
        let lines = text.wgsl.lines().enumerate();
        let lines = lines.map(|(n, line)| match hit(n) {
            true => line.replace("workgroupBarrier();", "").replace("storageBarrier();", ""),
            false => line.to_owned(),
        });
        let text: String = lines.map(|line| line + "\n").collect();
        load(ShaderSource { name: stage.source.name, text: text.leak() }, &Spec::new())
    })
}

/// A case that needs a barrier.
type Witness = (usize, Option<u32>, &'static dyn Kernel, Case);

/// The smallest case that needs each barrier, by the first size at which one does.
fn witnesses() -> BTreeMap<Place, Witness> {
    let mut found: BTreeMap<Place, Witness> = BTreeMap::new();
    let checker = Checker::default();
    for size in [None, Some(8), Some(32)] {
        for entry in registry() {
            let mut cases = (entry.cases)();
            cases.sort_by_key(|case| {
                case.inputs.iter().flatten().map(|t| t.shape().numel()).sum::<usize>()
            });
            for kernel in entry.kernels.iter().copied() {
                // The smallest have several tiles and rounds, but for tiles of matrix units.
                let few = if kernel.needs().cooperative { cases.len() } else { 40 };
                let few = few.min(cases.len());
                for case in &cases[..few] {
                    for caps in imagined(size, &FRAGMENTS) {
                        let checked = checker.check_case(&caps, case, kernel, false);
                        for place in checked.report.needed {
                            let work =
                                case.inputs.iter().flatten().map(|t| t.shape().numel()).sum();
                            found
                                .entry(place)
                                .or_insert_with(|| (work, size, kernel, case.clone()));
                        }
                    }
                }
            }
        }
    }
    found
}

/// Each barrier of each kernel is taken out in turn: the case that needs it must show a race.
#[test]
fn every_barrier_that_is_taken_out_is_missed() {
    let mut missed = Vec::new();
    let found = witnesses();
    for (barrier, (_, size, kernel, case)) in &found {
        let checker = without(barrier);
        let race = imagined(*size, &FRAGMENTS).iter().any(|caps| {
            let checked = checker.check_case(caps, case, *kernel, false);
            checked.report.findings.iter().any(|f| f.kind == Kind::Race)
        });
        if !race {
            missed.push(format!("{barrier} in {} ({})", kernel.name(), case.label));
        }
    }
    assert!(missed.is_empty(), "not reported: {}", missed.join("\n"));
    let tried: BTreeSet<_> = found.keys().map(Place::to_string).collect();
    let idle = IDLE.iter().map(|(place, _)| (*place).to_owned());
    assert_eq!(tried.into_iter().chain(idle).collect::<BTreeSet<_>>(), written());
}

/// The lines of all shaders that have a barrier.
fn written() -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lines = BTreeSet::new();
    for folder in ["shaders", "shaders/shared"] {
        for file in std::fs::read_dir(root.join(folder)).expect("a folder of shaders") {
            let path = file.expect("a readable entry").path();
            if path.extension().is_none_or(|e| e != "wgsl") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("readable text");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (n, line) in text.lines().enumerate() {
                if line.split("//").next().is_some_and(|code| code.contains("Barrier();")) {
                    lines.insert(format!("{folder}/{name}:{}", n + 1));
                }
            }
        }
    }
    lines
}
