//! From texts to tokens, and from pieces to losses.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::pieces::{Item, Piece};
use super::{LOGITS_PER_PASS, Objective, Scorer, spans};
use crate::engine::{Runner, by_name, model_inputs};
use crate::error::{Error, Result};
use crate::graph::Size;
use crate::models::{IGNORED, LABELS, LOSS, POSITIONS};
use crate::ops::Rng;
use crate::tasks::texts::{Step, padded};
use crate::tensor::Tensor;
use crate::text::MAX_TEXT_BYTES;

/// Tokens of one forward pass at most, padding included.
const TOKENS_PER_PASS: usize = 8192;

/// Losses of an item's tokens; `None` for those that are not scored.
type Losses = Vec<Option<f32>>;

/// A piece as the model takes it.
struct Row {
    /// The encoder's input, in an encoder-decoder.
    source: Vec<u32>,
    ids: Vec<u32>,
    /// Where each label is predicted.
    picks: Vec<u32>,
    labels: Vec<u32>,
}

impl Scorer {
    /// What of a text is scored, and how many tokens were cut off.
    pub(super) fn items(
        &self,
        objective: Objective,
        index: usize,
        text: &str,
    ) -> Result<(Vec<Item>, usize)> {
        match objective {
            Objective::Causal | Objective::Masked => Ok((vec![self.text(text)?], 0)),
            Objective::Span => Ok((self.corrupted(index, text)?, 0)),
            Objective::Pairs => {
                let (source, target) = text.split_once('\t').ok_or_else(|| {
                    let message = format!(
                        "text {} has no tab; a pair is expected, as source<TAB>target",
                        index + 1
                    );
                    Error::Argument(message)
                })?;
                let (item, truncated) = self.pair(source, target)?;
                Ok((vec![item], truncated))
            }
        }
    }

    /// A text's tokens, and those that the tokenizer puts in front of them and behind.
    fn text(&self, text: &str) -> Result<Item> {
        let mut parts = parts(text).into_iter();
        let encoding = self.tokenizer.encode(parts.next().unwrap_or(""), true)?;
        let special = |sequence: &&Option<usize>| sequence.is_none();
        let before = encoding.sequences.iter().take_while(special).count();
        let after = encoding.sequences[before..].iter().rev().take_while(special).count();
        let end = encoding.len() - after;
        let mut body = encoding.ids[before..end].to_vec();
        for part in parts {
            body.extend(self.tokenizer.encode(part, false)?.ids);
        }
        let (prefix, suffix) = (encoding.ids[..before].to_vec(), encoding.ids[end..].to_vec());
        Ok(Item::Text { prefix, body, suffix })
    }

    /// A text in pieces as long as the model takes, each with spans dropped.
    fn corrupted(&self, index: usize, text: &str) -> Result<Vec<Item>> {
        let Item::Text { prefix, body, suffix } = self.text(text)? else { return Ok(Vec::new()) };
        let sentinels = spans::sentinels(&self.tokenizer);
        let around = prefix.len() + suffix.len();
        let room = self.limits.context.saturating_sub(around);
        let longest = room.min(spans::longest(sentinels.len()));
        if longest < 2 {
            let message = format!("a context of {} tokens holds no spans", self.limits.context);
            return Err(Error::Argument(message));
        }
        // Pieces of like length: a short last one would be another task.
        let count = body.len().div_ceil(longest).max(1);
        let cut = |piece: usize| piece * body.len() / count;
        let mut rng = Rng::new(self.options.seed ^ (index as u64).wrapping_mul(0x9e37_79b9));
        let chunks = (0..count).map(|piece| &body[cut(piece)..cut(piece + 1)]);
        // A token alone can be neither input nor target.
        let chunks = chunks.filter(|chunk| chunk.len() > 1);
        let items = chunks.map(|chunk| {
            let (input, target) = spans::corrupt(chunk, &sentinels, &mut rng);
            let source = [prefix.as_slice(), &input, &suffix].concat();
            Item::Pair { source, target: [target, suffix.clone()].concat() }
        });
        Ok(items.collect())
    }

    fn pair(&self, source: &str, target: &str) -> Result<(Item, usize)> {
        let mut source = self.tokenizer.encode(source, true)?;
        let mut target = self.tokenizer.encode(target, true)?;
        let most = self.info.max_output_tokens().min(self.limits.context);
        let cut = source.truncate(self.limits.context)? + target.truncate(most)?;
        if source.is_empty() {
            let message = "an empty source gives the encoder no token to read";
            return Err(Error::Argument(message.to_owned()));
        }
        // The start token is the decoder's first input; where it also begins a text it is not
        // predicted.
        let first = usize::from(target.ids.first().copied() == self.start);
        let target = target.ids[first..].to_vec();
        Ok((Item::Pair { source: source.ids, target }, cut))
    }

    fn row(&self, objective: Objective, item: &Item, piece: &Piece) -> Row {
        let Piece { window, targets, .. } = piece.clone();
        let labels = item.scored()[targets.clone()].to_vec();
        match item {
            Item::Pair { source, target } => {
                // Each step reads the token before the one that it predicts.
                let read = target[..targets.end.saturating_sub(1)].iter().copied();
                Row {
                    source: source.clone(),
                    ids: self.start.into_iter().chain(read).collect(),
                    picks: targets.map(|t| t as u32).collect(),
                    labels,
                }
            }
            Item::Text { prefix, body, suffix } => {
                let mut ids = [prefix.as_slice(), &body[window.clone()]].concat();
                let place = |t: usize| prefix.len() + t - window.start;
                let picks = if objective == Objective::Masked {
                    ids.extend_from_slice(suffix);
                    for target in targets.clone() {
                        ids[place(target)] = self.tokenizer.mask_id().unwrap_or_default();
                    }
                    targets.map(|t| place(t) as u32).collect()
                } else {
                    targets.map(|t| place(t) as u32 - 1).collect()
                };
                Row { source: Vec::new(), ids, picks, labels }
            }
        }
    }

    /// Tokens of the row that a piece becomes.
    fn tokens(&self, item: &Item, piece: &Piece) -> usize {
        match item {
            Item::Text { prefix, suffix, .. } => prefix.len() + piece.window.len() + suffix.len(),
            Item::Pair { source, .. } => source.len().max(piece.targets.end),
        }
    }

    /// The losses of every item's tokens.
    pub(super) fn run(
        &self,
        objective: Objective,
        items: &[Item],
        pieces: &[Piece],
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Losses>> {
        let mut losses: Vec<Losses> =
            items.iter().map(|item| vec![None; item.scored().len()]).collect();
        let size = |piece: &Piece| self.tokens(&items[piece.item], piece);
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(size(&pieces[i])));
        let mut done = 0;
        // Pieces of like length share a session: one made for the longest pieces and the most
        // of the shortest at once would be far too large.
        for group in order.chunk_by(|a, b| class(size(&pieces[*a])) == class(size(&pieces[*b]))) {
            let picks = group.iter().map(|&i| pieces[i].targets.len()).max().unwrap_or(1);
            let longest = group.first().map_or(1, |&i| size(&pieces[i]));
            let logits = picks * self.info.output_vocab_size() * size_of::<f32>();
            let most = (TOKENS_PER_PASS / longest).min(LOGITS_PER_PASS / logits).max(1);
            let most = most.min(self.options.batch).min(group.len());
            let runner = Runner::fused(Arc::clone(&self.graph), self.device.clone());
            let mut sizes =
                vec![(Size::Batch, most), (Size::Tokens, longest), (Size::Picks, picks)];
            if self.start.is_some() {
                sizes.push((Size::Source, longest));
            }
            let sizes = self.graph.sizes(&sizes)?;
            runner.reserve(&sizes, &mut |progress| step(Step::Loading(progress)))?;
            for pass in group.chunks(most) {
                let row = |&i: &usize| self.row(objective, &items[pieces[i].item], &pieces[i]);
                let rows: Vec<_> = pass.iter().map(row).collect();
                let outputs = runner.run(&by_name(&self.inputs(&rows)?))?;
                let missing = || Error::tensor(LOSS, "the model gave no such output");
                let loss = outputs.get(LOSS).ok_or_else(missing)?;
                let each = loss.shape().last().max(1);
                for (&i, values) in pass.iter().zip(loss.as_f32()?.chunks_exact(each)) {
                    let Piece { item, targets, .. } = pieces[i].clone();
                    for (slot, value) in losses[item][targets].iter_mut().zip(values) {
                        *slot = Some(*value);
                    }
                }
                done += pass.len();
                if step(Step::Done { rows: done, of: pieces.len() }).is_break() {
                    return Err(Error::Cancelled);
                }
            }
        }
        Ok(losses)
    }

    fn inputs(&self, rows: &[Row]) -> Result<BTreeMap<String, Tensor>> {
        let pad = self.tokenizer.pad_id();
        let mut given = BTreeMap::new();
        let mut add = |name: &str, rows: &[&[u32]]| -> Result<()> {
            let ones: Vec<_> = rows.iter().map(|ids| vec![1; ids.len()]).collect();
            given.insert(format!("{name}input_ids"), padded(rows, pad)?);
            given.insert(format!("{name}attention_mask"), padded(&ones, 0)?);
            Ok(())
        };
        let ids: Vec<_> = rows.iter().map(|row| row.ids.as_slice()).collect();
        if self.start.is_some() {
            let sources: Vec<_> = rows.iter().map(|row| row.source.as_slice()).collect();
            add("", &sources)?;
            add("decoder_", &ids)?;
        } else {
            add("", &ids)?;
        }
        let mut inputs = model_inputs(&self.info, given)?;
        let picks: Vec<_> = rows.iter().map(|row| &row.picks[..]).collect();
        let labels: Vec<_> = rows.iter().map(|row| &row.labels[..]).collect();
        inputs.insert(POSITIONS.to_owned(), padded(&picks, 0)?);
        inputs.insert(LABELS.to_owned(), padded(&labels, IGNORED as u32)?);
        Ok(inputs)
    }
}

/// Lengths of one class are within a factor of two of each other.
fn class(tokens: usize) -> u32 {
    tokens.max(32).next_power_of_two().trailing_zeros()
}

/// A text in parts that can be encoded, parted after line ends where there are some: a tokenizer
/// hardly ever joins what stands on two lines.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES;
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let end = rest[..end].rfind('\n').map_or(end, |line| line + 1);
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_parted_after_lines() {
        let line = "é".repeat(300_000) + "\n";
        let text = line.repeat(3) + &"x".repeat(10);
        let parts = parts(&text);
        assert_eq!(parts.concat(), text);
        assert!(parts.len() == 3 && parts[..2].iter().all(|p| p.ends_with('\n')));
        assert_eq!(super::parts(&"é".repeat(700_000)).len(), 2);
        assert_eq!(super::parts(""), [""]);
    }

    #[test]
    fn classes_hold_lengths_of_one_size() {
        assert_eq!(class(1), class(32));
        assert_ne!(class(32), class(33));
        assert_eq!(class(513), class(1024));
    }
}
