//! What the checker reports.

use std::collections::BTreeMap;
use std::fmt;

/// What kind of fault was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Between two barriers an element is touched by two invocations, one of which writes it.
    Race,
    /// An element that one workgroup writes is touched by another.
    RaceBetweenWorkgroups,
    /// Memory is read that nobody has written: workgroup and private memory, poisoned buffers.
    UninitializedRead,
    /// An index is beyond its array, vector, matrix or buffer.
    OutOfRange,
    /// Integer arithmetic wrapped on its way to an index.
    IndexOverflow,
    /// A barrier that not every invocation of the workgroup reaches.
    DivergentBarrier,
    /// A subgroup operation that not every invocation of the subgroup reaches.
    DivergentSubgroupOp,
    /// A cooperative operation that not every invocation of the subgroup reaches, or with operands
    /// that differ between them.
    DivergentCooperativeOp,
    /// One invocation ran more rounds of loops than every driver can.
    LoopRounds,
    /// An infinity or a NaN that was born from finite operands.
    NonFinite,
    /// A note: no race that was seen needs this barrier.
    UnneededBarrier,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Race,
        Self::RaceBetweenWorkgroups,
        Self::UninitializedRead,
        Self::OutOfRange,
        Self::IndexOverflow,
        Self::DivergentBarrier,
        Self::DivergentSubgroupOp,
        Self::DivergentCooperativeOp,
        Self::LoopRounds,
        Self::NonFinite,
        Self::UnneededBarrier,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Race => "race",
            Self::RaceBetweenWorkgroups => "race_between_workgroups",
            Self::UninitializedRead => "uninitialized_read",
            Self::OutOfRange => "out_of_range",
            Self::IndexOverflow => "index_overflow",
            Self::DivergentBarrier => "divergent_barrier",
            Self::DivergentSubgroupOp => "divergent_subgroup_op",
            Self::DivergentCooperativeOp => "divergent_cooperative_op",
            Self::LoopRounds => "loop_rounds",
            Self::NonFinite => "non_finite",
            Self::UnneededBarrier => "unneeded_barrier",
        }
    }

    /// Whether it is only a note.
    pub const fn is_note(self) -> bool {
        matches!(self, Self::UnneededBarrier)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A line of a kernel as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A fault, as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where it shows.
    pub place: Place,
    /// The variable that is concerned; empty where there is none.
    pub variable: String,
    /// Element, who and who, at its first occurrence.
    pub detail: String,
    /// How often it was seen.
    pub count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, place, variable, detail, count } = self;
        write!(f, "{place}: {kind}")?;
        if !variable.is_empty() {
            write!(f, " of {variable}")?;
        }
        write!(f, ": {detail}")?;
        if *count > 1 { write!(f, " ({count} times)") } else { Ok(()) }
    }
}

/// Findings by kind, line and variable, in the order in which they were first seen.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    known: BTreeMap<(Kind, Place, String), usize>,
    all: Vec<Finding>,
}

impl Findings {
    /// Adds a fault that was seen `count` times.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        place: &Place,
        variable: &str,
        detail: String,
        count: u64,
    ) {
        let (place, variable) = (place.clone(), variable.to_owned());
        self.one(Finding { kind, place, variable, detail, count });
    }

    fn one(&mut self, finding: Finding) {
        let key = (finding.kind, finding.place.clone(), finding.variable.clone());
        match self.known.get(&key) {
            Some(&at) => self.all[at].count += finding.count,
            None => self.push(finding),
        }
    }

    fn push(&mut self, finding: Finding) {
        let key = (finding.kind, finding.place.clone(), finding.variable.clone());
        self.known.insert(key, self.all.len());
        self.all.push(finding);
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: Self) {
        for finding in other.all {
            self.one(finding);
        }
    }

    /// Those of other kinds.
    #[must_use]
    pub fn without(self, kind: Kind) -> Self {
        let mut out = Self::default();
        self.all.into_iter().filter(|f| f.kind != kind).for_each(|f| out.one(f));
        out
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.all.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
