pub mod error;
mod files;
pub mod tensor;
pub mod text;
pub mod weights;

pub use error::{Error, Result};
pub use tensor::{DType, Meta, Shape, Tensor};
