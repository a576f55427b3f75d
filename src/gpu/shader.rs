//! The one mechanism for shader variants: WGSL in, validated and reflected naga module out.
//!
//! A kernel is a file in `shaders/`. A variant of it is a [`Spec`]: new initialisers for its
//! `const` and `alias` lines, and replacements for its `#import` lines. No other directive
//! exists, so every file stays WGSL that a reader can follow. naga parses the assembled text
//! once; bindings, workgroup size and parameter layout are read back from the module, and Rust
//! binds by name.

use std::path::Path;

use wgpu::naga::{
    self, AddressSpace, Module, ScalarKind, StorageAccess, TypeInner,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

use super::assemble::{Assembled, assemble_file, assemble_with};
use super::params::Field;
use super::source::{Loops, ShaderSource};
use super::spec::Spec;
use crate::error::{Error, Result};

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
    /// The assembled WGSL, and where its lines were written.
    pub text: Assembled,
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

/// Assembles one variant, validates it with naga and reads its interface back.
pub fn load(source: ShaderSource, spec: &Spec) -> Result<Shader> {
    load_with(source, spec, Loops::Unrolled)
}

/// The same with a say in what becomes of marked loops.
pub fn load_with(source: ShaderSource, spec: &Spec, loops: Loops) -> Result<Shader> {
    let text = assemble_with(source, spec, loops)?;
    let (module, info) = parse(source.name, &text)?;
    reflect(source.name, text, module, info)
}

/// Reads a kernel from a file that need not keep to the rules of `shaders/`: any names, groups and
/// uniform buffers. Gives its text, module and what validation found; overrides have their values.
pub fn load_file(path: &Path) -> Result<(Assembled, Module, ModuleInfo)> {
    let text = assemble_file(path)?;
    let name = path.to_string_lossy();
    let (module, info) = parse(&name, &text)?;
    if module.overrides.is_empty() {
        return Ok((text, module, info));
    }
    let set = naga::back::pipeline_constants::process_overrides(
        &module,
        &info,
        None,
        &naga::back::PipelineConstants::default(),
    );
    let (module, info) = set.map_err(|e| Error::kernel(name, e.to_string()))?;
    let owned = (module.into_owned(), info.into_owned());
    Ok((text, owned.0, owned.1))
}

fn parse(name: &str, text: &Assembled) -> Result<(Module, ModuleInfo)> {
    let module = naga::front::wgsl::parse_str(&text.wgsl).map_err(|e| {
        let labels = e.labels().map(|(span, label)| (span, label.to_owned()));
        Error::kernel(name, complaint(text, e.message(), labels, e.notes()))
    })?;
    let capabilities = Capabilities::IMMEDIATES
        | Capabilities::SUBGROUP
        | Capabilities::SUBGROUP_BARRIER
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::COOPERATIVE_MATRIX;
    let info =
        Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| {
            // The outer error says where in the module, its sources say what.
            let mut message = e.as_inner().to_string();
            let mut cause = std::error::Error::source(e.as_inner());
            while let Some(inner) = cause {
                message = format!("{message}: {inner}");
                cause = inner.source();
            }
            Error::kernel(name, complaint(text, &message, e.spans().cloned(), [].into_iter()))
        })?;
    Ok((module, info))
}

/// naga's complaint in one line, with the file and line of each place it names.
fn complaint<'a>(
    text: &Assembled,
    message: &str,
    labels: impl Iterator<Item = (naga::Span, String)>,
    notes: impl Iterator<Item = &'a str>,
) -> String {
    let mut out = message.to_owned();
    for (i, (span, label)) in labels.enumerate() {
        let line = span.is_defined().then(|| span.location(&text.wgsl).line_number as usize);
        let place = line.and_then(|line| text.origin(line)).map(|origin| origin.to_string());
        match (i, place) {
            (0, Some(place)) => out = format!("{place}: {out}: {label}"),
            (_, Some(place)) => out = format!("{out}; {place}: {label}"),
            (_, None) => out = format!("{out}; {label}"),
        }
    }
    for note in notes {
        out = format!("{out}; {note}");
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reflect(
    name: &'static str,
    text: Assembled,
    module: Module,
    info: ModuleInfo,
) -> Result<Shader> {
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
    Ok(Shader { name, text, module, info, bindings, params_size, workgroup_size, workgroup_bytes })
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
    use std::fmt;

    use super::*;

    const MAIN: &str = "@compute @workgroup_size(1) fn main() {}\n";

    fn source(text: &'static str) -> ShaderSource {
        ShaderSource { name: "test", text }
    }

    fn message<T: fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("an error was expected").to_string()
    }

    #[test]
    fn invalid_wgsl_is_one_line_naming_the_kernel() {
        let error = message(load(source("fn main() { let x = ; }"), &Spec::new()));
        assert!(error.starts_with("kernel `test`: shaders/test.wgsl:1: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn complaints_name_the_file_that_a_line_was_written_in() {
        let text = "#import fold\n\nfn f() -> u32 {\n    return fold(1.5, 2u);\n}\n";
        let error = message(load(source(text), &Spec::new()));
        assert!(error.contains("shaders/test.wgsl:4: "), "{error}");
        // Twice the same function: both places are named.
        let text = "#import fold\nfn fold() {}\n";
        let error = message(load(source(text), &Spec::new()));
        assert!(error.contains("shaders/shared/fold.wgsl:3"), "{error}");
        assert!(error.contains("shaders/test.wgsl:2"), "{error}");
        // What only the validator finds.
        let text = "@compute @workgroup_size(1)\nfn main() {\n    workgroupBarrier();\n\
                    \x20   subgroupShuffle(1u, 1.5);\n}\n";
        let error = message(load(source(text), &Spec::new()));
        assert!(error.contains("shaders/test.wgsl:"), "{error}");
    }

    #[test]
    fn floats_and_integers_arrive_bit_by_bit() {
        let text = "const F: f32 = 0.0;\nconst I: i32 = 0;\n\
                    @group(0) @binding(0) var<storage, read_write> y: array<vec2<f32>>;\n\
                    @compute @workgroup_size(1) fn main() { y[0] = vec2(F, f32(I)); }\n";
        let floats = [0.1, -1e-5, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 16777217.0, -0.0];
        for (i, value) in floats.into_iter().enumerate() {
            let integer = [i32::MIN, -1, 0, i32::MAX][i % 4];
            let spec = Spec::new().set("F", value).set("I", integer);
            let module = load(source(text), &spec).expect("the literals are valid").module;
            let init = |name: &str| {
                let found = module.constants.iter().find(|(_, c)| c.name.as_deref() == Some(name));
                match module.global_expressions[found.expect("it is declared").1.init] {
                    naga::Expression::Literal(literal) => literal,
                    ref other => panic!("{other:?}"),
                }
            };
            let naga::Literal::F32(f) = init("F") else { panic!("an f32") };
            assert_eq!(f.to_bits(), value.to_bits(), "{value}");
            assert_eq!(init("I"), naga::Literal::I32(integer));
        }
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
