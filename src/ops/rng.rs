//! Numbers for cases and benches: the same on every run and machine.

use crate::tensor::Tensor;

/// A small fixed generator (SplitMix64), so that cases are the same on every run and machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    /// An integer below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next_u64() % n.max(1) as u64) as usize
    }

    /// A tensor of standard normal values.
    pub fn tensor<const N: usize>(&mut self, dims: [usize; N]) -> Tensor {
        self.tensor_with(dims, |rng| rng.normal())
    }

    /// A tensor of values drawn by `draw`.
    pub fn tensor_with<const N: usize>(
        &mut self,
        dims: [usize; N],
        mut draw: impl FnMut(&mut Self) -> f32,
    ) -> Tensor {
        let shape = crate::tensor::Shape::from(dims);
        let values = (0..shape.numel()).map(|_| draw(self)).collect();
        Tensor::f32(shape, values).unwrap_or_else(|_| unreachable!("as many values as elements"))
    }
}
