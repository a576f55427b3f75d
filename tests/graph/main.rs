//! The room `graph`.

#[path = "../common/mod.rs"]
mod common;
mod session;
