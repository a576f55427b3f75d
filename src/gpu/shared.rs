//! What kernels import.

use super::source::ShaderSource;

/// The files of `shaders/shared/`, which `#import` pastes; `build.rs` lists them.
pub(super) const SHARED: &[ShaderSource] = include!(concat!(env!("OUT_DIR"), "/shared.rs"));
