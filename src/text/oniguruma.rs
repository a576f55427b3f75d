//! Regular expressions as `tokenizer.json` means them: its patterns are written for Oniguruma with
//! Ruby's syntax, and some of them mean something else to the engine that runs them here.

use serde_json::Value;

use crate::files::one_line;

/// `\w` of Oniguruma, as the inside of a class.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";

/// What `\w` matches besides where it stands outside a class: an oddity of its Latin-1 table.
const WORD_ALONE: &str = "²³¹¼½¾";

/// Translates the patterns of a normaliser, pre-tokeniser or decoder; whether one changed. Errors
/// name the pattern.
pub(super) fn translate_part(part: &mut Value) -> Result<bool, String> {
    let mut changed = false;
    for list in ["normalizers", "pretokenizers", "decoders"] {
        for inner in part.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            changed |= translate_part(inner)?;
        }
    }
    if let Some(Value::String(regex)) = part.pointer_mut("/pattern/Regex") {
        let translated = translate(regex);
        let translated = translated.map_err(|e| format!("pattern `{}` {e}", one_line(regex)))?;
        changed |= translated != *regex;
        *regex = translated;
    }
    Ok(changed)
}

/// The same pattern for the engine used here: `^` and `$` stand at every line, `\w` and POSIX
/// classes are Unicode's, the flag `m` lets `.` match line ends. Errors name what has no counterpart.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // Open brackets of character classes.
    let mut depth = 0;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '\\' => {
                let escaped = rest[1..].chars().next();
                taken += escaped.map_or(0, char::len_utf8);
                match escaped {
                    Some('w') if depth > 0 => out += WORD,
                    Some('w') => out += &format!("[{WORD}{WORD_ALONE}]"),
                    Some('W') if depth > 0 => out += &format!("[^{WORD}]"),
                    Some('W') => out += &format!("[^{WORD}{WORD_ALONE}]"),
                    Some('R') if depth == 0 => out += r"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])",
                    _ => out += &rest[..taken],
                }
            }
            '[' if depth > 0 && rest.starts_with("[:") && rest.contains(":]") => {
                taken = rest.find(":]").unwrap_or(0) + 2;
                out += &posix(&rest[2..taken - 2])?;
            }
            '[' => {
                depth += 1;
                // A bracket right after the opening one (or its ^) is an ordinary character.
                let not = rest[1..].starts_with('^');
                taken += usize::from(not);
                let bracket = rest[taken..].starts_with(']');
                out += &rest[..taken];
                if bracket {
                    taken += 1;
                    out += r"\]";
                }
            }
            ']' if depth > 0 => {
                depth -= 1;
                out.push(c);
            }
            '^' | '$' if depth == 0 => out += &format!("(?m:{c})"),
            '(' if depth == 0 && rest.starts_with("(?") => {
                // Flags of this group, if it has any: letters up to a colon or its end.
                let end = rest[2..].find(|c: char| !c.is_ascii_lowercase() && c != '-');
                let end = 2 + end.unwrap_or(0);
                if matches!(rest[end..].chars().next(), Some(':' | ')')) && end > 2 {
                    taken = end;
                    out += &rest[..taken].replace('m', "s");
                } else {
                    out.push(c);
                }
            }
            _ => out.push(c),
        }
        rest = &rest[taken..];
    }
    Ok(out)
}

/// The inside of a POSIX class such as `alpha`, or `^alpha` for all but it.
fn posix(name: &str) -> Result<String, String> {
    let (not, plain) = name.strip_prefix('^').map_or(("", name), |plain| ("^", plain));
    let class = match plain {
        "alpha" => r"\p{Alphabetic}",
        "digit" => r"\p{Nd}",
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "upper" => r"\p{Uppercase}",
        "lower" => r"\p{Lowercase}",
        "space" => r"\s",
        "blank" => r"\p{Zs}\t",
        "cntrl" => r"\p{Cc}",
        "punct" => r"\p{P}\p{S}",
        "word" => WORD,
        "xdigit" => "0-9A-Fa-f",
        "ascii" => r"\x00-\x7f",
        _ => return Err(format!("has the class `[:{name}:]`, which is not supported")),
    };
    Ok(format!("[{not}{class}]"))
}

#[cfg(test)]
mod tests {
    use tokenizers::utils::SysRegex;

    use super::translate;

    #[test]
    fn what_means_the_same_stays_as_it_is() {
        for pattern in [
            r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s*[\r\n]+",
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            r"(?<!x)a(?=b)\$\^[$]\[a\]",
        ] {
            assert_eq!(translate(pattern).unwrap(), pattern);
        }
    }

    /// Pattern, text, and where the `tokenizers` package of Python finds it.
    type Case = (&'static str, &'static str, &'static [(usize, usize)]);

    #[test]
    fn matches_are_onigurumas() {
        let cases: &[Case] = &[
            (r"\s+$", "a  \nb ", &[(1, 3), (5, 6)]),
            (r"^\s*\w", " a\n b", &[(0, 2), (3, 5)]),
            (r"\w+", "x½é\u{200d}日", &[(0, 5), (8, 11)]),
            (r"[\W]", "a²—", &[(1, 3), (3, 6)]),
            (r"\W", "a²—", &[(3, 6)]),
            (r"[^\s\w]+", "½ a—", &[(0, 2), (4, 7)]),
            (r"[[:alpha:]]+", "é1日", &[(0, 2), (3, 6)]),
            (r"[[:^alpha:]]", "é1", &[(2, 3)]),
            (r"[[:punct:]x]+", "—$xa", &[(0, 5)]),
            (r"[]a]+", "a]b", &[(0, 2)]),
            (r"(?m:a.b)", "a\nb", &[(0, 3)]),
            (r"(?mi)A.B", "a\nb", &[(0, 3)]),
            (r"\R", "a\r\nb\u{85}", &[(1, 3), (4, 6)]),
        ];
        for (pattern, text, want) in cases {
            let regex = SysRegex::new(&translate(pattern).unwrap()).unwrap();
            let found: Vec<_> = regex.find_iter(text).collect();
            assert_eq!(found, *want, "{pattern}");
        }
        assert!(translate("[[:graph:]]").unwrap_err().contains("`[:graph:]`"));
        assert!(translate("[\\").is_ok() && translate("(?").is_ok() && translate("[[:").is_ok());
    }
}
