//! The room `graph`.

mod allocations;
#[path = "../common/mod.rs"]
mod common;
mod session;
