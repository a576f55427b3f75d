//! Machines that are not there, as the checker runs kernels for them.

use crate::gpu::{Caps, Cooperative};
use crate::tensor::DType;

/// The largest subgroup that a driver on the CPU has: the widest vector unit.
const WIDEST_VECTOR_UNIT: u32 = 16;

/// Devices with subgroups of this size, or none: a GPU with f16, with cooperative matrices of each
/// side in `fragments` that subgroups of the size have, and, where CPUs have such vector units, a
/// driver that computes on the CPU.
pub fn imagined(subgroup: Option<u32>, fragments: &[u32]) -> Vec<Caps> {
    let name = match subgroup {
        Some(size) => format!("subgroups of {size}"),
        None => "no subgroups".to_owned(),
    };
    let gpu = Caps {
        name,
        driver: "the checker".to_owned(),
        subgroup,
        subgroup_range: subgroup.map(|size| (size, size)),
        f16: true,
        workgroup_memory: 32 << 10,
        max_storage_buffers: 16,
        ..Caps::baseline()
    };
    let of = |side: &u32| subgroup.is_some_and(|size| has_fragment(size, *side));
    let mut sides: Vec<_> = fragments.iter().copied().filter(of).map(Some).collect();
    if sides.is_empty() {
        sides.push(None);
    }
    let with = |side: Option<u32>| Caps {
        cooperative: side.into_iter().map(square).collect(),
        // Who else has such matrices is a CPU.
        metal: side == Some(8) && subgroup == Some(32),
        name: side.map_or(gpu.name.clone(), |s| format!("{}, {s}x{s} matrices", gpu.name)),
        ..gpu.clone()
    };
    let mut machines: Vec<_> = sides.into_iter().map(with).collect();
    if subgroup.is_some_and(|size| size <= WIDEST_VECTOR_UNIT) {
        let name = format!("{} on a CPU", gpu.name);
        machines.push(Caps { name, software: true, ..gpu });
    }
    machines
}

/// Whether hardware with such subgroups has matrices of this side: lavapipe 8x8 on 8 lanes, Apple's
/// GPUs on 32, others 16x16 on 32 and 64.
fn has_fragment(subgroup: u32, side: u32) -> bool {
    match side {
        8 => matches!(subgroup, 8 | 32),
        16 => subgroup >= 32,
        _ => false,
    }
}

fn square(side: u32) -> Cooperative {
    Cooperative { m: side, n: side, k: side, multiplicands: DType::F16, sums: DType::F32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_what_their_subgroups_have() {
        let names = |subgroup, fragments: &[u32]| -> Vec<String> {
            imagined(subgroup, fragments).into_iter().map(|caps| caps.name).collect()
        };
        assert_eq!(names(None, &[8, 16]), ["no subgroups"]);
        let both = ["subgroups of 32, 8x8 matrices", "subgroups of 32, 16x16 matrices"];
        assert_eq!(names(Some(32), &[8, 16]), both);
        assert_eq!(names(Some(64), &[8]), ["subgroups of 64"]);
        let eight = ["subgroups of 8, 8x8 matrices", "subgroups of 8 on a CPU"];
        assert_eq!(names(Some(8), &[8, 16]), eight);
        assert_eq!(imagined(Some(32), &[16])[0].fragment(), Some(16));
    }
}
