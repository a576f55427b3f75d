//! MSL, read by clang with a header that stands for Apple's library.

use std::path::Path;
use std::process::Command;

use naga::back::msl;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use tilewright::gpu::{Shader, ShaderSource, Spec, load};

use crate::forms::{Form, checked_by, compile, complains, tool, write};

/// As wgpu-hal's Metal device has it written.
fn msl(shader: &Shader, form: Form) -> Vec<u8> {
    let policy = match form {
        Form::Checked => BoundsCheckPolicy::Restrict,
        Form::Unchecked => BoundsCheckPolicy::Unchecked,
    };
    let options = msl::Options {
        lang_version: (3, 1),
        spirv_cross_compatibility: false,
        fake_missing_bindings: true,
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: form == Form::Checked,
        force_loop_bounding: form == Form::Checked,
        ..Default::default()
    };
    let pipeline = msl::PipelineOptions::default();
    let (text, _) = msl::write_string(&shader.module, &shader.info, &options, &pipeline)
        .unwrap_or_else(|e| panic!("{}: {e}", shader.name));
    as_cpp(&text).into_bytes()
}

/// What no C++ header can give: vectors are made by calls of their type's name, which clang has for
/// no vector type, so that the header has functions of that name behind `make_`.
fn as_cpp(msl: &str) -> String {
    let lines = msl.lines().filter(|line| !line.starts_with("#include"));
    let mut text: String = lines.map(|line| line.to_owned() + "\n").collect();
    for scalar in ["float", "half", "int", "uint", "bool", "short", "ushort", "char", "uchar"] {
        for width in 2..=4 {
            let call = format!("{scalar}{width}(");
            let mut parts = text.split(&call);
            let mut made = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                if !made.ends_with(is_name) {
                    made += "make_";
                }
                made += &call;
                made += part;
            }
            text = made;
        }
    }
    // A cast is a conversion by element; clang's own reads the bits anew.
    text.replace("static_cast<", "metal::convert<")
}

fn clang() -> Command {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backends/metal_stdlib.h");
    let flags = "-x clcpp -cl-std=clc++2021 -cl-single-precision-constant -target spir64 \
                 -fsyntax-only -w -include";
    let mut command = checked_by(&tool("TILEWRIGHT_CLANG"));
    command.args(flags.split(' ').filter(|flag| !flag.is_empty())).arg(header);
    command
}

/// Whether a Mac could ask for it: matrix units take 8x8 there, and point at scalars.
fn is_for_metal(shader: &Shader) -> bool {
    let text = &shader.text.wgsl;
    let wanted = ["coop_mat8x8", "sh_x: array<f16"].iter().all(|part| text.contains(part));
    !text.contains("coop_mat") || wanted
}

#[test]
fn every_text_compiles_as_msl() {
    let wanted = |shader: &Shader, form| is_for_metal(shader).then(|| msl(shader, form));
    compile(&write("metal", wanted), clang);
}

#[test]
fn memory_of_another_space_is_complained_about() {
    let text = "
static void bump(thread float& x) { x += 1.0; }
kernel void main_(device float& y [[buffer(0)]], threadgroup float& shared) {
    thread float mine = y;
    bump(mine);
    bump(SPACE);
}
";
    for space in ["y", "shared"] {
        let text = text.replace("SPACE", space);
        complains("metal", text.as_bytes(), clang, "no matching function for call to 'bump'");
    }
    complains("metal", text.replace("SPACE", "mine").as_bytes(), clang, "");
}

/// `simdgroup_load` has a pointer to scalars; naga passes on whatever the array is of.
#[test]
fn matrices_that_point_at_vectors_are_complained_about() {
    const QUADS: &str = "
enable f16;
enable wgpu_cooperative_matrix;
var<workgroup> slab: array<vec4<f16>, 64>;
@group(0) @binding(0) var<storage, read_write> y: array<f16>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32) {
    slab[lane] = vec4(f16(lane));
    workgroupBarrier();
    coopStoreT(coopLoadT<coop_mat8x8<f16, C>>(&slab[0], 2u), &y[0], 8u);
}
";
    let source = ShaderSource { name: "quads", text: QUADS };
    let shader = load(source, &Spec::new()).expect("it is valid");
    let text = msl(&shader, Form::Checked);
    complains("metal", &text, clang, "no matching function");
}
