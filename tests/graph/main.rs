//! The room `graph`.

mod allocations;
#[path = "../common/mod.rs"]
mod common;
mod narrow;
mod scratch;
mod session;
