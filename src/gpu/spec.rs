//! What turns a kernel's file into one variant of it.

use std::fmt;

/// New initialisers for a kernel's `const` and `alias` lines, and replacements for its `#import`
/// lines. Equal specs give equal pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Names, and initialisers or why there is none.
    pub(super) consts: Vec<(&'static str, Result<String, String>)>,
    pub(super) imports: Vec<(&'static str, &'static str)>,
    /// Names of consts that choose what is computed.
    features: Vec<&'static str>,
}

impl Spec {
    /// The file as it stands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a `const NAME: T = …;` or `alias NAME = …;` line. Numbers are written with the
    /// suffix of their Rust type (`u32` becomes `64u`), so the line's own type must agree. A
    /// float that is not finite has no literal: loading the kernel then is an error.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl ConstValue) -> Self {
        self.consts.push((name, value.wgsl()));
        self
    }

    /// Sets a const that chooses what is computed, not how much of it: see [`class`](Self::class).
    #[must_use]
    pub fn feature(mut self, name: &'static str, value: impl ConstValue) -> Self {
        self.features.push(name);
        self.set(name, value)
    }

    /// The same without the sizes: imports and features (bools are such) only. Variants of one
    /// class run the same code over other extents.
    #[must_use]
    pub fn class(&self) -> Self {
        let switch = |value: &Result<String, String>| {
            value.as_ref().is_ok_and(|literal| literal == "true" || literal == "false")
        };
        let mut out = self.clone();
        out.consts.retain(|(name, value)| switch(value) || self.features.contains(name));
        out
    }

    /// How many consts and imports two specs share.
    pub fn in_common(&self, other: &Self) -> usize {
        let consts = self.consts.iter().filter(|c| other.consts.contains(c)).count();
        consts + self.imports.iter().filter(|i| other.imports.contains(i)).count()
    }

    /// Replaces `#import from` by `#import to`, which must declare the same functions.
    #[must_use]
    pub fn import(mut self, from: &'static str, to: &'static str) -> Self {
        self.imports.push((from, to));
        self
    }

    /// The name that `#import name` stands for.
    pub(super) fn imported<'a>(&self, name: &'a str) -> &'a str {
        self.imports.iter().find(|(from, _)| *from == name).map_or(name, |&(_, to)| to)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |v: &Result<String, String>| match v {
            Ok(literal) => literal.clone(),
            Err(why) => format!("({why})"),
        };
        let consts = self.consts.iter().map(|(name, v)| format!("{name}={}", value(v)));
        let imports = self.imports.iter().map(|(_, to)| (*to).to_owned());
        f.write_str(&consts.chain(imports).collect::<Vec<_>>().join(" "))
    }
}

/// A Rust value that can be the initialiser of a WGSL `const` or `alias`.
pub trait ConstValue {
    /// The WGSL literal, or why the value has none.
    fn wgsl(self) -> Result<String, String>;
}

impl ConstValue for u32 {
    fn wgsl(self) -> Result<String, String> {
        Ok(format!("{self}u"))
    }
}

impl ConstValue for i32 {
    fn wgsl(self) -> Result<String, String> {
        // The minus is an operator in WGSL, and 2147483648i is out of range.
        Ok(if self == i32::MIN { format!("i32({self})") } else { format!("{self}i") })
    }
}

/// Written so that it reads back as the same bits.
impl ConstValue for f32 {
    fn wgsl(self) -> Result<String, String> {
        if !self.is_finite() {
            return Err(format!("{self} has no WGSL literal"));
        }
        // The shortest decimal of the largest f32 lies above it, and tint refuses that.
        Ok(if self.abs() == f32::MAX {
            format!("{:?}f", f64::from(self))
        } else {
            format!("{self:?}f")
        })
    }
}

impl ConstValue for bool {
    fn wgsl(self) -> Result<String, String> {
        Ok(self.to_string())
    }
}

/// A type name, for `alias` lines.
impl ConstValue for &'static str {
    fn wgsl(self) -> Result<String, String> {
        Ok(self.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_literals_of_their_type() {
        assert_eq!(64u32.wgsl().as_deref(), Ok("64u"));
        assert_eq!((-7i32).wgsl().as_deref(), Ok("-7i"));
        assert_eq!(i32::MIN.wgsl().as_deref(), Ok("i32(-2147483648)"));
        assert_eq!((-1.5f32).wgsl().as_deref(), Ok("-1.5f"));
        assert_eq!(1f32.wgsl().as_deref(), Ok("1.0f"));
    }

    #[test]
    fn floats_that_are_not_finite_have_no_literal() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(value.wgsl().is_err_and(|why| why.contains("no WGSL literal")));
        }
    }
}
