#![deny(unsafe_code)]
pub mod cli;
pub mod error;
mod files;
pub mod gpu;
pub mod graph;
pub mod models;
pub mod nn;
pub mod ops;
pub mod tasks;
pub mod tensor;
pub mod text;
mod trusted;
pub mod weights;

pub use error::{Error, Result};
pub use tensor::{DType, Meta, Shape, Tensor};
