//! When text ends: the reasons, and stop strings in text that comes piece by piece.

use crate::error::{Error, Result};

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, which is the last of the ids.
    Eos,
    /// The length limit.
    Length,
    /// A stop string, which is not part of the text.
    Stop,
}

impl FinishReason {
    /// `eos`, `length` or `stop`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }

    /// Why a row ends with `last` at `length` tokens, prompt included; `None` if it goes on.
    pub fn of(last: u32, length: usize, eos: &[u32], max_length: usize) -> Option<Self> {
        if eos.contains(&last) {
            Some(Self::Eos)
        } else {
            (length >= max_length).then_some(Self::Length)
        }
    }
}

/// A piece of text after the search for stop strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// Whether a stop string is complete; nothing comes after it.
    pub stopped: bool,
}

/// Finds stop strings in text that comes in pieces, and holds back what may begin one. The
/// string that is complete first ends the text, the longest of several that end together; so
/// the answer does not depend on how the text is cut into pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    searches: Vec<Search>,
    held: String,
    stopped: bool,
}

/// The search for one string, by Knuth, Morris and Pratt.
#[derive(Clone, Debug)]
struct Search {
    text: Box<[u8]>,
    /// For each length matched, the length of the longest shorter match that also ends there.
    fallback: Box<[usize]>,
    matched: usize,
}

impl Search {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut fallback = vec![0; text.len() + 1].into_boxed_slice();
        let mut length = 0;
        for i in 1..text.len() {
            while length > 0 && text[i] != text[length] {
                length = fallback[length];
            }
            length += usize::from(text[i] == text[length]);
            fallback[i + 1] = length;
        }
        Self { text, fallback, matched: 0 }
    }

    /// Takes one byte; whether the string ends with it.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        self.matched == self.text.len()
    }
}

impl StopStrings {
    /// Looks for any of these strings.
    ///
    /// An error when one is empty.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        if stops.iter().any(|stop| stop.as_ref().is_empty()) {
            return Err(Error::Argument(
                "an empty stop string; a text that ends the generation is expected".into(),
            ));
        }
        let searches = stops.iter().map(|stop| Search::new(stop.as_ref())).collect();
        Ok(Self { searches, ..Self::default() })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.searches.is_empty()
    }

    /// Takes the next piece of text and gives what can be shown. After a stop string nothing
    /// more is taken.
    pub fn push(&mut self, piece: &str) -> Stopped {
        if self.stopped {
            return Stopped { text: String::new(), stopped: true };
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for (i, byte) in piece.bytes().enumerate() {
            // All searches take the byte, so that none lags behind.
            let ended =
                self.searches.iter_mut().filter_map(|s| s.step(byte).then_some(s.text.len()));
            if let Some(longest) = ended.fold(None, |best, len| best.max(Some(len))) {
                self.stopped = true;
                self.held.truncate(before + i + 1 - longest);
                return Stopped { text: std::mem::take(&mut self.held), stopped: true };
            }
        }
        let possible = self.searches.iter().map(|search| search.matched).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - possible);
        Stopped { text: std::mem::replace(&mut self.held, held), stopped: false }
    }

    /// What was held back, when no more text comes.
    pub fn finish(&mut self) -> String {
        for search in &mut self.searches {
            search.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::{FinishReason, StopStrings};

    /// What is shown of a text in pieces, per piece and at the end, and whether it was stopped.
    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut search = StopStrings::new(stops).unwrap();
        let mut stopped = false;
        let mut shown: Vec<String> = pieces
            .iter()
            .map(|piece| {
                let step = search.push(piece);
                stopped = step.stopped;
                step.text
            })
            .collect();
        shown.push(search.finish());
        (shown, stopped)
    }

    #[test]
    fn a_stop_string_across_pieces() {
        let (text, stopped) = shown(&["\nUser:"], &["Hi", "\n", "Us", "er", ": more", "!"]);
        assert_eq!(text, ["Hi", "", "", "", "", "", ""]);
        assert!(stopped);
    }

    #[test]
    fn what_only_looked_like_one_is_shown_late() {
        let (text, stopped) = shown(&["\nUser:"], &["Hi\nUs", "e it", "\nU"]);
        assert_eq!(text, ["Hi", "\nUse it", "", "\nU"]);
        assert!(!stopped);
        let (text, _) = shown(&["aab"], &["aaa", "a", "c"]);
        assert_eq!(text, ["a", "a", "aac", ""]);
    }

    #[test]
    fn the_first_to_be_complete_stops_and_the_longest_of_those() {
        assert_eq!(shown(&["abcd", "bc"], &["xabcd"]), (vec!["xa".into(), String::new()], true));
        assert_eq!(shown(&["c", "abc"], &["xabcd"]), (vec!["x".into(), String::new()], true));
    }

    #[test]
    fn characters_stay_whole() {
        // Both strings begin with the same byte as what comes.
        let (text, stopped) = shown(&["é!"], &["caf", "è", "é", "?"]);
        assert_eq!(text.concat(), "cafèé?");
        assert!(!stopped);
    }

    #[test]
    fn pieces_do_not_matter() {
        let stops = ["abab", "bb", "aac", "é"];
        let alphabet = ["a", "b", "c", "é", "è"];
        let mut state = 1u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % n
        };
        let mut ends = [0; 2];
        for _ in 0..500 {
            let pieces: Vec<String> = (0..next(8))
                .map(|_| (0..next(4)).map(|_| alphabet[next(5) as usize]).collect())
                .collect();
            let whole = pieces.concat();
            // By the definition: the shortest beginning of the text that ends with a stop string.
            let end =
                (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)).find_map(|end| {
                    let longest =
                        stops.iter().filter(|s| whole[..end].ends_with(*s)).map(|s| s.len());
                    longest.max().map(|len| end - len)
                });
            let parts: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (text, stopped) = shown(&stops, &parts);
            assert_eq!(text.concat(), whole[..end.unwrap_or(whole.len())], "{pieces:?}");
            assert_eq!(stopped, end.is_some());
            ends[usize::from(stopped)] += 1;
        }
        assert!(ends[0] > 50 && ends[1] > 50, "{ends:?}");
    }

    #[test]
    fn no_strings_and_empty_ones() {
        assert_eq!(shown(&[], &["a", "b"]).0, ["a", "b", ""]);
        assert!(StopStrings::new::<&str>(&[]).unwrap().is_empty());
        let error = StopStrings::new(&["a", ""]).unwrap_err().to_string();
        assert!(error.starts_with("an empty stop string"), "{error}");
    }

    #[test]
    fn a_long_string_of_repeats_takes_linear_time() {
        let stop = "a".repeat(200_000) + "b";
        let mut search = StopStrings::new(&[stop]).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            search.push(&"a".repeat(1000));
        }
        assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
        assert_eq!(search.finish().len(), 200_000);
    }

    #[test]
    fn reasons() {
        let of = |last, length| FinishReason::of(last, length, &[7, 9], 5);
        assert_eq!(of(9, 2), Some(FinishReason::Eos));
        assert_eq!(of(9, 5), Some(FinishReason::Eos));
        assert_eq!(of(1, 5), Some(FinishReason::Length));
        assert_eq!(of(1, 4), None);
    }
}
