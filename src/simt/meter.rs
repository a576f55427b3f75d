//! What a run would ask of a GPU, counted while it runs.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Address, Bin, Instr, Kind, Leaf, NOWHERE, Tile, Un};
use super::machine::Machine;
use super::mask::Mask;
use super::program::Space;

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
    close: BTreeSet<(usize, u32)>,
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

    fn add(&mut self, key: (u32, usize, bool), units: u64, best: u64, bytes: u64) {
        let sum = self.traffic.entry(key).or_default();
        sum.requests += 1;
        sum.units += units;
        sum.best += best;
        sum.bytes += bytes;
    }

    /// A request of a subgroup for pieces of a buffer: byte offset and bytes of each invocation.
    fn sectors(&mut self, key: (u32, usize, bool), pieces: &[(u32, u32)]) {
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
    fn waves(&mut self, key: (u32, usize, bool), pieces: &[(u32, u32)]) {
        let Some(&(_, width)) = pieces.first() else { return };
        let at_once = (128 / width.max(1)).max(1) as usize;
        let chunks = pieces.chunks(at_once);
        let best = chunks.len() as u64;
        let bytes = pieces.iter().map(|&(_, n)| u64::from(n)).sum();
        self.add(key, chunks.map(wavefronts).sum(), best, bytes);
    }
}

/// The most different words that fall on one bank.
fn wavefronts(pieces: &[(u32, u32)]) -> u64 {
    let words: BTreeSet<u32> =
        pieces.iter().flat_map(|&(at, n)| at / 4..(at + n).div_ceil(4)).collect();
    let mut banks = [0u64; BANKS as usize];
    for word in words {
        banks[(word % BANKS) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}

/// The unit of an instruction, if it is one that a processor would execute.
fn unit(instr: &Instr) -> Option<Unit> {
    Some(match *instr {
        Instr::Un { op, kind, .. } => match op {
            Un::IsNan | Un::IsInf => Unit::Compare,
            Un::QuantizeToF16 => Unit::Convert,
            Un::Neg
            | Un::Abs
            | Un::Sign
            | Un::Ceil
            | Un::Floor
            | Un::Round
            | Un::Fract
            | Un::Trunc
                if kind.is_float() =>
            {
                Unit::F32
            }
            _ if kind.is_float() => Unit::Special,
            _ => Unit::Int,
        },
        Instr::Bin { fused: true, .. } => return None,
        Instr::Bin { op, kind, .. } => match op {
            _ if op.compares() => Unit::Compare,
            Bin::Min | Bin::Max => Unit::Compare,
            Bin::Pow | Bin::Atan2 => Unit::Special,
            Bin::Div | Bin::Rem if kind.is_float() => Unit::Special,
            _ if kind.is_float() => Unit::F32,
            _ => Unit::Int,
        },
        Instr::Fma { .. } => Unit::F32,
        Instr::Select { .. } => Unit::Compare,
        Instr::Convert { .. } | Instr::Pack { .. } | Instr::Unpack { .. } => Unit::Convert,
        Instr::ExtractBits { .. } | Instr::InsertBits { .. } | Instr::Dot4 { .. } => Unit::Int,
        Instr::Ballot { .. } | Instr::Collective { .. } | Instr::Gather { .. } => Unit::Subgroup,
        _ => return None,
    })
}

impl Machine<'_> {
    /// Subgroups of which somebody is active.
    fn busy(&self) -> u64 {
        let busy = |team: usize| {
            let (from, to) = self.team(team);
            !(Mask::range(from, to) & self.active).is_empty()
        };
        (0..self.turns.len()).filter(|&team| busy(team)).count() as u64
    }

    pub fn count_instr(&mut self, instr: &Instr, site: u32) {
        let busy = self.busy();
        let Some(meter) = &mut self.meter else { return };
        if let Some(unit) = unit(instr) {
            *meter.units.entry((site, unit)).or_default() += busy * self.shared.subgroup as u64;
        }
        if let Instr::MultiplyAdd { left, out, .. } = instr {
            meter.fma += busy * (out.rows * out.columns * left.columns) as u64;
        }
    }

    pub fn meter_access(&mut self, at: &Address, leaves: &[Leaf], site: u32, writes: bool) {
        let space = self.program.vars[at.var].space;
        let Some(mut meter) = self.meter.take() else { return };
        let first = leaves.iter().map(|&(_, offset, _)| offset).min().unwrap_or(0);
        let last = leaves.iter().map(|&(_, offset, kind)| offset + kind.bytes()).max();
        let width = last.unwrap_or(first) - first;
        for team in 0..self.turns.len() {
            let (from, to) = self.team(team);
            let here = Mask::range(from, to) & self.active;
            let place = |lane: usize| {
                let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
                (dynamic != NOWHERE).then(|| (first + dynamic, width))
            };
            let pieces: Vec<_> = here.lanes().filter_map(place).collect();
            if pieces.is_empty() {
                continue;
            }
            match space {
                Space::Workgroup => meter.waves((site, at.var, writes), &pieces),
                Space::Storage { .. } => meter.sectors((site, at.var, writes), &pieces),
                Space::Immediate => {}
            }
        }
        self.meter = Some(meter);
    }

    /// A cooperative access: eight rows of 16 bytes of halves at a time, as matrix loads take
    /// them, or four of eight f32.
    pub fn meter_tile(&mut self, tile: &Tile, first: u32, pitch: u32, site: u32, writes: bool) {
        let Some(mut meter) = self.meter.take() else { return };
        let shape = tile.shape;
        let (outer, inner) = if tile.row_major {
            (shape.rows as u32, shape.columns as u32)
        } else {
            (shape.columns as u32, shape.rows as u32)
        };
        let (tall, wide) = if shape.kind == Kind::F16 { (8, 16) } else { (4, 32) };
        let row = inner * shape.kind.bytes();
        let chunks: Vec<Vec<(u32, u32)>> = (0..outer)
            .step_by(tall)
            .flat_map(|r| (0..row).step_by(wide).map(move |j| (r, j)))
            .map(|(r, j)| {
                let rows = r..(r + tall as u32).min(outer);
                rows.map(|i| (first + i * pitch + j, wide as u32)).collect()
            })
            .collect();
        let key = (site, tile.address.var, writes);
        let bytes = u64::from(outer * row);
        match self.program.vars[tile.address.var].space {
            Space::Workgroup => {
                let waves = chunks.iter().map(|c| wavefronts(c)).sum();
                meter.add(key, waves, chunks.len() as u64, bytes);
            }
            _ => {
                let sectors: BTreeSet<u32> = chunks
                    .iter()
                    .flatten()
                    .flat_map(|&(at, n)| at / SECTOR..(at + n).div_ceil(SECTOR))
                    .collect();
                meter.close.extend(sectors.iter().map(|&s| (key.1, s)));
                let best = bytes.div_ceil(u64::from(SECTOR));
                meter.add(key, sectors.len() as u64, best, bytes);
            }
        }
        self.meter = Some(meter);
    }
}
