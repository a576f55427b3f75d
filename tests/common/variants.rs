//! Every variant of every kernel that the cases of its op ask for, on imaginary devices of every
//! subgroup size. Needs no adapter.

use std::collections::BTreeSet;

use tilewright::gpu::{Caps, Cooperative, Field, ShaderSource, Spec};
use tilewright::ops::{extra_kernels, registry};
use tilewright::tensor::DType;

/// A kernel's text as one device gets it.
pub struct Variant {
    pub source: ShaderSource,
    pub spec: Spec,
    /// The Rust twin of its parameters.
    pub twin: &'static [Field],
    /// Whether it ships without run-time checks.
    pub trusted: bool,
}

impl Variant {
    /// For messages.
    pub fn name(&self) -> String {
        format!("{} [{}]", self.source.name, self.spec)
    }
}

/// Every variant, each once.
pub fn variants() -> Vec<Variant> {
    let mut seen = BTreeSet::new();
    let extra = |(source, spec, twin)| Variant { source, spec, twin, trusted: false };
    let mut out: Vec<_> = extra_kernels().into_iter().map(extra).collect();
    for (subgroup, side) in [
        (None, None),
        (Some(4), None),
        (Some(8), Some(8)),
        (Some(16), None),
        (Some(32), Some(8)),
        (Some(32), Some(16)),
        (Some(64), None),
    ] {
        let f16 = subgroup.is_some();
        let range = subgroup.map(|s| (s, s));
        let (multiplicands, sums) = (DType::F16, DType::F32);
        let square = |side| Cooperative { m: side, n: side, k: side, multiplicands, sums };
        let caps = Caps {
            subgroup,
            subgroup_range: range,
            // Whose GPUs have such matrices on 32 lanes.
            metal: subgroup == Some(32) && side == Some(8),
            // Subgroups this small are a CPU's vector units.
            software: subgroup.is_some_and(|size| size <= 8),
            f16,
            cooperative: side.map(square).into_iter().collect(),
            workgroup_memory: 32 << 10,
            max_invocations: 1024,
            ..Caps::baseline()
        };
        for entry in registry() {
            for case in (entry.cases)() {
                for kernel in case.op.entry().kernels {
                    if kernel.needs().missing(&caps).is_some() {
                        continue;
                    }
                    let specs = case.with_call(&caps, |call| {
                        let stages = kernel.stages().iter().enumerate();
                        let spec = |(i, _)| kernel.spec(i, call).expect("a spec");
                        kernel.fits(call).then(|| stages.map(spec).collect::<Vec<_>>())
                    });
                    let specs = specs.expect("a case passes its op's checks");
                    for (stage, spec) in kernel.stages().iter().zip(specs.into_iter().flatten()) {
                        if seen.insert(format!("{} {spec}", stage.source.name)) {
                            let (source, twin, trusted) =
                                (stage.source, stage.params, stage.trusted);
                            out.push(Variant { source, spec, twin, trusted });
                        }
                    }
                }
            }
        }
    }
    out
}
