//! The room `engine`: what runs built models.

#[path = "../common/mod.rs"]
mod common;
mod executor;
