//! How types lie in registers and in memory.

use wgpu::naga::{ArraySize, Handle, Module, Scalar, ScalarKind, Type, TypeInner, VectorSize};

use super::code::{Kind, MatrixShape};

/// Why something cannot be run.
pub(super) type Result<T> = std::result::Result<T, String>;

/// A scalar of a value in memory: its byte offset and kind.
pub(super) type Part = (u32, Kind);

pub(super) fn kind_of(scalar: Scalar) -> Result<Kind> {
    Ok(match (scalar.kind, scalar.width) {
        (ScalarKind::Bool, _) => Kind::Bool,
        (ScalarKind::Sint, 4) => Kind::I32,
        (ScalarKind::Uint, 4) => Kind::U32,
        (ScalarKind::Float, 4) => Kind::F32,
        (ScalarKind::Float, 2) => Kind::F16,
        (kind, width) => return Err(format!("scalars of type {kind:?} of {width} bytes")),
    })
}

/// A type, by handle where the module has one.
#[derive(Clone, Debug)]
pub(super) enum Ty {
    Handle(Handle<Type>),
    Inner(TypeInner),
}

/// What an index or a member leads to.
pub(super) struct Element {
    pub ty: Ty,
    /// Elements, where there are fixed many; `None` for members and runtime-sized arrays.
    pub count: Option<u32>,
    /// Distance of elements, or the member's offset.
    pub stride: u32,
}

fn align(at: u32, to: u32) -> u32 {
    at.next_multiple_of(to.max(1))
}

/// The matrix type, if it is one.
pub(super) fn matrix(inner: &TypeInner) -> Result<Option<MatrixShape>> {
    let TypeInner::CooperativeMatrix { columns, rows, scalar, .. } = *inner else {
        return Ok(None);
    };
    let (rows, columns) = (rows as usize, columns as usize);
    Ok(Some(MatrixShape { rows, columns, kind: kind_of(scalar)? }))
}

/// The kind of a type's one kind of scalar.
pub(super) fn scalar_kind(inner: &TypeInner) -> Result<Kind> {
    match *inner {
        TypeInner::Scalar(s) | TypeInner::Atomic(s) => kind_of(s),
        TypeInner::Vector { scalar, .. }
        | TypeInner::Matrix { scalar, .. }
        | TypeInner::CooperativeMatrix { scalar, .. } => kind_of(scalar),
        TypeInner::ValuePointer { scalar, .. } => kind_of(scalar),
        ref other => Err(format!("{other:?} where a scalar, vector or matrix is expected")),
    }
}

/// The module's types as they lie in one kind of memory.
#[derive(Clone, Copy)]
pub(super) struct Types<'a>(pub &'a Module);

impl<'a> Types<'a> {
    pub fn inner<'t>(&self, ty: &'t Ty) -> &'t TypeInner
    where
        'a: 't,
    {
        match ty {
            Ty::Handle(handle) => &self.0.types[*handle].inner,
            Ty::Inner(inner) => inner,
        }
    }

    /// Registers of a value of this type.
    pub fn slots(&self, inner: &TypeInner) -> Result<u32> {
        Ok(match *inner {
            TypeInner::Scalar(_) | TypeInner::Atomic(_) | TypeInner::CooperativeMatrix { .. } => 1,
            TypeInner::Vector { size, .. } => size as u32,
            TypeInner::Matrix { columns, rows, .. } => columns as u32 * rows as u32,
            TypeInner::Array { base, size: ArraySize::Constant(n), .. } => {
                n.get() * self.slots(&self.0.types[base].inner)?
            }
            TypeInner::Struct { ref members, .. } => {
                members.iter().map(|m| self.slots(&self.0.types[m.ty].inner)).sum::<Result<_>>()?
            }
            ref other => return Err(format!("values of type {other:?}")),
        })
    }

    /// Size and alignment in bytes; 0 bytes for a runtime-sized array.
    pub fn size(&self, inner: &TypeInner) -> Result<(u32, u32)> {
        let vector = |size: VectorSize, kind: Kind| {
            let bytes = size as u32 * kind.bytes();
            (bytes, if size == VectorSize::Tri { 4 * kind.bytes() } else { bytes })
        };
        Ok(match *inner {
            TypeInner::Scalar(s) | TypeInner::Atomic(s) => {
                let bytes = kind_of(s)?.bytes();
                (bytes, bytes)
            }
            TypeInner::Vector { size, scalar } => vector(size, kind_of(scalar)?),
            TypeInner::Matrix { columns, rows, scalar } => {
                let (_, to) = vector(rows, kind_of(scalar)?);
                (columns as u32 * to, to)
            }
            TypeInner::Array { base, size, .. } => {
                let (bytes, to) = self.size(&self.0.types[base].inner)?;
                let n = if let ArraySize::Constant(n) = size { n.get() } else { 0 };
                let total = n.checked_mul(self.stride(inner, align(bytes, to)));
                (total.ok_or("an array of more than 4 GiB")?, to)
            }
            TypeInner::Struct { ref members, span } => {
                let (mut end, mut to) = (0, 1);
                for (member, offset) in members.iter().zip(self.offsets(inner)?) {
                    let (bytes, align) = self.size(&self.0.types[member.ty].inner)?;
                    end = offset + bytes;
                    to = to.max(align);
                }
                (align(end, to).max(if self.has_bool(inner) { 0 } else { span }), to)
            }
            ref other => return Err(format!("variables of type {other:?}")),
        })
    }

    /// Members' offsets: naga's, which know of `@align` and `@size`; ours where there are bools,
    /// which host-shareable memory has not and naga counts as bytes.
    fn offsets(&self, inner: &TypeInner) -> Result<Vec<u32>> {
        let TypeInner::Struct { members, .. } = inner else { return Ok(Vec::new()) };
        if !self.has_bool(inner) {
            return Ok(members.iter().map(|m| m.offset).collect());
        }
        let mut at = 0;
        let place = |member: &wgpu::naga::StructMember| {
            let (bytes, to) = self.size(&self.0.types[member.ty].inner)?;
            let offset = align(at, to);
            at = offset + bytes;
            Ok(offset)
        };
        members.iter().map(place).collect()
    }

    fn stride(&self, array: &TypeInner, own: u32) -> u32 {
        match *array {
            TypeInner::Array { stride, .. } if !self.has_bool(array) => stride,
            _ => own,
        }
    }

    fn has_bool(&self, inner: &TypeInner) -> bool {
        match *inner {
            TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } => {
                s.kind == ScalarKind::Bool
            }
            TypeInner::Array { base, .. } => self.has_bool(&self.0.types[base].inner),
            TypeInner::Struct { ref members, .. } => {
                members.iter().any(|m| self.has_bool(&self.0.types[m.ty].inner))
            }
            _ => false,
        }
    }

    /// The scalars of a value in memory, in the order of its registers.
    pub fn parts(&self, inner: &TypeInner, at: u32, out: &mut Vec<Part>) -> Result<()> {
        match *inner {
            TypeInner::Scalar(s) | TypeInner::Atomic(s) => out.push((at, kind_of(s)?)),
            TypeInner::Vector { .. } | TypeInner::Matrix { .. } | TypeInner::Array { .. } => {
                let element = self.element(inner, true)?;
                let count = element.count.ok_or("a runtime-sized array as a value")?;
                for i in 0..count {
                    self.parts(self.inner(&element.ty), at + i * element.stride, out)?;
                }
            }
            TypeInner::Struct { ref members, .. } => {
                for (member, offset) in members.iter().zip(self.offsets(inner)?) {
                    self.parts(&self.0.types[member.ty].inner, at + offset, out)?;
                }
            }
            ref other => return Err(format!("{other:?} in memory")),
        }
        Ok(())
    }

    /// What an index leads to: strides in bytes of memory, or in registers.
    pub fn element(&self, inner: &TypeInner, bytes: bool) -> Result<Element> {
        let (ty, count) = match *inner {
            TypeInner::Vector { size, scalar } => {
                (Ty::Inner(TypeInner::Scalar(scalar)), Some(size as u32))
            }
            TypeInner::Matrix { columns, rows, scalar } => {
                (Ty::Inner(TypeInner::Vector { size: rows, scalar }), Some(columns as u32))
            }
            TypeInner::Array { base, size, .. } => {
                let count = match size {
                    ArraySize::Constant(n) => Some(n.get()),
                    ArraySize::Dynamic => None,
                    ArraySize::Pending(_) => return Err("arrays sized by an override".to_owned()),
                };
                (Ty::Handle(base), count)
            }
            ref other => return Err(format!("an index into {other:?}")),
        };
        let element = self.inner(&ty);
        let stride = if bytes {
            let (size, to) = self.size(element)?;
            let own =
                if matches!(inner, TypeInner::Vector { .. }) { size } else { align(size, to) };
            self.stride(inner, own)
        } else {
            self.slots(element)?
        };
        Ok(Element { ty, count, stride })
    }

    /// A struct's member: its type and offset.
    pub fn member(&self, inner: &TypeInner, index: u32, bytes: bool) -> Result<Element> {
        let TypeInner::Struct { members, .. } = inner else {
            let element = self.element(inner, bytes)?;
            return Ok(Element { stride: element.stride * index, ..element });
        };
        let index = index as usize;
        let offset = if bytes {
            self.offsets(inner)?[index]
        } else {
            let before = members[..index].iter();
            before.map(|m| self.slots(&self.0.types[m.ty].inner)).sum::<Result<_>>()?
        };
        Ok(Element { ty: Ty::Handle(members[index].ty), count: None, stride: offset })
    }

    /// Whether an f16 lies in it.
    pub fn has_f16(&self, inner: &TypeInner) -> bool {
        match *inner {
            TypeInner::Array { base, .. } => self.has_f16(&self.0.types[base].inner),
            TypeInner::Struct { ref members, .. } => {
                members.iter().any(|m| self.has_f16(&self.0.types[m.ty].inner))
            }
            ref other => scalar_kind(other) == Ok(Kind::F16),
        }
    }
}
