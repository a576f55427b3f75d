//! From a naga module to a [`Program`]: functions, statements, variables.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use wgpu::naga::valid::{FunctionInfo, ModuleInfo};
use wgpu::naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, Handle, Module, Span,
    StorageAccess, TypeInner,
};

use super::code::{Instr, Line, MATRIX, Slot, Step};
use super::layout::{Result, Ty, Types, matrix};
use super::program::{Program, Space, Told, Var};
use super::source::{Lines, Source};
use crate::error::Error;

/// Constants that lowering itself makes, such as a zero.
const OWN_CONSTANTS: usize = 256;
/// Registers beyond which a kernel is refused: what it would take to run it is no longer sane.
const MAX_SLOTS: Slot = 1 << 20;

/// Where a pointer leads.
#[derive(Clone, Debug)]
pub(super) struct Pointer {
    pub root: Root,
    pub ty: Ty,
    /// Bytes in memory, registers in variables.
    pub offset: u32,
    pub dynamic: Option<Slot>,
    /// Index of the variable's name.
    pub name: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Memory(usize),
    Registers { base: Slot, private: bool },
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Slots(Rc<[Slot]>),
    Pointer(Box<Pointer>),
}

/// A function that is being expanded.
pub(super) struct Frame<'a> {
    pub function: &'a Function,
    pub info: &'a FunctionInfo,
    pub values: Vec<Option<Value>>,
    pub arguments: Vec<Value>,
    locals: Vec<Slot>,
    result: Rc<[Slot]>,
}

impl<'a> Frame<'a> {
    /// The type of an expression.
    pub fn ty(&self, module: &'a Module, handle: Handle<Expression>) -> &'a TypeInner {
        self.info[handle].ty.inner_with(&module.types)
    }
}

pub(super) struct Lower<'a> {
    pub module: &'a Module,
    pub types: Types<'a>,
    pub subgroups: bool,
    info: &'a ModuleInfo,
    lines: &'a Lines,
    steps: Vec<Step>,
    // Registers are taken and given back like a stack, by block; constants lie in front of them.
    constants: HashMap<u32, Slot>,
    room: usize,
    next: Slot,
    high: Slot,
    /// Behind the registers of private variables, which come first.
    private_end: Slot,
    next_matrix: Slot,
    high_matrix: Slot,
    elements: usize,
    pub vars: Vec<Var>,
    names: Vec<String>,
    globals: Vec<Option<Pointer>>,
    told: Vec<(Slot, Told)>,
    sites: HashMap<usize, u32>,
    lines_of_sites: Vec<usize>,
    /// The line of what is being lowered.
    line: usize,
    /// Products that no sum has taken yet.
    pub products: HashSet<Slot>,
}

/// Lowers a kernel. Errors name the construct that cannot be run and its line.
pub(super) fn lower(source: &Source) -> crate::error::Result<Program> {
    let mut lower = Lower::new(source);
    match lower.entry() {
        Ok(steps) => Ok(lower.finish(source, steps)),
        Err(why) => {
            let place = source.lines.place(lower.line);
            Err(Error::kernel(&source.name, format!("{place}: the checker does not run {why}")))
        }
    }
}

impl<'a> Lower<'a> {
    fn new(source: &'a Source) -> Self {
        let module = &source.module;
        let literals = |e: &Expression| matches!(e, Expression::Literal(_));
        let of = |f: &Function| f.expressions.iter().filter(|(_, e)| literals(e)).count();
        let functions: usize = module.functions.iter().map(|(_, f)| of(f)).sum();
        let entries: usize = module.entry_points.iter().map(|e| of(&e.function)).sum();
        let global = module.global_expressions.iter().filter(|(_, e)| literals(e)).count();
        let room = functions + entries + global + OWN_CONSTANTS;
        Self {
            module,
            types: Types(module),
            subgroups: false,
            info: &source.info,
            lines: &source.lines,
            steps: Vec::new(),
            constants: HashMap::new(),
            room,
            next: room as Slot,
            high: room as Slot,
            private_end: 0,
            next_matrix: 0,
            high_matrix: 0,
            elements: 0,
            vars: Vec::new(),
            names: Vec::new(),
            globals: Vec::new(),
            told: Vec::new(),
            sites: HashMap::new(),
            lines_of_sites: Vec::new(),
            line: 0,
            products: HashSet::new(),
        }
    }

    fn finish(self, source: &Source, steps: Vec<Step>) -> Program {
        Program {
            name: source.name.clone(),
            size: source.module.entry_points[0].workgroup_size,
            steps,
            private: self.room as Slot..self.private_end,
            slots: self.high,
            matrices: self.high_matrix,
            elements: self.elements,
            constants: self.constants.into_iter().map(|(bits, slot)| (slot, bits)).collect(),
            told: self.told,
            vars: self.vars,
            names: self.names,
            places: self.lines_of_sites.iter().map(|&line| source.lines.place(line)).collect(),
            subgroups: self.subgroups,
        }
    }

    fn entry(&mut self) -> Result<Vec<Step>> {
        let [entry] = self.module.entry_points.as_slice() else {
            return Err("modules with several entry points".to_owned());
        };
        if entry.workgroup_size_overrides.is_some() {
            return Err("workgroup sizes that are overrides".to_owned());
        }
        for (_, var) in self.module.global_variables.iter() {
            let global = self.global(var)?;
            self.globals.push(global);
        }
        self.private_end = self.next;
        let function = &entry.function;
        let mut arguments = Vec::new();
        for argument in &function.arguments {
            let inner = &self.module.types[argument.ty].inner;
            let slots = match (&argument.binding, inner) {
                (Some(binding), _) => self.told(binding)?,
                (None, TypeInner::Struct { members, .. }) => {
                    let mut all = Vec::new();
                    for member in members {
                        let binding = member.binding.as_ref();
                        all.extend(self.told(binding.ok_or("an argument that is no built-in")?)?);
                    }
                    all
                }
                _ => return Err("an argument that is no built-in".to_owned()),
            };
            arguments.push(Value::Slots(slots.into()));
        }
        let info = self.info.get_entry_point(0);
        let mut frame = self.frame(function, info, arguments, Rc::from([]))?;
        self.block(&mut frame, &function.body)?;
        Ok(std::mem::take(&mut self.steps))
    }

    fn global(&mut self, var: &wgpu::naga::GlobalVariable) -> Result<Option<Pointer>> {
        let inner = &self.module.types[var.ty].inner;
        let name = var.name.clone().unwrap_or_default();
        let space = match var.space {
            AddressSpace::WorkGroup => Space::Workgroup,
            AddressSpace::Storage { access } => {
                Space::Storage { writable: access.contains(StorageAccess::STORE) }
            }
            AddressSpace::Uniform => Space::Storage { writable: false },
            AddressSpace::Immediate => Space::Immediate,
            AddressSpace::Private => {
                let count = self.types.slots(inner)?;
                let base = self.take(inner, count)?;
                let known = var.init.is_some();
                let init = match var.init {
                    Some(init) => self.constant(init)?,
                    None => self.zero(inner)?,
                };
                self.set(base, &init);
                let name = self.name(name);
                let root = Root::Registers { base, private: !known };
                let ty = Ty::Handle(var.ty);
                return Ok(Some(Pointer { root, ty, offset: 0, dynamic: None, name }));
            }
            // Whatever uses it is refused where it does.
            _ => return Ok(None),
        };
        let (bytes, _) = self.types.size(inner)?;
        let granule = if self.types.has_f16(inner) { 2 } else { 4 };
        let binding = var.binding.map(|b| (b.group, b.binding));
        self.vars.push(Var { name: name.clone(), space, bytes, granule, binding });
        let root = Root::Memory(self.vars.len() - 1);
        let name = self.name(name);
        Ok(Some(Pointer { root, ty: Ty::Handle(var.ty), offset: 0, dynamic: None, name }))
    }

    pub fn global_pointer(&self, handle: Handle<wgpu::naga::GlobalVariable>) -> Result<Pointer> {
        let known = self.globals.get(handle.index()).cloned().flatten();
        known.ok_or_else(|| format!("{:?} variables", self.module.global_variables[handle].space))
    }

    fn told(&mut self, binding: &Binding) -> Result<Vec<Slot>> {
        let Binding::BuiltIn(builtin) = binding else {
            return Err("an argument that is no built-in".to_owned());
        };
        let told: Vec<_> = match builtin {
            BuiltIn::GlobalInvocationId => (0..3).map(Told::Global).collect(),
            BuiltIn::LocalInvocationId => (0..3).map(Told::Local).collect(),
            BuiltIn::WorkGroupId => (0..3).map(Told::Group).collect(),
            BuiltIn::NumWorkGroups => (0..3).map(Told::Groups).collect(),
            BuiltIn::WorkGroupSize => (0..3).map(Told::Size).collect(),
            BuiltIn::LocalInvocationIndex => vec![Told::LocalIndex],
            BuiltIn::SubgroupId => vec![Told::Subgroup],
            BuiltIn::NumSubgroups => vec![Told::Subgroups],
            BuiltIn::SubgroupSize => vec![Told::SubgroupSize],
            BuiltIn::SubgroupInvocationId => vec![Told::SubgroupLane],
            other => return Err(format!("the built-in {other:?}")),
        };
        self.subgroups |= matches!(
            told[0],
            Told::Subgroup | Told::Subgroups | Told::SubgroupSize | Told::SubgroupLane
        );
        let mut slots = Vec::new();
        for one in told {
            let slot = self.slot()?;
            self.told.push((slot, one));
            slots.push(slot);
        }
        Ok(slots)
    }

    fn frame(
        &mut self,
        function: &'a Function,
        info: &'a FunctionInfo,
        arguments: Vec<Value>,
        result: Rc<[Slot]>,
    ) -> Result<Frame<'a>> {
        let values = vec![None; function.expressions.len()];
        let mut frame = Frame { function, info, values, arguments, locals: Vec::new(), result };
        for (_, local) in function.local_variables.iter() {
            let inner = &self.module.types[local.ty].inner;
            let count = self.types.slots(inner)?;
            let base = self.take(inner, count)?;
            let init = match local.init {
                Some(init) => self.slots_of(&mut frame, init)?,
                None => self.zero(inner)?.into(),
            };
            self.set(base, &init);
            frame.locals.push(base);
        }
        Ok(frame)
    }

    pub fn local_pointer(
        &mut self,
        frame: &Frame<'a>,
        handle: Handle<wgpu::naga::LocalVariable>,
    ) -> Pointer {
        let local = &frame.function.local_variables[handle];
        let name = self.name(local.name.clone().unwrap_or_default());
        let root = Root::Registers { base: frame.locals[handle.index()], private: false };
        Pointer { root, ty: Ty::Handle(local.ty), offset: 0, dynamic: None, name }
    }

    // ---- registers ----

    /// Registers in a row for a value of this type.
    fn take(&mut self, inner: &TypeInner, count: u32) -> Result<Slot> {
        match self.matrix_within(inner)? {
            true => self.matrices(count),
            false => self.slots(count),
        }
    }

    /// Whether a type holds cooperative matrices; they are noted as in use.
    fn matrix_within(&mut self, inner: &TypeInner) -> Result<bool> {
        let mut inner = inner;
        while let TypeInner::Array { base, .. } = *inner {
            inner = &self.module.types[base].inner;
        }
        let Some(shape) = matrix(inner)? else { return Ok(false) };
        self.elements = self.elements.max(shape.rows * shape.columns);
        self.subgroups = true;
        Ok(true)
    }

    fn slots(&mut self, count: u32) -> Result<Slot> {
        let first = self.next;
        for slot in first..first.saturating_add(count) {
            self.products.remove(&slot);
        }
        self.next =
            first.checked_add(count).filter(|&n| n < MAX_SLOTS).ok_or("so many variables")?;
        self.high = self.high.max(self.next);
        Ok(first)
    }

    pub fn slot(&mut self) -> Result<Slot> {
        self.slots(1)
    }

    fn matrices(&mut self, count: u32) -> Result<Slot> {
        let first = self.next_matrix;
        self.next_matrix = first + count;
        self.high_matrix = self.high_matrix.max(self.next_matrix);
        Ok(first | MATRIX)
    }

    /// Registers, not in a row, for a value of this type.
    pub fn fresh(&mut self, inner: &TypeInner) -> Result<Vec<Slot>> {
        let count = self.types.slots(inner)?;
        let first = self.take(inner, count)?;
        Ok((first..first + count).collect())
    }

    fn mark(&self) -> (Slot, Slot) {
        (self.next, self.next_matrix)
    }

    fn release(&mut self, mark: (Slot, Slot)) {
        (self.next, self.next_matrix) = mark;
    }

    /// A register that always holds these bits.
    pub fn bits(&mut self, bits: u32) -> Slot {
        let next = self.constants.len();
        // Lowering asks for few constants of its own; the text's are counted.
        debug_assert!(next < self.room);
        *self.constants.entry(bits).or_insert(next as Slot)
    }

    pub fn zero(&mut self, inner: &TypeInner) -> Result<Vec<Slot>> {
        let count = self.types.slots(inner)? as usize;
        let zero = self.bits(0);
        if !self.matrix_within(inner)? {
            return Ok(vec![zero; count]);
        }
        let mut element = inner;
        while let TypeInner::Array { base, .. } = *element {
            element = &self.module.types[base].inner;
        }
        let shape = matrix(element)?.ok_or("a matrix among other values")?;
        let slots = self.fresh(inner)?;
        for &dst in &slots {
            self.push(Instr::MatrixFill { dst, a: zero, shape });
        }
        Ok(slots)
    }

    fn set(&mut self, base: Slot, values: &[Slot]) {
        for (i, &src) in values.iter().enumerate() {
            self.push(Instr::Copy { dst: base + i as Slot, src });
        }
    }

    // ---- lines and steps ----

    pub fn push(&mut self, instr: Instr) {
        let site = self.site();
        self.steps.push(Step::Do(Line { instr, site }));
    }

    pub fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The line at hand, as findings name it.
    pub fn site(&mut self) -> u32 {
        let next = self.lines_of_sites.len() as u32;
        let site = *self.sites.entry(self.line).or_insert(next);
        if site == next {
            self.lines_of_sites.push(self.line);
        }
        site
    }

    pub fn at(&mut self, span: Span) {
        if let Some(line) = self.lines.line(span) {
            self.line = line;
        }
    }

    pub fn name(&mut self, name: String) -> u32 {
        let known = self.names.iter().position(|n| *n == name);
        known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        }) as u32
    }

    /// Lowers a block into a list of steps of its own. Its registers stay taken.
    pub fn open_block(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Result<Vec<Step>> {
        let outer = std::mem::take(&mut self.steps);
        let done = self.block(frame, block);
        let steps = std::mem::replace(&mut self.steps, outer);
        done.map(|()| steps)
    }

    /// The same, and gives its registers back.
    pub fn inner_block(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Result<Vec<Step>> {
        let mark = self.mark();
        let steps = self.open_block(frame, block)?;
        self.release(mark);
        Ok(steps)
    }

    pub fn loop_blocks(
        &mut self,
        frame: &mut Frame<'a>,
        body: &'a Block,
        continuing: &'a Block,
        break_if: Option<Handle<Expression>>,
    ) -> Result<Step> {
        let site = self.site();
        let mark = self.mark();
        // What the body computes is seen by what follows it.
        let body = self.open_block(frame, body)?;
        let continuing = self.open_block(frame, continuing)?;
        let break_if = match break_if {
            Some(handle) => Some(self.slots_of(frame, handle)?[0]),
            None => None,
        };
        self.release(mark);
        Ok(Step::Loop { body, continuing, break_if, site })
    }

    /// Lowers a block whose steps join those at hand.
    pub fn block(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Result<()> {
        for (statement, span) in block.span_iter() {
            self.at(*span);
            self.statement(frame, statement)?;
        }
        Ok(())
    }

    pub fn call(&mut self, handle: Handle<Function>, arguments: Vec<Value>) -> Result<Rc<[Slot]>> {
        let function = &self.module.functions[handle];
        let result: Rc<[Slot]> = match &function.result {
            Some(result) => self.fresh(&self.module.types[result.ty].inner)?.into(),
            None => Rc::from([]),
        };
        let mark = self.mark();
        let line = self.line;
        let outer = std::mem::take(&mut self.steps);
        let mut frame = self.frame(function, &self.info[handle], arguments, Rc::clone(&result))?;
        self.block(&mut frame, &function.body)?;
        let body = std::mem::replace(&mut self.steps, outer);
        self.release(mark);
        self.line = line;
        self.step(Step::Call { body });
        Ok(result)
    }

    pub fn give_back(&mut self, frame: &mut Frame<'a>, value: Handle<Expression>) -> Result<()> {
        let slots = self.slots_of(frame, value)?;
        let result = Rc::clone(&frame.result);
        for (&dst, &src) in result.iter().zip(slots.iter()) {
            self.push(Instr::Copy { dst, src });
        }
        Ok(())
    }
}
