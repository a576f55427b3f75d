//! Loads, stores and atomics, with what they mean to others.

use std::cell::Cell;

use super::alu::any_bin;
use super::code::{Address, Atomic, Kind, Leaf, NOWHERE, Slot};
use super::findings::Kind as Found;
use super::machine::{Machine, STORAGE, WORKGROUP};
use super::memory::Buffer;
use super::program::Space;
use super::shadow::{Stamp, Verdict};

impl Machine<'_> {
    /// Bytes of a variable.
    fn bytes(&self, var: usize) -> u32 {
        let buffer = self.shared.buffers[var].map(Buffer::len);
        buffer.map_or(self.program.vars[var].bytes, |bytes| bytes as u32)
    }

    /// Whether a scalar lies inside its variable; reports it if not.
    fn inside(&mut self, var: usize, at: u32, kind: Kind, who: &str, site: u32) -> bool {
        let bytes = self.bytes(var);
        let end = u64::from(at) + u64::from(kind.bytes());
        if end <= u64::from(bytes) {
            return true;
        }
        let group = self.group;
        self.report_var(Found::OutOfRange, site, var, || {
            format!("byte {at} of {bytes}, by {who} of workgroup {group}")
        });
        false
    }

    pub fn load(&mut self, at: &Address, leaves: &[Leaf], site: u32) {
        if self.meter.is_some() {
            self.meter_access(at, leaves, site, false);
        }
        match self.program.vars[at.var].space {
            Space::Immediate => {
                for &(slot, offset, kind) in leaves {
                    for lane in self.active.lanes() {
                        let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
                        let at = offset.saturating_add(dynamic);
                        let word = self.shared.params.get(at as usize / 4).copied().unwrap_or(0);
                        let half = kind == Kind::F16;
                        self.regs[slot as usize][lane] =
                            if half { word >> (at % 4 * 8) & 0xffff } else { word };
                    }
                }
            }
            Space::Storage { writable: false } => self.load_constant(at, leaves, site),
            Space::Workgroup => self.load_local(at, leaves, site),
            Space::Storage { writable: true } => {
                for &(slot, offset, kind) in leaves {
                    let mut out = self.lend(slot);
                    for lane in self.active.lanes() {
                        let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
                        out[lane] = if dynamic == NOWHERE {
                            0
                        } else {
                            let place = (at.var, offset + dynamic, kind);
                            self.read_scalar(place, lane, at.atomic, site)
                        };
                    }
                    self.regs[slot as usize] = out;
                }
            }
        }
    }

    /// From a buffer that nobody writes meanwhile.
    fn load_constant(&mut self, at: &Address, leaves: &[Leaf], site: u32) {
        let Some(buffer) = self.shared.buffers[at.var] else { return };
        let bytes = buffer.len() as u32;
        let lanes = self.take_list();
        for &(slot, offset, kind) in leaves {
            let mut out = self.lend(slot);
            // Neighbours often read one address.
            let (mut last, mut value) = (NOWHERE, 0);
            for lane in lanes.iter().map(|&lane| usize::from(lane)) {
                let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
                if dynamic != last {
                    let place = offset.saturating_add(dynamic);
                    last = dynamic;
                    value = 0;
                    if place.saturating_add(kind.bytes()) <= bytes {
                        value = buffer.get(place, kind);
                        if !buffer.is_known(place) {
                            self.unknown(at.var, place, lane, site);
                        }
                    } else if dynamic != NOWHERE {
                        self.inside(at.var, place, kind, &format!("invocation {lane}"), site);
                    }
                }
                out[lane] = if dynamic == NOWHERE { 0 } else { value };
            }
            self.regs[slot as usize] = out;
        }
        self.list = lanes;
    }

    /// From workgroup memory: the hot path of most kernels.
    fn load_local(&mut self, at: &Address, leaves: &[Leaf], site: u32) {
        let Some(mut local) = self.locals[at.var].take() else { return };
        let var = &self.program.vars[at.var];
        let (shift, bytes) = (var.granule.trailing_zeros(), var.bytes);
        let since = self.first_epoch;
        let lanes = self.take_list();
        let mut told = Vec::new();
        let mut outs: Vec<Vec<u32>> = leaves.iter().map(|&(slot, ..)| self.lend(slot)).collect();
        for lane in lanes.iter().map(|&lane| usize::from(lane)) {
            let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
            let stamp = self.stamp(WORKGROUP, lane, site);
            for (&(_, offset, kind), out) in leaves.iter().zip(&mut outs) {
                let place = offset.wrapping_add(dynamic);
                if dynamic == NOWHERE || place + kind.bytes() > bytes {
                    out[lane] = 0;
                    continue;
                }
                let scalar = (place >> shift) as usize;
                if let Some(verdict) = local.shadow.read(scalar, &stamp, since) {
                    told.push((scalar, stamp, verdict));
                }
                out[lane] = local.get(place, kind);
            }
        }
        for (&(slot, ..), out) in leaves.iter().zip(outs) {
            self.regs[slot as usize] = out;
        }
        self.list = lanes;
        self.locals[at.var] = Some(local);
        for (scalar, stamp, verdict) in told {
            self.judge(at.var, scalar, &stamp, verdict, false, at.atomic);
        }
    }

    fn unknown(&mut self, var: usize, at: u32, lane: usize, site: u32) {
        let scalar = at / self.program.vars[var].granule;
        self.unwritten(var, scalar as usize, &format!("invocation {lane}"), site);
    }

    fn unwritten(&mut self, var: usize, scalar: usize, who: &str, site: u32) {
        let group = self.group;
        self.report_var(Found::UninitializedRead, site, var, || {
            format!("scalar {scalar}, which nobody has written, by {who} of workgroup {group}")
        });
    }

    fn read_scalar(
        &mut self,
        (var, at, kind): (usize, u32, Kind),
        lane: usize,
        atomic: bool,
        site: u32,
    ) -> u32 {
        let stamp = self.stamp(self.clock(var), lane, site);
        self.read_as(var, at, kind, &stamp, atomic)
    }

    pub fn clock(&self, var: usize) -> usize {
        if self.program.vars[var].space == Space::Workgroup { WORKGROUP } else { STORAGE }
    }

    /// Reads a scalar for whoever the stamp names.
    pub fn read_as(&mut self, var: usize, at: u32, kind: Kind, stamp: &Stamp, atomic: bool) -> u32 {
        let granule = self.program.vars[var].granule;
        let end = u64::from(at) + u64::from(kind.bytes());
        if end > u64::from(self.bytes(var)) {
            self.inside(var, at, kind, &stamp.who(), stamp.site);
            return 0;
        }
        let scalar = (at / granule) as usize;
        // A word of a variable with halves beside it covers two of the shadow's scalars; the first
        // stands for both, since no other type lies there.
        if let Some(local) = &mut self.locals[var] {
            let verdict = local.shadow.read(scalar, stamp, self.first_epoch);
            let value = local.get(at, kind);
            if let Some(verdict) = verdict {
                self.judge(var, scalar, stamp, verdict, false, atomic);
            }
            return value;
        }
        let Some(buffer) = self.shared.buffers[var] else { return 0 };
        let value = buffer.get(at, kind);
        if !buffer.is_known(at) {
            self.unwritten(var, scalar, &stamp.who(), stamp.site);
        }
        if let Some(shadow) = &mut self.shadows[var] {
            let mut verdict = shadow.read(scalar, stamp, 0).unwrap_or_default();
            if !atomic {
                verdict.between = shadow.group_reads(scalar, self.group, stamp.site);
            }
            self.judge(var, scalar, stamp, verdict, false, atomic);
        }
        value
    }

    pub fn write_as(
        &mut self,
        (var, at, kind): (usize, u32, Kind),
        value: u32,
        stamp: &Stamp,
        atomic: bool,
    ) {
        let granule = self.program.vars[var].granule;
        let end = u64::from(at) + u64::from(kind.bytes());
        if end > u64::from(self.bytes(var)) {
            self.inside(var, at, kind, &stamp.who(), stamp.site);
            return;
        }
        let scalar = (at / granule) as usize;
        if let Some(local) = &mut self.locals[var] {
            let same = local.get(at, kind) == value;
            let verdict = local.shadow.write(scalar, stamp, same);
            local.set(at, kind, value);
            if let Some(verdict) = verdict {
                self.judge(var, scalar, stamp, verdict, true, atomic);
            }
            return;
        }
        let Some(buffer) = self.shared.buffers[var] else { return };
        let same = buffer.get(at, kind) == value;
        buffer.set(at, kind, value);
        if let Some(shadow) = &mut self.shadows[var] {
            let mut verdict = shadow.write(scalar, stamp, same).unwrap_or_default();
            if !atomic {
                verdict.between = shadow.group_writes(scalar, self.group, stamp.site);
            }
            self.judge(var, scalar, stamp, verdict, true, atomic);
        }
    }

    #[inline]
    fn judge(
        &mut self,
        var: usize,
        scalar: usize,
        stamp: &Stamp,
        verdict: Verdict,
        writes: bool,
        atomic: bool,
    ) {
        if verdict.needs_barrier {
            self.needs(self.clock(var));
        }
        if verdict.unknown {
            self.unwritten(var, scalar, &stamp.who(), stamp.site);
        }
        if atomic || verdict.race.is_none() && verdict.between.is_none() {
            return;
        }
        let how = |writes: bool| if writes { "writes" } else { "reads" };
        let (group, who) = (self.group, stamp.who());
        if let Some((other, wrote)) = verdict.race {
            let (there, they) = (self.place(other.site), other.who());
            self.report_var(Found::Race, stamp.site, var, || {
                let (does, did) = (how(writes), how(wrote));
                format!(
                    "scalar {scalar}: {who} {does}, {they} {did} at {there}, no barrier between (workgroup {group})"
                )
            });
        }
        if let Some((other, site)) = verdict.between {
            let there = self.place(site);
            self.report_var(Found::RaceBetweenWorkgroups, stamp.site, var, || {
                let others = if other == u32::MAX {
                    "several workgroups".to_owned()
                } else {
                    format!("workgroup {other}")
                };
                format!(
                    "scalar {scalar}: workgroup {group} {} it, {others} at {there}",
                    how(writes)
                )
            });
        }
    }

    pub fn store(&mut self, at: &Address, leaves: &[Leaf], site: u32) {
        if self.meter.is_some() {
            self.meter_access(at, leaves, site, true);
        }
        let clock = self.clock(at.var);
        let lanes = self.take_list();
        for lane in lanes.iter().map(|&lane| usize::from(lane)) {
            let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
            if dynamic == NOWHERE {
                continue;
            }
            let stamp = self.stamp(clock, lane, site);
            for &(slot, offset, kind) in leaves {
                let value = self.regs[slot as usize][lane];
                self.write_as((at.var, offset + dynamic, kind), value, &stamp, at.atomic);
            }
        }
        self.list = lanes;
    }

    pub fn atomic(
        &mut self,
        at: &Address,
        (offset, kind): (u32, Kind),
        op: Atomic,
        value: Slot,
        dst: Option<Slot>,
        site: u32,
    ) {
        if self.meter.is_some() {
            self.meter_access(at, &[(value, offset, kind)], site, true);
        }
        let clock = self.clock(at.var);
        for lane in self.active.lanes() {
            let dynamic = at.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
            if dynamic == NOWHERE {
                continue;
            }
            let place = offset + dynamic;
            let stamp = self.stamp(clock, lane, site);
            let given = self.regs[value as usize][lane];
            let expected = match op {
                Atomic::CompareExchange(expected, _) => self.regs[expected as usize][lane],
                _ => 0,
            };
            let exchanged = Cell::new(true);
            let new = |old: u32| match op {
                Atomic::Bin(op) => any_bin(op, kind, old, given),
                Atomic::Exchange => given,
                Atomic::CompareExchange(..) => {
                    exchanged.set(old == expected);
                    if old == expected { given } else { old }
                }
            };
            // The read and the write leave their marks, and the value changes in one step.
            let mut old = self.read_as(at.var, place, kind, &stamp, true);
            if let Some(buffer) = self.shared.buffers[at.var] {
                if place + 4 <= buffer.len() as u32 {
                    old = buffer.update(place, new);
                    if let Some(shadow) = &mut self.shadows[at.var] {
                        let granule = self.program.vars[at.var].granule;
                        let verdict = shadow.write((place / granule) as usize, &stamp, false);
                        if verdict.is_some_and(|v| v.needs_barrier) {
                            self.needs(clock);
                        }
                    }
                }
            } else {
                let value = new(old);
                self.write_as((at.var, place, kind), value, &stamp, true);
            }
            if let Some(dst) = dst {
                self.regs[dst as usize][lane] = old;
            }
            if let Atomic::CompareExchange(_, flag) = op {
                self.regs[flag as usize][lane] = u32::from(exchanged.get());
            }
        }
    }
}
