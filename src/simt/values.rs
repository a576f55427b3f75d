//! Lowering of expressions.

use std::rc::Rc;

use wgpu::naga::{
    BinaryOperator, Expression, Handle, Literal, RelationalFunction, ScalarKind, TypeInner,
    UnaryOperator,
};

use super::code::{Bin, Bound, Instr, Kind, Slot, Un};
use super::layout::{Element, Result, kind_of, matrix, scalar_kind};
use super::lower::{Frame, Lower, Pointer, Root, Value};

impl<'a> Lower<'a> {
    /// Computes an expression where it stands.
    pub fn emit(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Result<()> {
        self.at(frame.function.expressions.get_span(handle));
        let value = self.expression(frame, handle)?;
        frame.values[handle.index()] = Some(value);
        Ok(())
    }

    /// The value of an expression; of one that is not computed yet, here.
    pub fn value(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Result<Value> {
        match &frame.values[handle.index()] {
            Some(value) => Ok(value.clone()),
            None => self.expression(frame, handle),
        }
    }

    pub fn slots_of(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
    ) -> Result<Rc<[Slot]>> {
        match self.value(frame, handle)? {
            Value::Slots(slots) => Ok(slots),
            Value::Pointer(_) => Err("a pointer as a value".to_owned()),
        }
    }

    pub fn pointer_of(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
    ) -> Result<Pointer> {
        match self.value(frame, handle)? {
            Value::Pointer(pointer) => Ok(*pointer),
            Value::Slots(_) => Err("a value as a pointer".to_owned()),
        }
    }

    fn expression(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Result<Value> {
        let module = self.module;
        let ty = frame.ty(module, handle);
        let slots: Rc<[Slot]> = match frame.function.expressions[handle] {
            Expression::GlobalVariable(var) => {
                return Ok(Value::Pointer(Box::new(self.global_pointer(var)?)));
            }
            Expression::LocalVariable(var) => {
                return Ok(Value::Pointer(Box::new(self.local_pointer(frame, var))));
            }
            Expression::FunctionArgument(i) => return Ok(frame.arguments[i as usize].clone()),
            Expression::Literal(literal) => [self.literal(literal)?].into(),
            Expression::Constant(constant) => {
                self.constant(module.constants[constant].init)?.into()
            }
            Expression::ZeroValue(ty) => self.zero(&module.types[ty].inner)?.into(),
            Expression::Compose { ref components, .. } => {
                let mut all = Vec::new();
                for &component in components {
                    all.extend(self.slots_of(frame, component)?.iter());
                }
                all.into()
            }
            Expression::Splat { size, value } => {
                vec![self.slots_of(frame, value)?[0]; size as usize].into()
            }
            Expression::Swizzle { size, vector, pattern } => {
                let from = self.slots_of(frame, vector)?;
                pattern[..size as usize].iter().map(|&c| from[c as usize]).collect()
            }
            Expression::Access { base, index } => return self.access(frame, base, index),
            Expression::AccessIndex { base, index } => return self.member(frame, base, index),
            Expression::Load { pointer } => {
                let pointer = self.pointer_of(frame, pointer)?;
                self.load(&pointer)?
            }
            Expression::Unary { op, expr } => {
                let from = self.slots_of(frame, expr)?;
                let kind = scalar_kind(frame.ty(module, expr))?;
                if let Some(shape) = matrix(ty)? {
                    let zero = self.bits((-0.0f32).to_bits());
                    let dst = self.fresh(ty)?[0];
                    let fill = self.fresh(ty)?[0];
                    self.push(Instr::MatrixFill { dst: fill, a: zero, shape });
                    self.push(Instr::MatrixBin { op: Bin::Sub, dst, a: fill, b: from[0], shape });
                    [dst].into()
                } else {
                    let op = if op == UnaryOperator::Negate { Un::Neg } else { Un::Not };
                    self.un(op, kind, &from)?
                }
            }
            Expression::Binary { op, left, right } => self.binary(frame, op, left, right)?,
            Expression::Select { condition, accept, reject } => {
                let condition = self.slots_of(frame, condition)?;
                let (yes, no) = (self.slots_of(frame, accept)?, self.slots_of(frame, reject)?);
                let select = |(i, (&yes, &no)): (usize, (&Slot, &Slot))| {
                    let dst = self.slot()?;
                    let condition = condition[if condition.len() == 1 { 0 } else { i }];
                    self.push(Instr::Select { dst, condition, yes, no });
                    Ok(dst)
                };
                yes.iter().zip(no.iter()).enumerate().map(select).collect::<Result<_>>()?
            }
            Expression::Relational { fun, argument } => {
                let from = self.slots_of(frame, argument)?;
                let kind = scalar_kind(frame.ty(module, argument))?;
                match fun {
                    RelationalFunction::All => [self.fold(Bin::And, Kind::Bool, &from)?].into(),
                    RelationalFunction::Any => [self.fold(Bin::Or, Kind::Bool, &from)?].into(),
                    RelationalFunction::IsNan => self.un(Un::IsNan, kind, &from)?,
                    RelationalFunction::IsInf => self.un(Un::IsInf, kind, &from)?,
                }
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                self.math(frame, fun, [Some(arg), arg1, arg2, arg3])?
            }
            Expression::As { expr, kind, convert } => {
                let from = self.slots_of(frame, expr)?;
                self.cast(frame, expr, &from, kind, convert)?
            }
            Expression::ArrayLength(array) => {
                let pointer = self.pointer_of(frame, array)?;
                let Root::Memory(var) = pointer.root else {
                    return Err("the length of an array that is no buffer".to_owned());
                };
                let element = self.types.element(self.types.inner(&pointer.ty), true)?;
                let bound = Bound::Runtime { var, first: pointer.offset, stride: element.stride };
                let dst = self.slot()?;
                self.push(Instr::Length { dst, bound });
                [dst].into()
            }
            Expression::CooperativeLoad { ref data, .. } => {
                let tile = self.tile(frame, data, handle)?;
                let dst = self.fresh(ty)?[0];
                self.push(Instr::LoadMatrix { dst, tile: Box::new(tile) });
                [dst].into()
            }
            Expression::CooperativeMultiplyAdd { a, b, c } => {
                let left = matrix(frame.ty(module, a))?.ok_or("a product of no matrices")?;
                let out = matrix(ty)?.ok_or("a product of no matrices")?;
                let [a, b, c] = [a, b, c].map(|x| self.slots_of(frame, x));
                let (a, b, c) = (a?[0], b?[0], c?[0]);
                let dst = self.fresh(ty)?[0];
                self.push(Instr::MultiplyAdd { dst, a, b, c, left, out });
                [dst].into()
            }
            ref other => {
                let text = format!("{other:?}");
                let word = text.split([' ', '(', '{']).next().unwrap_or_default();
                return Err(format!("the expression {word}"));
            }
        };
        Ok(Value::Slots(slots))
    }

    fn literal(&mut self, literal: Literal) -> Result<Slot> {
        let bits = super::literal::bits(literal)?;
        Ok(self.bits(bits))
    }

    /// The value of an index that is known here.
    fn known_index(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> Option<u32> {
        let mut literal = match frame.function.expressions[handle] {
            Expression::Literal(literal) => Some(literal),
            _ => None,
        };
        if let Expression::Constant(constant) = frame.function.expressions[handle]
            && let Expression::Literal(found) =
                self.module.global_expressions[self.module.constants[constant].init]
        {
            literal = Some(found);
        }
        match literal? {
            Literal::U32(v) => Some(v),
            Literal::I32(v) => u32::try_from(v).ok(),
            _ => None,
        }
    }

    fn access(
        &mut self,
        frame: &mut Frame<'a>,
        base: Handle<Expression>,
        index: Handle<Expression>,
    ) -> Result<Value> {
        if let Some(known) = self.known_index(frame, index) {
            return self.member(frame, base, known);
        }
        let signed = scalar_kind(frame.ty(self.module, index))? == Kind::I32;
        let at = self.slots_of(frame, index)?[0];
        match self.value(frame, base)? {
            Value::Pointer(pointer) => {
                let inner = self.types.inner(&pointer.ty).clone();
                let bytes = matches!(pointer.root, Root::Memory(_));
                let element = self.types.element(&inner, bytes)?;
                self.indexed(*pointer, element, at, signed)
            }
            Value::Slots(from) => {
                let inner = frame.ty(self.module, base);
                let element = self.types.element(inner, false)?;
                let count = element.count.ok_or("an index into a value without length")?;
                let picked = self.slot()?;
                let name = self.name("a value".to_owned());
                self.push(Instr::Index {
                    dst: picked,
                    previous: None,
                    index: at,
                    signed,
                    stride: 1,
                    bound: Bound::Fixed(count),
                    name,
                });
                let width = element.stride as usize;
                let slots = self.fresh(self.types.inner(&element.ty))?;
                for (c, &dst) in slots.iter().enumerate() {
                    let from = from.iter().copied().skip(c).step_by(width).collect();
                    self.push(Instr::Pick { dst, from, index: picked });
                }
                Ok(Value::Slots(slots.into()))
            }
        }
    }

    /// A pointer to the element at a register's index.
    fn indexed(
        &mut self,
        pointer: Pointer,
        element: Element,
        index: Slot,
        signed: bool,
    ) -> Result<Value> {
        let stride = element.stride;
        let bound = match (element.count, pointer.root) {
            (Some(count), _) => Bound::Fixed(count),
            (None, Root::Memory(var)) => Bound::Runtime { var, first: pointer.offset, stride },
            (None, _) => return Err("a runtime-sized array in registers".to_owned()),
        };
        let dst = self.slot()?;
        let (previous, name) = (pointer.dynamic, pointer.name);
        self.push(Instr::Index { dst, previous, index, signed, stride, bound, name });
        let pointer = Pointer { ty: element.ty, dynamic: Some(dst), ..pointer };
        Ok(Value::Pointer(Box::new(pointer)))
    }

    fn member(
        &mut self,
        frame: &mut Frame<'a>,
        base: Handle<Expression>,
        index: u32,
    ) -> Result<Value> {
        match self.value(frame, base)? {
            Value::Pointer(mut pointer) => {
                let inner = self.types.inner(&pointer.ty).clone();
                let bytes = matches!(pointer.root, Root::Memory(_));
                let is_struct = matches!(inner, TypeInner::Struct { .. });
                if !is_struct {
                    let element = self.types.element(&inner, bytes)?;
                    // Only the buffer that is bound says how long it is.
                    if element.count.is_none() {
                        let at = self.bits(index);
                        return self.indexed(*pointer, element, at, false);
                    }
                }
                let element = self.types.member(&inner, index, bytes)?;
                pointer.offset += element.stride;
                pointer.ty = element.ty;
                Ok(Value::Pointer(pointer))
            }
            Value::Slots(from) => {
                let inner = frame.ty(self.module, base);
                let element = self.types.member(inner, index, false)?;
                let count = self.types.slots(self.types.inner(&element.ty))? as usize;
                let first = element.stride as usize;
                Ok(Value::Slots(from[first..first + count].into()))
            }
        }
    }

    // ---- instructions with new registers ----

    pub fn un(&mut self, op: Un, kind: Kind, from: &[Slot]) -> Result<Rc<[Slot]>> {
        let each = |&a: &Slot| {
            let dst = self.slot()?;
            self.push(Instr::Un { op, kind, dst, a });
            Ok(dst)
        };
        from.iter().map(each).collect()
    }

    pub fn bin(&mut self, op: Bin, kind: Kind, a: Slot, b: Slot) -> Result<Slot> {
        let dst = self.slot()?;
        let sums = kind.is_float() && matches!(op, Bin::Add | Bin::Sub);
        let fused = sums && (self.products.remove(&a) || self.products.remove(&b));
        if kind.is_float() && op == Bin::Mul {
            self.products.insert(dst);
        }
        self.push(Instr::Bin { op, kind, dst, a, b, fused });
        Ok(dst)
    }

    /// Component by component; a single register stands for a vector of its like.
    pub fn bins(&mut self, op: Bin, kind: Kind, a: &[Slot], b: &[Slot]) -> Result<Rc<[Slot]>> {
        let at = |x: &[Slot], i: usize| x[if x.len() == 1 { 0 } else { i }];
        (0..a.len().max(b.len())).map(|i| self.bin(op, kind, at(a, i), at(b, i))).collect()
    }

    /// All components joined, from the first to the last.
    pub fn fold(&mut self, op: Bin, kind: Kind, from: &[Slot]) -> Result<Slot> {
        let mut all = from[0];
        for &next in &from[1..] {
            all = self.bin(op, kind, all, next)?;
        }
        Ok(all)
    }

    pub fn dot(&mut self, kind: Kind, a: &[Slot], b: &[Slot]) -> Result<Slot> {
        let products = self.bins(Bin::Mul, kind, a, b)?;
        self.fold(Bin::Add, kind, &products)
    }

    fn binary(
        &mut self,
        frame: &mut Frame<'a>,
        op: BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
    ) -> Result<Rc<[Slot]>> {
        let (l, r) = (frame.ty(self.module, left), frame.ty(self.module, right));
        let (a, b) = (self.slots_of(frame, left)?, self.slots_of(frame, right)?);
        let kind = scalar_kind(l)?;
        let op = match op {
            BinaryOperator::Add => Bin::Add,
            BinaryOperator::Subtract => Bin::Sub,
            BinaryOperator::Multiply => Bin::Mul,
            BinaryOperator::Divide => Bin::Div,
            BinaryOperator::Modulo => Bin::Rem,
            BinaryOperator::Equal => Bin::Eq,
            BinaryOperator::NotEqual => Bin::Ne,
            BinaryOperator::Less => Bin::Lt,
            BinaryOperator::LessEqual => Bin::Le,
            BinaryOperator::Greater => Bin::Gt,
            BinaryOperator::GreaterEqual => Bin::Ge,
            BinaryOperator::And | BinaryOperator::LogicalAnd => Bin::And,
            BinaryOperator::ExclusiveOr => Bin::Xor,
            BinaryOperator::InclusiveOr | BinaryOperator::LogicalOr => Bin::Or,
            BinaryOperator::ShiftLeft => Bin::Shl,
            BinaryOperator::ShiftRight => Bin::Shr,
        };
        if let Some(shape) = matrix(l)?.or(matrix(r)?) {
            let (ty, a, b) = if matrix(l)?.is_some() { (l, a, b) } else { (r, b, a) };
            let product = op == Bin::Mul && matrix(l)?.is_some() && matrix(r)?.is_some();
            if product || !matches!(op, Bin::Add | Bin::Sub | Bin::Mul | Bin::Div) {
                return Err(format!("{op:?} of cooperative matrices"));
            }
            let dst = self.fresh(ty)?[0];
            self.push(Instr::MatrixBin { op, dst, a: a[0], b: b[0], shape });
            return Ok([dst].into());
        }
        let columns = |slots: &[Slot], rows: usize| -> Vec<Vec<Slot>> {
            slots.chunks(rows).map(<[Slot]>::to_vec).collect()
        };
        let rows_of = |slots: &[Slot], rows: usize, i: usize| -> Vec<Slot> {
            slots.iter().copied().skip(i).step_by(rows).collect()
        };
        match (op, l, r) {
            (Bin::Mul, &TypeInner::Matrix { rows, .. }, &TypeInner::Vector { .. }) => {
                let rows = rows as usize;
                (0..rows).map(|i| self.dot(kind, &rows_of(&a, rows, i), &b)).collect()
            }
            (Bin::Mul, &TypeInner::Vector { .. }, &TypeInner::Matrix { rows, .. }) => {
                let columns = columns(&b, rows as usize);
                columns.iter().map(|column| self.dot(kind, &a, column)).collect()
            }
            (Bin::Mul, &TypeInner::Matrix { rows, .. }, &TypeInner::Matrix { rows: inner, .. }) => {
                let (rows, mut out) = (rows as usize, Vec::new());
                for column in columns(&b, inner as usize) {
                    for i in 0..rows {
                        out.push(self.dot(kind, &rows_of(&a, rows, i), &column)?);
                    }
                }
                Ok(out.into())
            }
            _ => self.bins(op, kind, &a, &b),
        }
    }

    fn cast(
        &mut self,
        frame: &Frame<'a>,
        expr: Handle<Expression>,
        from: &[Slot],
        kind: ScalarKind,
        convert: Option<u8>,
    ) -> Result<Rc<[Slot]>> {
        let old = scalar_kind(frame.ty(self.module, expr))?;
        let Some(width) = convert else {
            // A bitcast between types of one width changes nothing.
            return Ok(from.into());
        };
        let new = kind_of(wgpu::naga::Scalar { kind, width })?;
        if old == new {
            return Ok(from.into());
        }
        let each = |&a: &Slot| {
            let dst = self.slot()?;
            self.push(Instr::Convert { from: old, to: new, dst, a });
            Ok(dst)
        };
        from.iter().map(each).collect()
    }
}
