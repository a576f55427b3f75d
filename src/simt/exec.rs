//! Instructions that touch registers only.

use super::alu::{
    convert, dot4, extract_bits, float_bin, float_compare, float_un, frexp, half_to_single,
    insert_bits, int_bin, int_un, ldexp, pack, single_to_half, unpack, wraps,
};
use super::code::{Bin, Bound, Instr, Kind, MATRIX, NOWHERE, Slot, Un};
use super::findings::Kind as Found;
use super::machine::Machine;

/// Bits of an f32's exponent: all set in infinities and NaNs.
const EXPONENT: u32 = 0x7f80_0000;

fn is_finite(kind: Kind, bits: u32) -> bool {
    match kind {
        Kind::F16 => bits & 0x7c00 != 0x7c00,
        _ => bits & EXPONENT != EXPONENT,
    }
}

impl<'a> Machine<'a> {
    pub fn exec(&mut self, instr: &'a Instr, site: u32) {
        if self.meter.is_some() {
            self.count_instr(instr, site);
        }
        match *instr {
            Instr::Copy { dst, src } => self.copy(dst, src),
            Instr::Move { dst, src } => self.copy_all(dst, src),
            Instr::Un { op, kind, dst, a } => self.un(op, kind, dst, a, site),
            Instr::Bin { op, kind, dst, a, b, .. } => {
                self.bin(op, kind, dst, a, b, site);
                // It keeps the account of what wrapped itself.
                return;
            }
            Instr::Fma { kind, dst, a, b, c } => self.fma(kind, [dst, a, b, c], site),
            Instr::Select { dst, condition, yes, no } => {
                self.map3(dst, [condition, yes, no], |c, yes, no| if c != 0 { yes } else { no });
            }
            Instr::Convert { from, to, dst, a } => {
                self.map(dst, a, |x| convert(from, to, x));
                if to == Kind::F16 {
                    self.born(Kind::F16, dst, &[(from, a)], site, "a conversion to f16");
                }
            }
            Instr::Pack { how, dst, ref parts } => {
                let mut out = self.lend(dst);
                out.fill(0);
                for (i, &part) in parts.iter().enumerate() {
                    let shift = i as u32 * how.bits();
                    for (to, &from) in out.iter_mut().zip(&self.regs[part as usize]) {
                        *to |= pack(how, from) << shift;
                    }
                }
                self.regs[dst as usize] = out;
            }
            Instr::Unpack { how, dst, word, part } => {
                self.map(dst, word, |x| unpack(how, x, part));
            }
            Instr::ExtractBits { signed, dst, a, offset, count } => {
                self.map3(dst, [a, offset, count], |x, o, c| extract_bits(signed, x, o, c));
            }
            Instr::InsertBits { dst, a, new, offset, count } => {
                let mut out = self.lend(dst);
                let [a, new, offset, count] =
                    [a, new, offset, count].map(|s| &self.regs[s as usize]);
                for (lane, to) in out.iter_mut().enumerate() {
                    *to = insert_bits(a[lane], new[lane], offset[lane], count[lane]);
                }
                self.regs[dst as usize] = out;
            }
            Instr::Dot4 { signed, dst, a, b } => self.map2(dst, a, b, |x, y| dot4(signed, x, y)),
            Instr::Index { dst, previous, index, signed, stride, bound, name } => {
                self.index([dst, index], previous, signed, stride, bound, name, site);
            }
            Instr::Pick { dst, ref from, index } => self.pick(dst, from, index),
            Instr::ReadVar { dst, base, dynamic } => self.read_var(dst, base, dynamic),
            Instr::WriteVar { base, dynamic, src } => self.write_var(base, dynamic, src),
            Instr::PrivateRead { base, count, dynamic, name } => {
                self.private_read(base, count, dynamic, name, site);
            }
            Instr::PrivateWrite { base, count, dynamic } => {
                self.private_write(base, count, dynamic);
            }
            Instr::Length { dst, bound } => {
                let count = self.count(bound);
                self.regs[dst as usize].fill(count);
            }
            Instr::Load { ref at, ref leaves } => self.load(at, leaves, site),
            Instr::Store { ref at, ref leaves } => self.store(at, leaves, site),
            Instr::Atomic { ref at, offset, kind, op, value, dst } => {
                self.atomic(at, (offset, kind), op, value, dst, site);
            }
            Instr::Ballot { dst, predicate } => self.ballot(dst, predicate, site),
            Instr::Collective { join, scan, kind, dst, a } => {
                self.collective((join, scan), kind, dst, a, site);
            }
            Instr::Gather { how, dst, a } => self.gather(how, dst, a, site),
            Instr::LoadMatrix { dst, ref tile } => self.load_matrix(dst, tile, site),
            Instr::StoreMatrix { src, ref tile } => self.store_matrix(src, tile, site),
            Instr::MultiplyAdd { dst, a, b, c, left, out } => {
                self.multiply_add([dst, a, b, c], left, out, site);
            }
            Instr::MatrixBin { op, dst, a, b, shape } => {
                self.matrix_bin(op, [dst, a, b], shape, site);
            }
            Instr::MatrixFill { dst, a, shape } => self.matrix_fill(dst, a, shape),
        }
        if self.any_wrapped {
            self.spread(instr);
        }
    }

    /// Takes a register out, so that others can be read while it is written.
    pub fn lend(&mut self, dst: Slot) -> Vec<u32> {
        std::mem::take(&mut self.regs[dst as usize])
    }

    // Temporaries are computed for all invocations: those that are not active never read them.

    #[inline]
    fn map(&mut self, dst: Slot, a: Slot, f: impl Fn(u32) -> u32) {
        let mut out = self.lend(dst);
        for (to, &x) in out.iter_mut().zip(&self.regs[a as usize]) {
            *to = f(x);
        }
        self.regs[dst as usize] = out;
    }

    #[inline]
    fn map2(&mut self, dst: Slot, a: Slot, b: Slot, f: impl Fn(u32, u32) -> u32) {
        let mut out = self.lend(dst);
        let (a, b) = (&self.regs[a as usize], &self.regs[b as usize]);
        for ((to, &x), &y) in out.iter_mut().zip(a).zip(b) {
            *to = f(x, y);
        }
        self.regs[dst as usize] = out;
    }

    #[inline]
    fn map3(&mut self, dst: Slot, [a, b, c]: [Slot; 3], f: impl Fn(u32, u32, u32) -> u32) {
        let mut out = self.lend(dst);
        let [a, b, c] = [a, b, c].map(|s| &self.regs[s as usize]);
        for (((to, &x), &y), &z) in out.iter_mut().zip(a).zip(b).zip(c) {
            *to = f(x, y, z);
        }
        self.regs[dst as usize] = out;
    }

    /// f32 of one operand; says whether a result is not finite.
    #[inline]
    fn float_map(&mut self, dst: Slot, a: Slot, f: impl Fn(f32) -> f32) -> bool {
        let mut out = self.lend(dst);
        let mut odd = false;
        for (to, &x) in out.iter_mut().zip(&self.regs[a as usize]) {
            *to = f(f32::from_bits(x)).to_bits();
            odd |= *to & EXPONENT == EXPONENT;
        }
        self.regs[dst as usize] = out;
        odd
    }

    #[inline]
    fn float_map2(&mut self, dst: Slot, a: Slot, b: Slot, f: impl Fn(f32, f32) -> f32) -> bool {
        let mut out = self.lend(dst);
        let mut odd = false;
        let (a, b) = (&self.regs[a as usize], &self.regs[b as usize]);
        for ((to, &x), &y) in out.iter_mut().zip(a).zip(b) {
            *to = f(f32::from_bits(x), f32::from_bits(y)).to_bits();
            odd |= *to & EXPONENT == EXPONENT;
        }
        self.regs[dst as usize] = out;
        odd
    }

    fn copy(&mut self, dst: Slot, src: Slot) {
        if dst & MATRIX != 0 {
            return self.copy_matrix(dst, src);
        }
        if self.full {
            return self.copy_all(dst, src);
        }
        let mut out = self.lend(dst);
        let from = &self.regs[src as usize];
        for lane in self.active.lanes() {
            out[lane] = from[lane];
        }
        self.regs[dst as usize] = out;
    }

    fn copy_all(&mut self, dst: Slot, src: Slot) {
        if dst & MATRIX != 0 {
            return self.copy_matrix(dst, src);
        }
        let mut out = self.lend(dst);
        out.copy_from_slice(&self.regs[src as usize]);
        self.regs[dst as usize] = out;
    }

    fn un(&mut self, op: Un, kind: Kind, dst: Slot, a: Slot, site: u32) {
        let name = move || format!("{op:?}").to_lowercase();
        match (op, kind) {
            (Un::IsNan, _) => self.map(dst, a, |x| u32::from(is_nan(kind, x))),
            (Un::IsInf, _) => {
                self.map(dst, a, |x| u32::from(!is_finite(kind, x) && !is_nan(kind, x)));
            }
            (Un::FrexpExponent, Kind::F16) => {
                self.map(dst, a, |x| frexp(half_to_single(x)).1 as u32);
            }
            (Un::FrexpExponent, _) => self.map(dst, a, |x| frexp(f32::from_bits(x)).1 as u32),
            (_, Kind::F32) => {
                if self.float_map(dst, a, |x| float_un(op, x)) {
                    self.born(Kind::F32, dst, &[(kind, a)], site, &name());
                }
            }
            (_, Kind::F16) => {
                self.map(dst, a, |x| single_to_half(float_un(op, half_to_single(x))));
                self.born(Kind::F16, dst, &[(kind, a)], site, &name());
            }
            _ => self.map(dst, a, |x| int_un(op, kind, x)),
        }
    }

    fn bin(&mut self, op: Bin, kind: Kind, dst: Slot, a: Slot, b: Slot, site: u32) {
        if !kind.is_float() {
            return self.int_bin(op, kind, [dst, a, b], site);
        }
        if self.any_wrapped {
            self.wrapped[dst as usize] = None;
        }
        let odd = match (kind, op) {
            (Kind::F32, Bin::Add) => self.float_map2(dst, a, b, |x, y| x + y),
            (Kind::F32, Bin::Sub) => self.float_map2(dst, a, b, |x, y| x - y),
            (Kind::F32, Bin::Mul) => self.float_map2(dst, a, b, |x, y| x * y),
            (Kind::F32, Bin::Ldexp) => {
                self.map2(dst, a, b, |x, y| ldexp(f32::from_bits(x), y as i32).to_bits());
                true
            }
            (Kind::F16, Bin::Ldexp) => {
                self.map2(dst, a, b, |x, y| single_to_half(ldexp(half_to_single(x), y as i32)));
                true
            }
            (Kind::F32, _) if op.compares() => {
                let compare = |x, y| float_compare(op, f32::from_bits(x), f32::from_bits(y));
                self.map2(dst, a, b, |x, y| u32::from(compare(x, y)));
                false
            }
            (Kind::F16, _) if op.compares() => {
                let compare = |x, y| float_compare(op, half_to_single(x), half_to_single(y));
                self.map2(dst, a, b, |x, y| u32::from(compare(x, y)));
                false
            }
            (Kind::F32, _) => self.float_map2(dst, a, b, |x, y| float_bin(op, x, y)),
            _ => {
                let half = |x, y| float_bin(op, half_to_single(x), half_to_single(y));
                self.map2(dst, a, b, |x, y| single_to_half(half(x, y)));
                true
            }
        };
        if odd {
            let right = if op == Bin::Ldexp { Kind::I32 } else { kind };
            let name = format!("{op:?}").to_lowercase();
            self.born(kind, dst, &[(kind, a), (right, b)], site, &name);
        }
    }

    fn int_bin(&mut self, op: Bin, kind: Kind, [dst, a, b]: [Slot; 3], site: u32) {
        let mut over = false;
        match (op, kind) {
            (Bin::Add | Bin::Sub | Bin::Mul | Bin::Shl, Kind::U32 | Kind::I32) => {
                let mut out = self.lend(dst);
                let (left, right) = (&self.regs[a as usize], &self.regs[b as usize]);
                let all = out.iter_mut().zip(left).zip(right);
                match (op, kind) {
                    (Bin::Add, Kind::U32) => all.for_each(|((to, &x), &y)| {
                        *to = x.wrapping_add(y);
                        over |= *to < x;
                    }),
                    (Bin::Sub, Kind::U32) => all.for_each(|((to, &x), &y)| {
                        *to = x.wrapping_sub(y);
                        over |= x < y;
                    }),
                    (Bin::Mul, Kind::U32) => all.for_each(|((to, &x), &y)| {
                        let wide = u64::from(x) * u64::from(y);
                        *to = wide as u32;
                        over |= wide >> 32 != 0;
                    }),
                    _ => all.for_each(|((to, &x), &y)| {
                        *to = int_bin(op, kind, x, y);
                        over |= wraps(op, kind, x, y);
                    }),
                }
                self.regs[dst as usize] = out;
            }
            (Bin::Lt, Kind::U32) => self.map2(dst, a, b, |x, y| u32::from(x < y)),
            (Bin::And, _) => self.map2(dst, a, b, |x, y| x & y),
            _ => self.map2(dst, a, b, |x, y| int_bin(op, kind, x, y)),
        }
        if over || self.any_wrapped {
            self.wrap_bin(op, kind, [dst, a, b], site);
        }
    }

    fn fma(&mut self, kind: Kind, [dst, a, b, c]: [Slot; 4], site: u32) {
        if kind == Kind::F32 {
            let fma =
                |x, y, z| f32::mul_add(f32::from_bits(x), f32::from_bits(y), f32::from_bits(z));
            self.map3(dst, [a, b, c], |x, y, z| fma(x, y, z).to_bits());
        } else {
            // f64 holds the product and the sum of halves exactly.
            let wide = |x| f64::from(half_to_single(x));
            let fma = |x, y, z| half::f16::from_f64(wide(x) * wide(y) + wide(z));
            self.map3(dst, [a, b, c], |x, y, z| u32::from(fma(x, y, z).to_bits()));
        }
        self.born(kind, dst, &[(kind, a), (kind, b), (kind, c)], site, "fma");
    }

    /// Reports results that are not finite where all operands are.
    pub fn born(
        &mut self,
        kind: Kind,
        dst: Slot,
        operands: &[(Kind, Slot)],
        site: u32,
        what: &str,
    ) {
        if self.regs[dst as usize].iter().all(|&bits| is_finite(kind, bits)) {
            return;
        }
        for lane in self.active.lanes() {
            let value = self.regs[dst as usize][lane];
            let of = |&(kind, slot): &(Kind, Slot)| {
                !kind.is_float() || is_finite(kind, self.regs[slot as usize][lane])
            };
            if is_finite(kind, value) || !operands.iter().all(of) {
                continue;
            }
            let show = |kind: Kind, slot: Slot| {
                let bits = self.regs[slot as usize][lane];
                match kind {
                    Kind::F16 => half_to_single(bits).to_string(),
                    Kind::F32 => f32::from_bits(bits).to_string(),
                    _ => (bits as i32).to_string(),
                }
            };
            let from: Vec<_> = operands.iter().map(|&(kind, slot)| show(kind, slot)).collect();
            let (from, to, group) = (from.join(", "), show(kind, dst), self.group);
            self.report(Found::NonFinite, site, None, || {
                format!("{what} of {from} is {to} in invocation {lane} of workgroup {group}")
            });
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn index(
        &mut self,
        [dst, index]: [Slot; 2],
        previous: Option<Slot>,
        signed: bool,
        stride: u32,
        bound: Bound,
        name: u32,
        site: u32,
    ) {
        let count = self.count(bound);
        let mut out = self.lend(dst);
        let mut beyond = false;
        match previous {
            None => {
                for (to, &i) in out.iter_mut().zip(&self.regs[index as usize]) {
                    let inside = i < count;
                    beyond |= !inside;
                    *to = if inside { i * stride } else { NOWHERE };
                }
            }
            Some(previous) => {
                let (before, index) = (&self.regs[previous as usize], &self.regs[index as usize]);
                for ((to, &i), &before) in out.iter_mut().zip(index).zip(before) {
                    let inside = i < count;
                    beyond |= !inside;
                    let known = inside && before != NOWHERE;
                    *to = if known { before + i * stride } else { NOWHERE };
                }
            }
        }
        self.regs[dst as usize] = out;
        if beyond {
            for lane in self.active.lanes() {
                let i = self.regs[index as usize][lane];
                if i >= count {
                    let group = self.group;
                    self.report(Found::OutOfRange, site, Some(name), || {
                        let i = if signed { i64::from(i as i32) } else { i64::from(i) };
                        format!("element {i} of {count}, by invocation {lane} of workgroup {group}")
                    });
                }
            }
        }
        if self.any_wrapped {
            self.check_wrapped(index, name, site);
        }
    }
}

fn is_nan(kind: Kind, bits: u32) -> bool {
    match kind {
        Kind::F16 => bits & 0x7fff > 0x7c00,
        _ => bits & 0x7fff_ffff > EXPONENT,
    }
}
