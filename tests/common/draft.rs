//! Model folders of random weights.

use serde_json::Value;
use tilewright::ops::Rng;
use tilewright::tensor::DType;
use tilewright::weights;

use crate::folder::Folder;

/// A configuration and the tensors that it asks for.
pub struct Draft {
    config: Value,
    /// Name, shape, what values lie around, and how far compared to what keeps a state's size.
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
}

impl Draft {
    pub fn new(config: Value) -> Self {
        Self { config, tensors: Vec::new() }
    }

    /// A matrix or table.
    pub fn matrix(&mut self, name: impl Into<String>, dims: [usize; 2]) {
        self.scaled_matrix(name, dims, 1.0);
    }

    /// A matrix whose values are `scale` times as large as that of [`matrix`](Self::matrix).
    pub fn scaled_matrix(&mut self, name: impl Into<String>, dims: [usize; 2], scale: f32) {
        self.tensors.push((name.into(), dims.into(), 0.0, scale));
    }

    /// A bias.
    pub fn vector(&mut self, name: impl Into<String>, n: usize) {
        self.tensors.push((name.into(), vec![n], 0.0, 1.0));
    }

    /// `{name}.weight` [n_out, n_in] and, if it has one, `{name}.bias` [n_out].
    pub fn linear(&mut self, name: &str, [n_out, n_in]: [usize; 2], bias: bool) {
        self.matrix(format!("{name}.weight"), [n_out, n_in]);
        if bias {
            self.vector(format!("{name}.bias"), n_out);
        }
    }

    /// `{name}.weight` [width] with values around `middle` and, if it has one, `{name}.bias`.
    pub fn norm(&mut self, name: &str, width: usize, middle: f32, bias: bool) {
        self.tensors.push((format!("{name}.weight"), vec![width], middle, 1.0));
        if bias {
            self.vector(format!("{name}.bias"), width);
        }
    }

    /// The folder, with weights that keep a hidden state's size, stored as `dtype`.
    pub fn write(&self, dtype: DType, seed: u64) -> Folder {
        let mut rng = Rng::new(seed);
        let folder = Folder::new();
        folder.file("config.json", self.config.to_string());
        let tensors = self.tensors.iter().map(|(name, dims, middle, scale)| {
            let spread = match dims.as_slice() {
                [_, n_in] => (*n_in as f32).sqrt().recip(),
                _ => 0.2,
            };
            let mut value = || middle + scale * spread * rng.normal();
            let values = (0..dims.iter().product()).map(|_| value()).collect();
            let shape = tilewright::tensor::Shape::new(dims).unwrap();
            let tensor = tilewright::Tensor::f32(shape, values).unwrap();
            (name.as_str(), tensor.cast(dtype).unwrap())
        });
        let tensors: Vec<_> = tensors.collect();
        weights::write(folder.0.join("model.safetensors"), &tensors).unwrap();
        folder
    }
}
