//! Integers that wrapped, on their way to an index.
//!
//! Beside a register whose value is not the exact one stands by how often 2^32 it is off, so that
//! a difference that a later sum brings back is forgiven. What compares, masks or mixes bits ends
//! the trace: hashes wrap on purpose.

use super::code::{Bin, Instr, Kind, Slot};
use super::findings::Kind as Found;
use super::machine::{Machine, Wrapped};

impl Machine<'_> {
    fn off(&self, slot: Slot, lane: usize) -> i32 {
        self.wrapped[slot as usize].as_ref().map_or(0, |w| w.lanes[lane])
    }

    /// The number that exact arithmetic would have.
    fn exact(&self, kind: Kind, slot: Slot, lane: usize) -> i128 {
        let bits = self.regs[slot as usize][lane];
        let value = if kind == Kind::I32 { i128::from(bits as i32) } else { i128::from(bits) };
        value + (i128::from(self.off(slot, lane)) << 32)
    }

    pub fn wrap_bin(&mut self, op: Bin, kind: Kind, [dst, a, b]: [Slot; 3], site: u32) {
        let mixes = op.compares() || matches!(op, Bin::And | Bin::Xor) || kind == Kind::Bool;
        let known = [a, b].map(|slot| self.wrapped[slot as usize].as_ref().map(|w| w.site));
        let fresh = matches!(op, Bin::Add | Bin::Sub | Bin::Mul | Bin::Shl);
        if mixes || known == [None, None] && !fresh {
            self.wrapped[dst as usize] = None;
            return;
        }
        let mut lanes = vec![0; self.lanes];
        for lane in self.active.lanes() {
            let (x, y) = (self.exact(kind, a, lane), self.exact(kind, b, lane));
            let bits = self.regs[dst as usize][lane];
            let got = if kind == Kind::I32 { i128::from(bits as i32) } else { i128::from(bits) };
            let spoilt = self.off(a, lane) != 0 || self.off(b, lane) != 0;
            let want = match op {
                Bin::Add => x + y,
                Bin::Sub => x - y,
                Bin::Mul => x.saturating_mul(y),
                Bin::Shl => x << (y & 31),
                Bin::Min => x.min(y),
                Bin::Max => x.max(y),
                // The quotient of another number is another quotient.
                _ if spoilt => got + (1 << 32),
                _ => got,
            };
            let off = (want - got).div_euclid(1 << 32).clamp(-1 << 30, 1 << 30) as i32;
            lanes[lane] = if want != got && off == 0 { 1 } else { off };
        }
        let wrong = lanes.iter().any(|&off| off != 0);
        let site = known[0].or(known[1]).unwrap_or(site);
        self.wrapped[dst as usize] = wrong.then(|| Box::new(Wrapped { lanes: lanes.into(), site }));
        self.any_wrapped |= wrong;
    }

    /// What becomes of the account when any other instruction has run.
    pub fn spread(&mut self, instr: &Instr) {
        match *instr {
            Instr::Move { dst, src } => self.pass_on(dst, src),
            Instr::Convert { from: Kind::I32 | Kind::U32, to: Kind::I32 | Kind::U32, dst, a } => {
                self.pass_on(dst, a);
            }
            Instr::Copy { dst, src } => self.pass_on_active(dst, |_| src),
            Instr::Select { dst, condition, yes, no } => {
                let chosen = self.regs[condition as usize].clone();
                self.pass_on_active(dst, |lane| if chosen[lane] != 0 { yes } else { no });
            }
            Instr::Load { ref leaves, .. } => {
                for &(slot, ..) in leaves {
                    self.forget(slot);
                }
            }
            Instr::Un { dst, .. }
            | Instr::Fma { dst, .. }
            | Instr::Convert { dst, .. }
            | Instr::Pack { dst, .. }
            | Instr::Unpack { dst, .. }
            | Instr::ExtractBits { dst, .. }
            | Instr::InsertBits { dst, .. }
            | Instr::Dot4 { dst, .. }
            | Instr::Index { dst, .. }
            | Instr::Pick { dst, .. }
            | Instr::ReadVar { dst, .. }
            | Instr::Length { dst, .. }
            | Instr::Collective { dst, .. }
            | Instr::Gather { dst, .. }
            | Instr::Atomic { dst: Some(dst), .. } => self.forget(dst),
            Instr::Ballot { dst, .. } => dst.into_iter().for_each(|slot| self.forget(slot)),
            _ => {}
        }
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(wrapped) = self.wrapped.get_mut(slot as usize) {
            *wrapped = None;
        }
    }

    fn pass_on(&mut self, dst: Slot, src: Slot) {
        if let Some(from) = self.wrapped.get(src as usize) {
            self.wrapped[dst as usize] = from.clone();
        }
    }

    fn pass_on_active(&mut self, dst: Slot, src: impl Fn(usize) -> Slot) {
        let Some(old) = self.wrapped.get_mut(dst as usize) else { return };
        let old = old.take();
        let mut site = old.as_ref().map(|w| w.site);
        let mut lanes = old.map_or_else(|| vec![0; self.lanes].into(), |w| w.lanes);
        for lane in self.active.lanes() {
            let from = self.wrapped[src(lane) as usize].as_ref();
            lanes[lane] = from.map_or(0, |w| w.lanes[lane]);
            if lanes[lane] != 0 {
                site = from.map(|w| w.site);
            }
        }
        if let Some(site) = site.filter(|_| lanes.iter().any(|&off| off != 0)) {
            self.wrapped[dst as usize] = Some(Box::new(Wrapped { lanes, site }));
        }
    }

    /// Reports an index that is not the number that was meant.
    pub fn check_wrapped(&mut self, index: Slot, name: u32, site: u32) {
        let Some(wrapped) = self.wrapped[index as usize].clone() else { return };
        let group = self.group;
        for lane in self.active.lanes().filter(|&lane| wrapped.lanes[lane] != 0) {
            let value = self.regs[index as usize][lane];
            let user = self.place(site);
            self.report(Found::IndexOverflow, wrapped.site, Some(name), || {
                format!(
                    "wraps to {value} in invocation {lane} of workgroup {group}, index at {user}"
                )
            });
        }
    }
}
