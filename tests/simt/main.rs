//! The kernel checker: that it finds what is wrong, and that what ships is right.

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod language;
mod shipped;
