//! Activation functions: names, codes in `shaders/shared/activation.wgsl`, f64 definitions.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A function applied to each element; `None` is the identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// x/2 (1 + erf(x / sqrt 2)). Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    GeluErf,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the same paper's approximation.
    GeluTanh,
    /// tanh(x)
    Tanh,
    /// x sigmoid(x)
    Silu,
    /// x sigmoid(1.702 x)
    QuickGelu,
    /// 1 / (1 + exp(-x))
    Sigmoid,
}

impl Activation {
    /// Every activation, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Relu,
        Self::GeluErf,
        Self::GeluTanh,
        Self::Tanh,
        Self::Silu,
        Self::QuickGelu,
        Self::Sigmoid,
    ];

    /// The name used on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relu => "relu",
            Self::GeluErf => "gelu_erf",
            Self::GeluTanh => "gelu_tanh",
            Self::Tanh => "tanh",
            Self::Silu => "silu",
            Self::QuickGelu => "quick_gelu",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// The value of `ACT` in `shaders/shared/activation.wgsl`.
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::GeluErf => 2,
            Self::GeluTanh => 3,
            Self::Tanh => 4,
            Self::Silu => 5,
            Self::QuickGelu => 6,
            Self::Sigmoid => 7,
        }
    }

    /// The function in f64, by its definition.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::GeluErf => 0.5 * x * erfc(-x / std::f64::consts::SQRT_2),
            Self::GeluTanh => {
                // The identity 1 + tanh(u) = 2 sigmoid(2u) keeps the digits of the left tail.
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                gate(x, 2.0 * u)
            }
            Self::Tanh => x.tanh(),
            Self::Silu => gate(x, x),
            Self::QuickGelu => gate(x, 1.702 * x),
            Self::Sigmoid => sigmoid(x),
        }
    }

    /// The function for the CPU route: f32 in and out, to a few units in the last place of 1.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            // Half the time of a model's feed-forward would go into the f64 series otherwise.
            Self::GeluErf => 0.5 * x * (1.0 + fast_erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            _ => self.reference(f64::from(x)) as f32,
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::Argument(format!("no activation is named `{text}`; there are {known}"))
        })
    }
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// `x sigmoid(s)`, 0 where the gate is.
fn gate(x: f64, s: f64) -> f64 {
    x * sigmoid(s)
}

/// 1 - erf(x), keeping the relative precision of the right tail.
/// Series: DLMF 7.6.2; continued fraction: DLMF 7.9.2.
fn erfc(x: f64) -> f64 {
    let a = x.abs();
    let root_pi = std::f64::consts::PI.sqrt();
    let tail = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..80 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        1.0 - 2.0 / root_pi * (-a * a).exp() * sum
    } else {
        let fraction = (1..120).rev().fold(a, |f, n| a + 0.5 * f64::from(n) / f);
        (-a * a).exp() / (root_pi * fraction)
    };
    if x >= 0.0 { tail } else { 2.0 - tail }
}

/// erf to 5e-7, exactly +-1 from 3.95 on; the fit of `shaders/shared/activation.wgsl`.
fn fast_erf(x: f32) -> f32 {
    if x.abs() >= 3.95 {
        return x.signum();
    }
    const P: [f32; 7] = [
        -1.3477356e-8,
        4.7444796e-6,
        3.8135887e-4,
        3.8355649e-3,
        5.4301873e-2,
        1.8470903e-1,
        1.1283792,
    ];
    const Q: [f32; 6] = [6.366968e-5, 1.3069926e-3, 1.5440846e-2, 1.1379873e-1, 4.9702764e-1, 1.0];
    let z = x * x;
    let horner = |c: &[f32]| c.iter().fold(0.0, |sum, c| sum * z + c);
    x * horner(&P) / horner(&Q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_agrees_with_published_values() {
        // NIST DLMF / Abramowitz and Stegun table 7.1, and erfc(5) from the asymptotic series.
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (2.0, 4.677_734_981_047_266e-3),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            assert!((erfc(x) - want).abs() <= 2e-13 + 1e-10 * want.min(1e-3), "{x}: {}", erfc(x));
            assert!((erfc(-x) - (2.0 - want)).abs() < 1e-12);
        }
    }

    #[test]
    fn the_fast_route_stays_close_and_finite() {
        for activation in Activation::ALL {
            for i in -2000..=2000 {
                let x = i as f32 * 0.01;
                let want = activation.reference(f64::from(x));
                let error = (f64::from(activation.apply(x)) - want).abs();
                assert!(error <= 1e-6 * (1.0 + f64::from(x.abs())), "{activation} {x}: {error}");
            }
            for x in [3e38, -3e38, f32::MIN_POSITIVE, -0.0] {
                assert!(activation.apply(x).is_finite(), "{activation} {x}");
                assert!(activation.reference(f64::from(x)).is_finite(), "{activation} {x}");
            }
            assert_eq!(activation.name().parse::<Activation>().ok(), Some(activation));
        }
    }
}
