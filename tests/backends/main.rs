//! What the machines that are not here would make of every kernel: HLSL by Microsoft's compiler,
//! SPIR-V by its validator, MSL by clang with a header that stands for Apple's, written as wgpu has
//! naga write them, with run-time checks and without.
//! That naga could write a text does not say that a driver takes it. The compilers are set up by
//! `tools/compilers.sh`, for x86-64 Linux.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod dx12;
mod forms;
mod metal;
#[path = "../common/variants.rs"]
mod variants;
mod vulkan;
