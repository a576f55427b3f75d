//! The room `weights`: files of weights and configurations.

mod bad_configs;
mod bad_files;
#[path = "../common/bad_inputs.rs"]
mod bad_inputs;
#[path = "../common/folder.rs"]
mod folder;
