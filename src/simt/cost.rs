//! What a kernel asks of a GPU, by line.

use std::collections::BTreeMap;

use super::findings::Place;
use super::meter::{Meter, SECTOR, Unit};
use super::program::{Program, Space};

/// What one line asks of one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The line.
    pub place: Place,
    /// The variable.
    pub variable: String,
    /// Whether it is workgroup memory; else a buffer.
    pub workgroup: bool,
    /// Whether it writes.
    pub writes: bool,
    /// Instructions of subgroups.
    pub requests: u64,
    /// 32-byte sectors of a buffer, or wavefronts of workgroup memory.
    pub units: u64,
    /// The same if neighbours lay side by side, on banks of their own.
    pub best: u64,
    /// Bytes that invocations asked for.
    pub bytes: u64,
}

/// Counts of one or several dispatches.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    accesses: BTreeMap<(Place, String, bool, bool), [u64; 4]>,
    units: BTreeMap<(Place, Unit), u64>,
    barriers: BTreeMap<Place, u64>,
    /// Multiply-adds of cooperative matrices.
    pub matrix_fma: u64,
    /// Bytes from L2, if a sector stays close until the next barrier.
    pub l2_bytes: u64,
}

impl Cost {
    pub(super) fn of(program: &Program, meter: Meter) -> Self {
        let place = |site: u32| program.places[site as usize].clone();
        let mut cost = Self {
            matrix_fma: meter.fma,
            l2_bytes: meter.fetched * u64::from(SECTOR),
            ..Self::default()
        };
        for ((site, var, writes), t) in meter.traffic {
            let var = &program.vars[var];
            let workgroup = var.space == Space::Workgroup;
            let key = (place(site), var.name.clone(), workgroup, writes);
            let sum = cost.accesses.entry(key).or_default();
            add(sum, [t.requests, t.units, t.best, t.bytes]);
        }
        for ((site, unit), n) in meter.units {
            *cost.units.entry((place(site), unit)).or_default() += n;
        }
        for (site, n) in meter.barriers {
            *cost.barriers.entry(place(site)).or_default() += n;
        }
        cost
    }

    /// Adds those of another dispatch.
    pub fn merge(&mut self, other: Self) {
        for (key, counts) in other.accesses {
            add(self.accesses.entry(key).or_default(), counts);
        }
        for (key, n) in other.units {
            *self.units.entry(key).or_default() += n;
        }
        for (key, n) in other.barriers {
            *self.barriers.entry(key).or_default() += n;
        }
        self.matrix_fma += other.matrix_fma;
        self.l2_bytes += other.l2_bytes;
    }

    /// What each line asks of memory.
    pub fn accesses(&self) -> Vec<Access> {
        let access = |((place, variable, workgroup, writes), counts): (
            &(Place, String, bool, bool),
            &[u64; 4],
        )| {
            let [requests, units, best, bytes] = *counts;
            Access {
                place: place.clone(),
                variable: variable.clone(),
                workgroup: *workgroup,
                writes: *writes,
                requests,
                units,
                best,
                bytes,
            }
        };
        self.accesses.iter().map(access).collect()
    }

    /// Invocations' instructions on one unit; where one of a subgroup is busy, all of it is.
    pub fn instructions(&self, unit: Unit) -> u64 {
        self.units.iter().filter(|((_, u), _)| *u == unit).map(|(_, n)| n).sum()
    }

    /// The same, by line.
    pub fn lines(&self) -> impl Iterator<Item = (&Place, Unit, u64)> {
        self.units.iter().map(|((place, unit), n)| (place, *unit, *n))
    }

    /// Sectors of buffers asked for, and at best.
    pub fn sectors(&self) -> (u64, u64) {
        self.total(false)
    }

    /// Wavefronts of workgroup memory, and at best: the difference is bank conflicts.
    pub fn wavefronts(&self) -> (u64, u64) {
        self.total(true)
    }

    fn total(&self, workgroup: bool) -> (u64, u64) {
        let of = self.accesses.iter().filter(|((_, _, w, _), _)| *w == workgroup);
        of.fold((0, 0), |(units, best), (_, c)| (units + c[1], best + c[2]))
    }

    /// Barriers of workgroups.
    pub fn barriers(&self) -> u64 {
        self.barriers.values().sum()
    }
}

fn add(sum: &mut [u64; 4], new: [u64; 4]) {
    for (sum, new) in sum.iter_mut().zip(new) {
        *sum += new;
    }
}
