//! Expands loops that are marked `// unroll` on the line of their `for`:
//!
//! ```wgsl
//! for (var r = 0u; r < ROWS; r++) { // unroll
//!     sums[r] += x[r];
//! }
//! ```
//!
//! becomes, for `ROWS` 2,
//!
//! ```wgsl
//! { const r = 0u;
//!     sums[r] += x[r];
//! }
//! { const r = 1u;
//!     sums[r] += x[r];
//! }
//! ```
//!
//! Small arrays are registers only while every index is a constant; naga hands drivers no hint to
//! unroll, and writes loops that most do not unroll by themselves. The file stays the loop that a
//! reader wants to see. Bounds are made of literals, the module's constants (after the variant's
//! have been set) and the variables of marked loops around: `j < min(2u, DIM4 - i)`.

use std::ops::Range;

use super::const_expr::{Names, Value, tokens, typed};
use super::source::{Line, Origin};

const MARK: &str = "unroll";
/// Rounds of one loop: more is not what registers are for.
const MAX_ROUNDS: usize = 256;
/// Lines of the whole text: compilers take seconds for this many.
const MAX_LINES: usize = 20_000;

type Complaint = (Option<Origin>, String);

/// Expands every marked loop. An error says where, and what is wrong.
pub(super) fn unroll(lines: Vec<Line>) -> Result<Vec<Line>, Complaint> {
    if !lines.iter().any(|line| is_marked(&line.text)) {
        return Ok(lines);
    }
    let code = without_comments(&lines);
    let text = code.join("\n");
    let names = Names::of(&text);
    let all = 0..lines.len();
    let mut expansion = Expansion { lines: &lines, code: &code, names, scope: vec![], out: vec![] };
    expansion.run(all)?;
    Ok(expansion.out)
}

fn is_marked(line: &str) -> bool {
    line.split_once("//").is_some_and(|(_, comment)| comment.trim() == MARK)
}

/// The lines' code, without `//` and (nested) `/* */` comments.
fn without_comments(lines: &[Line]) -> Vec<String> {
    let mut depth = 0usize;
    let strip = |line: &Line| {
        let (mut out, mut rest) = (String::new(), line.text.as_str());
        while let Some(c) = rest.chars().next() {
            let mut len = c.len_utf8();
            if rest.starts_with("/*") {
                (depth, len) = (depth + 1, 2);
            } else if depth > 0 && rest.starts_with("*/") {
                (depth, len) = (depth - 1, 2);
            } else if depth == 0 && rest.starts_with("//") {
                break;
            } else if depth == 0 {
                out.push(c);
            }
            rest = &rest[len..];
        }
        out
    };
    lines.iter().map(strip).collect()
}

/// The head of a marked loop.
struct Head<'a> {
    variable: &'a str,
    first: Value,
    condition: &'a str,
    /// The variable's next value, as an expression.
    next: String,
}

struct Expansion<'a> {
    lines: &'a [Line],
    code: &'a [String],
    names: Names<'a>,
    /// Variables of the marked loops around, and their values.
    scope: Vec<(String, Value)>,
    out: Vec<Line>,
}

impl<'a> Expansion<'a> {
    fn run(&mut self, range: Range<usize>) -> Result<(), Complaint> {
        let mut i = range.start;
        while i < range.end {
            if is_marked(&self.lines[i].text) {
                i = self.one_loop(i, range.end)? + 1;
            } else {
                self.push(self.lines[i].text.clone(), i)?;
                i += 1;
            }
        }
        Ok(())
    }

    fn push(&mut self, text: String, line: usize) -> Result<(), Complaint> {
        let origin = self.lines[line].origin;
        if self.out.len() >= MAX_LINES {
            return Err((origin, format!("loops expand to more than {MAX_LINES} lines")));
        }
        self.out.push(Line { text, origin });
        Ok(())
    }

    /// Expands the loop at line `at`; gives the line of its closing brace.
    fn one_loop(&mut self, at: usize, end: usize) -> Result<usize, Complaint> {
        let origin = self.lines[at].origin;
        let fail = |why: String| (origin, format!("a loop marked `// unroll`: {why}"));
        let head = self.head(at).map_err(fail)?;
        let close = self.body(at, end, head.variable).map_err(fail)?;
        let rounds = self.rounds(&head).map_err(fail)?;
        let indent = self.indent(at);
        for value in rounds {
            let opening = format!("{indent}{{ const {} = {};", head.variable, value.literal());
            self.push(opening, at)?;
            self.scope.push((head.variable.to_owned(), value));
            self.run(at + 1..close)?;
            self.scope.pop();
            self.push(format!("{indent}}}"), close)?;
        }
        Ok(close)
    }

    fn indent(&self, line: usize) -> String {
        self.lines[line].text.chars().take_while(|c| c.is_whitespace()).collect()
    }

    /// Reads `for (var r = 0u; r < ROWS; r++) {`.
    fn head(&self, at: usize) -> Result<Head<'a>, String> {
        const FORM: &str = "the line must be `for (var i = FIRST; CONDITION; i++) {`";
        let all: &'a [String] = self.code;
        let inner = all[at]
            .trim()
            .strip_prefix("for")
            .map(str::trim_start)
            .and_then(|c| c.strip_prefix('('));
        let inner = inner.and_then(|c| c.strip_suffix('{')).map(str::trim_end);
        let inner = inner.and_then(|c| c.strip_suffix(')')).ok_or(FORM)?;
        let parts: Vec<_> = inner.split(';').map(str::trim).collect();
        let &[init, condition, update] = parts.as_slice() else { return Err(FORM.to_owned()) };
        let (declared, first) =
            init.strip_prefix("var ").and_then(|i| i.split_once('=')).ok_or(FORM)?;
        let (variable, ty) = match declared.split_once(':') {
            Some((name, ty)) => (name.trim(), Some(ty.trim())),
            None => (declared.trim(), None),
        };
        let first = typed(self.names.eval(first, &self.scope)?, ty)?;
        let Value::Int(..) = first else { return Err("its variable is no integer".to_owned()) };
        let step = update.strip_prefix(variable).map(str::trim).ok_or(FORM)?;
        let next = match step {
            "++" => format!("{variable} + 1"),
            "--" => format!("{variable} - 1"),
            _ => match (step.strip_prefix("+="), step.strip_prefix("-=")) {
                (Some(by), _) => format!("{variable} + ({by})"),
                (_, Some(by)) => format!("{variable} - ({by})"),
                _ => return Err(FORM.to_owned()),
            },
        };
        Ok(Head { variable, first, condition, next })
    }

    /// Finds the line of the closing brace, and refuses what a block cannot do.
    fn body(&self, at: usize, end: usize, variable: &str) -> Result<usize, String> {
        #[derive(Clone, Copy, PartialEq)]
        enum Opener {
            Loop,
            Switch,
            Other,
        }
        let mut open = Vec::new();
        let mut next = Opener::Other;
        for line in at + 1..end {
            let code = &self.code[line];
            let words: Vec<_> = tokens(code).map(|t| t.1).collect();
            for (i, &word) in words.iter().enumerate() {
                let follows = |ops: &[&str]| words.get(i + 1).is_some_and(|w| ops.contains(w));
                match word {
                    "for" | "while" | "loop" => next = Opener::Loop,
                    "switch" => next = Opener::Switch,
                    "{" => open.push(std::mem::replace(&mut next, Opener::Other)),
                    "}" if open.pop().is_none() => {
                        return match code.trim() {
                            "}" => Ok(line),
                            _ => Err("its closing brace must stand alone in its line".to_owned()),
                        };
                    }
                    "break" if !open.iter().any(|o| *o != Opener::Other) => {
                        return Err("`break` cannot leave it".to_owned());
                    }
                    "continue" if !open.contains(&Opener::Loop) => {
                        return Err("`continue` cannot go on with it".to_owned());
                    }
                    _ if word == variable
                        && follows(&["=", "+=", "-=", "*=", "/=", "++", "--"])
                        && !(i > 0 && matches!(words[i - 1], "let" | "var" | "const")) =>
                    {
                        return Err(format!("its body changes `{variable}`"));
                    }
                    _ => {}
                }
            }
        }
        Err("its closing brace is missing".to_owned())
    }

    /// The variable's value in each round.
    fn rounds(&self, head: &Head<'_>) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        let mut value = head.first;
        loop {
            let mut scope = self.scope.clone();
            scope.push((head.variable.to_owned(), value));
            match self.names.eval(head.condition, &scope)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(values),
                Value::Int(..) => return Err("its condition is no comparison".to_owned()),
            }
            if values.len() == MAX_ROUNDS {
                return Err(format!("it has more than {MAX_ROUNDS} rounds"));
            }
            values.push(value);
            value = self.names.eval(&head.next, &scope)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        let line = |(i, text): (usize, &str)| {
            let origin = Some(Origin { name: "test", shared: false, line: i + 1 });
            Line { text: text.to_owned(), origin }
        };
        text.lines().enumerate().map(line).collect()
    }

    fn expand(text: &str) -> String {
        let lines = unroll(lines(text)).expect("its loops are constant");
        lines.into_iter().map(|l| l.text + "\n").collect()
    }

    fn complaint(text: &str) -> String {
        let (origin, why) = unroll(lines(text)).expect_err("it cannot be expanded");
        format!("{}: {why}", origin.expect("a line of the file"))
    }

    #[test]
    fn a_loop_becomes_a_block_per_round() {
        let text = "const N: u32 = 4u;\nfn f() {\n    for (var r = 0u; r < N / 2u; r++) { // unroll\n\
                    \x20       s[r] = 0;\n    }\n}\n";
        let expected = "const N: u32 = 4u;\nfn f() {\n    { const r = 0u;\n        s[r] = 0;\n    }\n\
                        \x20   { const r = 1u;\n        s[r] = 0;\n    }\n}\n";
        assert_eq!(expand(text), expected);
    }

    #[test]
    fn inner_bounds_may_depend_on_outer_variables() {
        let text = "for (var i = 0u; i < 3u; i += 2u) { // unroll\n\
                    for (var j = 0u; j < min(2u, 3u - i); j++) { // unroll\ns(i, j);\n}\n}\n";
        let out = expand(text);
        let blocks: Vec<_> = out.lines().filter(|l| l.starts_with('{')).collect();
        let [zero, one, two] = ["0u", "1u", "2u"]
            .map(|n| [format!("{{ const i = {n};"), format!("{{ const j = {n};")]);
        assert_eq!(blocks, [&zero[0], &zero[1], &one[1], &two[0], &zero[1]]);
        assert_eq!(out.matches("s(i, j);").count(), 3);
    }

    #[test]
    fn loops_count_down_by_steps_or_not_at_all() {
        let body = |head: &str| expand(&format!("for ({head}) {{ // unroll\nx;\n}}\n"));
        assert!(body("var i = 2; i >= 0; i--").contains("const i = 0i;"));
        assert!(body("var i: u32 = 6; i != 0u; i -= 3u").contains("const i = 3u;"));
        assert_eq!(body("var i = 0u; i < 0u; i++"), "");
    }

    #[test]
    fn loops_without_the_mark_stay() {
        let text = "for (var i = 0u; i < n; i++) { // unrolled by whoever likes to\n}\n";
        assert_eq!(expand(text), text);
    }

    #[test]
    fn inner_loops_keep_their_breaks() {
        let text = "for (var i = 0u; i < 2u; i++) { // unroll\nloop {\nif (a) { break; }\ncontinue;\n}\n\
                    switch b { default { break; } }\n}\n";
        assert_eq!(expand(text).matches("continue;").count(), 2);
    }

    #[test]
    fn copies_know_their_lines() {
        let text = "x;\nfor (var i = 0u; i < 2u; i++) { // unroll\ny;\n}\nz;\n";
        let origins: Vec<_> = unroll(lines(text))
            .expect("its loops are constant")
            .iter()
            .map(|l| l.origin.expect("a line of the file").line)
            .collect();
        assert_eq!(origins, [1, 2, 3, 4, 2, 3, 4, 5]);
    }

    #[test]
    fn loops_that_cannot_be_expanded_say_why_and_where() {
        for (text, expected) in [
            ("for (var i = 0u; i < params.n; i++) { // unroll\n}\n", "`params.n` is no constant"),
            ("for (var i = 0u; i < 257u; i++) { // unroll\n}\n", "more than 256 rounds"),
            ("for (var i = 0u; i < 2u; i += 0u) { // unroll\n}\n", "more than 256 rounds"),
            ("for (var i = 0u; i < 2u; i++) { // unroll\nif (a) {\nbreak;\n}\n}\n", "`break`"),
            (
                "for (var i = 0u; i < 2u; i++) { // unroll\nswitch a { default { continue; } }\n}\n",
                "`continue`",
            ),
            ("for (var i = 0u; i < 2u; i++) { // unroll\ni += 1u;\n}\n", "changes `i`"),
            ("for (var i = 0u; i < 2u; i++) { // unroll\nx; }\n", "closing brace must stand alone"),
            ("for (var i = 0u; i < 2u; i++) { // unroll\nx;\n", "closing brace is missing"),
            ("while (a) { // unroll\n}\n", "must be `for"),
            ("// unroll\n", "must be `for"),
            ("for (var i = 0u; i + 1u; i++) { // unroll\n}\n", "no comparison"),
            ("for (var i = 2u; i >= 0u; i--) { // unroll\n}\n", "out of its type's range"),
        ] {
            let why = complaint(text);
            assert!(why.starts_with("shaders/test.wgsl:1: ") && why.contains(expected), "{why}");
        }
    }

    #[test]
    fn the_whole_text_has_a_limit() {
        let head = |v: &str| format!("for (var {v} = 0u; {v} < 200u; {v}++) {{ // unroll\n");
        let why = complaint(&format!("{}{}x;\n}}\n}}\n", head("i"), head("j")));
        assert!(why.contains("more than 20000 lines"), "{why}");
    }
}
