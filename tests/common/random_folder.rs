//! Model folders with random weights, for sizes and configurations that no golden has.

use std::path::Path;

use serde_json::Value;
use tilewright::ops::Rng;
use tilewright::{Tensor, weights};

#[path = "folder.rs"]
mod folder;

/// A folder in the making: tensors by name, then its configuration.
pub struct RandomFolder {
    folder: folder::Folder,
    rng: Rng,
    tensors: Vec<(String, Tensor)>,
}

impl RandomFolder {
    pub fn new(seed: u64) -> Self {
        Self { folder: folder::Folder::new(), rng: Rng::new(seed), tensors: Vec::new() }
    }

    /// A matrix or table whose products with values of order one are of that order.
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) {
        let scale = 1.0 / (columns as f32).sqrt();
        self.add(name, [rows, columns], |rng| rng.normal() * scale);
    }

    pub fn vector(&mut self, name: &str, n: usize) {
        self.add(name, [n], |rng| rng.normal() * 0.3);
    }

    /// `{name}.weight` near 1.
    pub fn scale(&mut self, name: &str, n: usize) {
        self.add(&format!("{name}.weight"), [n], |rng| 1.0 + rng.normal() * 0.2);
    }

    /// `{name}.weight` near 1, and `{name}.bias`.
    pub fn norm(&mut self, name: &str, n: usize) {
        self.scale(name, n);
        self.vector(&format!("{name}.bias"), n);
    }

    /// `{name}.weight` and `{name}.bias`.
    pub fn linear(&mut self, name: &str, n_out: usize, n_in: usize) {
        self.matrix(&format!("{name}.weight"), n_out, n_in);
        self.vector(&format!("{name}.bias"), n_out);
    }

    fn add<const N: usize>(
        &mut self,
        name: &str,
        dims: [usize; N],
        draw: impl FnMut(&mut Rng) -> f32,
    ) {
        self.tensors.push((name.to_owned(), self.rng.tensor_with(dims, draw)));
    }

    /// Writes the folder, which lives as long as this value.
    pub fn write(&self, config: &Value) -> &Path {
        let tensors: Vec<_> = self.tensors.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        weights::write(self.folder.0.join("model.safetensors"), &tensors).unwrap();
        self.folder.file("config.json", config.to_string());
        &self.folder.0
    }
}
