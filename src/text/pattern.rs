//! Check of regular expressions for patterns that backtrack for ever.
//!
//! A pattern without lookaround or back-references runs in linear time. With them it
//! backtracks, and a repetition within a repetition takes time exponential in the text; the
//! engine gives up after a million steps and the rest of the text would silently stay unsplit.

/// Repetitions up to this count are not held against a pattern.
const FEW: u32 = 8;

/// An error for a backtracking pattern that repeats a group which itself repeats or chooses.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let chars: Vec<char> = pattern.chars().collect();
    // Per open group: whether it repeats something at length or has alternatives.
    let mut groups = vec![false];
    let mut backtracks = false;
    let mut nested = false;
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let mut closed = None;
        let mut atom = at + 1;
        match c {
            '\\' => {
                // A back-reference, or one of the assertions only a backtracking engine has.
                let next = chars.get(at + 1);
                backtracks |= next.is_some_and(|n| matches!(n, '1'..='9' | 'k' | 'g' | 'G' | 'K'));
                atom = escape_end(&chars, at);
            }
            '[' => atom = class_end(&chars, at),
            '(' => {
                let looks = [['?', '='], ['?', '!'], ['?', '>'], ['?', '(']];
                let head = chars.get(at + 1..at + 3).unwrap_or(&[]);
                let behind = chars.get(at + 3).is_some_and(|n| matches!(n, '=' | '!'));
                backtracks |= looks.iter().any(|l| head == l) || head == ['?', '<'] && behind;
                groups.push(false);
                at += 1;
                if chars.get(at) == Some(&'?') {
                    at += 1;
                }
                continue;
            }
            ')' => closed = if groups.len() > 1 { groups.pop() } else { None },
            '|' => {
                if let Some(group) = groups.last_mut() {
                    *group = true;
                }
            }
            _ => {}
        }
        let (many, possessive, end) = repetition(&chars, atom);
        backtracks |= possessive;
        nested |= closed == Some(true) && many && !possessive;
        if let Some(group) = groups.last_mut() {
            *group |= many || closed == Some(true);
        }
        at = end;
    }
    if backtracks && nested {
        return Err("can backtrack for ever: it repeats a group that itself repeats".into());
    }
    Ok(())
}

/// Whether the repetition at `at` is a long one, whether it is possessive, and where it ends.
fn repetition(chars: &[char], at: usize) -> (bool, bool, usize) {
    let (many, mut end) = match chars.get(at) {
        Some('*' | '+') => (true, at + 1),
        Some('?') => (false, at + 1),
        Some('{') => {
            let Some(length) = chars[at..].iter().position(|c| *c == '}') else {
                return (false, false, at);
            };
            let text: String = chars[at + 1..at + length].iter().collect();
            let most = text.rsplit(',').next().unwrap_or("");
            (most.parse::<u32>().map_or(true, |n| n > FEW), at + length + 1)
        }
        _ => return (false, false, at),
    };
    let possessive = chars.get(end) == Some(&'+');
    if possessive || chars.get(end) == Some(&'?') {
        end += 1;
    }
    (many, possessive, end)
}

/// The end of an escape: `\n`, `\p{…}`, `\x{…}`.
fn escape_end(chars: &[char], at: usize) -> usize {
    let end = at + 2;
    if matches!(chars.get(at + 1), Some('p' | 'P' | 'x' | 'u' | 'k' | 'g'))
        && chars.get(end) == Some(&'{')
    {
        let rest = chars[end..].iter().position(|c| *c == '}');
        return rest.map_or(chars.len(), |length| end + length + 1);
    }
    end
}

/// The end of a character class, which may contain classes.
fn class_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 1,
            '[' => {
                depth += 1;
                // A bracket right after the opening one (or its ^) is an ordinary character.
                if chars.get(at + 1) == Some(&'^') {
                    at += 1;
                }
                if chars.get(at + 1) == Some(&']') {
                    at += 1;
                }
            }
            ']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn patterns_of_real_tokenizers_pass() {
        for pattern in [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\s+(?!\S)",
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            "(a+)+b",
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn nested_repetition_with_lookaround_is_refused() {
        for pattern in [r"(a+)+(?=b)", r"(?:a|b)*(?!c)", r"((x*)y?)*\1", r"(?<=z)([a-z]{2,})+"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }
}
