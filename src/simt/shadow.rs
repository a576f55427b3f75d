//! Who touched what, and when: the memory beside the memory.
//!
//! Time is counted in epochs, which barriers divide; an access is an invocation's, or that of a
//! whole subgroup when a cooperative operation makes it. Of every scalar the last write is known,
//! and the reads of this epoch and of the one before. From them follow races, and which barriers
//! keep accesses apart.

/// An access that belongs to several invocations of different subgroups, or of one.
const MANY: u16 = u16::MAX;
/// Scalars per page: memory that is never touched costs nothing.
const PAGE: usize = 1024;

/// When and by whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    /// 0: never.
    pub epoch: u32,
    pub site: u32,
    pub actor: u16,
    /// The subgroup, and how many barriers of its own it has passed.
    pub team: u16,
    pub turn: u16,
}

impl Stamp {
    /// Whether both may happen at once.
    #[inline]
    fn beside(&self, now: &Self) -> bool {
        self.epoch == now.epoch && self.unordered(now)
    }

    /// Whether only the barrier in front of this epoch keeps them apart.
    #[inline]
    fn just_before(&self, now: &Self) -> bool {
        self.epoch != 0 && self.epoch + 1 == now.epoch && self.unordered(now)
    }

    #[inline]
    fn unordered(&self, now: &Self) -> bool {
        (self.actor != now.actor || self.actor == MANY)
            && !(self.team == now.team && self.team != MANY && self.turn != now.turn)
    }

    fn joined(self, other: &Self) -> Self {
        if self.actor == other.actor {
            return *other;
        }
        let team = if self.team == other.team { self.team } else { MANY };
        Self { actor: MANY, team, ..*other }
    }

    /// The invocation, or that there is not one.
    pub fn who(&self) -> String {
        match self.actor {
            MANY => "several invocations".to_owned(),
            lane if usize::from(lane) < super::mask::MAX_LANES => format!("invocation {lane}"),
            _ => format!("subgroup {} together", self.team),
        }
    }
}

/// Which workgroups touched a scalar of a buffer: their number plus one, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Groups {
    wrote: u32,
    wrote_at: u32,
    read: u32,
    read_at: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write: Stamp,
    read: Stamp,
    read_before: Stamp,
}

impl Cell {
    /// Whether another read of this epoch tells nothing new: two invocations that no order holds
    /// apart have read since the last write, so what that write means to any reader is known.
    #[inline]
    fn is_saturated(&self, now: &Stamp) -> bool {
        let all =
            self.read.team == MANY || self.read.team == now.team && self.read.turn == now.turn;
        self.read.epoch == now.epoch
            && self.read.actor == MANY
            && all
            && self.write.epoch < now.epoch
    }
}

/// What an access meant, where it meant something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    /// Nobody has written it since the epoch that was given.
    pub unknown: bool,
    /// The access it races with, and whether that one wrote.
    pub race: Option<(Stamp, bool)>,
    /// The barrier in front of this epoch keeps it from a race.
    pub needs_barrier: bool,
    /// The workgroup it races with, and its line.
    pub between: Option<(u32, u32)>,
}

impl Verdict {
    #[inline]
    fn told(self) -> Option<Self> {
        let silent = !self.unknown && !self.needs_barrier && self.race.is_none();
        (!silent).then_some(self)
    }
}

/// Pages of something per scalar.
#[derive(Debug)]
struct Pages<T>(Vec<Option<Box<[T]>>>);

impl<T: Clone + Default> Pages<T> {
    fn new(scalars: usize) -> Self {
        Self(vec![None; scalars.div_ceil(PAGE)])
    }

    #[inline]
    fn at(&mut self, scalar: usize) -> &mut T {
        let page = &mut self.0[scalar / PAGE];
        let page = page.get_or_insert_with(|| vec![T::default(); PAGE].into());
        &mut page[scalar % PAGE]
    }
}

/// The shadow of one variable.
#[derive(Debug)]
pub(super) struct Shadow {
    cells: Pages<Cell>,
    groups: Pages<Groups>,
}

impl Shadow {
    pub fn new(scalars: usize) -> Self {
        Self { cells: Pages::new(scalars), groups: Pages::new(scalars) }
    }

    /// Forgets what happened inside workgroups, which is over; who touched what stays.
    pub fn end(&mut self) {
        self.cells = Pages::new(0);
    }

    /// `since`: reads of what was last written before are reads of nothing.
    #[inline]
    pub fn read(&mut self, at: usize, now: &Stamp, since: u32) -> Option<Verdict> {
        let cell = self.cells.at(at);
        if cell.write.epoch >= since && cell.is_saturated(now) {
            return None;
        }
        let verdict = Verdict {
            unknown: cell.write.epoch < since,
            race: cell.write.beside(now).then_some((cell.write, true)),
            needs_barrier: cell.write.just_before(now),
            between: None,
        };
        if cell.read.epoch == now.epoch {
            cell.read = cell.read.joined(now);
        } else {
            cell.read_before = std::mem::replace(&mut cell.read, *now);
        }
        verdict.told()
    }

    /// `same`: the value was there before; several may write one value.
    #[inline]
    pub fn write(&mut self, at: usize, now: &Stamp, same: bool) -> Option<Verdict> {
        let cell = self.cells.at(at);
        let against = |stamp: &Stamp, wrote| stamp.beside(now).then_some((*stamp, wrote));
        let written = cell.write.beside(now);
        let race = against(&cell.write, true).filter(|_| !same);
        let before = [&cell.read, &cell.read_before].iter().any(|s| s.just_before(now));
        let verdict = Verdict {
            unknown: false,
            race: race.or(against(&cell.read, false)),
            needs_barrier: before || !same && cell.write.just_before(now),
            between: None,
        };
        cell.write = if written { cell.write.joined(now) } else { *now };
        verdict.told()
    }

    /// Notes a workgroup's read of a buffer; gives the workgroup and line of a write by another.
    #[inline]
    pub fn group_reads(&mut self, at: usize, group: u32, site: u32) -> Option<(u32, u32)> {
        let groups = self.groups.at(at);
        if groups.read == 0 {
            (groups.read, groups.read_at) = (group + 1, site);
        } else if groups.read != group + 1 && groups.read != u32::MAX {
            (groups.read, groups.read_at) = (u32::MAX, site);
        }
        (groups.wrote != 0 && groups.wrote != group + 1)
            .then(|| (groups.wrote - 1, groups.wrote_at))
    }

    /// The same of a write, which another's read races with, too.
    #[inline]
    pub fn group_writes(&mut self, at: usize, group: u32, site: u32) -> Option<(u32, u32)> {
        let groups = self.groups.at(at);
        let other = |who: u32, at: u32| {
            (who != 0 && who != group + 1)
                .then(|| (if who == u32::MAX { who } else { who - 1 }, at))
        };
        let found = other(groups.wrote, groups.wrote_at).or(other(groups.read, groups.read_at));
        (groups.wrote, groups.wrote_at) = (group + 1, site);
        found
    }

    /// Adds what other workgroups, which ran beside these, touched; `clash` gets every scalar that
    /// is written here and touched there, or the other way round: its index, whether this side
    /// wrote, and each side's workgroup and line.
    pub fn merge(&mut self, other: &Self, mut clash: impl FnMut(usize, (u32, u32), (u32, u32))) {
        for (number, page) in other.groups.0.iter().enumerate() {
            let Some(page) = page else { continue };
            for (i, theirs) in page.iter().enumerate() {
                if theirs.wrote == 0 && theirs.read == 0 {
                    continue;
                }
                let at = number * PAGE + i;
                let ours = self.groups.at(at);
                let name = |who: u32| if who == u32::MAX { who } else { who.wrapping_sub(1) };
                let mine = if ours.wrote != 0 {
                    Some((name(ours.wrote), ours.wrote_at))
                } else {
                    (ours.read != 0 && theirs.wrote != 0).then(|| (name(ours.read), ours.read_at))
                };
                if let Some(mine) = mine {
                    clash(
                        at,
                        mine,
                        match theirs.wrote {
                            0 => (name(theirs.read), theirs.read_at),
                            wrote => (name(wrote), theirs.wrote_at),
                        },
                    );
                }
                if theirs.wrote != 0 {
                    (ours.wrote, ours.wrote_at) = (theirs.wrote, theirs.wrote_at);
                }
                if theirs.read != 0 {
                    let read = if ours.read == 0 { theirs.read } else { u32::MAX };
                    (ours.read, ours.read_at) = (read, theirs.read_at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: u32, actor: u16) -> Stamp {
        Stamp { epoch, site: 0, actor, team: actor / 4, turn: 0 }
    }

    #[test]
    fn accesses_of_one_epoch_race_when_one_writes() {
        let mut shadow = Shadow::new(4);
        let race = |verdict: Option<Verdict>| verdict.is_some_and(|v| v.race.is_some());
        assert!(!race(shadow.write(0, &stamp(1, 0), false)));
        assert!(!race(shadow.read(0, &stamp(1, 0), 1)));
        assert!(race(shadow.read(0, &stamp(1, 1), 1)));
        // Two readers, then either of them writes: the other has read.
        assert!(race(shadow.write(0, &stamp(1, 0), false)));
        // One value by several is fine, also when it is read behind a barrier.
        assert!(!race(shadow.write(1, &stamp(1, 0), false)));
        assert!(!race(shadow.write(1, &stamp(1, 5), true)));
        let read = shadow.read(1, &stamp(2, 0), 1).expect("a barrier is needed");
        assert!(read.race.is_none() && read.needs_barrier && !read.unknown);
        assert!(shadow.read(1, &stamp(3, 0), 1).is_none());
        assert!(shadow.read(2, &stamp(3, 0), 1).is_some_and(|v| v.unknown));
    }

    #[test]
    fn a_subgroups_own_barrier_orders_its_accesses() {
        let mut shadow = Shadow::new(1);
        shadow.write(0, &stamp(1, 0), false);
        assert!(shadow.read(0, &Stamp { turn: 1, ..stamp(1, 1) }, 1).is_none());
        assert!(shadow.read(0, &Stamp { turn: 1, ..stamp(1, 9) }, 1).is_some());
    }

    #[test]
    fn a_read_before_the_last_barrier_is_remembered() {
        let mut shadow = Shadow::new(1);
        shadow.read(0, &stamp(1, 3), 0);
        shadow.read(0, &stamp(2, 0), 0);
        assert!(shadow.write(0, &stamp(2, 0), false).is_some_and(|v| v.needs_barrier));
    }

    #[test]
    fn workgroups_that_ran_apart_are_brought_together() {
        let (mut a, mut b) = (Shadow::new(2000), Shadow::new(2000));
        a.end();
        b.end();
        assert!(a.group_writes(1500, 0, 7).is_none() && a.group_reads(3, 0, 8).is_none());
        assert!(b.group_reads(1500, 4, 9).is_none() && b.group_reads(3, 4, 9).is_none());
        let mut found = Vec::new();
        a.merge(&b, |at, ours, theirs| found.push((at, ours, theirs)));
        assert_eq!(found, [(1500, (0, 7), (4, 9))]);
    }
}
