//! Variables in registers that are indexed, and which private ones have been written.

use super::code::{MATRIX, NOWHERE, Slot};
use super::findings::Kind as Found;
use super::machine::Machine;
use super::mask::Mask;

impl Machine<'_> {
    pub fn pick(&mut self, dst: Slot, from: &[Slot], index: Slot) {
        if dst & MATRIX != 0 {
            let at = self.active.first().map_or(0, |lane| self.regs[index as usize][lane]);
            if let Some(&src) = from.get(at as usize) {
                self.copy_matrix(dst, src);
            }
            return;
        }
        let mut out = self.lend(dst);
        let index = &self.regs[index as usize];
        for lane in self.active.lanes() {
            let slot = from.get(index[lane] as usize);
            out[lane] = slot.map_or(0, |&slot| self.regs[slot as usize][lane]);
        }
        self.regs[dst as usize] = out;
    }

    pub fn read_var(&mut self, dst: Slot, base: Slot, dynamic: Slot) {
        if dst & MATRIX != 0 {
            let at = self.active.first().map_or(NOWHERE, |lane| self.regs[dynamic as usize][lane]);
            if at != NOWHERE {
                self.copy_matrix(dst, base + at);
            }
            return;
        }
        let mut out = self.lend(dst);
        let dynamic = &self.regs[dynamic as usize];
        for lane in self.active.lanes() {
            let at = dynamic[lane];
            out[lane] = if at == NOWHERE { 0 } else { self.regs[(base + at) as usize][lane] };
        }
        self.regs[dst as usize] = out;
    }

    pub fn write_var(&mut self, base: Slot, dynamic: Slot, src: Slot) {
        if src & MATRIX != 0 {
            let at = self.active.first().map_or(NOWHERE, |lane| self.regs[dynamic as usize][lane]);
            if at != NOWHERE {
                self.copy_matrix(base + at, src);
            }
            return;
        }
        for lane in self.active.lanes() {
            let at = self.regs[dynamic as usize][lane];
            if at != NOWHERE {
                self.regs[(base + at) as usize][lane] = self.regs[src as usize][lane];
            }
        }
    }

    pub fn private_read(
        &mut self,
        base: Slot,
        count: u32,
        dynamic: Option<Slot>,
        name: u32,
        site: u32,
    ) {
        let group = self.group;
        for lane in self.active.lanes() {
            let at = dynamic.map_or(0, |slot| self.regs[slot as usize][lane]);
            if at == NOWHERE {
                continue;
            }
            let unknown = (base + at..base + at + count)
                .any(|slot| !self.private.get(&slot).is_some_and(|m| m.has(lane)));
            if unknown {
                self.report(Found::UninitializedRead, site, Some(name), || {
                    format!("invocation {lane} of workgroup {group} has not written it")
                });
            }
        }
    }

    pub fn private_write(&mut self, base: Slot, count: u32, dynamic: Option<Slot>) {
        let active = self.active;
        let Some(dynamic) = dynamic else {
            for slot in base..base + count {
                let known = self.private.entry(slot).or_insert(Mask::EMPTY);
                *known = *known | active;
            }
            return;
        };
        for lane in active.lanes() {
            let at = self.regs[dynamic as usize][lane];
            if at != NOWHERE {
                for slot in base + at..base + at + count {
                    self.private.entry(slot).or_insert(Mask::EMPTY).set(lane);
                }
            }
        }
    }
}
