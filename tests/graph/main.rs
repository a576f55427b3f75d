//! The room `graph`.

mod allocations;
#[path = "../common/mod.rs"]
mod common;
mod scratch;
mod session;
