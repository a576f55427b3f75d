//! HLSL, read by Microsoft's compiler.

use std::process::Command;

use naga::back::hlsl;
use tilewright::gpu::{Shader, ShaderSource, Spec, load};

use crate::forms::{Form, compile, complains, every, tool, write};

/// The lowest shader model that has both subgroups and f16.
const PROFILE: &str = "cs_6_2";

/// What DX12 has of workgroup memory, in bytes: the variants are of devices with as much.
const WORKGROUP_MEMORY: u32 = 32 << 10;

/// As wgpu-hal's DX12 device has it written.
fn hlsl(shader: &Shader, form: Form) -> Option<Vec<u8>> {
    // naga writes no matrix units for this target.
    if shader.text.wgsl.contains("coop_mat") {
        return None;
    }
    let bytes = shader.workgroup_bytes;
    assert!(bytes <= WORKGROUP_MEMORY, "{}: {bytes} bytes of workgroup memory", shader.name);
    let target = |register| hlsl::BindTarget { register, space: 1, ..Default::default() };
    let checks = form == Form::Checked;
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        immediates_target: Some(target(0)),
        special_constants_binding: Some(target(1)),
        zero_initialize_workgroup_memory: checks,
        restrict_indexing: checks,
        force_loop_bounding: checks,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    let written =
        hlsl::Writer::new(&mut text, &options, &pipeline).write(&shader.module, &shader.info, None);
    written.unwrap_or_else(|e| panic!("{}: {e}", shader.name));
    Some(text.into_bytes())
}

fn dxc() -> Command {
    let mut command = Command::new(tool("TILEWRIGHT_DXC"));
    command.arg(tool("TILEWRIGHT_DXC_LIB")).arg(PROFILE);
    command.args(["-HV", "2018", "-no-warnings", "-Ges", "-enable-16bit-types"]);
    // The optimiser takes six times as long as reading and validating do together.
    if !every() {
        command.arg("-Od");
    }
    command
}

#[test]
fn every_text_compiles_as_hlsl() {
    compile(&write("hlsl", hlsl), dxc);
}

/// naga writes a function for the zero of each type that it has a handle for, and an alias is
/// another handle: `vec4<f32>()` beside it gives two functions of one name.
#[test]
fn zeros_of_a_type_and_its_alias_are_complained_about() {
    const TWICE: &str = "
alias Sum = vec4<f32>;
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32) {
    y[lane] = Sum();
    y[lane + 32u] = vec4<f32>();
}
";
    let text = |source: String| {
        let source = ShaderSource { name: "zeros", text: source.leak() };
        hlsl(&load(source, &Spec::new()).expect("it is valid"), Form::Checked).expect("HLSL")
    };
    complains("hlsl", &text(TWICE.to_owned()), dxc, "redefinition");
    let mended = TWICE.replace("vec4<f32>()", "vec4(0.0)").replace("Sum()", "vec4(0.0)");
    complains("hlsl", &text(mended), dxc, "");
}
