//! The room `tasks`: texts in, answers out.

#[path = "../common/mod.rs"]
mod common;
mod encoders;
mod generate;
// Forward cases are checked in the room `models`.
#[allow(dead_code)]
#[path = "../common/golden.rs"]
mod golden;
