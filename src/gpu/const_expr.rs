//! Values of the constant integer expressions that bounds of loops are made of.
//!
//! WGSL says the types: `4u` and `4i` do not mix, a plain `4` fits either. What is out of a
//! type's range is an error here as it is there.

use std::collections::{HashMap, HashSet};

/// The type of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A literal without suffix, and what is made of such.
    Any,
    U32,
    I32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Int(i64, Kind),
    Bool(bool),
}

impl Value {
    /// As a literal with its type's suffix; a plain integer in a `var` is an i32.
    pub(super) fn literal(self) -> String {
        match self {
            Self::Int(n, Kind::U32) => format!("{n}u"),
            Self::Int(n, _) => format!("{n}i"),
            Self::Bool(b) => b.to_string(),
        }
    }
}

/// Words, numbers and operators of a text without comments, with their places.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const LONG: [&str; 17] = [
        "<<=", ">>=", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=", "*=",
        "/=", "->",
    ];
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(|c: char| !c.is_whitespace())?;
        let rest = &text[at..];
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let len = match LONG.iter().find(|op| rest.starts_with(**op)) {
            Some(op) => op.len(),
            None if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                rest.find(|c| !word(c)).unwrap_or(rest.len())
            }
            None => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += len;
        Some((at - len, &rest[..len]))
    })
}

/// What names of a module stand for.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Type, if given, and initialiser of each `const` of the module.
    consts: HashMap<&'a str, (Option<&'a str>, &'a str)>,
    /// Names that some function declares, and which may hide the module's.
    local: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    /// Reads the declarations of a text without comments.
    pub(super) fn of(text: &'a str) -> Self {
        let mut names = Self::default();
        let tokens: Vec<_> = tokens(text).collect();
        let word = |i: usize| tokens.get(i).map_or("", |t| t.1);
        let (mut braces, mut parens) = (0usize, 0usize);
        for (i, &(_, token)) in tokens.iter().enumerate() {
            match token {
                "{" => braces += 1,
                "}" => braces = braces.saturating_sub(1),
                "(" => parens += 1,
                ")" => parens = parens.saturating_sub(1),
                "const" if braces == 0 => names.module_const(text, &tokens[i..]),
                "const" | "let" | "var" if braces > 0 => {
                    names.local.insert(word(i + 1));
                }
                // A parameter of a function.
                ":" if braces == 0 && parens > 0 && i > 0 => {
                    names.local.insert(word(i - 1));
                }
                _ => {}
            }
        }
        names
    }

    fn module_const(&mut self, text: &'a str, tokens: &[(usize, &'a str)]) {
        let at = |wanted: &str| tokens.iter().position(|t| t.1 == wanted);
        if let (Some((_, name)), Some(equals), Some(end)) = (tokens.get(1), at("="), at(";"))
            && equals < end
        {
            let ty = tokens.get(2).filter(|t| t.1 == ":").and(tokens.get(3)).map(|t| t.1);
            let initialiser = text[tokens[equals].0 + 1..tokens[end].0].trim();
            self.consts.insert(name, (ty, initialiser));
        }
    }

    /// The value of an expression under the values of enclosing loops' variables, innermost last.
    pub(super) fn eval(&self, text: &str, scope: &[(String, Value)]) -> Result<Value, String> {
        self.eval_at(text, scope, 0)
    }

    fn eval_at(&self, text: &str, scope: &[(String, Value)], depth: u32) -> Result<Value, String> {
        if depth > 32 {
            return Err(format!("`{text}` is nested too deeply"));
        }
        let tokens = tokens(text).map(|t| t.1).collect();
        let mut parser = Parser { names: self, scope, tokens, at: 0, depth };
        let value = parser.binary(0)?;
        match parser.tokens.get(parser.at) {
            None => Ok(value),
            Some(rest) => Err(format!("`{rest}` is not understood in `{text}`")),
        }
    }
}

/// An integer taken as a type that was written down.
pub(super) fn typed(value: Value, ty: Option<&str>) -> Result<Value, String> {
    match (value, ty) {
        (Value::Int(n, Kind::Any | Kind::U32), Some("u32")) => in_range(n, Kind::U32),
        (Value::Int(n, Kind::Any | Kind::I32), Some("i32")) => in_range(n, Kind::I32),
        (Value::Bool(_), Some("bool")) | (_, None) => Ok(value),
        (_, Some(ty)) => Err(format!("a constant of type {ty} does not fit")),
    }
}

fn in_range(n: i64, kind: Kind) -> Result<Value, String> {
    let fits = match kind {
        Kind::U32 => u32::try_from(n).is_ok(),
        Kind::I32 => i32::try_from(n).is_ok(),
        Kind::Any => true,
    };
    if fits { Ok(Value::Int(n, kind)) } else { Err(format!("{n} is out of its type's range")) }
}

struct Parser<'a, 's> {
    names: &'s Names<'a>,
    scope: &'s [(String, Value)],
    tokens: Vec<&'s str>,
    at: usize,
    depth: u32,
}

/// Binary operators from the loosest binding to the tightest.
const LEVELS: [&[&str]; 8] = [
    &["||"],
    &["&&"],
    &["|"],
    &["&"],
    &["==", "!=", "<", "<=", ">", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser<'_, '_> {
    fn next(&mut self) -> Result<&str, String> {
        let token = self.tokens.get(self.at).ok_or("an expression ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn demand(&mut self, wanted: &str) -> Result<(), String> {
        let found = self.next()?;
        if found == wanted { Ok(()) } else { Err(format!("expected `{wanted}`, found `{found}`")) }
    }

    fn binary(&mut self, level: usize) -> Result<Value, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(&op) = self.tokens.get(self.at).filter(|t| operators.contains(t)) {
            self.at += 1;
            let right = self.binary(level + 1)?;
            left = apply(op, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Value, String> {
        match self.tokens.get(self.at) {
            Some(&"-") => {
                self.at += 1;
                match self.unary()? {
                    Value::Int(n, kind @ (Kind::Any | Kind::I32)) => in_range(-n, kind),
                    _ => Err("only i32 can be negative".to_owned()),
                }
            }
            Some(&"!") => {
                self.at += 1;
                match self.unary()? {
                    Value::Bool(b) => Ok(Value::Bool(!b)),
                    Value::Int(..) => Err("`!` wants a bool".to_owned()),
                }
            }
            _ => self.primary(),
        }
    }

    fn primary(&mut self) -> Result<Value, String> {
        let token = self.next()?.to_owned();
        if token == "(" {
            let value = self.binary(0)?;
            self.demand(")")?;
            return Ok(value);
        }
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            return number(&token);
        }
        if self.tokens.get(self.at) == Some(&"(") {
            self.at += 1;
            return self.call(&token);
        }
        match token.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            name => self.name(name),
        }
    }

    fn name(&self, name: &str) -> Result<Value, String> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(n, _)| n == name) {
            return Ok(*value);
        }
        match self.names.consts.get(name) {
            Some((ty, initialiser)) if !self.names.local.contains(name) => {
                typed(self.names.eval_at(initialiser, &[], self.depth + 1)?, *ty)
            }
            _ => Err(format!("`{name}` is no constant of the module")),
        }
    }

    fn call(&mut self, name: &str) -> Result<Value, String> {
        let first = self.binary(0)?;
        if matches!(name, "u32" | "i32") {
            self.demand(")")?;
            let kind = if name == "u32" { Kind::U32 } else { Kind::I32 };
            return match first {
                Value::Int(n, _) => in_range(n, kind),
                Value::Bool(b) => Ok(Value::Int(b.into(), kind)),
            };
        }
        self.demand(",")?;
        let second = self.binary(0)?;
        self.demand(")")?;
        let (a, b, kind) = integers(name, first, second)?;
        match name {
            "min" => Ok(Value::Int(a.min(b), kind)),
            "max" => Ok(Value::Int(a.max(b), kind)),
            _ => Err(format!("`{name}` is none of u32, i32, min, max")),
        }
    }
}

fn number(token: &str) -> Result<Value, String> {
    let (digits, kind) = match token.as_bytes() {
        [.., b'u'] => (&token[..token.len() - 1], Kind::U32),
        [.., b'i'] => (&token[..token.len() - 1], Kind::I32),
        _ => (token, Kind::Any),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    in_range(value.map_err(|_| format!("`{token}` is no integer"))?, kind)
}

fn integers(op: &str, left: Value, right: Value) -> Result<(i64, i64, Kind), String> {
    match (left, right) {
        (Value::Int(a, x), Value::Int(b, y)) if x == y || y == Kind::Any => Ok((a, b, x)),
        (Value::Int(a, Kind::Any), Value::Int(b, y)) => Ok((a, b, y)),
        _ => Err(format!("`{op}` between values of different types")),
    }
}

fn apply(op: &str, left: Value, right: Value) -> Result<Value, String> {
    if let (Value::Bool(a), Value::Bool(b)) = (left, right) {
        return match op {
            "||" | "|" => Ok(Value::Bool(a | b)),
            "&&" | "&" => Ok(Value::Bool(a & b)),
            "==" => Ok(Value::Bool(a == b)),
            "!=" => Ok(Value::Bool(a != b)),
            _ => Err(format!("`{op}` between bools")),
        };
    }
    let shift = matches!(op, "<<" | ">>");
    let (a, b, kind) = match (left, right) {
        (Value::Int(a, kind), Value::Int(b, Kind::U32 | Kind::Any)) if shift => (a, b, kind),
        _ => integers(op, left, right)?,
    };
    let value = match op {
        "==" => return Ok(Value::Bool(a == b)),
        "!=" => return Ok(Value::Bool(a != b)),
        "<" => return Ok(Value::Bool(a < b)),
        "<=" => return Ok(Value::Bool(a <= b)),
        ">" => return Ok(Value::Bool(a > b)),
        ">=" => return Ok(Value::Bool(a >= b)),
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        "/" => a.checked_div(b),
        "%" => a.checked_rem(b),
        "&" => Some(a & b),
        "|" => Some(a | b),
        "<<" if (0..32).contains(&b) => a.checked_mul(1 << b),
        ">>" if (0..32).contains(&b) => Some(a >> b),
        _ => None,
    };
    in_range(value.ok_or_else(|| format!("`{a} {op} {b}` has no value"))?, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "const DIM: u32 = 10; const DIM4: u32 = (DIM + 3u) / 4u;
        const WIDE: bool = DIM4 > 2u; const LOOP: u32 = LOOP; const HIDDEN: u32 = 1u;
        fn f(a: u32) { let HIDDEN = a; }";

    fn eval(text: &str) -> Result<Value, String> {
        Names::of(MODULE).eval(text, &[("r".to_owned(), Value::Int(2, Kind::U32))])
    }

    #[test]
    fn expressions_have_the_values_that_wgsl_gives_them() {
        for (text, expected) in [
            ("DIM4", 3),
            ("min(DIM4, 32u) * 2u + r", 8),
            ("max(1u, DIM - 4u * r)", 2),
            ("DIM4 | 1u", 3),
            ("(1u << 4u) >> 1u", 8),
            ("u32(7) % 0x4u", 3),
        ] {
            assert_eq!(eval(text), Ok(Value::Int(expected, Kind::U32)), "{text}");
        }
        assert_eq!(eval("-3 + 1i"), Ok(Value::Int(-2, Kind::I32)));
        assert_eq!(eval("!WIDE || DIM4 <= 3u && r != 2u"), Ok(Value::Bool(false)));
    }

    #[test]
    fn what_is_not_constant_or_not_an_integer_is_told() {
        for (text, expected) in [
            ("params.n", "`params.n` is no constant"),
            ("HIDDEN", "`HIDDEN` is no constant"),
            ("1u - 2u", "out of its type's range"),
            ("1u + 1i", "different types"),
            ("1u / 0u", "has no value"),
            ("LOOP", "too deeply"),
            ("1.5", "`1.5` is no integer"),
            ("DIM4 +", "ends too early"),
            ("sin(1u, 2u)", "`sin` is none of"),
            ("1u 2u", "`2u` is not understood"),
        ] {
            let error = eval(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
