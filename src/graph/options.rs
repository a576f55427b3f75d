//! How a session is made.

use std::sync::Arc;

use super::state::States;
use crate::ops::Precision;

/// How a session is made.
#[derive(Clone, Default)]
pub struct SessionOptions {
    /// Keep every intermediate, so that [`Session::value`](super::Session::value) can read it
    /// after a step.
    pub keep_all: bool,
    /// Kernels to use instead of the preferred ones, as (op, kernel).
    pub force: Vec<(String, String)>,
    /// The precision that kernels may lose digits to.
    pub precision: Precision,
    /// Where states live; by default the session has its own.
    pub states: Option<Arc<States>>,
}
