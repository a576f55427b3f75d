//! Lowering of loads, stores and constants.

use std::rc::Rc;

use wgpu::naga::{Expression, Handle, TypeInner};

use super::code::{Address, Instr, Leaf, Slot};
use super::layout::Result;
use super::lower::{Lower, Pointer, Root};

impl Lower<'_> {
    /// The scalars that a pointer leads to, in these registers.
    pub fn leaves(&self, pointer: &Pointer, slots: &[Slot]) -> Result<Box<[Leaf]>> {
        let mut parts = Vec::new();
        self.types.parts(self.types.inner(&pointer.ty), pointer.offset, &mut parts)?;
        Ok(slots.iter().zip(parts).map(|(&slot, (at, kind))| (slot, at, kind)).collect())
    }

    pub fn address(&self, pointer: &Pointer, var: usize) -> Address {
        let atomic = matches!(self.types.inner(&pointer.ty), TypeInner::Atomic(_));
        Address { var, dynamic: pointer.dynamic, atomic }
    }

    pub fn load(&mut self, pointer: &Pointer) -> Result<Rc<[Slot]>> {
        let inner = self.types.inner(&pointer.ty).clone();
        let slots = self.fresh(&inner)?;
        match pointer.root {
            Root::Memory(var) => {
                let leaves = self.leaves(pointer, &slots)?;
                self.push(Instr::Load { at: self.address(pointer, var), leaves });
            }
            Root::Registers { base, private } => {
                let (base, count) = (base + pointer.offset, slots.len() as u32);
                if private {
                    let (dynamic, name) = (pointer.dynamic, pointer.name);
                    self.push(Instr::PrivateRead { base, count, dynamic, name });
                }
                for (i, &dst) in slots.iter().enumerate() {
                    let base = base + i as Slot;
                    self.push(match pointer.dynamic {
                        Some(dynamic) => Instr::ReadVar { dst, base, dynamic },
                        None => Instr::Move { dst, src: base },
                    });
                }
            }
        }
        Ok(slots.into())
    }

    pub fn store(&mut self, pointer: &Pointer, values: &[Slot]) -> Result<()> {
        match pointer.root {
            Root::Memory(var) => {
                let leaves = self.leaves(pointer, values)?;
                self.push(Instr::Store { at: self.address(pointer, var), leaves });
            }
            Root::Registers { base, private } => {
                let base = base + pointer.offset;
                for (i, &src) in values.iter().enumerate() {
                    let base = base + i as Slot;
                    self.push(match pointer.dynamic {
                        Some(dynamic) => Instr::WriteVar { base, dynamic, src },
                        None => Instr::Copy { dst: base, src },
                    });
                }
                if private {
                    let (count, dynamic) = (values.len() as u32, pointer.dynamic);
                    self.push(Instr::PrivateWrite { base, count, dynamic });
                }
            }
        }
        Ok(())
    }

    /// A constant expression of the module.
    pub fn constant(&mut self, handle: Handle<Expression>) -> Result<Vec<Slot>> {
        let module = self.module;
        match module.global_expressions[handle] {
            Expression::Literal(literal) => {
                let bits = super::literal::bits(literal)?;
                Ok(vec![self.bits(bits)])
            }
            Expression::Constant(constant) => self.constant(module.constants[constant].init),
            Expression::ZeroValue(ty) => self.zero(&module.types[ty].inner),
            Expression::Compose { ref components, .. } => {
                let mut all = Vec::new();
                for &component in components {
                    all.extend(self.constant(component)?);
                }
                Ok(all)
            }
            Expression::Splat { size, value } => Ok(vec![self.constant(value)?[0]; size as usize]),
            ref other => Err(format!("the constant expression {other:?}")),
        }
    }
}
