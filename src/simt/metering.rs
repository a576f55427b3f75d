//! What instructions and accesses count as.

use std::collections::BTreeSet;

use super::code::{Address, Bin, Instr, Kind, Leaf, NOWHERE, Tile, Un};
use super::machine::Machine;
use super::mask::Mask;
use super::meter::{SECTOR, Unit, wavefronts};
use super::program::Space;

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
