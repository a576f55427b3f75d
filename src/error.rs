//! The one error type of the crate.
//!
//! Every variant's message is a single line that names what was wrong (file, tensor, op or
//! argument), what was found and what was expected, so that callers can print it as it is.

use std::path::PathBuf;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as a value; nothing in the crate panics on bad input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read and its content is not acceptable.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// A tensor is missing or has an unexpected shape, dtype or content.
    #[error("tensor `{name}`: {message}")]
    Tensor {
        /// The tensor's name in the checkpoint, or of the graph input.
        name: String,
        /// What was found and what was expected.
        message: String,
    },
    /// An op was given operands or attributes it does not accept.
    #[error("{op}: {message}")]
    Op {
        /// The op, optionally with the layer it runs in.
        op: String,
        /// What was found and what was expected, shapes included.
        message: String,
    },
    /// An argument of a public function or of the command line is not acceptable.
    #[error("{0}")]
    Argument(String),
    /// A kernel could not be assembled, validated or compiled.
    #[error("kernel `{kernel}`: {message}")]
    Kernel {
        /// The kernel: the stem of its file in `shaders/`.
        kernel: String,
        /// The loader's, naga's or the driver's complaint.
        message: String,
    },
    /// No adapter, or none that matches what was asked for.
    #[error("{0}")]
    NoAdapter(String),
    /// The device lacks a feature or limit that is needed.
    #[error("device `{device}` lacks {missing}")]
    Missing {
        /// The adapter's name.
        device: String,
        /// The feature or limit, with the value found and the value needed.
        missing: String,
    },
    /// The device's memory, or the budget set for it, does not suffice.
    #[error("out of device memory: {0}")]
    OutOfMemory(String),
    /// The device was lost; build a new [`Gpu`](crate::gpu::Gpu) to go on.
    #[error("device lost: {0}")]
    DeviceLost(String),
    /// The driver or wgpu reported an error.
    #[error("device error: {0}")]
    Device(String),
    /// The device did not answer within the time limit.
    #[error("device did not finish within {seconds} s: {what}")]
    Timeout {
        /// The limit.
        seconds: u64,
        /// What was waited for.
        what: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// An [`Error::Op`].
    pub fn op(op: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Op { op: op.into(), message: message.into() }
    }

    /// An [`Error::Tensor`].
    pub fn tensor(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), message: message.into() }
    }

    /// An [`Error::File`].
    pub fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// An [`Error::Io`].
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// An [`Error::Kernel`].
    pub fn kernel(kernel: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Kernel { kernel: kernel.into(), message: message.into() }
    }

    /// The same error with the place it happened in (a layer, a node) put before an op's name.
    #[must_use]
    pub fn in_layer(self, layer: &str) -> Self {
        match self {
            Self::Op { op, message } if !layer.is_empty() => {
                Self::Op { op: format!("{layer}: {op}"), message }
            }
            other => other,
        }
    }
}
