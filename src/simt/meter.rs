//! What a run would ask of a GPU, counted while it runs.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a sector, the least that memory is read by.
pub(super) const SECTOR: u32 = 32;
/// Banks of workgroup memory, of four bytes each.
const BANKS: u32 = 32;

/// The part of a processor that an instruction keeps busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Sums, products and fused multiply-adds of floats.
    F32,
    /// Integer arithmetic.
    Int,
    /// Comparisons, selections, minima and maxima.
    Compare,
    /// Conversions between number formats.
    Convert,
    /// Roots, exponentials, logarithms, quotients, sines.
    Special,
    /// What a subgroup does together, matrices aside.
    Subgroup,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 6] =
        [Self::F32, Self::Int, Self::Compare, Self::Convert, Self::Special, Self::Subgroup];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int => "int",
            Self::Compare => "compare",
            Self::Convert => "convert",
            Self::Special => "special",
            Self::Subgroup => "subgroup",
        }
    }
}

/// What one line asks of one variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Instructions of subgroups.
    pub requests: u64,
    /// Sectors of a buffer, or wavefronts of workgroup memory.
    pub units: u64,
    /// The same if neighbours lay side by side.
    pub best: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    /// By site, variable and whether it is written.
    pub traffic: BTreeMap<(u32, usize, bool), Traffic>,
    /// Instructions by site and unit, those of inactive invocations of a busy subgroup included.
    pub units: BTreeMap<(u32, Unit), u64>,
    /// Multiply-adds of matrices.
    pub fma: u64,
    /// Sectors from L2.
    pub fetched: u64,
    pub barriers: BTreeMap<u32, u64>,
    pub close: BTreeSet<(usize, u32)>,
}

impl Meter {
    pub fn barrier(&mut self, site: u32) {
        *self.barriers.entry(site).or_default() += 1;
    }

    /// A sector that is asked for again before the next barrier is still close.
    pub fn settle(&mut self) {
        self.fetched += self.close.len() as u64;
        self.close.clear();
    }

    pub fn add(&mut self, key: (u32, usize, bool), units: u64, best: u64, bytes: u64) {
        let sum = self.traffic.entry(key).or_default();
        sum.requests += 1;
        sum.units += units;
        sum.best += best;
        sum.bytes += bytes;
    }

    /// A request of a subgroup for pieces of a buffer: byte offset and bytes of each invocation.
    pub fn sectors(&mut self, key: (u32, usize, bool), pieces: &[(u32, u32)]) {
        let over = |by: u32| -> BTreeSet<u32> {
            pieces.iter().flat_map(|&(at, n)| at / by..(at + n).div_ceil(by)).collect()
        };
        let sectors = over(SECTOR);
        let best = (over(4).len() as u64 * 4).div_ceil(u64::from(SECTOR));
        let bytes = pieces.iter().map(|&(_, n)| u64::from(n)).sum();
        self.close.extend(sectors.iter().map(|&s| (key.1, s)));
        self.add(key, sectors.len() as u64, best, bytes);
    }

    /// The same of workgroup memory, 128 bytes at a time.
    pub fn waves(&mut self, key: (u32, usize, bool), pieces: &[(u32, u32)]) {
        let Some(&(_, width)) = pieces.first() else { return };
        let at_once = (128 / width.max(1)).max(1) as usize;
        let chunks = pieces.chunks(at_once);
        let best = chunks.len() as u64;
        let bytes = pieces.iter().map(|&(_, n)| u64::from(n)).sum();
        self.add(key, chunks.map(wavefronts).sum(), best, bytes);
    }
}

/// The most different words that fall on one bank.
pub(super) fn wavefronts(pieces: &[(u32, u32)]) -> u64 {
    let words: BTreeSet<u32> =
        pieces.iter().flat_map(|&(at, n)| at / 4..(at + n).div_ceil(4)).collect();
    let mut banks = [0u64; BANKS as usize];
    for word in words {
        banks[(word % BANKS) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}
