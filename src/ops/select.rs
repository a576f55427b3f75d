//! Which kernel runs.

use super::kernel::Precision;
use super::op::{Call, Kernel};
use crate::error::{Error, Result};

/// The kernels of an op that this device, this precision and these shapes allow, in the order of
/// their rank.
pub fn candidates(call: &Call<'_>, precision: Precision) -> Vec<&'static dyn Kernel> {
    let mut found: Vec<_> = call.op.entry().kernels.to_vec();
    found.retain(|kernel| {
        kernel.precision() <= precision
            && kernel.needs().missing(call.caps).is_none()
            && kernel.takes(call)
    });
    found.sort_by(|a, b| a.rank(call).total_cmp(&b.rank(call)));
    found
}

/// The first of the [`candidates`] that `certified` lets through, or the one named by `forced`.
///
/// Errors when no kernel fits, naming those that `certified` turned away, or when the forced
/// kernel does not exist, needs what the device lacks, or does not take the shapes. A forced
/// kernel may lose digits that `precision` would keep: naming it is asking for it.
pub fn choose(
    call: &Call<'_>,
    precision: Precision,
    forced: Option<&str>,
    mut certified: impl FnMut(&'static dyn Kernel) -> Result<bool>,
) -> Result<&'static dyn Kernel> {
    let op = call.op;
    if let Some(name) = forced {
        return force(call, name);
    }
    let mut off = Vec::new();
    for kernel in candidates(call, precision) {
        if certified(kernel)? {
            return Ok(kernel);
        }
        off.push(kernel.name());
    }
    let mut message = format!("no kernel for {} takes these shapes", call.caps.name);
    if !off.is_empty() {
        message += &format!(" (off on this adapter: {}; `devices -v` says why)", off.join(", "));
    }
    Err(Error::op(op.name(), message))
}

fn force(call: &Call<'_>, name: &str) -> Result<&'static dyn Kernel> {
    let op = call.op;
    let known = op.entry().kernels;
    let kernel = known.iter().find(|k| k.name() == name).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|k| k.name()).collect();
        let known = known.join(", ");
        Error::op(op.name(), format!("no variant is named `{name}`; there are {known}"))
    })?;
    if let Some(missing) = kernel.needs().missing(call.caps) {
        let device = call.caps.name.clone();
        return Err(Error::Missing { device, missing: format!("{missing}, which {name} needs") });
    }
    if !kernel.takes(call) {
        return Err(Error::op(op.name(), format!("variant `{name}` does not take these shapes")));
    }
    Ok(*kernel)
}
