//! The room `gpu`: devices, hosts and the loader of shaders.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/folder.rs"]
mod folder;
mod host;
mod shaders;
#[path = "../common/variants.rs"]
mod variants;
