//! HLSL, read by Microsoft's compiler.

use std::process::Command;

use naga::back::hlsl;
use tilewright::gpu::Shader;

use crate::forms::{Form, compile, every, tool, write};

/// The lowest shader model that has both subgroups and f16.
const PROFILE: &str = "cs_6_2";

/// As wgpu-hal's DX12 device has it written.
fn hlsl(shader: &Shader, form: Form) -> Option<Vec<u8>> {
    // naga writes no matrix units for this target.
    if shader.text.wgsl.contains("coop_mat") {
        return None;
    }
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

#[test]
fn every_text_compiles_as_hlsl() {
    let (dxc, library) = (tool("TILEWRIGHT_DXC"), tool("TILEWRIGHT_DXC_LIB"));
    compile(&write("hlsl", hlsl), || {
        let mut command = Command::new(&dxc);
        command.arg(&library).arg(PROFILE);
        command.args(["-HV", "2018", "-no-warnings", "-Ges", "-enable-16bit-types"]);
        // The optimiser takes six times as long as reading and validating do together.
        if !every() {
            command.arg("-Od");
        }
        command
    });
}
