//! The built program, run as a hostile user runs it.

mod answers;
mod attend;
mod bench;
mod bench_attention;
mod bench_compare;
#[path = "../common/mod.rs"]
mod common;
mod demo;
mod devices;
mod encoders;
#[path = "../common/folder.rs"]
mod folder;
mod folders;
mod generation;
mod hub;
#[cfg(target_os = "linux")]
mod memory;
mod program;
mod score;
mod streams;
mod tensors;
