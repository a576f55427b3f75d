//! Assembles and validates every kernel in every variant its op's cases ask for, on imaginary
//! devices of every subgroup size, and writes each as SPIR-V, MSL and HLSL: Metal and DX12
//! break here and not at a user's. Needs no adapter.

use std::collections::BTreeSet;

use naga::back::{hlsl, msl, spv};
use tilewright::gpu::{
    Caps, Cooperative, Loops, Shader, ShaderSource, Spec, assemble, load, load_with,
};
use tilewright::ops::{extra_kernels, registry};
use tilewright::tensor::DType;

/// (source, spec, twin) of every variant, each once.
fn variants() -> Vec<(ShaderSource, Spec, &'static [tilewright::gpu::Field])> {
    let mut seen = BTreeSet::new();
    let mut out = extra_kernels();
    for (subgroup, side) in [
        (None, None),
        (Some(4), None),
        (Some(8), Some(8)),
        (Some(16), None),
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
                            out.push((stage.source, spec, stage.params));
                        }
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
        // Matrix units are Vulkan's and, 8 by 8, Metal's: naga writes no HLSL with them.
        let matrices = shader.text.wgsl.contains("coop_mat");
        let sixteen = shader.text.wgsl.contains("coop_mat16x16");
        for (target, has, written) in [
            ("SPIR-V", true, write_spirv as fn(&Shader) -> Result<usize, String>),
            ("MSL", !sixteen, write_msl),
            ("HLSL", !matrices, write_hlsl),
        ] {
            if !has {
                continue;
            }
            match written(&shader) {
                Ok(0) => failures.push(format!("{name}: empty {target}")),
                Ok(_) => {}
                Err(e) => failures.push(format!("{name}: {target}: {e}")),
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let used: BTreeSet<_> = variants.iter().map(|(source, ..)| source.name).collect();
    for entry in registry() {
        for stage in entry.kernels.iter().flat_map(|kernel| kernel.stages()) {
            assert!(used.contains(stage.source.name), "no case reaches {}", stage.source.name);
        }
    }
}

/// Files are valid WGSL as they stand, their marked loops unexpanded.
#[test]
fn every_variant_is_valid_with_its_loops_as_they_stand() {
    let plain = |(source, spec, _): &(ShaderSource, Spec, _)| {
        let complaint = load_with(*source, spec, Loops::Plain).err()?;
        Some(format!("{} [{spec}]: {complaint}", source.name))
    };
    let failures: Vec<_> = variants().iter().filter_map(plain).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// naga's HLSL writes a helper per handle of a type for `vec4<f32>()`, and an alias makes a second
/// handle of the same type: DXC then finds the helper twice.
#[test]
fn zeros_are_written_as_values() {
    for (source, spec, _) in variants() {
        let text = assemble(source, &spec).expect("assembles");
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let empty = ["vec2<", "vec3<", "vec4<", "Elem", "mat"].iter().any(|ty| {
                code.match_indices(ty).any(|(at, _)| {
                    let rest = &code[at..];
                    let end = rest.find(|c: char| !c.is_alphanumeric() && !"<>_".contains(c));
                    end.is_some_and(|end| rest[end..].starts_with("()"))
                })
            });
            assert!(!empty, "{}, line {i} as assembled: {code}", source.name);
        }
    }
}

/// A kernel compiled without run-time checks must argue why that is safe.
#[test]
fn every_trusted_kernel_carries_a_safety_note() {
    let stages = registry().iter().flat_map(|e| e.kernels).flat_map(|kernel| kernel.stages());
    for stage in stages.filter(|stage| stage.trusted) {
        let note = stage.source.text.lines().any(|l| l.trim_start().starts_with("// Safety:"));
        assert!(note, "{} has no `Safety:` note", stage.source.name);
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
        .map(|(source, spec, _)| assemble(*source, spec).expect("assembles"))
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
