//! What a subgroup does together: ballots, collectives, shuffles, cooperative matrices.

use super::alu::{any_bin, half_to_single, identity, single_to_half};
use super::code::{Bin, Gather, Join, Kind, MATRIX, MatrixShape, NOWHERE, Scan, Slot, Tile};
use super::findings::Kind as Found;
use super::machine::Machine;
use super::mask::Mask;

/// What an invocation gets from one that is not there.
const NOBODY: u32 = 0x7fc0_dead;

impl Machine<'_> {
    pub fn ballot(&mut self, dst: [Slot; 4], predicate: Option<Slot>, site: u32) {
        let teams = self.whole_subgroups(site, Found::DivergentSubgroupOp, "subgroupBallot");
        for &(team, here) in teams.iter() {
            let (from, _) = self.team(team);
            let mut words = [0u32; 4];
            for lane in here.lanes() {
                let says = predicate.is_none_or(|p| self.regs[p as usize][lane] != 0);
                words[(lane - from) / 32] |= u32::from(says) << ((lane - from) % 32);
            }
            for lane in here.lanes() {
                for (slot, word) in dst.iter().zip(words) {
                    self.regs[*slot as usize][lane] = word;
                }
            }
        }
    }

    pub fn collective(
        &mut self,
        (join, scan): (Join, Scan),
        kind: Kind,
        dst: Slot,
        a: Slot,
        site: u32,
    ) {
        let name = format!("a subgroup's {join:?}");
        let teams = self.whole_subgroups(site, Found::DivergentSubgroupOp, "a subgroup operation");
        for &(_, here) in teams.iter() {
            let from = &self.regs[a as usize];
            let op = match join {
                Join::All => Bin::And,
                Join::Any => Bin::Or,
                Join::Bin(op) => op,
            };
            let mut all: Option<u32> = None;
            let mut out = Vec::with_capacity(64);
            for lane in here.lanes() {
                let value = from[lane];
                if scan == Scan::Exclusive {
                    out.push(all.unwrap_or(identity(op, kind)));
                }
                let joined = all.map_or(value, |all| any_bin(op, kind, all, value));
                if scan == Scan::Inclusive {
                    out.push(joined);
                }
                all = Some(joined);
            }
            let total = all.unwrap_or_default();
            for (i, lane) in here.lanes().enumerate() {
                let value = if scan == Scan::Reduce { total } else { out[i] };
                self.regs[dst as usize][lane] = value;
            }
        }
        if kind.is_float() {
            self.born(kind, dst, &[(kind, a)], site, &name);
        }
    }

    pub fn gather(&mut self, how: Gather, dst: Slot, a: Slot, site: u32) {
        let teams = self.whole_subgroups(site, Found::DivergentSubgroupOp, "a shuffle");
        let mut out = self.lend(dst);
        for &(team, here) in teams.iter() {
            let (from, to) = self.team(team);
            for lane in here.lanes() {
                let me = lane - from;
                let of = |slot: Slot| self.regs[slot as usize][lane] as usize;
                // Whether an invocation that is not there is a fault, or only no value.
                let (source, must) = match how {
                    Gather::First => (here.first().map(|l| l - from), true),
                    Gather::Broadcast(index) | Gather::Shuffle(index) => (Some(of(index)), true),
                    Gather::Down(by) => (me.checked_add(of(by)), false),
                    Gather::Up(by) => (me.checked_sub(of(by)), false),
                    Gather::Xor(by) => (Some(me ^ of(by)), false),
                    Gather::QuadBroadcast(index) => (Some(me & !3 | of(index) & 3), true),
                    Gather::QuadSwap(by) => (Some(me ^ by as usize), false),
                };
                let there = source.map(|s| from + s).filter(|&s| s < to && here.has(s));
                out[lane] = there.map_or(NOBODY, |s| self.regs[a as usize][s]);
                if there.is_none() && must {
                    let group = self.group;
                    self.report(Found::DivergentSubgroupOp, site, None, || {
                        let asked = source.unwrap_or_default();
                        format!(
                            "invocation {me} of subgroup {team} of workgroup {group} asks invocation {asked}, which is not there"
                        )
                    });
                }
            }
        }
        self.regs[dst as usize] = out;
    }

    // ---- cooperative matrices: row by row, a subgroup's behind the last one's ----

    fn base(&self, team: usize) -> usize {
        team * self.program.elements
    }

    fn active_teams(&self) -> Vec<usize> {
        (0..self.turns.len())
            .filter(|&team| {
                let (from, to) = self.team(team);
                !(Mask::range(from, to) & self.active).is_empty()
            })
            .collect()
    }

    pub fn copy_matrix(&mut self, dst: Slot, src: Slot) {
        let (dst, src) = ((dst & !MATRIX) as usize, (src & !MATRIX) as usize);
        if dst == src {
            return;
        }
        let mut out = std::mem::take(&mut self.matrices[dst]);
        for team in self.active_teams() {
            let of = self.base(team)..self.base(team + 1);
            out[of.clone()].copy_from_slice(&self.matrices[src][of]);
        }
        self.matrices[dst] = out;
    }

    pub fn matrix_fill(&mut self, dst: Slot, a: Slot, shape: MatrixShape) {
        for team in self.active_teams() {
            let (from, to) = self.team(team);
            let lane = (Mask::range(from, to) & self.active).first().unwrap_or(from);
            let bits = self.regs[a as usize][lane];
            let value = match shape.kind {
                Kind::F16 => half_to_single(bits),
                _ => f32::from_bits(bits),
            };
            let base = self.base(team);
            let out = &mut self.matrices[(dst & !MATRIX) as usize];
            out[base..base + shape.rows * shape.columns].fill(value);
        }
    }

    pub fn matrix_bin(&mut self, op: Bin, [dst, a, b]: [Slot; 3], shape: MatrixShape, site: u32) {
        let what = "an operation on matrices";
        let teams = self.whole_subgroups(site, Found::DivergentCooperativeOp, what);
        let mut out = std::mem::take(&mut self.matrices[(dst & !MATRIX) as usize]);
        for &(team, here) in teams.iter() {
            let base = self.base(team);
            let scalar = (b & MATRIX == 0).then(|| {
                let lane = here.first().unwrap_or_default();
                let bits = self.regs[b as usize][lane];
                if shape.kind == Kind::F16 { half_to_single(bits) } else { f32::from_bits(bits) }
            });
            let elements = shape.rows * shape.columns;
            for (i, out) in out.iter_mut().enumerate().skip(base).take(elements) {
                let x = self.matrices[(a & !MATRIX) as usize][i];
                let y = scalar.unwrap_or_else(|| self.matrices[(b & !MATRIX) as usize][i]);
                let value = super::alu::float_bin(op, x, y);
                *out = rounded(shape.kind, value);
            }
        }
        self.matrices[(dst & !MATRIX) as usize] = out;
    }

    pub fn multiply_add(
        &mut self,
        [dst, a, b, c]: [Slot; 4],
        left: MatrixShape,
        shape: MatrixShape,
        site: u32,
    ) {
        let what = "coopMultiplyAdd";
        let teams = self.whole_subgroups(site, Found::DivergentCooperativeOp, what);
        let [dst, a, b, c] = [dst, a, b, c].map(|slot| (slot & !MATRIX) as usize);
        let (rows, columns, inner) = (shape.rows, shape.columns, left.columns);
        let mut sums = vec![0f32; rows * columns];
        for &(team, _) in teams.iter() {
            let base = self.base(team);
            let of = |slot: usize, n: usize| &self.matrices[slot][base..base + n];
            let (x, y) = (of(a, rows * inner), of(b, inner * columns));
            sums.copy_from_slice(of(c, rows * columns));
            let finite = sums.iter().chain(x).chain(y).all(|v| v.is_finite());
            for (x, sums) in x.chunks_exact(inner).zip(sums.chunks_exact_mut(columns)) {
                for (&x, y) in x.iter().zip(y.chunks_exact(columns)) {
                    for (sum, &y) in sums.iter_mut().zip(y) {
                        *sum += x * y;
                    }
                }
            }
            let out = &mut self.matrices[dst][base..base + rows * columns];
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = rounded(shape.kind, sum);
            }
            if finite && !out.iter().all(|v| v.is_finite()) {
                let group = self.group;
                self.report(Found::NonFinite, site, None, || {
                    format!("{what} of finite matrices in subgroup {team} of workgroup {group}")
                });
            }
        }
    }

    /// Where a subgroup's matrix begins, in bytes, and how far its rows or columns are apart;
    /// `None` where the invocations do not agree, which is reported.
    fn tile_at(&mut self, tile: &Tile, team: usize, here: Mask, site: u32) -> Option<(u32, u32)> {
        let of = |lane: usize| {
            let dynamic = tile.address.dynamic.map_or(0, |d| self.regs[d as usize][lane]);
            (dynamic, self.regs[tile.stride as usize][lane])
        };
        let mut lanes = here.lanes();
        let first = of(lanes.next()?);
        if lanes.any(|lane| of(lane) != first) {
            let group = self.group;
            self.report_var(Found::DivergentCooperativeOp, site, tile.address.var, || {
                format!("pointer or stride differ within subgroup {team} of workgroup {group}")
            });
        }
        let (dynamic, stride) = first;
        (dynamic != NOWHERE).then(|| (tile.offset + dynamic, stride.saturating_mul(tile.unit)))
    }

    /// Byte offset of each element, in the order of memory, with its place in the matrix.
    fn elements(tile: &Tile, first: u32, pitch: u32) -> impl Iterator<Item = (u32, usize)> {
        let MatrixShape { rows, columns, kind } = tile.shape;
        let row_major = tile.row_major;
        let (outer, inner) = if row_major { (rows, columns) } else { (columns, rows) };
        (0..outer).flat_map(move |i| {
            (0..inner).map(move |j| {
                let step = (i as u32).saturating_mul(pitch);
                let at = first.saturating_add(step).saturating_add(j as u32 * kind.bytes());
                (at, if row_major { i * columns + j } else { j * columns + i })
            })
        })
    }

    pub fn load_matrix(&mut self, dst: Slot, tile: &Tile, site: u32) {
        let teams = self.whole_subgroups(site, Found::DivergentCooperativeOp, "coopLoad");
        let kind = tile.shape.kind;
        let var = tile.address.var;
        let mut out = std::mem::take(&mut self.matrices[(dst & !MATRIX) as usize]);
        for &(team, here) in teams.iter() {
            let base = self.base(team);
            let Some((first, pitch)) = self.tile_at(tile, team, here, site) else {
                out[base..base + tile.shape.rows * tile.shape.columns].fill(0.0);
                continue;
            };
            self.meter_tile(tile, first, pitch, site, false);
            let stamp = self.stamp_together(self.clock(var), team, site);
            for (at, element) in Self::elements(tile, first, pitch) {
                let bits = self.read_as(var, at, kind, &stamp, false);
                out[base + element] =
                    if kind == Kind::F16 { half_to_single(bits) } else { f32::from_bits(bits) };
            }
        }
        self.matrices[(dst & !MATRIX) as usize] = out;
    }

    pub fn store_matrix(&mut self, src: Slot, tile: &Tile, site: u32) {
        let teams = self.whole_subgroups(site, Found::DivergentCooperativeOp, "coopStore");
        let kind = tile.shape.kind;
        let var = tile.address.var;
        for &(team, here) in teams.iter() {
            let Some((first, pitch)) = self.tile_at(tile, team, here, site) else { continue };
            self.meter_tile(tile, first, pitch, site, true);
            let stamp = self.stamp_together(self.clock(var), team, site);
            let base = self.base(team);
            for (at, element) in Self::elements(tile, first, pitch) {
                let value = self.matrices[(src & !MATRIX) as usize][base + element];
                let bits = if kind == Kind::F16 { single_to_half(value) } else { value.to_bits() };
                self.write_as((var, at, kind), bits, &stamp, false);
            }
        }
    }
}

fn rounded(kind: Kind, value: f32) -> f32 {
    if kind == Kind::F16 { half_to_single(single_to_half(value)) } else { value }
}
