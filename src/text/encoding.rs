//! Encoded texts, alone and as a padded batch.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// One text, or pair of texts, as tokens. All vectors have the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 0 for the first text, 1 for the second where the model tells them apart.
    pub type_ids: Vec<u32>,
    /// The tokens as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// Where each token begins and ends in its own text, in characters (code points);
    /// (0, 0) for special tokens.
    pub offsets: Vec<(usize, usize)>,
    /// Which text a token belongs to (0 or 1); `None` for special tokens.
    pub sequences: Vec<Option<usize>>,
    /// Which word of its text a token is a piece of, as the tokenizer splits text before it looks
    /// for pieces; `None` for special tokens.
    pub words: Vec<Option<u32>>,
}

/// A part of an encoding that is longer than a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The part, with the special tokens and, of a pair, the other text whole.
    pub encoding: Encoding,
    /// Where each of its tokens stands in the whole encoding.
    pub indices: Vec<usize>,
}

impl Encoding {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Shortens to at most `max_len` tokens and says how many were dropped. Special tokens
    /// stay; of a pair the longer text loses first (`longest_first` of Hugging Face).
    ///
    /// An error when the special tokens alone are more than `max_len`.
    pub fn truncate(&mut self, max_len: usize) -> Result<usize> {
        let excess = self.len().saturating_sub(max_len);
        if excess == 0 {
            return Ok(0);
        }
        let (first, second) = (self.count(0), self.count(1));
        let special = self.len() - first - second;
        let Some(room) = max_len.checked_sub(special) else {
            return Err(Error::Argument(format!(
                "a length of {max_len} tokens does not hold the {special} special tokens"
            )));
        };
        let keep = share(first, second, room);
        let mut seen = [0; 2];
        let kept: Vec<bool> = self
            .sequences
            .iter()
            .map(|sequence| {
                sequence.is_none_or(|s| {
                    seen[s] += 1;
                    seen[s] <= keep[s]
                })
            })
            .collect();
        retain(&mut self.ids, &kept);
        retain(&mut self.type_ids, &kept);
        retain(&mut self.tokens, &kept);
        retain(&mut self.offsets, &kept);
        retain(&mut self.sequences, &kept);
        retain(&mut self.words, &kept);
        Ok(excess)
    }

    /// How many tokens are of text `sequence` (0 or 1).
    pub fn count(&self, sequence: usize) -> usize {
        self.sequences.iter().filter(|s| **s == Some(sequence)).count()
    }

    /// Cuts text `sequence` so that all of it is seen in windows of at most `max_len` tokens;
    /// neighbours share a third of their room. All other tokens are in every window.
    ///
    /// An error when those others leave no room.
    pub fn windows(&self, sequence: usize, max_len: usize) -> Result<Vec<Window>> {
        let total = self.count(sequence);
        let others = self.len() - total;
        if self.len() <= max_len {
            let indices = (0..self.len()).collect();
            return Ok(vec![Window { encoding: self.clone(), indices }]);
        }
        let Some(room) = max_len.checked_sub(others).filter(|room| *room > 0) else {
            return Err(Error::Argument(format!(
                "the model takes {max_len} tokens; {others} are needed beside the text that is \
                 read in windows, which leaves no room"
            )));
        };
        let step = room - room / 3;
        let mut windows = Vec::new();
        let mut start = 0;
        loop {
            // The last window is as long as the others, so that its text has as much around it.
            start = start.min(total - room);
            windows.push(self.window(sequence, start..start + room));
            if start + room == total {
                return Ok(windows);
            }
            start += step;
        }
    }

    /// The part with tokens `kept` of text `sequence`, counted from its first, and all others.
    fn window(&self, sequence: usize, kept: std::ops::Range<usize>) -> Window {
        let mut seen = 0;
        let mut indices = Vec::with_capacity(kept.len());
        for (index, of) in self.sequences.iter().enumerate() {
            let cut = *of == Some(sequence);
            if !cut || kept.contains(&seen) {
                indices.push(index);
            }
            seen += usize::from(cut);
        }
        let encoding = Self {
            ids: pick(&self.ids, &indices),
            type_ids: pick(&self.type_ids, &indices),
            tokens: pick(&self.tokens, &indices),
            offsets: pick(&self.offsets, &indices),
            sequences: pick(&self.sequences, &indices),
            words: pick(&self.words, &indices),
        };
        Window { encoding, indices }
    }

    /// From the `tokenizers` crate.
    pub(super) fn new(encoding: &tokenizers::Encoding) -> Self {
        let special = encoding.get_special_tokens_mask();
        let sequences = encoding.get_sequence_ids().into_iter().zip(special);
        let words = encoding.get_word_ids().iter().zip(special);
        Self {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
            sequences: sequences.map(|(id, special)| id.filter(|_| *special == 0)).collect(),
            words: words.map(|(id, special)| id.filter(|_| *special == 0)).collect(),
        }
    }
}

/// How many tokens each text keeps when both together may have `room`.
fn share(first: usize, second: usize, room: usize) -> [usize; 2] {
    if first + second <= room {
        return [first, second];
    }
    let short = first.min(second).min(room / 2);
    if first <= second { [short, room - short] } else { [room - short, short] }
}

fn pick<T: Clone>(values: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().filter_map(|&i| values.get(i).cloned()).collect()
}

fn retain<T>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| kept.next().copied().unwrap_or(true));
}

/// Encoded texts padded on the right to the longest, as model inputs: u32 [batch, tokens].
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Token ids; the pad id past a text's end.
    pub input_ids: Tensor,
    /// 1 for a token, 0 for padding.
    pub attention_mask: Tensor,
    /// Which text of a pair a token belongs to; 0 for padding.
    pub token_type_ids: Tensor,
    /// Tokens of each text, without padding.
    pub lengths: Vec<usize>,
    /// How many tokens each text lost to truncation.
    pub truncated: Vec<usize>,
}

impl Batch {
    /// Truncates each encoding to `max_len` tokens and pads all to the longest.
    pub fn new(encodings: Vec<Encoding>, max_len: Option<usize>, pad_id: u32) -> Result<Self> {
        let mut encodings = encodings;
        let mut truncated = Vec::with_capacity(encodings.len());
        for encoding in &mut encodings {
            truncated.push(max_len.map_or(Ok(0), |max_len| encoding.truncate(max_len))?);
        }
        let lengths: Vec<usize> = encodings.iter().map(Encoding::len).collect();
        let tokens = lengths.iter().copied().max().unwrap_or(0);
        let shape = [encodings.len(), tokens];
        let mut ids = Vec::with_capacity(encodings.len() * tokens);
        let mut mask = Vec::with_capacity(ids.capacity());
        let mut types = Vec::with_capacity(ids.capacity());
        for encoding in &encodings {
            let end = ids.len() + tokens;
            ids.extend_from_slice(&encoding.ids);
            ids.resize(end, pad_id);
            mask.resize(mask.len() + encoding.len(), 1);
            mask.resize(end, 0);
            types.extend_from_slice(&encoding.type_ids);
            types.resize(end, 0);
        }
        Ok(Self {
            input_ids: Tensor::u32(shape, ids)?,
            attention_mask: Tensor::u32(shape, mask)?,
            token_type_ids: Tensor::u32(shape, types)?,
            lengths,
            truncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoding, share};

    /// A question of `question` tokens and a context of `context`, with three special tokens.
    fn pair(question: usize, context: usize) -> Encoding {
        let (first, second) = (vec![Some(0); question], vec![Some(1); context]);
        let sequences = [vec![None], first, vec![None], second, vec![None]].concat();
        let n = sequences.len();
        Encoding {
            ids: (0..n as u32).collect(),
            type_ids: vec![0; n],
            tokens: vec![String::new(); n],
            offsets: vec![(0, 0); n],
            words: vec![None; n],
            sequences,
        }
    }

    #[test]
    fn windows_cover_a_text_and_repeat_the_rest() {
        for (question, context, max_len) in [(2, 20, 12), (2, 20, 6), (0, 9, 7), (3, 7, 13)] {
            let whole = pair(question, context);
            let windows = whole.windows(1, max_len).unwrap();
            let mut covered = vec![0; whole.len()];
            for window in &windows {
                assert!(window.encoding.len() <= max_len);
                assert_eq!(window.encoding.len(), max_len.min(whole.len()));
                let ids: Vec<u32> = window.indices.iter().map(|&i| i as u32).collect();
                assert_eq!(window.encoding.ids, ids);
                window.indices.iter().for_each(|&i| covered[i] += 1);
            }
            for (index, of) in whole.sequences.iter().enumerate() {
                assert!(covered[index] >= 1, "token {index} of {max_len}");
                assert!(*of == Some(1) || covered[index] == windows.len());
            }
        }
        assert_eq!(pair(2, 20).windows(1, 25).unwrap().len(), 1);
        assert_eq!(pair(2, 20).windows(1, 24).unwrap().len(), 2);
        assert!(pair(9, 20).windows(1, 12).is_err());
    }

    #[test]
    fn the_longer_text_loses_first() {
        assert_eq!(share(5, 3, 8), [5, 3]);
        assert_eq!(share(5, 3, 6), [3, 3]);
        assert_eq!(share(9, 2, 6), [4, 2]);
        assert_eq!(share(2, 9, 6), [2, 4]);
        assert_eq!(share(9, 9, 5), [2, 3]);
        assert_eq!(share(9, 0, 5), [5, 0]);
        assert_eq!(share(9, 8, 0), [0, 0]);
    }
}
