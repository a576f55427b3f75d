//! A kernel that is ready to be run.

use std::ops::Range;

use super::code::{Slot, Step};
use super::findings::Place;

/// Where a variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Workgroup,
    /// Bound to a buffer.
    Storage {
        writable: bool,
    },
    /// The parameter block.
    Immediate,
}

/// A variable in memory.
#[derive(Clone, Debug)]
pub(super) struct Var {
    pub name: String,
    pub space: Space,
    /// Bytes that it has at least; all of them unless it ends in a runtime-sized array.
    pub bytes: u32,
    /// Bytes of the smallest scalar: what accesses are told apart by.
    pub granule: u32,
    /// `@group` and `@binding`.
    pub binding: Option<(u32, u32)>,
}

/// What the machine tells an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Global(usize),
    Local(usize),
    LocalIndex,
    Group(usize),
    Groups(usize),
    Size(usize),
    Subgroup,
    Subgroups,
    SubgroupSize,
    SubgroupLane,
}

/// A kernel, lowered.
#[derive(Debug)]
pub struct Program {
    pub(super) name: String,
    pub(super) size: [u32; 3],
    pub(super) steps: Vec<Step>,
    /// Registers in use, and those that hold matrices with the elements of the largest.
    pub(super) slots: u32,
    pub(super) matrices: u32,
    pub(super) elements: usize,
    /// Registers of private variables.
    pub(super) private: Range<Slot>,
    pub(super) constants: Vec<(Slot, u32)>,
    pub(super) told: Vec<(Slot, Told)>,
    pub(super) vars: Vec<Var>,
    /// Names of variables in registers, for findings.
    pub(super) names: Vec<String>,
    pub(super) places: Vec<Place>,
    /// Whether it needs subgroups.
    pub(super) subgroups: bool,
}

impl Program {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Invocations per workgroup.
    pub fn invocations(&self) -> usize {
        self.size.iter().product::<u32>() as usize
    }

    /// Names of the variables that are bound to buffers, in order of their bindings.
    pub fn buffers(&self) -> Vec<&str> {
        let mut bound: Vec<_> =
            self.vars.iter().filter(|v| matches!(v.space, Space::Storage { .. })).collect();
        bound.sort_by_key(|v| v.binding);
        bound.into_iter().map(|v| v.name.as_str()).collect()
    }

    /// Bytes of the parameter block; 0 if there is none.
    pub fn params(&self) -> usize {
        let block = self.vars.iter().find(|v| v.space == Space::Immediate);
        block.map_or(0, |v| v.bytes as usize)
    }

    /// Whether it uses subgroup or cooperative operations.
    pub fn needs_subgroups(&self) -> bool {
        self.subgroups
    }

    /// Lines with a barrier of the workgroup.
    pub fn barriers(&self) -> Vec<Place> {
        fn collect(steps: &[Step], out: &mut Vec<u32>) {
            for step in steps {
                match step {
                    Step::Barrier { site, written: true, .. } => out.push(*site),
                    Step::If { accept, reject, .. } => {
                        collect(accept, out);
                        collect(reject, out);
                    }
                    Step::Switch { cases, .. } => cases.iter().for_each(|c| collect(&c.body, out)),
                    Step::Loop { body, continuing, .. } => {
                        collect(body, out);
                        collect(continuing, out);
                    }
                    Step::Call { body } => collect(body, out),
                    _ => {}
                }
            }
        }
        let mut sites = Vec::new();
        collect(&self.steps, &mut sites);
        let mut places: Vec<_> = sites.iter().map(|&s| self.places[s as usize].clone()).collect();
        places.sort();
        places.dedup();
        places
    }
}
