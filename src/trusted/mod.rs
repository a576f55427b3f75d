//! The only place with `unsafe`: calls whose contract is ours to keep, each behind a safe
//! function that argues it. Two reasons to be here: speed that safe doors do not give
//! (kernels without run-time checks, the `gemm` crate's raw pointers) and wgpu's own tokens
//! (driver pipeline caches, experimental features).
#![allow(unsafe_code)]

mod device;
mod gemm;

pub(crate) use device::{experimental, pipeline_cache, unchecked_module};
pub(crate) use gemm::{Matrix, multiply};
