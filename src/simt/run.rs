//! A dispatch: workgroups side by side, findings in one order.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::cost::Cost;
use super::findings::{Findings, Kind, Place};
use super::lower::lower;
use super::machine::{Machine, Shared};
use super::mask::MAX_LANES;
use super::memory::Buffer;
use super::program::{Program, Space};
use super::shadow::Shadow;
use super::source::Source;
use crate::error::{Error, Result};

/// Runs of workgroups that go side by side at most; a dispatch is cut alike on every machine, so
/// that it finds the same in the same order.
const PARTS: u64 = 8;
/// Workgroups that are worth a machine of their own.
const LEAST: u64 = 4;

/// How a dispatch is run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// Invocations of a subgroup; `None` on a machine without subgroup operations.
    pub subgroup: Option<u32>,
    /// Whether to count what it would cost.
    pub metered: bool,
}

/// What a dispatch showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Faults; the notes about barriers are in `ran` and `needed`.
    pub findings: Findings,
    /// Lines with a barrier that was reached.
    pub ran: BTreeSet<Place>,
    /// Those of them that keep accesses apart.
    pub needed: BTreeSet<Place>,
    /// The most rounds of loops that an invocation ran.
    pub rounds: u32,
    /// What it would cost, if that was asked for.
    pub cost: Option<Cost>,
}

impl Report {
    /// Adds what another dispatch of the kernel showed.
    pub fn merge(&mut self, other: Self) {
        self.findings.merge(other.findings);
        self.ran.extend(other.ran);
        self.needed.extend(other.needed);
        self.rounds = self.rounds.max(other.rounds);
        match (&mut self.cost, other.cost) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            _ => {}
        }
    }

    /// The findings, and a note for every barrier that was reached and kept nothing apart.
    pub fn with_notes(mut self) -> Findings {
        for place in self.ran.difference(&self.needed) {
            let detail = "no access in front of it races with one behind it".to_owned();
            self.findings.add(Kind::UnneededBarrier, place, "", detail, 1);
        }
        self.findings
    }
}

impl Program {
    /// Makes a kernel ready to be run. Errors name what the checker does not run, and its line.
    pub fn new(source: &Source) -> Result<Self> {
        let program = lower(source)?;
        if program.invocations() > MAX_LANES {
            let message = format!("{} invocations per workgroup", program.invocations());
            return Err(Error::kernel(&program.name, message));
        }
        Ok(program)
    }

    /// Runs a dispatch on buffers found by the names of their variables.
    pub fn run<'b>(
        &self,
        buffer: impl Fn(&str) -> Option<&'b Buffer>,
        params: &[u8],
        setting: Setting,
    ) -> Result<Report> {
        let shared = self.shared(|name| buffer(name), params, setting)?;
        let [x, y, z] = setting.grid.map(u64::from);
        let groups = x * y * z;
        let part = groups.div_ceil(PARTS).max(LEAST);
        let parts: Vec<u64> = (0..groups).step_by(part as usize).collect();
        let run = |&first: &u64| {
            let mut machine = Machine::new(&shared);
            for n in first..(first + part).min(groups) {
                machine.run([(n % x) as u32, (n / x % y) as u32, (n / (x * y)) as u32]);
            }
            Part::of(machine)
        };
        let parts: Vec<Part> = parts.par_iter().map(run).collect();
        Ok(self.joined(parts))
    }

    fn shared<'s>(
        &'s self,
        buffer: impl Fn(&str) -> Option<&'s Buffer>,
        params: &[u8],
        setting: Setting,
    ) -> Result<Shared<'s>> {
        let fail = |message: String| Err(Error::kernel(&self.name, message));
        let mut buffers = Vec::new();
        for var in &self.vars {
            if !matches!(var.space, Space::Storage { .. }) {
                buffers.push(None);
                continue;
            }
            let Some(found) = buffer(&var.name) else {
                return fail(format!("nothing is bound to `{}`", var.name));
            };
            if found.len() < var.bytes as usize {
                let (has, needs) = (found.len(), var.bytes);
                return fail(format!("`{}` needs {needs} bytes, its buffer has {has}", var.name));
            }
            buffers.push(Some(found));
        }
        if params.len() < self.params() {
            let (has, needs) = (params.len(), self.params());
            return fail(format!("its parameters are {needs} bytes, {has} were given"));
        }
        if self.subgroups && setting.subgroup.is_none() {
            return fail("uses subgroups, which this machine has not".to_owned());
        }
        let subgroup = setting.subgroup.map_or(self.invocations(), |s| s.max(1) as usize);
        let word = |chunk: &[u8]| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        };
        Ok(Shared {
            program: self,
            buffers,
            params: params.chunks(4).map(word).collect(),
            grid: setting.grid,
            subgroup,
            metered: setting.metered,
        })
    }

    fn joined(&self, parts: Vec<Part>) -> Report {
        let mut report = Report::default();
        let mut shadows: Vec<Option<Shadow>> = Vec::new();
        for part in parts {
            let place = |site: u32| &self.places[site as usize];
            report.findings.merge(part.findings);
            report.ran.extend(part.ran.iter().map(|&s| place(s).clone()));
            report.needed.extend(part.needed.iter().map(|&s| place(s).clone()));
            report.rounds = report.rounds.max(part.rounds);
            if let Some(meter) = part.meter {
                let cost = Cost::of(self, *meter);
                match &mut report.cost {
                    Some(sum) => sum.merge(cost),
                    sum => *sum = Some(cost),
                }
            }
            if shadows.is_empty() {
                shadows = part.shadows;
                continue;
            }
            for ((all, new), var) in shadows.iter_mut().zip(&part.shadows).zip(&self.vars) {
                let (Some(all), Some(new)) = (all, new) else { continue };
                all.merge(new, |scalar, ours, theirs| {
                    let detail = format!(
                        "scalar {scalar}: {} touches it, {} at {}, and one of them writes",
                        group(theirs.0),
                        group(ours.0),
                        place(ours.1)
                    );
                    let kind = Kind::RaceBetweenWorkgroups;
                    report.findings.add(kind, place(theirs.1), &var.name, detail, 1);
                });
            }
        }
        report
    }
}

fn group(number: u32) -> String {
    if number == u32::MAX {
        "more than one workgroup".to_owned()
    } else {
        format!("workgroup {number}")
    }
}

/// What a run of workgroups leaves.
struct Part {
    findings: Findings,
    ran: BTreeSet<u32>,
    needed: Vec<u32>,
    rounds: u32,
    shadows: Vec<Option<Shadow>>,
    meter: Option<Box<super::meter::Meter>>,
}

impl Part {
    fn of(mut machine: Machine<'_>) -> Self {
        machine.shadows.iter_mut().flatten().for_each(Shadow::end);
        let sites = (0..).zip(&machine.needed).filter(|(_, needed)| **needed);
        Self {
            needed: sites.map(|(site, _)| site).collect(),
            findings: machine.findings(),
            ran: machine.ran,
            rounds: machine.most_rounds,
            shadows: machine.shadows,
            meter: machine.meter,
        }
    }
}
