//! Assembles and validates every variant of every kernel, and writes each as SPIR-V, MSL and HLSL
//! (tests/backends has the compilers of those machines read them). Needs no adapter.

use std::collections::BTreeSet;

use naga::back::{hlsl, msl, spv};
use tilewright::gpu::{Loops, Shader, assemble, load, load_with};
use tilewright::ops::registry;

use crate::variants::{Variant, variants};

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
    for variant in &variants {
        let (name, loaded) = (variant.name(), load(variant.source, &variant.spec));
        let shader = match loaded.and_then(|s| s.check_params(variant.twin).map(|()| s)) {
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
    let used: BTreeSet<_> = variants.iter().map(|v| v.source.name).collect();
    for entry in registry() {
        for stage in entry.kernels.iter().flat_map(|kernel| kernel.stages()) {
            assert!(used.contains(stage.source.name), "no case reaches {}", stage.source.name);
        }
    }
}

/// Files are valid WGSL as they stand, their marked loops unexpanded.
#[test]
fn every_variant_is_valid_with_its_loops_as_they_stand() {
    let plain = |variant: &Variant| {
        let complaint = load_with(variant.source, &variant.spec, Loops::Plain).err()?;
        Some(format!("{}: {complaint}", variant.name()))
    };
    let failures: Vec<_> = variants().iter().filter_map(plain).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// naga's HLSL writes a helper per handle of a type for `vec4<f32>()`, and an alias makes a second
/// handle of the same type: DXC then finds the helper twice.
#[test]
fn zeros_are_written_as_values() {
    for Variant { source, spec, .. } in variants() {
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
    for Variant { source, .. } in variants().iter().filter(|v| v.trusted) {
        let note = source.text.lines().any(|l| l.trim_start().starts_with("// Safety:"));
        assert!(note, "{} has no `Safety:` note", source.name);
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
    let assembled: Vec<_> =
        variants.iter().map(|v| assemble(v.source, &v.spec).expect("assembles")).collect();
    let kernels: BTreeSet<_> = variants.iter().map(|v| v.source.name.to_owned()).collect();
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
