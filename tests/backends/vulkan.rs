//! SPIR-V, read by Khronos' validator.

use std::collections::BTreeSet;
use std::process::Command;

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use tilewright::gpu::Shader;

use crate::forms::{Form, compile, tool, write};

/// As wgpu-hal's Vulkan device has it written for Vulkan 1.3.
fn spirv(shader: &Shader, form: Form) -> Option<Vec<u8>> {
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
    let words = spv::write_vec(&shader.module, &shader.info, &options, None)
        .unwrap_or_else(|e| panic!("{}: {e}", shader.name));
    Some(without_idle_layout(&words).flat_map(u32::to_le_bytes).collect())
}

/// The module without the layout of what lies in no buffer. naga decorates types in workgroup and
/// private memory too, against a rule that the validator stops at (VUID-StandaloneSpirv-None-10684)
/// and that no driver minds. Buffers hold arrays of run-time size and blocks, which keep theirs.
fn without_idle_layout(words: &[u32]) -> impl Iterator<Item = u32> {
    const HEADER: usize = 5;
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

#[test]
fn every_text_is_valid_spirv() {
    let validator = tool("TILEWRIGHT_SPIRV_VAL");
    // It takes one file: a shell asks it about each and names the file in the complaint.
    let script = r#"
while IFS= read -r file || [ -n "$file" ]; do
  found=$("$0" --target-env vulkan1.3 "$file" 2>&1) || echo "$file: $(echo "$found" | tr '\n' ' ')"
done"#;
    compile(&write("spv", spirv), || {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&validator);
        command
    });
}
