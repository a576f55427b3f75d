//! Which kernel runs.

use super::{Call, Kernel, Op};
use crate::error::{Error, Result};

/// The kernels of an op that this device and these shapes allow, preferred first.
pub fn candidates<'a>(op: &'a dyn Op, call: &'a Call<'a>) -> impl Iterator<Item = &'static Kernel> {
    op.kernels()
        .iter()
        .filter(|kernel| kernel.needs.missing(call.caps).is_none() && op.accepts(kernel, call))
}

/// The preferred kernel that `certified` lets through, or the one named by `forced`, for a call.
///
/// Errors when no kernel fits, or when the forced kernel does not exist, needs what the device lacks, or does not take
/// the shapes.
pub fn choose(
    op: &dyn Op,
    call: &Call<'_>,
    forced: Option<&str>,
    mut certified: impl FnMut(&'static Kernel) -> Result<bool>,
) -> Result<&'static Kernel> {
    let Some(name) = forced else {
        for kernel in candidates(op, call) {
            if certified(kernel)? {
                return Ok(kernel);
            }
        }
        let message = format!("no kernel for {} takes these shapes", call.caps.name);
        return Err(Error::op(op.name(), message));
    };
    let kernel = op.kernels().iter().find(|k| k.name == name).ok_or_else(|| {
        let known: Vec<_> = op.kernels().iter().map(|k| k.name).collect();
        Error::op(
            op.name(),
            format!("no variant is named `{name}`; there are {}", known.join(", ")),
        )
    })?;
    if let Some(missing) = kernel.needs.missing(call.caps) {
        let device = call.caps.name.clone();
        return Err(Error::Missing { device, missing: format!("{missing}, which {name} needs") });
    }
    if !op.accepts(kernel, call) {
        return Err(Error::op(op.name(), format!("variant `{name}` does not take these shapes")));
    }
    Ok(kernel)
}
