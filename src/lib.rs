pub mod error;
pub mod tensor;

pub use error::{Error, Result};
pub use tensor::{DType, Meta, Shape, Tensor};
