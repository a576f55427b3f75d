//! Rounds of loops: the length of an invocation, which software drivers limit.
//!
//! A round is one evaluation of a loop's condition, the failing one included; a loop that is marked
//! `// unroll` has none. All loops of an invocation count together, as drivers count them.

use crate::gpu::Caps;

/// The most rounds of one invocation on a driver that computes on the CPU. Mesa's llvmpipe leaves
/// loops after so many without a word (`LP_MAX_TGSI_LOOP_ITERATIONS`), and what they would have
/// summed is missing.
pub const MAX_ROUNDS: u64 = 65_535;

/// The most rounds of one invocation on this device. GPUs count none: their watchdogs count seconds,
/// and a million rounds take less than one. To turn a kernel away there would be to refuse a right
/// answer.
pub fn most_rounds(caps: &Caps) -> u64 {
    if caps.software { MAX_ROUNDS } else { u64::MAX }
}

/// Rounds of a loop whose body runs `turns` times, and of the loops in that body: `inner` each time.
pub const fn of_loop(turns: usize, inner: u64) -> u64 {
    (turns as u64).saturating_mul(1 + inner).saturating_add(1)
}

/// Rounds of a tree over the lanes of a workgroup, as in `shaders/shared/reduce_workgroup.wgsl`.
pub const fn of_tree(threads: u32) -> u64 {
    of_loop(threads.ilog2() as usize, 0)
}
