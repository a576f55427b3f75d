//! Assembles and validates every kernel in every variant its op's cases ask for, on imaginary
//! devices of every subgroup size, and writes each as SPIR-V, MSL and HLSL: Metal and DX12
//! break here and not at a user's. Needs no adapter.

use std::collections::BTreeSet;

use naga::back::{hlsl, msl, spv};
use tilewright::gpu::{Caps, Shader, ShaderSource, Spec, load};
use tilewright::ops::{Call, extra_kernels, registry};
use tilewright::tensor::Meta;

/// (source, spec, twin) of every variant, each once.
fn variants() -> Vec<(ShaderSource, Spec, &'static [tilewright::gpu::Field])> {
    let mut seen = BTreeSet::new();
    let mut out = extra_kernels();
    for subgroup in [None, Some(4), Some(8), Some(16), Some(32), Some(64)] {
        let f16 = subgroup.is_some();
        let range = subgroup.map(|s| (s, s));
        let caps = Caps {
            subgroup,
            subgroup_range: range,
            f16,
            workgroup_memory: 32 << 10,
            max_invocations: 1024,
            ..Caps::baseline()
        };
        for entry in registry() {
            for case in (entry.cases)() {
                let inputs: Vec<_> =
                    case.inputs.iter().map(|t| t.as_ref().map(|t| t.meta())).collect();
                let symbolic: Vec<_> = inputs.iter().map(|m| m.map(Into::into)).collect();
                let outputs = case.op.infer(&symbolic).expect("a case passes its op's checks");
                let outputs: Vec<Meta> =
                    outputs.iter().map(|m| m.eval(&case.sizes).expect("sizes")).collect();
                let sizes = &case.sizes;
                let call =
                    Call { inputs: &inputs, outputs: &outputs, sizes, caps: &caps, part: None };
                for kernel in case.op.kernels() {
                    if kernel.needs.missing(&caps).is_some() || !case.op.accepts(kernel, &call) {
                        continue;
                    }
                    let spec = case.op.spec(kernel, &call);
                    if seen.insert(format!("{} {spec}", kernel.source.name)) {
                        out.push((kernel.source, spec, kernel.params));
                    }
                }
            }
        }
    }
    out
}

fn write_spirv(shader: &Shader) -> Result<usize, String> {
    let options = spv::Options { fake_missing_bindings: true, ..Default::default() };
    spv::write_vec(&shader.module, &shader.info, &options, None)
        .map(|words| words.len())
        .map_err(|e| e.to_string())
}

fn write_msl(shader: &Shader) -> Result<usize, String> {
    let options =
        msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() };
    msl::write_string(&shader.module, &shader.info, &options, &Default::default())
        .map_err(|e| e.to_string())
        .and_then(|(text, info)| {
            info.entry_point_names
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| e.to_string())?;
            Ok(text.len())
        })
}

fn write_hlsl(shader: &Shader) -> Result<usize, String> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        immediates_target: Some(hlsl::BindTarget { register: 0, space: 1, ..Default::default() }),
        special_constants_binding: Some(hlsl::BindTarget {
            register: 1,
            space: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(&shader.module, &shader.info, None)
        .map_err(|e| e.to_string())?;
    Ok(text.len())
}

#[test]
fn every_variant_is_valid_and_translates_to_every_backend() {
    let variants = variants();
    let mut failures = Vec::new();
    for (source, spec, twin) in &variants {
        let name = format!("{} [{spec}]", source.name);
        let shader = match load(*source, spec).and_then(|s| s.check_params(twin).map(|()| s)) {
            Ok(shader) => shader,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        if shader.bindings.len() > 8 {
            failures.push(format!("{name}: {} storage buffers", shader.bindings.len()));
        }
        for (target, written) in [
            ("SPIR-V", write_spirv(&shader)),
            ("MSL", write_msl(&shader)),
            ("HLSL", write_hlsl(&shader)),
        ] {
            match written {
                Ok(0) => failures.push(format!("{name}: empty {target}")),
                Ok(_) => {}
                Err(e) => failures.push(format!("{name}: {target}: {e}")),
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let used: BTreeSet<_> = variants.iter().map(|(source, ..)| source.name).collect();
    for entry in registry() {
        for kernel in entry.kernels {
            assert!(used.contains(kernel.source.name), "no case reaches {}", kernel.name);
        }
    }
}

/// A kernel compiled without run-time checks must argue why that is safe.
#[test]
fn every_trusted_kernel_carries_a_safety_note() {
    for kernel in registry().iter().flat_map(|e| e.kernels).filter(|k| k.trusted) {
        let note = kernel.source.text.lines().any(|l| l.trim_start().starts_with("// Safety:"));
        assert!(note, "{} has no `Safety:` note", kernel.name);
    }
}

/// Every file in shaders/ is some kernel's or is imported by one.
#[test]
fn no_shader_file_is_dead() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let stems = |dir: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("the shader folder exists");
        entries
            .map(|e| e.expect("a readable entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "wgsl"))
            .filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned()))
            .collect()
    };
    let variants = variants();
    let assembled: Vec<_> = variants
        .iter()
        .map(|(source, spec, _)| tilewright::gpu::assemble(*source, spec).expect("assembles"))
        .collect();
    let kernels: BTreeSet<_> = variants.iter().map(|(s, ..)| s.name.to_owned()).collect();
    for stem in stems(&root) {
        assert!(kernels.contains(&stem), "shaders/{stem}.wgsl is no kernel's");
    }
    for stem in stems(&root.join("shared")) {
        let text = std::fs::read_to_string(root.join("shared").join(format!("{stem}.wgsl")));
        let text = text.expect("readable");
        // Files of equal signatures differ in what their first line says.
        let head = text.lines().next().expect("a line");
        assert!(head.starts_with("//"), "shared/{stem}.wgsl does not say what it is");
        assert!(assembled.iter().any(|a| a.contains(head)), "shared/{stem}.wgsl is not imported");
    }
}
