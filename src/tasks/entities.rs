//! From labels of word pieces to entities: pieces are put together to words, words to entities by
//! the scheme their labels follow.

/// How the pieces of a word get one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// The first piece's label counts.
    #[default]
    First,
    /// The pieces' probabilities are averaged.
    Mean,
    /// Pieces stay apart, each with its own label as the model names it, outside ones too.
    None,
}

/// A labelled stretch of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The label, without the scheme's prefix.
    pub label: String,
    /// The text it covers.
    pub text: String,
    /// Its first character (code point) in the text.
    pub start: usize,
    /// The character behind its last one.
    pub end: usize,
    /// Mean probability of its words' labels.
    pub score: f64,
}

/// A piece of a word as the model sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// The word it belongs to; pieces of no word stand alone.
    pub word: Option<u32>,
    pub start: usize,
    pub end: usize,
    /// Probability of every label.
    pub scores: Vec<f64>,
}

/// A stretch with the index of its label.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Word {
    label: usize,
    start: usize,
    end: usize,
    score: f64,
}

/// What a label says of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Outside,
    /// An entity begins here, whatever stands before.
    Begin,
    /// The entity before goes on, if it is of the same kind; else one begins.
    Inside,
    /// The same, and it ends here.
    End,
    /// An entity of one word.
    Single,
}

/// What a model's labels mean: `B-PER` and so on (BIO, BILOU, BIOES), bare kinds beside an `O`,
/// or classes that every word has.
#[derive(Clone, Debug)]
pub(super) struct Scheme {
    labels: Vec<(Part, String)>,
}

impl Scheme {
    pub fn of(labels: &[String]) -> Self {
        let any = |is: fn(&str) -> bool| labels.iter().any(|l| is(l));
        // Word classes cover every word: neighbours of one class are not one entity.
        let bare = if any(|l| l == "O") || any(|l| prefix(l).is_some()) {
            Part::Inside
        } else {
            Part::Single
        };
        let parse = |label: &String| match (label.as_str(), prefix(label)) {
            ("O", _) => (Part::Outside, String::new()),
            (_, Some((part, kind))) => (part, kind.to_owned()),
            _ => (bare, label.clone()),
        };
        Self { labels: labels.iter().map(parse).collect() }
    }

    /// Entities of a text, given the pieces of its words in order.
    pub fn entities(&self, text: &[char], pieces: &[Piece], mode: Aggregation) -> Vec<Entity> {
        let words = words(text, pieces, mode);
        let mut found: Vec<(&str, Vec<Word>)> = Vec::new();
        let mut open = false;
        for word in words {
            let Some((part, kind)) = self.labels.get(word.label) else { continue };
            let same = open && found.last().is_some_and(|(k, _)| k == kind);
            match found.last_mut() {
                _ if *part == Part::Outside => {}
                Some((_, words)) if same && matches!(part, Part::Inside | Part::End) => {
                    words.push(word);
                }
                _ => found.push((kind, vec![word])),
            }
            open = matches!(part, Part::Begin | Part::Inside);
        }
        let entity = |(kind, words): (&str, Vec<Word>)| {
            let start = words.iter().map(|w| w.start).min().unwrap_or(0);
            let end = words.iter().map(|w| w.end).max().unwrap_or(0);
            let score = words.iter().map(|w| w.score).sum::<f64>() / words.len() as f64;
            stretch(text, kind.to_owned(), start, end, score)
        };
        found.into_iter().map(entity).collect()
    }
}

/// Every piece with its likeliest label by name.
pub(super) fn piece_labels(text: &[char], pieces: &[Piece], labels: &[String]) -> Vec<Entity> {
    let entity = |piece: &Piece| {
        let (label, score) = best(&piece.scores);
        let label = labels.get(label).cloned().unwrap_or_default();
        stretch(text, label, piece.start, piece.end, score)
    };
    pieces.iter().map(entity).collect()
}

/// Characters `start..end` without white space around them.
fn stretch(text: &[char], label: String, start: usize, end: usize, score: f64) -> Entity {
    let (mut start, mut end) = (start.min(text.len()), end.min(text.len()));
    while start < end && text[start].is_whitespace() {
        start += 1;
    }
    while start < end && text[end - 1].is_whitespace() {
        end -= 1;
    }
    let text = text.get(start..end).unwrap_or_default().iter().collect();
    Entity { label, text, start, end, score }
}

/// The part that a label's prefix names, and the kind behind it.
fn prefix(label: &str) -> Option<(Part, &str)> {
    let (first, rest) = label.split_at_checked(1)?;
    let kind = rest.strip_prefix(['-', '_']).filter(|kind| !kind.is_empty())?;
    let part = match first {
        "B" => Part::Begin,
        "I" | "M" => Part::Inside,
        "E" | "L" => Part::End,
        "S" | "U" => Part::Single,
        _ => return None,
    };
    Some((part, kind))
}

/// Puts pieces together to words.
fn words(text: &[char], pieces: &[Piece], mode: Aggregation) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = pieces;
    while let Some(first) = rest.first() {
        let together =
            |pair: &[Piece]| mode != Aggregation::None && joined(text, &pair[0], &pair[1]);
        let count = 1 + rest.windows(2).take_while(|pair| together(pair)).count();
        let (word, others) = rest.split_at(count);
        rest = others;
        let (label, score) = match mode {
            Aggregation::Mean => best(&mean(word)),
            Aggregation::First | Aggregation::None => best(&first.scores),
        };
        let end = word.last().map_or(first.end, |last| last.end);
        words.push(Word { label, start: first.start, end, score });
    }
    words
}

/// Whether two neighbouring pieces are of one word: some tokenizers take a whole text for one.
fn joined(text: &[char], a: &Piece, b: &Piece) -> bool {
    let between = text.get(a.end..(b.start + 1).min(text.len())).unwrap_or_default();
    a.word.is_some() && a.word == b.word && !between.iter().any(|c| c.is_whitespace())
}

fn mean(pieces: &[Piece]) -> Vec<f64> {
    let count = pieces.first().map_or(0, |p| p.scores.len());
    let label = |i| pieces.iter().filter_map(|p| p.scores.get(i)).sum::<f64>();
    (0..count).map(|i| label(i) / pieces.len() as f64).collect()
}

/// Index and value of the largest, the first among equals.
fn best(scores: &[f64]) -> (usize, f64) {
    let better =
        |best: (usize, f64), (i, &s): (usize, &f64)| if s > best.1 { (i, s) } else { best };
    scores.iter().enumerate().fold((0, f64::MIN), better)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entities of a text whose words, split at spaces, have these labels with probability 0.8.
    fn tagged(labels: &[&str], text: &str, of_words: &[&str]) -> Vec<(String, String, usize)> {
        let labels: Vec<String> = labels.iter().map(|&l| l.to_owned()).collect();
        let chars: Vec<char> = text.chars().collect();
        let mut pieces = Vec::new();
        let mut start = 0;
        for (i, (word, label)) in text.split(' ').zip(of_words).enumerate() {
            let end = start + word.chars().count();
            let score = |l: &String| if l == label { 0.8 } else { 0.01 };
            let scores = labels.iter().map(score).collect();
            pieces.push(Piece { word: Some(i as u32), start, end, scores });
            start = end + 1;
        }
        assert_eq!(pieces.len(), of_words.len());
        let found = Scheme::of(&labels).entities(&chars, &pieces, Aggregation::First);
        for e in &found {
            assert_eq!(chars[e.start..e.end].iter().collect::<String>(), e.text);
            assert!((e.score - 0.8).abs() < 1e-12);
        }
        found.into_iter().map(|e| (e.label, e.text, e.start)).collect()
    }

    fn is(found: &[(String, String, usize)], want: &[(&str, &str, usize)]) {
        let found: Vec<_> = found.iter().map(|(l, t, s)| (l.as_str(), t.as_str(), *s)).collect();
        assert_eq!(found, want);
    }

    const BIO: [&str; 5] = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];

    #[test]
    fn begin_and_inside() {
        let text = "Анна Шмидт met Jo Ann in Bern";
        let labels = ["B-PER", "I-PER", "O", "B-PER", "B-PER", "O", "I-LOC"];
        let want =
            [("PER", "Анна Шмидт", 0), ("PER", "Jo", 15), ("PER", "Ann", 18), ("LOC", "Bern", 25)];
        is(&tagged(&BIO, text, &labels), &want);
    }

    #[test]
    fn a_change_of_kind_begins_an_entity() {
        let found = tagged(&BIO, "a b c d", &["B-PER", "I-LOC", "I-LOC", "I-PER"]);
        is(&found, &[("PER", "a", 0), ("LOC", "b c", 2), ("PER", "d", 6)]);
    }

    #[test]
    fn last_and_unit() {
        let labels = ["O", "B-X", "I-X", "L-X", "U-X"];
        let found = tagged(&labels, "a b c d e f", &["B-X", "L-X", "I-X", "U-X", "U-X", "L-X"]);
        is(&found, &[("X", "a b", 0), ("X", "c", 4), ("X", "d", 6), ("X", "e", 8), ("X", "f", 10)]);
        let labels = ["O", "B_X", "M_X", "E_X", "S_X"];
        let found = tagged(&labels, "a b c d", &["B_X", "M_X", "E_X", "S_X"]);
        is(&found, &[("X", "a b c", 0), ("X", "d", 6)]);
    }

    #[test]
    fn bare_kinds_join_and_word_classes_do_not() {
        let found = tagged(&["O", "PER", "LOC"], "a b c d", &["PER", "PER", "LOC", "O"]);
        is(&found, &[("PER", "a b", 0), ("LOC", "c", 4)]);
        let found = tagged(&["NOUN", "VERB"], "a b c", &["NOUN", "NOUN", "VERB"]);
        is(&found, &[("NOUN", "a", 0), ("NOUN", "b", 2), ("VERB", "c", 4)]);
        // The label set of a configuration that names nothing.
        let found = tagged(&["LABEL_0", "LABEL_1"], "a b", &["LABEL_1", "LABEL_1"]);
        is(&found, &[("LABEL_1", "a", 0), ("LABEL_1", "b", 2)]);
    }

    #[test]
    fn pieces_of_a_word_share_a_label() {
        let labels = BIO.map(str::to_owned);
        let text: Vec<char> = " Schmidt ran".chars().collect();
        let piece = |word, start, end, scores: [f64; 5]| Piece {
            word: Some(word),
            start,
            end,
            scores: scores.to_vec(),
        };
        let pieces = [
            piece(0, 0, 4, [0.3, 0.4, 0.1, 0.1, 0.1]),
            piece(0, 4, 8, [0.9, 0.0, 0.0, 0.1, 0.0]),
            // A tokenizer that takes everything for one word.
            piece(0, 8, 12, [0.8, 0.1, 0.1, 0.0, 0.0]),
        ];
        let scheme = Scheme::of(&labels);
        let first = scheme.entities(&text, &pieces, Aggregation::First);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].text.as_str(), first[0].start, first[0].end), ("Schmidt", 1, 8));
        assert_eq!(first[0].score, 0.4);
        assert!(scheme.entities(&text, &pieces, Aggregation::Mean).is_empty());
        let all = piece_labels(&text, &pieces, &labels);
        let all: Vec<_> = all.iter().map(|e| (e.label.as_str(), e.text.as_str())).collect();
        assert_eq!(all, [("B-PER", "Sch"), ("O", "midt"), ("O", "ran")]);
    }
}
