//! Activation functions, and every name they go by.
//!
//! Sources: GELU, exact and tanh form, Hendrycks and Gimpel 2016; SiLU, Elfwing et al. 2017;
//! quick GELU, the sigmoid form of the former paper as CLIP uses it.

use std::str::FromStr;

use crate::error::{Error, Result};

/// An activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    GeluErf,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `tanh(x)`.
    Tanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// Names in Hugging Face configurations (`hidden_act`, `activation_function`,
/// `feed_forward_proj`), and our own where they differ.
const NAMES: [(&str, Activation); 18] = [
    ("gelu", Activation::GeluErf),
    ("gelu_python", Activation::GeluErf),
    ("gelu_erf", Activation::GeluErf),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_tanh", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
    ("linear", Activation::None),
    ("identity", Activation::None),
    ("none", Activation::None),
];

impl Activation {
    /// Every function but [`None`](Self::None), in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Relu,
        Self::GeluErf,
        Self::GeluTanh,
        Self::Tanh,
        Self::Silu,
        Self::QuickGelu,
        Self::Sigmoid,
    ];

    /// Any, [`None`](Self::None) included, from a number of any size.
    pub(crate) fn of_number(n: usize) -> Self {
        let n = n % (Self::ALL.len() + 1);
        n.checked_sub(1).map_or(Self::None, |i| Self::ALL[i])
    }

    /// Our name, under which the op is registered; `none` for [`None`](Self::None).
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

    /// Every name that [`from_str`](Self::from_str) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// By any of [`names`](Self::names).
    fn from_str(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, a)| *a);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|a| a.name()).collect();
            let known = known.join(", ");
            Error::Argument(format!("unknown activation `{name}`; there are {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_configurations_and_our_own_parse() {
        let parse = |name: &str| name.parse::<Activation>().ok();
        assert_eq!(parse("gelu"), Some(Activation::GeluErf));
        assert_eq!(parse("gelu_new"), Some(Activation::GeluTanh));
        assert_eq!(parse("gelu_accurate"), Some(Activation::GeluTanh));
        assert_eq!(parse("swish"), Some(Activation::Silu));
        assert_eq!(parse("linear"), Some(Activation::None));
        assert_eq!(parse("mish"), None);
        for activation in Activation::ALL.into_iter().chain([Activation::None]) {
            assert_eq!(parse(activation.name()), Some(activation));
        }
    }
}
