//! The one mechanism for shader variants: WGSL in, validated and reflected naga module out.
//!
//! A kernel is a file in `shaders/`. A variant of it is a [`Spec`]: new initialisers for its
//! `const` and `alias` lines, and replacements for its `#import` lines. No other directive
//! exists, so every file stays WGSL that a reader can follow. naga parses the assembled text
//! once; bindings, workgroup size and parameter layout are read back from the module, and Rust
//! binds by name.

use std::collections::HashSet;
use std::fmt;

use wgpu::naga::{
    self, AddressSpace, Module, ScalarKind, StorageAccess, TypeInner,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

use super::shared::SHARED;
use crate::error::{Error, Result};

/// Text of one file in `shaders/`; made by [`shader!`](crate::shader).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShaderSource {
    /// Stem of the file: the kernel's name, its label and its timing key.
    pub name: &'static str,
    /// WGSL text with `#import` lines.
    pub text: &'static str,
}

/// Embeds `shaders/<name>.wgsl` as a [`ShaderSource`](crate::gpu::ShaderSource).
#[macro_export]
macro_rules! shader {
    ($name:literal) => {
        $crate::gpu::ShaderSource {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
        }
    };
}

/// What turns a kernel's file into one variant of it. Equal specs give equal pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    consts: Vec<(&'static str, String)>,
    imports: Vec<(&'static str, &'static str)>,
    features: Vec<&'static str>,
}

impl Spec {
    /// The file as it stands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a `const NAME: T = …;` or `alias NAME = …;` line. Numbers are written with the
    /// suffix of their Rust type (`u32` becomes `64u`), so the line's own type must agree.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl ConstValue) -> Self {
        self.consts.push((name, value.wgsl()));
        self
    }

    /// Sets a const that chooses what is computed, not how much of it: see [`class`](Self::class).
    #[must_use]
    pub fn feature(mut self, name: &'static str, value: impl ConstValue) -> Self {
        self.features.push(name);
        self.set(name, value)
    }

    /// The same without the sizes: imports and features (bools are such) only. Variants of one
    /// class run the same code over other extents.
    #[must_use]
    pub fn class(&self) -> Self {
        let mut out = self.clone();
        out.consts.retain(|(name, value)| {
            value == "true" || value == "false" || self.features.contains(name)
        });
        out
    }

    /// How many consts and imports two specs share.
    pub fn in_common(&self, other: &Self) -> usize {
        let consts = self.consts.iter().filter(|c| other.consts.contains(c)).count();
        consts + self.imports.iter().filter(|i| other.imports.contains(i)).count()
    }

    /// Replaces `#import from` by `#import to`, which must declare the same functions.
    #[must_use]
    pub fn import(mut self, from: &'static str, to: &'static str) -> Self {
        self.imports.push((from, to));
        self
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consts = self.consts.iter().map(|(name, value)| format!("{name}={value}"));
        let imports = self.imports.iter().map(|(_, to)| (*to).to_owned());
        f.write_str(&consts.chain(imports).collect::<Vec<_>>().join(" "))
    }
}

/// A Rust value that can be the initialiser of a WGSL `const` or `alias`.
pub trait ConstValue {
    /// The WGSL literal.
    fn wgsl(self) -> String;
}

impl ConstValue for u32 {
    fn wgsl(self) -> String {
        format!("{self}u")
    }
}

impl ConstValue for bool {
    fn wgsl(self) -> String {
        self.to_string()
    }
}

/// A type name, for `alias` lines.
impl ConstValue for &'static str {
    fn wgsl(self) -> String {
        self.to_owned()
    }
}

/// One field of a parameter block: a 4-byte scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name in the Rust struct and in the WGSL struct.
    pub name: &'static str,
    /// `u32`, `i32` or `f32`.
    pub ty: &'static str,
    /// Byte offset.
    pub offset: usize,
}

/// The largest parameter block: what every Vulkan device takes as push constants.
pub const MAX_PARAMS: usize = 128;

/// A parameter block's bytes, ready to be set as immediates.
#[derive(Clone, Copy, Debug)]
pub struct ParamBytes {
    bytes: [u8; MAX_PARAMS],
    len: usize,
}

impl ParamBytes {
    /// The bytes of a parameter struct declared with [`params!`](crate::params).
    pub fn of<T: bytemuck::Pod>(params: &T) -> Self {
        const { assert!(size_of::<T>() <= MAX_PARAMS) };
        let source = bytemuck::bytes_of(params);
        let mut bytes = [0; MAX_PARAMS];
        bytes[..source.len()].copy_from_slice(source);
        Self { bytes, len: source.len() }
    }

    /// The bytes that are set.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Declares the Rust twin of a WGSL `struct Params` of 4-byte scalars, with the field table
/// that is compared with naga's reflection when a pipeline is made.
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($(#[$fmeta])* $vis $field: $ty),* }

        impl $name {
            /// Field table, checked against the shader's own struct.
            $vis const FIELDS: &'static [$crate::gpu::Field] = &[$($crate::gpu::Field {
                name: stringify!($field),
                ty: stringify!($ty),
                offset: std::mem::offset_of!($name, $field),
            }),*];
        }
    };
}

/// A storage buffer that a kernel declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the WGSL variable.
    pub name: String,
    /// Its `@binding`.
    pub slot: u32,
    /// Whether the kernel may write it.
    pub writable: bool,
}

/// One assembled, validated and reflected kernel variant.
#[derive(Debug)]
pub struct Shader {
    /// The kernel's name.
    pub name: &'static str,
    /// The assembled WGSL.
    pub wgsl: String,
    /// The parsed module.
    pub module: Module,
    /// What validation found out about it; naga's writers need it.
    pub info: ModuleInfo,
    /// Storage buffers, by `@binding`.
    pub bindings: Vec<Binding>,
    /// Bytes of `var<immediate> params`; 0 if there is none.
    pub params_size: u32,
    /// Invocations per workgroup, per dimension.
    pub workgroup_size: [u32; 3],
    /// Bytes of `var<workgroup>` memory.
    pub workgroup_bytes: u32,
}

/// Pastes imports and sets constants: the WGSL text of one variant.
pub fn assemble(source: ShaderSource, spec: &Spec) -> Result<String> {
    let mut out = String::new();
    let mut pasted = HashSet::new();
    paste(source, spec, &mut vec![source.name], &mut pasted, &mut out)?;
    for (name, value) in &spec.consts {
        out = set_const(source.name, &out, name, value)?;
    }
    Ok(out)
}

fn paste(
    source: ShaderSource,
    spec: &Spec,
    stack: &mut Vec<&'static str>,
    pasted: &mut HashSet<&'static str>,
    out: &mut String,
) -> Result<()> {
    let mut seen = HashSet::new();
    for line in source.text.lines() {
        let Some(wanted) = line.strip_prefix("#import ").map(str::trim) else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        if !seen.insert(wanted) {
            return Err(Error::kernel(source.name, format!("`#import {wanted}` appears twice")));
        }
        let name =
            spec.imports.iter().find(|(from, _)| *from == wanted).map_or(wanted, |&(_, to)| to);
        let import = SHARED.iter().find(|s| s.name == name).ok_or_else(|| {
            Error::kernel(source.name, format!("`#import {name}`: no such file in shaders/shared"))
        })?;
        if stack.contains(&import.name) {
            let chain = stack.join(" -> ");
            return Err(Error::kernel(source.name, format!("cyclic import: {chain} -> {name}")));
        }
        // A file imported along two paths is pasted where it is met first.
        if pasted.insert(import.name) {
            stack.push(import.name);
            paste(*import, spec, stack, pasted, out)?;
            stack.pop();
        }
    }
    Ok(())
}

fn set_const(kernel: &str, text: &str, name: &str, value: &str) -> Result<String> {
    let head = |line: &str| {
        let typed = line.strip_prefix("const ").and_then(|l| l.strip_prefix(name));
        let typed = typed.is_some_and(|rest| rest.starts_with(':'));
        let alias = line.strip_prefix("alias ").and_then(|l| l.strip_prefix(name));
        typed || alias.is_some_and(|rest| rest.starts_with(" ="))
    };
    let matches = text.lines().filter(|line| head(line)).count();
    if matches != 1 {
        return Err(Error::kernel(
            kernel,
            format!("setting `{name}`: expected one `const` or `alias` line, found {matches}"),
        ));
    }
    let mut out = String::with_capacity(text.len() + value.len());
    for line in text.lines() {
        match line.split_once('=') {
            Some((left, right)) if head(line) => {
                let tail = right.split_once(';').map_or("", |(_, tail)| tail);
                out.push_str(&format!("{left}= {value};{tail}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    Ok(out)
}

/// Assembles one variant, validates it with naga and reads its interface back.
pub fn load(source: ShaderSource, spec: &Spec) -> Result<Shader> {
    let mut wgsl = assemble(source, spec)?;
    if uses_f16(&wgsl) {
        wgsl.insert_str(0, "enable f16;\n");
    }
    let module = naga::front::wgsl::parse_str(&wgsl)
        .map_err(|e| Error::kernel(source.name, one_line(&e.emit_to_string(&wgsl))))?;
    let capabilities = Capabilities::IMMEDIATES
        | Capabilities::SUBGROUP
        | Capabilities::SUBGROUP_BARRIER
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::COOPERATIVE_MATRIX;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|e| Error::kernel(source.name, one_line(&e.emit_to_string(&wgsl))))?;
    reflect(source.name, wgsl, module, info)
}

fn uses_f16(wgsl: &str) -> bool {
    wgsl.lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .any(|word| word == "f16")
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reflect(name: &'static str, wgsl: String, module: Module, info: ModuleInfo) -> Result<Shader> {
    let entry = match module.entry_points.as_slice() {
        [entry] if entry.name == "main" => entry,
        _ => return Err(Error::kernel(name, "expected exactly one entry point, named `main`")),
    };
    let workgroup_size = entry.workgroup_size;
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| Error::kernel(name, e.to_string()))?;
    let (mut bindings, mut params_size, mut workgroup_bytes) = (Vec::new(), 0, 0);
    for (_, var) in module.global_variables.iter() {
        let var_name = var.name.clone().unwrap_or_default();
        match var.space {
            AddressSpace::Storage { access } => {
                let binding = var.binding.ok_or_else(|| {
                    Error::kernel(name, format!("`{var_name}` has no @group/@binding"))
                })?;
                if binding.group != 0 {
                    return Err(Error::kernel(name, format!("`{var_name}` is not in group 0")));
                }
                bindings.push(Binding {
                    name: var_name,
                    slot: binding.binding,
                    writable: access.contains(StorageAccess::STORE),
                });
            }
            AddressSpace::Immediate => {
                if var_name != "params" {
                    return Err(Error::kernel(name, "the immediate block must be named `params`"));
                }
                params_size = layouter[var.ty].size;
            }
            AddressSpace::WorkGroup => workgroup_bytes += layouter[var.ty].size,
            _ => {}
        }
    }
    bindings.sort_by_key(|b| b.slot);
    Ok(Shader { name, wgsl, module, info, bindings, params_size, workgroup_size, workgroup_bytes })
}

impl Shader {
    /// Compares the shader's `Params` with its Rust twin, field by field.
    pub fn check_params(&self, twin: &[Field]) -> Result<()> {
        let found = self.params_fields();
        let expected: Vec<_> =
            twin.iter().map(|f| (f.name.to_owned(), f.ty.to_owned(), f.offset)).collect();
        if found == expected {
            return Ok(());
        }
        let differ = found.iter().zip(&expected).find(|(a, b)| a != b);
        let detail = match differ {
            Some((a, b)) => format!("WGSL has {a:?} where Rust has {b:?}"),
            None => format!("WGSL has {} fields, Rust has {}", found.len(), expected.len()),
        };
        Err(Error::kernel(self.name, format!("`Params` differs from its Rust twin: {detail}")))
    }

    fn params_fields(&self) -> Vec<(String, String, usize)> {
        let space = |var: &naga::GlobalVariable| matches!(var.space, AddressSpace::Immediate);
        let Some((_, var)) = self.module.global_variables.iter().find(|(_, v)| space(v)) else {
            return Vec::new();
        };
        let TypeInner::Struct { members, .. } = &self.module.types[var.ty].inner else {
            return Vec::new();
        };
        let describe = |member: &naga::StructMember| {
            let ty = match self.module.types[member.ty].inner {
                TypeInner::Scalar(s) if s.width == 4 => match s.kind {
                    ScalarKind::Uint => "u32",
                    ScalarKind::Sint => "i32",
                    ScalarKind::Float => "f32",
                    _ => "other",
                },
                _ => "other",
            };
            (member.name.clone().unwrap_or_default(), ty.to_owned(), member.offset as usize)
        };
        members.iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "@compute @workgroup_size(1) fn main() {}\n";

    fn source(text: &'static str) -> ShaderSource {
        ShaderSource { name: "test", text }
    }

    fn message<T: fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("an error was expected").to_string()
    }

    #[test]
    fn unknown_import_is_named() {
        let error = message(assemble(source("#import nowhere\n"), &Spec::new()));
        assert!(error.contains("`#import nowhere`: no such file"), "{error}");
    }

    #[test]
    fn duplicate_import_is_an_error() {
        let error = message(assemble(source("#import fold\n#import fold\n"), &Spec::new()));
        assert!(error.contains("appears twice"), "{error}");
    }

    #[test]
    fn consts_and_aliases_are_replaced_by_exact_name() {
        let text = "const TILE: u32 = 8u; // tile\nconst TILE_M: u32 = 4u;\nalias Elem = f32;\n";
        let spec = Spec::new().set("TILE", 16u32).set("Elem", "f16");
        let out = assemble(source(text), &spec).expect("both lines exist");
        assert_eq!(
            out,
            "const TILE: u32 = 16u; // tile\nconst TILE_M: u32 = 4u;\nalias Elem = f16;\n"
        );
    }

    #[test]
    fn a_const_that_is_missing_or_double_is_an_error() {
        let spec = Spec::new().set("N", 1u32);
        for (text, found) in
            [("", "found 0"), ("const N: u32 = 1u;\nconst N: u32 = 2u;\n", "found 2")]
        {
            let error = message(assemble(source(text), &spec));
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn invalid_wgsl_is_one_line_naming_the_kernel() {
        let error = message(load(source("fn main() { let x = ; }"), &Spec::new()));
        assert!(error.starts_with("kernel `test`: ") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_twin_that_differs_is_an_error() {
        crate::params! { struct Twin { rows: u32, eps: f32 } }
        let text = "struct Params { rows: u32, cols: u32 }\nvar<immediate> params: Params;\n\
                    @group(0) @binding(0) var<storage, read_write> y: array<u32>;\n\
                    @compute @workgroup_size(1) fn main() { y[0] = params.rows + params.cols; }\n";
        let shader = load(source(text), &Spec::new()).expect("valid");
        assert_eq!(shader.params_size, 8);
        assert_eq!(shader.bindings, [Binding { name: "y".into(), slot: 0, writable: true }]);
        let error = message(shader.check_params(Twin::FIELDS));
        assert!(error.contains("\"cols\"") && error.contains("\"eps\""), "{error}");
    }

    #[test]
    fn the_entry_point_must_be_main() {
        assert!(load(source(MAIN), &Spec::new()).is_ok());
        let error = message(load(source("@compute @workgroup_size(1) fn go() {}"), &Spec::new()));
        assert!(error.contains("named `main`"), "{error}");
    }
}
