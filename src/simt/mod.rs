//! A GPU that is not there: runs a kernel's module on the CPU, invocation by invocation, with
//! subgroups and cooperative matrices of any size, and reports what hardware shows only now and
//! then: races, reads of memory that nobody wrote, indices out of range, barriers and subgroup
//! operations that not everyone reaches. `docs/checker.md` has the model.
//!
//! [`Source`] is the module that the loader made, [`Program`] is it made ready, and
//! [`Program::run`] is a dispatch. No device is needed. [`crate::ops::check_entry`] runs an op's cases.

mod access;
mod alu;
mod code;
mod cost;
mod exec;
mod findings;
mod layout;
mod literal;
mod lower;
mod machine;
mod machines;
mod mask;
mod math;
mod memory;
mod meter;
mod metering;
mod pointers;
mod program;
mod run;
mod shadow;
mod source;
mod statements;
mod together;
mod values;
mod variables;
mod wraps;

pub use cost::{Access, Cost};
pub use findings::{Finding, Findings, Kind, Place};
pub use machine::MAX_ROUNDS;
pub use machines::{Bound, Figure, Machine};
pub use memory::Buffer;
pub use meter::Unit;
pub use program::Program;
pub use run::{Report, Setting};
pub use source::Source;
