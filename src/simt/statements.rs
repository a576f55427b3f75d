//! Lowering of statements.

use wgpu::naga::{
    AtomicFunction, Barrier, Block, CollectiveOperation, CooperativeData, Direction, Expression,
    GatherMode, Handle, Statement, SubgroupOperation, SwitchCase, SwitchValue, TypeInner,
};

use super::code::{Atomic, Bin, Case, Gather, Instr, Join, Orders, Scan, Slot, Step, Tile};
use super::layout::{Result, matrix, scalar_kind};
use super::lower::{Frame, Lower, Root, Value};

impl<'a> Lower<'a> {
    pub fn statement(&mut self, frame: &mut Frame<'a>, statement: &'a Statement) -> Result<()> {
        match *statement {
            Statement::Emit(ref range) => {
                for handle in range.clone() {
                    self.emit(frame, handle)?;
                }
            }
            Statement::Block(ref block) => self.block(frame, block)?,
            Statement::If { condition, ref accept, ref reject } => {
                let condition = self.slots_of(frame, condition)?[0];
                let accept = self.inner_block(frame, accept)?;
                let reject = self.inner_block(frame, reject)?;
                self.step(Step::If { condition, accept, reject });
            }
            Statement::Switch { selector, ref cases } => {
                let selector = self.slots_of(frame, selector)?[0];
                let cases = self.cases(frame, cases)?;
                self.step(Step::Switch { selector, cases });
            }
            Statement::Loop { ref body, ref continuing, break_if } => {
                let step = self.loop_blocks(frame, body, continuing, break_if)?;
                self.step(step);
            }
            Statement::Break => self.step(Step::Break),
            Statement::Continue => self.step(Step::Continue),
            Statement::Return { value } => {
                if let Some(value) = value {
                    self.give_back(frame, value)?;
                }
                self.step(Step::Return);
            }
            Statement::ControlBarrier(flags) => self.barrier(flags)?,
            Statement::MemoryBarrier(flags) => {
                return Err(format!("a memory barrier without control ({flags:?})"));
            }
            Statement::Store { pointer, value } => {
                let values = self.slots_of(frame, value)?;
                let pointer = self.pointer_of(frame, pointer)?;
                self.store(&pointer, &values)?;
            }
            Statement::Atomic { pointer, ref fun, value, result } => {
                self.atomic(frame, pointer, *fun, value, result)?;
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                let site = self.site();
                let orders = Orders { workgroup: true, storage: false };
                self.step(Step::Barrier { orders, site, written: false });
                let pointer = self.pointer_of(frame, pointer)?;
                if let Some(slot) = pointer.dynamic {
                    self.step(Step::Uniform { slot, site });
                }
                let slots = self.load(&pointer)?;
                frame.values[result.index()] = Some(Value::Slots(slots));
                self.step(Step::Barrier { orders, site, written: false });
            }
            Statement::Call { function, ref arguments, result } => {
                let mut values = Vec::new();
                for &argument in arguments {
                    values.push(self.value(frame, argument)?);
                }
                let slots = self.call(function, values)?;
                if let Some(result) = result {
                    frame.values[result.index()] = Some(Value::Slots(slots));
                }
            }
            Statement::SubgroupBallot { result, predicate } => {
                self.subgroups = true;
                let predicate = match predicate {
                    Some(handle) => Some(self.slots_of(frame, handle)?[0]),
                    None => None,
                };
                let slots = self.result(frame, result)?;
                let dst = [slots[0], slots[1], slots[2], slots[3]];
                self.push(Instr::Ballot { dst, predicate });
            }
            Statement::SubgroupGather { mode, argument, result } => {
                self.gather(frame, mode, argument, result)?;
            }
            Statement::SubgroupCollectiveOperation { op, collective_op, argument, result } => {
                self.collective(frame, op, collective_op, argument, result)?;
            }
            Statement::CooperativeStore { target, ref data } => {
                let src = self.slots_of(frame, target)?[0];
                let tile = self.tile(frame, data, target)?;
                self.push(Instr::StoreMatrix { src, tile: Box::new(tile) });
            }
            ref other => {
                let text = format!("{other:?}");
                let word = text.split([' ', '(', '{']).next().unwrap_or_default();
                return Err(format!("the statement {word}"));
            }
        }
        Ok(())
    }

    /// Registers of what a statement computes.
    fn result(&mut self, frame: &mut Frame<'a>, handle: Handle<Expression>) -> Result<Vec<Slot>> {
        let slots = self.fresh(frame.ty(self.module, handle))?;
        frame.values[handle.index()] = Some(Value::Slots(slots.clone().into()));
        Ok(slots)
    }

    fn cases(&mut self, frame: &mut Frame<'a>, cases: &'a [SwitchCase]) -> Result<Vec<Case>> {
        let mut out: Vec<Case> = Vec::new();
        // Cases of one body come as empty bodies that fall through to it.
        let (mut values, mut default) = (Vec::new(), false);
        for (i, case) in cases.iter().enumerate() {
            match case.value {
                SwitchValue::I32(value) => values.push(value as u32),
                SwitchValue::U32(value) => values.push(value),
                SwitchValue::Default => default = true,
            }
            let empty = |block: &Block| {
                block
                    .iter()
                    .all(|s| matches!(s, Statement::Emit(range) if range.clone().next().is_none()))
            };
            if case.fall_through {
                if !empty(&case.body) {
                    return Err("a switch case with a body that falls through".to_owned());
                }
                if i + 1 < cases.len() {
                    continue;
                }
            }
            let body = self.inner_block(frame, &case.body)?;
            out.push(Case { values: std::mem::take(&mut values), default, body });
            default = false;
        }
        Ok(out)
    }

    fn barrier(&mut self, flags: Barrier) -> Result<()> {
        let site = self.site();
        if flags.contains(Barrier::TEXTURE) {
            return Err("a barrier for textures".to_owned());
        }
        let workgroup = flags.contains(Barrier::WORK_GROUP);
        let storage = flags.contains(Barrier::STORAGE);
        if workgroup || storage {
            let orders = Orders { workgroup, storage };
            self.step(Step::Barrier { orders, site, written: true });
        } else {
            self.subgroups = true;
            self.step(Step::SubgroupBarrier { site });
        }
        Ok(())
    }

    fn atomic(
        &mut self,
        frame: &mut Frame<'a>,
        pointer: Handle<Expression>,
        fun: AtomicFunction,
        value: Handle<Expression>,
        result: Option<Handle<Expression>>,
    ) -> Result<()> {
        let pointer = self.pointer_of(frame, pointer)?;
        let Root::Memory(var) = pointer.root else {
            return Err("an atomic outside workgroup and storage memory".to_owned());
        };
        let kind = scalar_kind(self.types.inner(&pointer.ty))?;
        let mut value = self.slots_of(frame, value)?[0];
        let slots = match result {
            Some(handle) => Some(self.result(frame, handle)?),
            None => None,
        };
        let op = match fun {
            AtomicFunction::Add => Atomic::Bin(Bin::Add),
            AtomicFunction::Subtract => Atomic::Bin(Bin::Sub),
            AtomicFunction::And => Atomic::Bin(Bin::And),
            AtomicFunction::ExclusiveOr => Atomic::Bin(Bin::Xor),
            AtomicFunction::InclusiveOr => Atomic::Bin(Bin::Or),
            AtomicFunction::Min => Atomic::Bin(Bin::Min),
            AtomicFunction::Max => Atomic::Bin(Bin::Max),
            AtomicFunction::Exchange { compare: None } => Atomic::Exchange,
            AtomicFunction::Exchange { compare: Some(compare) } => {
                let exchanged = match slots.as_deref() {
                    Some([_, exchanged]) => *exchanged,
                    _ => self.slot()?,
                };
                Atomic::CompareExchange(self.slots_of(frame, compare)?[0], exchanged)
            }
        };
        if slots.as_ref().is_some_and(|s| s.contains(&value)) {
            let copy = self.slot()?;
            self.push(Instr::Move { dst: copy, src: value });
            value = copy;
        }
        let at = self.address(&pointer, var);
        let dst = slots.map(|s| s[0]);
        self.push(Instr::Atomic { at, offset: pointer.offset, kind, op, value, dst });
        Ok(())
    }

    fn gather(
        &mut self,
        frame: &mut Frame<'a>,
        mode: GatherMode,
        argument: Handle<Expression>,
        result: Handle<Expression>,
    ) -> Result<()> {
        self.subgroups = true;
        let from = self.slots_of(frame, argument)?;
        let mut index = |handle| Ok::<_, String>(self.slots_of(frame, handle)?[0]);
        let how = match mode {
            GatherMode::BroadcastFirst => Gather::First,
            GatherMode::Broadcast(lane) => Gather::Broadcast(index(lane)?),
            GatherMode::Shuffle(lane) => Gather::Shuffle(index(lane)?),
            GatherMode::ShuffleDown(by) => Gather::Down(index(by)?),
            GatherMode::ShuffleUp(by) => Gather::Up(index(by)?),
            GatherMode::ShuffleXor(by) => Gather::Xor(index(by)?),
            GatherMode::QuadBroadcast(lane) => Gather::QuadBroadcast(index(lane)?),
            GatherMode::QuadSwap(direction) => Gather::QuadSwap(match direction {
                Direction::X => 1,
                Direction::Y => 2,
                Direction::Diagonal => 3,
            }),
        };
        let to = self.result(frame, result)?;
        for (&dst, &a) in to.iter().zip(from.iter()) {
            self.push(Instr::Gather { how, dst, a });
        }
        Ok(())
    }

    fn collective(
        &mut self,
        frame: &mut Frame<'a>,
        op: SubgroupOperation,
        scan: CollectiveOperation,
        argument: Handle<Expression>,
        result: Handle<Expression>,
    ) -> Result<()> {
        self.subgroups = true;
        let join = match op {
            SubgroupOperation::All => Join::All,
            SubgroupOperation::Any => Join::Any,
            SubgroupOperation::Add => Join::Bin(Bin::Add),
            SubgroupOperation::Mul => Join::Bin(Bin::Mul),
            SubgroupOperation::Min => Join::Bin(Bin::Min),
            SubgroupOperation::Max => Join::Bin(Bin::Max),
            SubgroupOperation::And => Join::Bin(Bin::And),
            SubgroupOperation::Or => Join::Bin(Bin::Or),
            SubgroupOperation::Xor => Join::Bin(Bin::Xor),
        };
        let scan = match scan {
            CollectiveOperation::Reduce => Scan::Reduce,
            CollectiveOperation::InclusiveScan => Scan::Inclusive,
            CollectiveOperation::ExclusiveScan => Scan::Exclusive,
        };
        let kind = scalar_kind(frame.ty(self.module, argument))?;
        let from = self.slots_of(frame, argument)?;
        let to = self.result(frame, result)?;
        for (&dst, &a) in to.iter().zip(from.iter()) {
            self.push(Instr::Collective { join, scan, kind, dst, a });
        }
        Ok(())
    }

    /// Where a matrix of the type of `of` lies.
    pub fn tile(
        &mut self,
        frame: &mut Frame<'a>,
        data: &CooperativeData,
        of: Handle<Expression>,
    ) -> Result<Tile> {
        self.subgroups = true;
        let shape =
            matrix(frame.ty(self.module, of))?.ok_or("a cooperative access of no matrix")?;
        let stride = self.slots_of(frame, data.stride)?[0];
        let pointer = self.pointer_of(frame, data.pointer)?;
        let Root::Memory(var) = pointer.root else {
            return Err("a cooperative access outside workgroup and storage memory".to_owned());
        };
        let pointee = self.types.inner(&pointer.ty);
        let kind = scalar_kind(pointee)?;
        if kind != shape.kind {
            return Err("a cooperative access of another element type".to_owned());
        }
        // Vectors of three would leave holes between elements.
        if matches!(*pointee, TypeInner::Vector { size, .. } if size as u32 == 3) {
            return Err("a cooperative access of vectors of three".to_owned());
        }
        let (unit, _) = self.types.size(pointee)?;
        let address = self.address(&pointer, var);
        let row_major = data.row_major;
        Ok(Tile { address, offset: pointer.offset, stride, unit, row_major, shape })
    }
}
