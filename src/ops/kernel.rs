//! What a kernel is made of and needs: the part of its contract that knows no op.

use crate::gpu::{Caps, Field, ParamBytes, ShaderSource};

/// One dispatch of a kernel. Most kernels have one; split-KV attention and split-K products have
/// two, the second of which reads what the first left in scratch memory.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The shader; its file stem labels the stage in timings.
    pub source: ShaderSource,
    /// The Rust twin of its `Params`.
    pub params: &'static [Field],
    /// Whether its file carries the `Safety:` note that lets it run without naga's checks.
    pub trusted: bool,
}

impl Stage {
    /// A stage that runs without naga's checks; its file carries the `Safety:` note.
    pub const fn trusted(source: ShaderSource, params: &'static [Field]) -> Self {
        Self { source, params, trusted: true }
    }

    /// A stage that runs with naga's bounds checks.
    pub const fn checked(source: ShaderSource, params: &'static [Field]) -> Self {
        Self { source, params, trusted: false }
    }
}

/// Arithmetic of a kernel's products; sums are in f32 always.
///
/// Ordered: a later one loses digits that an earlier one keeps. Losing digits must be asked for,
/// so a kernel runs only where its precision is at most the one allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// f32 arithmetic throughout.
    #[default]
    Exact,
    /// Multiplicands are rounded to f16 (unit roundoff 2^-11), sums stay in f32.
    Fast,
}

impl Precision {
    /// The normalised mean squared error that results of random operands may have: the square of
    /// the unit roundoff, with room for sums.
    pub const fn nmse(self) -> f64 {
        match self {
            Self::Exact => 1e-10,
            Self::Fast => 5e-7,
        }
    }

    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }
}

/// Parameters and grid of one dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch {
    /// The parameter block.
    pub params: ParamBytes,
    /// Workgroups in x, y, z, each at most 65,535.
    pub grid: [u32; 3],
}

impl Dispatch {
    /// A dispatch with this parameter block.
    pub fn new<P: bytemuck::Pod>(params: &P, grid: [u32; 3]) -> Self {
        Self { params: ParamBytes::of(params), grid }
    }
}

/// A range of rows (first dimension) of a split operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First row held by the part.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
}

/// What a kernel needs of a device beyond compute shaders and immediates.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Subgroup operations with a size that never changes, between these bounds.
    pub subgroup: Option<(u32, u32)>,
    /// A driver that computes on the CPU, whose subgroups are its vector units: kernels for such
    /// drivers avoid workgroup memory and barriers, which are slow there.
    pub software: bool,
    /// f16 arithmetic.
    pub f16: bool,
    /// Square cooperative matrices that multiply f16 and sum in f32.
    pub cooperative: bool,
    /// Invocations per workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
}

impl Needs {
    /// What every device has.
    pub const NOTHING: Self = Self {
        subgroup: None,
        software: false,
        f16: false,
        cooperative: false,
        invocations: 64,
        workgroup_memory: 16 << 10,
    };

    /// What the device lacks, if anything.
    pub fn missing(&self, caps: &Caps) -> Option<String> {
        if let Some((low, high)) = self.subgroup {
            match caps.subgroup {
                None => return Some("subgroups of a fixed size".to_owned()),
                Some(size) if size < low || size > high => {
                    return Some(format!("a subgroup size of {low} to {high} (it has {size})"));
                }
                Some(_) => {}
            }
        }
        if self.software && !caps.software {
            return Some("a CPU's vector units as subgroups".to_owned());
        }
        if self.f16 && !caps.f16 {
            return Some("f16 arithmetic".to_owned());
        }
        if self.cooperative && caps.fragment().is_none() {
            return Some("square cooperative matrices of f16 with f32 sums".to_owned());
        }
        if self.invocations > caps.max_invocations {
            return Some(format!("{} invocations per workgroup", self.invocations));
        }
        (self.workgroup_memory > caps.workgroup_memory)
            .then(|| format!("{} bytes of workgroup memory", self.workgroup_memory))
    }
}
