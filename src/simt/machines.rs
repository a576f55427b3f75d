//! What machines give per clock, and what that says of a kernel: bounds, not forecasts. Latency,
//! registers and how full a processor is are not in it.

use std::sync::OnceLock;

use serde::Deserialize;

use super::cost::Cost;
use super::meter::Unit;
use crate::error::{Error, Result};

/// A figure and where it comes from.
pub type Figure<T = f64> = (T, String);

/// A machine's figures; those of a processor are per clock.
#[derive(Clone, Debug, Deserialize)]
pub struct Machine {
    /// The part.
    pub title: String,
    /// Multiprocessors, compute units, cores.
    pub processors: Figure<u32>,
    /// Their highest clock.
    pub ghz: Figure,
    /// Multiply-adds of cooperative matrices of f16.
    pub matrix_fma: Figure,
    /// f32 instructions of one invocation; comparisons go there, too, and conversions twice.
    pub f32: Figure,
    /// The same of integers.
    pub int: Figure,
    /// The same of roots, exponentials and the like.
    pub special: Figure,
    /// Wavefronts of workgroup memory.
    pub wavefronts: Figure,
    /// Bytes from L2.
    pub l2_bytes: Figure,
}

/// What bounds a kernel on a machine.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Clocks of one processor that each part of it is busy for, longest first.
    pub clocks: Vec<(&'static str, f64)>,
    /// Seconds on all processors at least, if all parts are busy at once.
    pub at_least: f64,
}

impl Machine {
    /// A machine of the table; the error lists them.
    pub fn named(name: &str) -> Result<&'static Self> {
        let all = table()?;
        all.iter().find(|(n, _)| n == name).map(|(_, machine)| machine).ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|(n, _)| n.as_str()).collect();
            Error::Argument(format!("no machine is named `{name}`; there are {}", known.join(", ")))
        })
    }

    /// What bounds a kernel of this cost.
    pub fn bound(&self, cost: &Cost) -> Bound {
        let n = |unit| cost.instructions(unit) as f64;
        let float = n(Unit::F32) + n(Unit::Compare) + 2.0 * n(Unit::Convert);
        let mut clocks = vec![
            ("matrix units", cost.matrix_fma as f64 / self.matrix_fma.0),
            ("f32", float / self.f32.0),
            ("integers", n(Unit::Int) / self.int.0),
            ("special functions", n(Unit::Special) / self.special.0),
            ("workgroup memory", cost.wavefronts().0 as f64 / self.wavefronts.0),
            ("L2", cost.l2_bytes as f64 / self.l2_bytes.0),
        ];
        clocks.sort_by(|a, b| b.1.total_cmp(&a.1));
        let per_second = f64::from(self.processors.0) * self.ghz.0 * 1e9;
        let at_least = clocks.first().map_or(0.0, |c| c.1) / per_second;
        Bound { clocks, at_least }
    }
}

fn table() -> Result<&'static [(String, Machine)]> {
    static TABLE: OnceLock<Vec<(String, Machine)>> = OnceLock::new();
    if let Some(known) = TABLE.get() {
        return Ok(known);
    }
    let text = include_str!("../../assets/machines.json");
    let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|e| Error::file("assets/machines.json", e.to_string()))?;
    let machine = |(name, value)| {
        let machine = serde_json::from_value(value)
            .map_err(|e| Error::file("assets/machines.json", format!("{name}: {e}")))?;
        Ok((name, machine))
    };
    let all = parsed.into_iter().map(machine).collect::<Result<Vec<_>>>()?;
    Ok(TABLE.get_or_init(|| all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_of_the_table_can_be_read() {
        for (name, machine) in table().expect("it is ours") {
            assert!(Machine::named(name).is_ok());
            assert!(machine.ghz.0 > 0.5 && !machine.ghz.1.is_empty(), "{name}");
        }
        let error = Machine::named("c64").expect_err("it is no GPU").to_string();
        assert!(error.contains("there are h100, rdna3, m2, lavapipe"), "{error}");
    }
}
