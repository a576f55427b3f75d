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
        let first = self.private_at(base);
        let group = self.group;
        let known = |this: &Self, at: usize| {
            let slots = this.private[first + at..first + at + count as usize].iter();
            slots.fold(this.all, |all, known| all & *known)
        };
        let unknown = match dynamic {
            None => self.active.without(&known(self, 0)),
            Some(dynamic) => {
                let mut unknown = Mask::EMPTY;
                for lane in self.active.lanes() {
                    let at = self.regs[dynamic as usize][lane];
                    if at != NOWHERE && !known(self, at as usize).has(lane) {
                        unknown.set(lane);
                    }
                }
                unknown
            }
        };
        for lane in unknown.lanes() {
            self.report(Found::UninitializedRead, site, Some(name), || {
                format!("invocation {lane} of workgroup {group} has not written it")
            });
        }
    }

    pub fn private_write(&mut self, base: Slot, count: u32, dynamic: Option<Slot>) {
        let (first, count) = (self.private_at(base), count as usize);
        let active = self.active;
        let Some(dynamic) = dynamic else {
            for known in &mut self.private[first..first + count] {
                *known = *known | active;
            }
            return;
        };
        for lane in active.lanes() {
            let at = self.regs[dynamic as usize][lane];
            if at != NOWHERE {
                let from = first + at as usize;
                self.private[from..from + count].iter_mut().for_each(|known| known.set(lane));
            }
        }
    }

    /// Where what is known of a private register stands.
    fn private_at(&self, slot: Slot) -> usize {
        (slot - self.program.private.start) as usize
    }
}
