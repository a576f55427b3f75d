//! Lowering of WGSL's built-in functions.

use std::rc::Rc;

use wgpu::naga::{Expression, Handle, MathFunction as F};

use super::code::{Bin, Instr, Kind, Pack, Slot, Un};
use super::layout::{Result, scalar_kind};
use super::lower::{Frame, Lower};
use wgpu::naga::TypeInner;

impl<'a> Lower<'a> {
    pub fn math(
        &mut self,
        frame: &mut Frame<'a>,
        fun: F,
        handles: [Option<Handle<Expression>>; 4],
    ) -> Result<Rc<[Slot]>> {
        let mut args: Vec<Rc<[Slot]>> = Vec::new();
        for handle in handles.into_iter().flatten() {
            args.push(self.slots_of(frame, handle)?);
        }
        let first = handles[0].ok_or("a function without arguments")?;
        let ty = frame.ty(self.module, first);
        let kind = scalar_kind(ty)?;
        if let Some(op) = unary(fun) {
            return self.un(op, kind, &args[0]);
        }
        if let Some(op) = binary(fun) {
            return self.bins(op, kind, &args[0], &args[1]);
        }
        if let Some((how, parts, packs)) = packing(fun) {
            return if packs {
                let dst = self.slot()?;
                self.push(Instr::Pack { how, dst, parts: args[0].to_vec().into() });
                Ok([dst].into())
            } else {
                let word = args[0][0];
                let part = |part| {
                    let dst = self.slot()?;
                    self.push(Instr::Unpack { how, dst, word, part });
                    Ok(dst)
                };
                (0..parts).map(part).collect()
            };
        }
        let one = |bits: f32, this: &mut Self| this.float(kind, bits);
        let a = Rc::clone(&args[0]);
        Ok(match fun {
            F::Clamp => {
                let low = self.bins(Bin::Max, kind, &a, &args[1])?;
                self.bins(Bin::Min, kind, &low, &args[2])?
            }
            F::Saturate => {
                let (zero, one) = (one(0.0, self), one(1.0, self));
                let low = self.bins(Bin::Max, kind, &a, &[zero])?;
                self.bins(Bin::Min, kind, &low, &[one])?
            }
            F::Radians => {
                let by = one(std::f32::consts::PI / 180.0, self);
                self.bins(Bin::Mul, kind, &a, &[by])?
            }
            F::Degrees => {
                let by = one(180.0 / std::f32::consts::PI, self);
                self.bins(Bin::Mul, kind, &a, &[by])?
            }
            F::Modf => {
                let whole = self.un(Un::Trunc, kind, &a)?;
                let fract = self.bins(Bin::Sub, kind, &a, &whole)?;
                fract.iter().chain(whole.iter()).copied().collect()
            }
            F::Frexp => {
                let fraction = self.un(Un::FrexpFraction, kind, &a)?;
                let exponent = self.un(Un::FrexpExponent, kind, &a)?;
                fraction.iter().chain(exponent.iter()).copied().collect()
            }
            F::Dot => [self.dot(kind, &a, &args[1])?].into(),
            F::Dot4I8Packed | F::Dot4U8Packed => {
                let dst = self.slot()?;
                let signed = fun == F::Dot4I8Packed;
                self.push(Instr::Dot4 { signed, dst, a: a[0], b: args[1][0] });
                [dst].into()
            }
            F::Cross => {
                let b = &args[1];
                let mut out = Vec::new();
                for (i, j) in [(1, 2), (2, 0), (0, 1)] {
                    let left = self.bin(Bin::Mul, kind, a[i], b[j])?;
                    let right = self.bin(Bin::Mul, kind, a[j], b[i])?;
                    out.push(self.bin(Bin::Sub, kind, left, right)?);
                }
                out.into()
            }
            F::Distance => {
                let apart = self.bins(Bin::Sub, kind, &a, &args[1])?;
                [self.norm(kind, &apart)?].into()
            }
            F::Length => [self.norm(kind, &a)?].into(),
            F::Normalize => {
                let length = self.norm(kind, &a)?;
                self.bins(Bin::Div, kind, &a, &[length])?
            }
            F::FaceForward => {
                let towards = self.dot(kind, &args[1], &args[2])?;
                let zero = one(0.0, self);
                let condition = self.bin(Bin::Lt, kind, towards, zero)?;
                let minus = self.un(Un::Neg, kind, &a)?;
                self.choose(condition, &a, &minus)?
            }
            F::Reflect => {
                let along = self.dot(kind, &args[1], &a)?;
                let two = one(2.0, self);
                let twice = self.bin(Bin::Mul, kind, along, two)?;
                let back = self.bins(Bin::Mul, kind, &args[1], &[twice])?;
                self.bins(Bin::Sub, kind, &a, &back)?
            }
            F::Fma => {
                let each = |i: usize| {
                    let dst = self.slot()?;
                    let (b, c) = (args[1][i], args[2][i]);
                    self.push(Instr::Fma { kind, dst, a: a[i], b, c });
                    Ok(dst)
                };
                (0..a.len()).map(each).collect::<Result<_>>()?
            }
            F::Mix => {
                let one = one(1.0, self);
                let rest = self.bins(Bin::Sub, kind, &[one], &args[2])?;
                let left = self.bins(Bin::Mul, kind, &a, &rest)?;
                let right = self.bins(Bin::Mul, kind, &args[1], &args[2])?;
                self.bins(Bin::Add, kind, &left, &right)?
            }
            F::Step => {
                let (zero, one) = (one(0.0, self), one(1.0, self));
                let above = self.bins(Bin::Le, kind, &a, &args[1])?;
                let each = |&condition: &Slot| Ok(self.choose(condition, &[one], &[zero])?[0]);
                above.iter().map(each).collect::<Result<_>>()?
            }
            F::SmoothStep => {
                let (zero, one_) = (one(0.0, self), one(1.0, self));
                let (two, three) = (one(2.0, self), one(3.0, self));
                let up = self.bins(Bin::Sub, kind, &args[2], &a)?;
                let span = self.bins(Bin::Sub, kind, &args[1], &a)?;
                let t = self.bins(Bin::Div, kind, &up, &span)?;
                let t = self.bins(Bin::Max, kind, &t, &[zero])?;
                let t = self.bins(Bin::Min, kind, &t, &[one_])?;
                let twice = self.bins(Bin::Mul, kind, &t, &[two])?;
                let rest = self.bins(Bin::Sub, kind, &[three], &twice)?;
                let square = self.bins(Bin::Mul, kind, &t, &t)?;
                self.bins(Bin::Mul, kind, &square, &rest)?
            }
            F::Transpose => {
                let TypeInner::Matrix { rows, .. } = *ty else {
                    return Err("the transpose of no matrix".to_owned());
                };
                let rows = rows as usize;
                (0..rows).flat_map(|i| a.iter().copied().skip(i).step_by(rows)).collect()
            }
            F::Determinant => [self.determinant(kind, &a)?].into(),
            F::ExtractBits => {
                let (offset, count) = (args[1][0], args[2][0]);
                let signed = kind == Kind::I32;
                let each = |&a: &Slot| {
                    let dst = self.slot()?;
                    self.push(Instr::ExtractBits { signed, dst, a, offset, count });
                    Ok(dst)
                };
                a.iter().map(each).collect::<Result<_>>()?
            }
            F::InsertBits => {
                let (offset, count) = (args[2][0], args[3][0]);
                let each = |(&a, &new): (&Slot, &Slot)| {
                    let dst = self.slot()?;
                    self.push(Instr::InsertBits { dst, a, new, offset, count });
                    Ok(dst)
                };
                a.iter().zip(args[1].iter()).map(each).collect::<Result<_>>()?
            }
            other => return Err(format!("the built-in function {other:?}")),
        })
    }

    /// A constant of a float kind.
    fn float(&mut self, kind: Kind, value: f32) -> Slot {
        match kind {
            Kind::F16 => self.bits(u32::from(half::f16::from_f32(value).to_bits())),
            _ => self.bits(value.to_bits()),
        }
    }

    fn norm(&mut self, kind: Kind, a: &[Slot]) -> Result<Slot> {
        if let [a] = a {
            return Ok(self.un(Un::Abs, kind, &[*a])?[0]);
        }
        let square = self.dot(kind, a, a)?;
        Ok(self.un(Un::Sqrt, kind, &[square])?[0])
    }

    fn choose(&mut self, condition: Slot, yes: &[Slot], no: &[Slot]) -> Result<Rc<[Slot]>> {
        let each = |(&yes, &no): (&Slot, &Slot)| {
            let dst = self.slot()?;
            self.push(Instr::Select { dst, condition, yes, no });
            Ok(dst)
        };
        yes.iter().zip(no).map(each).collect()
    }

    /// By the first column's minors.
    fn determinant(&mut self, kind: Kind, a: &[Slot]) -> Result<Slot> {
        let side = a.len().isqrt();
        if side == 1 {
            return Ok(a[0]);
        }
        let mut sum = None;
        for row in 0..side {
            let minor: Vec<_> = (side..a.len()).filter(|i| i % side != row).map(|i| a[i]).collect();
            let below = self.determinant(kind, &minor)?;
            let term = self.bin(Bin::Mul, kind, a[row], below)?;
            sum = Some(match sum {
                None => term,
                Some(sum) => {
                    self.bin(if row % 2 == 0 { Bin::Add } else { Bin::Sub }, kind, sum, term)?
                }
            });
        }
        sum.ok_or_else(|| "the determinant of no matrix".to_owned())
    }
}

fn unary(fun: F) -> Option<Un> {
    Some(match fun {
        F::Abs => Un::Abs,
        F::Sign => Un::Sign,
        F::Cos => Un::Cos,
        F::Cosh => Un::Cosh,
        F::Sin => Un::Sin,
        F::Sinh => Un::Sinh,
        F::Tan => Un::Tan,
        F::Tanh => Un::Tanh,
        F::Acos => Un::Acos,
        F::Asin => Un::Asin,
        F::Atan => Un::Atan,
        F::Asinh => Un::Asinh,
        F::Acosh => Un::Acosh,
        F::Atanh => Un::Atanh,
        F::Ceil => Un::Ceil,
        F::Floor => Un::Floor,
        F::Round => Un::Round,
        F::Fract => Un::Fract,
        F::Trunc => Un::Trunc,
        F::Exp => Un::Exp,
        F::Exp2 => Un::Exp2,
        F::Log => Un::Log,
        F::Log2 => Un::Log2,
        F::Sqrt => Un::Sqrt,
        F::InverseSqrt => Un::InverseSqrt,
        F::QuantizeToF16 => Un::QuantizeToF16,
        F::CountTrailingZeros => Un::CountTrailingZeros,
        F::CountLeadingZeros => Un::CountLeadingZeros,
        F::CountOneBits => Un::CountOneBits,
        F::ReverseBits => Un::ReverseBits,
        F::FirstTrailingBit => Un::FirstTrailingBit,
        F::FirstLeadingBit => Un::FirstLeadingBit,
        _ => return None,
    })
}

fn binary(fun: F) -> Option<Bin> {
    Some(match fun {
        F::Min => Bin::Min,
        F::Max => Bin::Max,
        F::Pow => Bin::Pow,
        F::Atan2 => Bin::Atan2,
        F::Ldexp => Bin::Ldexp,
        _ => return None,
    })
}

/// How, how many components, and whether it packs.
fn packing(fun: F) -> Option<(Pack, u32, bool)> {
    Some(match fun {
        F::Pack4x8snorm => (Pack::Snorm8, 4, true),
        F::Pack4x8unorm => (Pack::Unorm8, 4, true),
        F::Pack2x16snorm => (Pack::Snorm16, 2, true),
        F::Pack2x16unorm => (Pack::Unorm16, 2, true),
        F::Pack2x16float => (Pack::Float16, 2, true),
        F::Pack4xI8 => (Pack::I8, 4, true),
        F::Pack4xU8 => (Pack::U8, 4, true),
        F::Pack4xI8Clamp => (Pack::I8Clamp, 4, true),
        F::Pack4xU8Clamp => (Pack::U8Clamp, 4, true),
        F::Unpack4x8snorm => (Pack::Snorm8, 4, false),
        F::Unpack4x8unorm => (Pack::Unorm8, 4, false),
        F::Unpack2x16snorm => (Pack::Snorm16, 2, false),
        F::Unpack2x16unorm => (Pack::Unorm16, 2, false),
        F::Unpack2x16float => (Pack::Float16, 2, false),
        F::Unpack4xI8 => (Pack::I8, 4, false),
        F::Unpack4xU8 => (Pack::U8, 4, false),
        _ => return None,
    })
}
