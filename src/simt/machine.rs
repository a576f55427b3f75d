//! One workgroup after the other on one thread: state and control flow.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::code::{Bound, Case, Orders, Slot, Step};
use super::findings::{Findings, Kind as Found};
use super::mask::Mask;
use super::memory::{Buffer, Local};
use super::meter::Meter;
use super::program::{Program, Space, Told};
use super::shadow::{Shadow, Stamp};

/// Rounds of loops that one invocation may run on every driver: lavapipe ends loops there without
/// a word.
pub const MAX_ROUNDS: u32 = 65_535;
/// Rounds after which a workgroup is given up.
const PATIENCE: u64 = 1 << 22;

/// What all workgroups of a dispatch share.
pub(super) struct Shared<'a> {
    pub program: &'a Program,
    /// By variable; `None` for what is no buffer.
    pub buffers: Vec<Option<&'a Buffer>>,
    /// The parameter block.
    pub params: Vec<u32>,
    pub grid: [u32; 3],
    /// Invocations of a subgroup.
    pub subgroup: usize,
    pub metered: bool,
}

/// A loop, switch or call that steps can leave.
#[derive(Clone, Copy)]
struct Frame {
    broken: Mask,
    continued: Mask,
    is_loop: bool,
}

/// Which lanes of a register hold a number that wrapped, by how often 2^32, and where it did.
#[derive(Clone, Debug)]
pub(super) struct Wrapped {
    pub lanes: Box<[i32]>,
    pub site: u32,
}

pub(super) struct Machine<'a> {
    pub program: &'a Program,
    pub shared: &'a Shared<'a>,
    pub lanes: usize,
    /// The workgroup at hand, counted in one dimension.
    pub group: u32,
    pub regs: Vec<Vec<u32>>,
    pub matrices: Vec<Vec<f32>>,
    pub wrapped: Vec<Option<Box<Wrapped>>>,
    pub any_wrapped: bool,
    /// Private registers: which lanes have written them.
    pub private: Vec<Mask>,
    pub all: Mask,
    /// Those that execute; changed by `activate` only.
    pub active: Mask,
    /// Whether all do.
    pub full: bool,
    pub list: Vec<u16>,
    listed: bool,
    /// Every subgroup with its members.
    whole: Rc<[(usize, Mask)]>,
    /// By variable, where it is workgroup memory.
    pub locals: Vec<Option<Local>>,
    /// By variable, where it is a buffer that the kernel may write.
    pub shadows: Vec<Option<Shadow>>,
    frames: Vec<Frame>,
    // Time.
    pub epochs: [u32; 2],
    pub first_epoch: u32,
    opened_by: [Option<u32>; 2],
    pub turns: Vec<u16>,
    /// The subgroup of each invocation.
    teams: Vec<u16>,
    pub together: u16,
    // Results.
    log: HashMap<(Found, u32, u32), (usize, String, u64)>,
    pub ran: BTreeSet<u32>,
    pub needed: Vec<bool>,
    rounds: Vec<u32>,
    all_rounds: u64,
    pub most_rounds: u32,
    pub meter: Option<Box<Meter>>,
}

/// Index of the clock of workgroup memory, and of storage.
pub(super) const WORKGROUP: usize = 0;
pub(super) const STORAGE: usize = 1;
/// Where numbers of what subgroups do together begin.
const TOGETHER: u16 = super::mask::MAX_LANES as u16;

impl<'a> Machine<'a> {
    pub fn new(shared: &'a Shared<'a>) -> Self {
        let program = shared.program;
        let lanes = program.invocations();
        let teams = lanes.div_ceil(shared.subgroup);
        let mut regs = vec![vec![0; lanes]; program.slots as usize];
        for &(slot, bits) in &program.constants {
            regs[slot as usize].fill(bits);
        }
        let local = |v: &super::program::Var| {
            (v.space == Space::Workgroup).then(|| Local::new(v.bytes, v.granule))
        };
        let shadow = |(v, buffer): (&super::program::Var, &Option<&Buffer>)| {
            let written = v.space == Space::Storage { writable: true };
            let bytes = buffer.map_or(0, Buffer::len);
            written.then(|| Shadow::new(bytes.div_ceil(v.granule as usize)))
        };
        let members = |team: usize| {
            let from = team * shared.subgroup;
            (team, Mask::range(from, (from + shared.subgroup).min(lanes)))
        };
        Self {
            program,
            shared,
            lanes,
            group: 0,
            regs,
            matrices: vec![vec![0.0; program.elements * teams]; program.matrices as usize],
            wrapped: (0..program.slots).map(|_| None).collect(),
            any_wrapped: false,
            private: vec![Mask::EMPTY; program.private.len()],
            all: Mask::range(0, lanes),
            active: Mask::EMPTY,
            full: false,
            list: Vec::new(),
            listed: false,
            whole: (0..teams).map(members).collect(),
            locals: program.vars.iter().map(local).collect(),
            shadows: program.vars.iter().zip(&shared.buffers).map(shadow).collect(),
            frames: Vec::new(),
            epochs: [0; 2],
            first_epoch: 0,
            opened_by: [None; 2],
            turns: vec![0; teams],
            teams: (0..lanes).map(|lane| (lane / shared.subgroup) as u16).collect(),
            together: TOGETHER,
            log: HashMap::new(),
            ran: BTreeSet::new(),
            needed: vec![false; program.places.len()],
            rounds: vec![0; lanes],
            all_rounds: 0,
            most_rounds: 0,
            meter: shared.metered.then(Box::default),
        }
    }

    /// Runs one workgroup from its first step to its last.
    pub fn run(&mut self, group: [u32; 3]) {
        let [x, y, _] = self.shared.grid;
        self.group = group[0] + x * (group[1] + y * group[2]);
        self.tell(group);
        // Epochs of two workgroups are never neighbours.
        self.epochs = self.epochs.map(|e| e + 2);
        self.first_epoch = self.epochs[WORKGROUP];
        self.opened_by = [None; 2];
        self.private.fill(Mask::EMPTY);
        self.rounds.fill(0);
        self.all_rounds = 0;
        self.activate(self.all);
        let program = self.program;
        self.steps(&program.steps);
        self.most_rounds = self.most_rounds.max(self.rounds.iter().copied().max().unwrap_or(0));
        if let Some(meter) = &mut self.meter {
            meter.settle();
        }
    }

    fn tell(&mut self, group: [u32; 3]) {
        let size = self.program.size;
        let teams = self.turns.len() as u32;
        let subgroup = self.shared.subgroup as u32;
        for &(slot, told) in &self.program.told {
            for (lane, to) in self.regs[slot as usize].iter_mut().enumerate() {
                let lane = lane as u32;
                let local = [lane % size[0], lane / size[0] % size[1], lane / (size[0] * size[1])];
                *to = match told {
                    Told::Global(axis) => group[axis] * size[axis] + local[axis],
                    Told::Local(axis) => local[axis],
                    Told::LocalIndex => lane,
                    Told::Group(axis) => group[axis],
                    Told::Groups(axis) => self.shared.grid[axis],
                    Told::Size(axis) => size[axis],
                    Told::Subgroup => lane / subgroup,
                    Told::Subgroups => teams,
                    Told::SubgroupSize => subgroup,
                    Told::SubgroupLane => lane % subgroup,
                };
            }
        }
    }

    // ---- control flow ----

    fn steps(&mut self, steps: &'a [Step]) {
        if self.active.is_empty() {
            return;
        }
        for step in steps {
            match step {
                Step::Do(line) => {
                    self.exec(&line.instr, line.site);
                    continue;
                }
                Step::If { condition, accept, reject } => {
                    let before = self.active;
                    let yes = Mask::of(&self.regs[*condition as usize]) & before;
                    self.activate(yes);
                    self.steps(accept);
                    let after = self.active;
                    self.activate(before.without(&yes));
                    self.steps(reject);
                    self.activate(self.active | after);
                }
                Step::Switch { selector, cases } => self.switch(*selector, cases),
                Step::Loop { body, continuing, break_if, site } => {
                    self.repeat(body, continuing, *break_if, *site);
                }
                Step::Call { body } => {
                    let before = self.active;
                    self.steps(body);
                    self.activate(before);
                }
                Step::Break => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.broken = frame.broken | self.active;
                    }
                    self.activate(Mask::EMPTY);
                }
                Step::Continue => {
                    if let Some(frame) = self.frames.iter_mut().rev().find(|f| f.is_loop) {
                        frame.continued = frame.continued | self.active;
                    }
                    self.activate(Mask::EMPTY);
                }
                Step::Return => self.activate(Mask::EMPTY),
                Step::Barrier { orders, site, written } => self.barrier(*orders, *site, *written),
                Step::SubgroupBarrier { site } => {
                    self.whole_subgroups(*site, Found::DivergentSubgroupOp, "subgroupBarrier");
                    for turn in &mut self.turns {
                        *turn = turn.wrapping_add(1);
                    }
                }
                Step::Uniform { slot, site } => self.same_for_all(*slot, *site),
            }
            if self.active.is_empty() {
                return;
            }
        }
    }

    /// From here on these invocations execute.
    fn activate(&mut self, active: Mask) {
        self.full = active == self.all;
        self.listed = false;
        self.active = active;
    }

    /// The active invocations as a list, to be given back: memory is walked by it.
    pub fn take_list(&mut self) -> Vec<u16> {
        let mut list = std::mem::take(&mut self.list);
        if !self.listed {
            list.clear();
            list.extend(self.active.lanes().map(|lane| lane as u16));
            self.listed = true;
        }
        list
    }

    fn enter(&mut self, is_loop: bool) {
        self.frames.push(Frame { broken: Mask::EMPTY, continued: Mask::EMPTY, is_loop });
    }

    fn switch(&mut self, selector: Slot, cases: &'a [Case]) {
        let before = self.active;
        let mut left = before;
        let mut after = Mask::EMPTY;
        self.enter(false);
        for case in cases.iter().filter(|c| !c.default).chain(cases.iter().filter(|c| c.default)) {
            let values = &self.regs[selector as usize];
            let mut taken = Mask::EMPTY;
            for lane in left.lanes() {
                let hit = case.default || case.values.contains(&values[lane]);
                if hit {
                    taken.set(lane);
                }
            }
            left = left.without(&taken);
            self.activate(taken);
            self.steps(&case.body);
            after = after | self.active;
        }
        let broken = self.frames.pop().map_or(Mask::EMPTY, |f| f.broken);
        self.activate(after | broken | left);
    }

    fn repeat(
        &mut self,
        body: &'a [Step],
        continuing: &'a [Step],
        break_if: Option<Slot>,
        site: u32,
    ) {
        self.enter(true);
        let mut left = Mask::EMPTY;
        while !self.active.is_empty() {
            self.count_round(site);
            self.steps(body);
            let continued = self
                .frames
                .last_mut()
                .map(|frame| std::mem::replace(&mut frame.continued, Mask::EMPTY));
            self.activate(self.active | continued.unwrap_or(Mask::EMPTY));
            self.steps(continuing);
            if let Some(slot) = break_if {
                let done = Mask::of(&self.regs[slot as usize]) & self.active;
                left = left | done;
                self.activate(self.active.without(&done));
            }
        }
        let broken = self.frames.pop().map_or(Mask::EMPTY, |f| f.broken);
        self.activate(left | broken);
    }

    fn count_round(&mut self, site: u32) {
        self.all_rounds += 1;
        // In its last round lavapipe only finds that the condition fails.
        for lane in self.active.lanes() {
            self.rounds[lane] += 1;
        }
        if self.all_rounds <= u64::from(MAX_ROUNDS) {
            return;
        }
        if let Some(lane) = self.active.lanes().find(|&l| self.rounds[l] > MAX_ROUNDS) {
            self.report(Found::LoopRounds, site, None, || {
                format!("invocation {lane} runs more than {MAX_ROUNDS} rounds of loops")
            });
        }
        if self.all_rounds > PATIENCE {
            self.activate(Mask::EMPTY);
        }
    }

    fn barrier(&mut self, orders: Orders, site: u32, written: bool) {
        if !self.full {
            let (here, all) = (self.active.count(), self.lanes);
            self.report(Found::DivergentBarrier, site, None, || {
                format!("{here} of {all} invocations reach it")
            });
        }
        for (clock, ordered) in [orders.workgroup, orders.storage].into_iter().enumerate() {
            if ordered {
                self.epochs[clock] += 1;
                self.opened_by[clock] = written.then_some(site);
            }
        }
        if written {
            self.ran.insert(site);
        }
        self.together = TOGETHER;
        if let Some(meter) = &mut self.meter {
            meter.barrier(site);
            meter.settle();
        }
    }

    /// Notes that the barrier which opened this epoch is needed.
    #[inline]
    pub fn needs(&mut self, clock: usize) {
        if let Some(site) = self.opened_by[clock] {
            self.needed[site as usize] = true;
        }
    }

    fn same_for_all(&mut self, slot: Slot, site: u32) {
        let values = &self.regs[slot as usize];
        let mut lanes = self.active.lanes();
        let first = lanes.next().map(|lane| values[lane]);
        if lanes.any(|lane| Some(values[lane]) != first) {
            self.report(Found::DivergentBarrier, site, None, || {
                "workgroupUniformLoad with pointers that differ".to_owned()
            });
        }
    }

    /// Reports subgroups of which some invocations are active and others are not; gives those
    /// that are active at all.
    pub fn whole_subgroups(&mut self, site: u32, kind: Found, what: &str) -> Rc<[(usize, Mask)]> {
        if self.full {
            return Rc::clone(&self.whole);
        }
        let mut teams = Vec::new();
        for team in 0..self.turns.len() {
            let (from, to) = self.team(team);
            let members = Mask::range(from, to);
            let here = members & self.active;
            if here.is_empty() {
                continue;
            }
            if here != members {
                let group = self.group;
                self.report(kind, site, None, || {
                    let (n, all) = (here.count(), to - from);
                    format!("{n} of {all} invocations of subgroup {team} of workgroup {group} reach {what}")
                });
            }
            teams.push((team, here));
        }
        teams.into()
    }

    /// First invocation of a subgroup, and the one behind its last.
    pub fn team(&self, team: usize) -> (usize, usize) {
        let size = self.shared.subgroup;
        (team * size, ((team + 1) * size).min(self.lanes))
    }

    // ---- findings ----

    /// Counts a finding; `name` is an index into the program's names.
    pub fn report(
        &mut self,
        kind: Found,
        site: u32,
        name: Option<u32>,
        detail: impl FnOnce() -> String,
    ) {
        let order = self.log.len();
        let known = self.log.entry((kind, site, name.unwrap_or(u32::MAX)));
        known.or_insert_with(|| (order, detail(), 0)).2 += 1;
    }

    /// The same of a variable in memory.
    pub fn report_var(
        &mut self,
        kind: Found,
        site: u32,
        var: usize,
        detail: impl FnOnce() -> String,
    ) {
        let name = &self.program.vars[var].name;
        let name = self.program.names.iter().position(|n| n == name);
        self.report(kind, site, name.map(|n| n as u32), detail);
    }

    pub fn findings(&mut self) -> Findings {
        let mut all: Vec<_> = std::mem::take(&mut self.log).into_iter().collect();
        all.sort_by_key(|(_, (order, ..))| *order);
        let mut findings = Findings::default();
        for ((kind, site, name), (_, detail, count)) in all {
            let name = self.program.names.get(name as usize).map_or("", String::as_str);
            findings.add(kind, &self.program.places[site as usize], name, detail, count);
        }
        findings
    }

    // ---- for all who execute ----

    #[inline]
    pub fn stamp(&self, clock: usize, lane: usize, site: u32) -> Stamp {
        let team = self.teams[lane];
        let turn = self.turns[usize::from(team)];
        Stamp { epoch: self.epochs[clock], site, actor: lane as u16, team, turn }
    }

    /// The stamp of what a subgroup does together: an actor of its own each time, because which
    /// invocation touches which element is the driver's to choose.
    pub fn stamp_together(&mut self, clock: usize, team: usize, site: u32) -> Stamp {
        self.together = self.together.wrapping_add(1).clamp(TOGETHER, u16::MAX - 1);
        let turn = self.turns[team];
        Stamp { epoch: self.epochs[clock], site, actor: self.together, team: team as u16, turn }
    }

    /// Elements within a bound.
    pub fn count(&self, bound: Bound) -> u32 {
        match bound {
            Bound::Fixed(count) => count,
            Bound::Runtime { var, first, stride } => {
                let bytes = self.shared.buffers[var].map_or(0, Buffer::len);
                (bytes.saturating_sub(first as usize) / stride.max(1) as usize) as u32
            }
        }
    }

    pub fn place(&self, site: u32) -> String {
        self.program.places[site as usize].to_string()
    }
}
