//! SPIR-V, read by Khronos' validator.

use std::collections::BTreeSet;
use std::process::Command;

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use tilewright::gpu::{Shader, ShaderSource, Spec, load};

use crate::forms::{Form, checked_by, compile, complains, tool, write};

/// As wgpu-hal's Vulkan device has it written for Vulkan 1.3.
fn written(shader: &Shader, form: Form) -> Vec<u32> {
    let policy = match form {
        Form::Checked => BoundsCheckPolicy::Restrict,
        Form::Unchecked => BoundsCheckPolicy::Unchecked,
    };
    let options = spv::Options {
        lang_version: (1, 6),
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: match form {
            Form::Checked => spv::ZeroInitializeWorkgroupMemoryMode::Native,
            Form::Unchecked => spv::ZeroInitializeWorkgroupMemoryMode::None,
        },
        force_loop_bounding: form == Form::Checked,
        fake_missing_bindings: true,
        ..Default::default()
    };
    spv::write_vec(&shader.module, &shader.info, &options, None)
        .unwrap_or_else(|e| panic!("{}: {e}", shader.name))
}

fn spirv(shader: &Shader, form: Form) -> Option<Vec<u8>> {
    let words = with_device_scope(&written(shader, form));
    Some(without_idle_layout(&words).flat_map(u32::to_le_bytes).collect())
}

const HEADER: usize = 5;

/// The module with the capability that barriers of storage need under Vulkan's memory model, which
/// modules with matrix units have. wgpu enables the feature; naga forgets to say that it is used.
fn with_device_scope(words: &[u32]) -> Vec<u32> {
    const CAPABILITY: u32 = 2 << 16 | 17;
    const MEMORY_MODEL: u32 = 5345;
    const DEVICE_SCOPE: u32 = 5346;
    let (header, body) = words.split_at(HEADER);
    let has_model = body.chunks(2).take_while(|c| c[0] == CAPABILITY).any(|c| c[1] == MEMORY_MODEL);
    let scope: &[u32] = if has_model { &[CAPABILITY, DEVICE_SCOPE] } else { &[] };
    [header, scope, body].concat()
}

/// The module without the layout of what lies in no buffer. naga decorates types in workgroup and
/// private memory too, against a rule that the validator stops at (VUID-StandaloneSpirv-None-10684)
/// and that no driver minds. Buffers hold arrays of run-time size and blocks, which keep theirs.
fn without_idle_layout(words: &[u32]) -> impl Iterator<Item = u32> {
    const TYPE_ARRAY: u16 = 28;
    const TYPE_STRUCT: u16 = 30;
    const DECORATE: u16 = 71;
    const MEMBER_DECORATE: u16 = 72;
    const BLOCK: u32 = 2;
    const ARRAY_STRIDE: u32 = 6;
    let opcode = |instruction: &[u32]| instruction[0] as u16;
    let mut instructions = Vec::new();
    let mut rest = &words[HEADER..];
    while let [first, ..] = rest {
        let (instruction, after) = rest.split_at((first >> 16) as usize);
        instructions.push(instruction);
        rest = after;
    }
    let targets = |wanted: &dyn Fn(&[u32]) -> bool| -> BTreeSet<u32> {
        instructions.iter().filter(|i| wanted(i)).map(|i| i[1]).collect()
    };
    let sized = targets(&|i| opcode(i) == TYPE_ARRAY);
    let mut blocks = targets(&|i| opcode(i) == DECORATE && i[2] == BLOCK);
    // What a block holds is laid out too; it is declared before it.
    for i in instructions.iter().rev().filter(|i| opcode(i) == TYPE_STRUCT) {
        if blocks.contains(&i[1]) {
            blocks.extend(&i[2..]);
        }
    }
    let idle = |i: &[u32]| match opcode(i) {
        DECORATE => i[2] == ARRAY_STRIDE && sized.contains(&i[1]),
        MEMBER_DECORATE => !blocks.contains(&i[1]),
        _ => false,
    };
    let kept: Vec<_> = instructions.iter().copied().filter(|i| !idle(i)).collect();
    words[..HEADER].iter().copied().chain(kept.concat())
}

fn spirv_val() -> Command {
    let mut command = checked_by(&tool("TILEWRIGHT_SPIRV_VAL"));
    command.args(["--target-env", "vulkan1.3"]);
    command
}

#[test]
fn every_text_is_valid_spirv() {
    compile(&write("spv", spirv), spirv_val);
}

/// What naga writes as it stands, for as long as `without_idle_layout` has something to do.
#[test]
fn layouts_outside_of_buffers_are_complained_about() {
    const TEXT: &str = "
var<workgroup> shared_words: array<u32, 32>;
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32) {
    shared_words[lane] = lane;
    workgroupBarrier();
    y[lane] = shared_words[31u - lane];
}
";
    let shader = load(ShaderSource { name: "layout", text: TEXT }, &Spec::new());
    let shader = shader.expect("it is valid");
    let raw: Vec<u8> =
        written(&shader, Form::Checked).into_iter().flat_map(u32::to_le_bytes).collect();
    complains("spv", &raw, spirv_val, "10684");
    complains("spv", &spirv(&shader, Form::Checked).expect("SPIR-V"), spirv_val, "");
}

/// The same of `with_device_scope`.
#[test]
fn barriers_of_buffers_beside_matrices_are_complained_about() {
    const TEXT: &str = "
enable wgpu_cooperative_matrix;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32) {
    coopStore(coop_mat8x8<f32, C>(), &y[0], 8u);
    storageBarrier();
    y[64u + lane] = y[lane];
}
";
    let shader = load(ShaderSource { name: "scope", text: TEXT }, &Spec::new());
    let shader = shader.expect("it is valid");
    let raw = written(&shader, Form::Unchecked).into_iter().flat_map(u32::to_le_bytes);
    complains("spv", &raw.collect::<Vec<_>>(), spirv_val, "VulkanMemoryModelDeviceScope");
    complains("spv", &spirv(&shader, Form::Unchecked).expect("SPIR-V"), spirv_val, "");
}
