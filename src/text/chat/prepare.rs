//! A template's source before the Jinja engine sees it.
//!
//! The engine counts steps, but not how large or deep the values become that a template keeps:
//! lists joined by reference double their length with each step, and nested ones overflow the
//! stack when they are printed. So what is assigned passes through a filter of
//! [`bounds`](super::bounds), and so do the arguments of macros.

use std::ops::Range;

use super::bounds::{ATTRIBUTE, VARIABLE};

/// Parts of one tag: names, numbers, texts, operators. The engine's work to compile a tag grows
/// with their square; the templates in use have some dozens.
const MAX_PARTS: usize = 1000;

/// The source with its assignments bounded, and with `{% generation %}`, which marks the model's
/// own words for training, turned into a scope and no more.
///
/// An error, without a file's name, for a tag of too many parts.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map(|end| end + 2),
            Some(b'{') => Tag::read(rest, "}}")?.map(|tag| tag.end),
            Some(b'%') => match Tag::read(rest, "%}")? {
                Some(tag) => {
                    out.push_str(&tag.bounded());
                    rest = &rest[tag.end..];
                    if tag.word(0) == Some("raw") {
                        let end = end_of_raw(rest);
                        out.push_str(&rest[..end]);
                        rest = &rest[end..];
                    }
                    continue;
                }
                None => None,
            },
            _ => Some(1),
        };
        // Without an end the engine has the error to report.
        let end = end.unwrap_or(rest.len());
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    Ok(out + rest)
}

/// Where the tag begins that ends a raw block.
fn end_of_raw(text: &str) -> usize {
    let ends = |(at, _): &(usize, &str)| {
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        inner.starts_with("endraw")
    };
    text.match_indices("{%").find(ends).map_or(text.len(), |(at, _)| at)
}

/// A tag, `{% … %}` or `{{ … }}`, cut into its parts.
struct Tag<'a> {
    text: &'a str,
    /// Names, numbers, texts and single characters of operators, with the brackets around each.
    parts: Vec<(Range<usize>, usize)>,
    /// The sign and the braces that close it.
    close: Range<usize>,
    end: usize,
}

impl<'a> Tag<'a> {
    /// Reads the tag at the beginning of `text`; `None` if it has no end.
    fn read(text: &'a str, close: &str) -> Result<Option<Self>, String> {
        let mut parts = Vec::new();
        let mut depth = 0usize;
        let mut at = 2 + usize::from(text[2..].starts_with(['-', '+']));
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            let sign = usize::from(c == '-' || c == '+');
            if depth == 0 && rest[sign..].starts_with(close) {
                let end = at + sign + close.len();
                return Ok(Some(Self { text, parts, close: at..end, end }));
            }
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match c {
                '"' | '\'' => match end_of_text(rest, c) {
                    Some(length) => length,
                    None => return Ok(None),
                },
                c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            depth = match c {
                '(' | '[' | '{' => depth + 1,
                ')' | ']' | '}' => depth.saturating_sub(1),
                _ => depth,
            };
            if !c.is_whitespace() {
                parts.push((at..at + length, depth));
            }
            if parts.len() > MAX_PARTS {
                return Err(format!("a tag of the chat template has more than {MAX_PARTS} parts"));
            }
            at += length;
        }
        Ok(None)
    }

    /// The text of a part.
    fn word(&self, part: usize) -> Option<&'a str> {
        self.parts.get(part).map(|(range, _)| &self.text[range.clone()])
    }

    /// The text up to a part's end, and from there to the closing sign.
    fn split(&self, part: usize) -> (&'a str, &'a str) {
        let at = self.parts.get(part).map_or(2, |(range, _)| range.end);
        (&self.text[..at], &self.text[at..self.close.start])
    }

    /// The tag with what it assigns passed through a filter.
    fn bounded(&self) -> String {
        let whole = &self.text[..self.end];
        let close = &self.text[self.close.clone()];
        match self.word(0) {
            Some("generation" | "endgeneration") if self.parts.len() == 1 => {
                whole.replacen("generation", "with", 1)
            }
            Some("set") => {
                let is_equals = |part: &usize| self.word(*part) == Some("=");
                match (1..self.parts.len()).find(is_equals) {
                    Some(equals) => {
                        let (target, value) = self.split(equals);
                        let filter = if target.contains('.') { ATTRIBUTE } else { VARIABLE };
                        format!("{target} ({value}) | {filter} {close}")
                    }
                    None => whole.to_owned(),
                }
            }
            Some("macro") => {
                let mut out = whole.to_owned();
                for part in 2..self.parts.len() {
                    let begins = matches!(self.word(part - 1), Some("(" | ","));
                    if let Some(name) = self.word(part)
                        && begins
                        && self.parts[part - 1].1 == 1
                        && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
                    {
                        out += &format!("{{% set {name} = {name} | {VARIABLE} {close}");
                    }
                }
                out
            }
            _ => whole.to_owned(),
        }
    }
}

/// The length of a text with its quotes; `None` if it has no end.
fn end_of_text(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn assignments_are_bounded_and_nothing_else_changes() {
        let cases = [
            ("a { b }} {{ c }} {# set d = 1 #}", None),
            ("{% set x %}y{% endset %}{% if a == b %}{% endif %}", None),
            (
                "{%- set x = [1, '%}', \"a\\\"=\"] -%}",
                Some("{%- set x = ( [1, '%}', \"a\\\"=\"] ) | __variable -%}"),
            ),
            ("{% set ns.x=ns.x+1 %}", Some("{% set ns.x= (ns.x+1 ) | __attribute %}")),
            ("{% set a = b == c %}", Some("{% set a = ( b == c ) | __variable %}")),
            ("{% raw %}{% set a = 1 %}{% endraw %}{% set", None),
            ("{%- generation -%}{% endgeneration %}", Some("{%- with -%}{% endwith %}")),
            ("{{ {'a': {}} }}{{ 'generation' }}", None),
            (
                "{% macro f(a, b=g(c, d)) -%}",
                Some(
                    "{% macro f(a, b=g(c, d)) -%}{% set a = a | __variable -%}{% set b = b | __variable -%}",
                ),
            ),
            ("{% macro f() %}", None),
        ];
        for (source, expected) in cases {
            assert_eq!(prepare(source).unwrap(), expected.unwrap_or(source));
        }
        let long = format!("{{{{ 1{} }}}}", "+1".repeat(600));
        assert!(prepare(&long).unwrap_err().contains("more than 1000 parts"));
    }
}
