//! The room `ops`: every op and kernel against references, goldens and properties.

#[path = "../common/mod.rs"]
mod common;
mod contract;
mod goldens;
mod kernels;
mod matmul;
mod properties;
mod rounds;
