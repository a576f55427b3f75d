//! How a session is made.

use std::sync::Arc;

use super::state::States;

/// How a session is made.
#[derive(Clone, Default)]
pub struct SessionOptions {
    /// Keep every intermediate, so that [`Session::value`](super::Session::value) can read it
    /// after a step.
    pub keep_all: bool,
    /// Where states live; by default the session has its own.
    pub states: Option<Arc<States>>,
}
