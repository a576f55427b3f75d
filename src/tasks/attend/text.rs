//! Tokens as a reader knows them: the piece of text each covers, and the word it belongs to.

use crate::text::Encoding;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The piece of text it covers, or the vocabulary's spelling where it covers none.
    pub label: String,
    /// Its id.
    pub id: u32,
    /// Index of its word in [`Text::words`].
    pub word: usize,
    /// Whether the tokenizer put it there: a start, separator or end.
    pub special: bool,
}

/// Tokens in order, and the words they make: runs of letters and digits, other characters
/// alone, special tokens alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// The words.
    pub words: Vec<String>,
}

impl Text {
    /// A token that stands for itself, at the end.
    pub(super) fn push_special(&mut self, label: String, id: u32) {
        self.tokens.push(Token { label: label.clone(), id, word: self.words.len(), special: true });
        self.words.push(label);
    }

    /// The tokens of an encoding from `first` on; `texts` is what was encoded.
    pub(super) fn extend(&mut self, encoding: &Encoding, first: usize, texts: [&str; 2]) {
        let texts = texts.map(|text| text.chars().collect::<Vec<_>>());
        // The text and word that the last token came from, and how far its tokens reach.
        let mut last = None;
        let mut reach = [0; 2];
        for i in first..encoding.len() {
            let (id, spelling) = (encoding.ids[i], &encoding.tokens[i]);
            let Some(sequence) = encoding.sequences[i].filter(|s| *s < 2) else {
                self.push_special(spelling.clone(), id);
                last = None;
                continue;
            };
            let chars = &texts[sequence];
            let (start, end) = encoding.offsets[i];
            let (start, end) = (start.min(chars.len()), end.min(chars.len()));
            // A space that became a token of its own; some tokenizers put one before the text.
            let space = !spelling.is_empty() && spelling.chars().all(|c| SPACES.contains(&c));
            let mut label = String::new();
            if !space {
                // Bytes of one character, and pieces of what normalisation made longer, all have
                // that character's offsets: the first one shows it.
                label.extend(&chars[start.max(reach[sequence]).min(end)..end]);
                reach[sequence] = reach[sequence].max(end);
            }
            let label = match label.trim() {
                "" => spelling.clone(),
                seen => seen.to_owned(),
            };
            let place = (start..if space { chars.len() } else { end })
                .find(|&at| !chars[at].is_whitespace());
            let word = place.map(|at| (sequence, word_of(chars, at)));
            if word.is_none() || word != last {
                self.words.push(match word {
                    Some((_, (from, to))) => chars[from..to].iter().collect(),
                    None => label.clone(),
                });
            }
            last = word;
            let word = self.words.len() - 1;
            self.tokens.push(Token { label, id, word, special: false });
        }
    }
}

/// How vocabularies spell a space.
const SPACES: [char; 3] = ['▁', 'Ġ', ' '];

/// Where the word around a character begins and ends.
fn word_of(chars: &[char], at: usize) -> (usize, usize) {
    let inside = |c: &char| c.is_alphanumeric() || *c == '_';
    if !inside(&chars[at]) {
        return (at, at + 1);
    }
    let before = chars[..at].iter().rev().take_while(|c| inside(c)).count();
    let after = chars[at..].iter().take_while(|c| inside(c)).count();
    (at - before, at + after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(tokens: &[(&str, Option<usize>, usize, usize)]) -> Encoding {
        Encoding {
            ids: (0..tokens.len() as u32).collect(),
            type_ids: vec![0; tokens.len()],
            tokens: tokens.iter().map(|t| t.0.to_owned()).collect(),
            offsets: tokens.iter().map(|t| (t.2, t.3)).collect(),
            sequences: tokens.iter().map(|t| t.1).collect(),
            ..Encoding::default()
        }
    }

    #[test]
    fn pieces_make_words() {
        let encoding = encoding(&[
            ("[CLS]", None, 0, 0),
            ("un", Some(0), 0, 2),
            ("##do", Some(0), 2, 4),
            ("!", Some(0), 4, 5),
            ("[SEP]", None, 0, 0),
            ("Ġun", Some(1), 0, 3),
            ("Ã", Some(1), 3, 4),
            ("©", Some(1), 3, 4),
        ]);
        let mut text = Text::default();
        text.extend(&encoding, 0, ["Undo!", " uné"]);
        let labels: Vec<_> = text.tokens.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["[CLS]", "Un", "do", "!", "[SEP]", "un", "é", "©"]);
        let words: Vec<_> = text.tokens.iter().map(|t| text.words[t.word].as_str()).collect();
        assert_eq!(words, ["[CLS]", "Undo", "Undo", "!", "[SEP]", "uné", "uné", "uné"]);
        assert_eq!(text.words.len(), 5);
    }

    #[test]
    fn spaces_belong_to_the_word_they_come_before() {
        let encoding = encoding(&[
            ("▁", Some(0), 0, 1),
            ("a", Some(0), 0, 1),
            ("Ġ", Some(0), 1, 2),
            ("b", Some(0), 2, 3),
            ("▁", Some(0), 3, 4),
        ]);
        let mut text = Text::default();
        text.extend(&encoding, 0, ["a b ", ""]);
        let labels: Vec<_> = text.tokens.iter().map(|t| t.label.as_str()).collect();
        assert_eq!(labels, ["▁", "a", "Ġ", "b", "▁"]);
        assert_eq!(text.words, ["a", "b", "▁"]);
    }

    #[test]
    fn equal_words_in_a_row_are_two() {
        let encoding =
            encoding(&[("no", Some(0), 0, 2), ("no", Some(0), 3, 5), ("\n", Some(0), 5, 6)]);
        let mut text = Text::default();
        text.extend(&encoding, 1, ["no no\n", ""]);
        text.extend(&encoding, 0, ["no no\n", ""]);
        assert_eq!(text.words, ["no", "\n", "no", "no", "\n"]);
    }
}
