//! A kernel of one dispatch that takes every call of its op: what most ops need.

use super::kernel::{Dispatch, Stage};
use super::op::{Call, Kernel, Op};
use crate::error::Result;
use crate::gpu::{Field, ShaderSource, Spec};

/// A kernel of one dispatch, for every call of the op type `O`, on every device.
pub struct Single<O> {
    stages: [Stage; 1],
    spec: fn(&O, &Call<'_>) -> Spec,
    dispatch: fn(&O, &Call<'_>) -> Dispatch,
    rounds: fn(&O, &Call<'_>) -> u64,
}

impl<O> Single<O> {
    /// The kernel of this file, whose name it takes; the file carries the `Safety:` note. The last
    /// three are what [`Kernel`] asks for.
    pub const fn new(
        source: ShaderSource,
        params: &'static [Field],
        spec: fn(&O, &Call<'_>) -> Spec,
        dispatch: fn(&O, &Call<'_>) -> Dispatch,
        rounds: fn(&O, &Call<'_>) -> u64,
    ) -> Self {
        Self { stages: [Stage::trusted(source, params)], spec, dispatch, rounds }
    }

    /// The same with naga's bounds checks: for a shader that does not argue its own safety.
    pub const fn checked(
        source: ShaderSource,
        params: &'static [Field],
        spec: fn(&O, &Call<'_>) -> Spec,
        dispatch: fn(&O, &Call<'_>) -> Dispatch,
        rounds: fn(&O, &Call<'_>) -> u64,
    ) -> Self {
        Self { stages: [Stage::checked(source, params)], spec, dispatch, rounds }
    }
}

/// The rounds of a kernel without loops.
pub fn no_loops<O>(_op: &O, _call: &Call<'_>) -> u64 {
    0
}

impl<O: Op> Kernel for Single<O> {
    fn name(&self) -> &'static str {
        self.stages[0].source.name
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn spec(&self, _stage: usize, call: &Call<'_>) -> Result<Spec> {
        Ok((self.spec)(call.instance()?, call))
    }

    fn dispatch(&self, _stage: usize, call: &Call<'_>) -> Result<Dispatch> {
        Ok((self.dispatch)(call.instance()?, call))
    }

    fn rounds(&self, _stage: usize, call: &Call<'_>) -> Result<u64> {
        Ok((self.rounds)(call.instance()?, call))
    }
}
