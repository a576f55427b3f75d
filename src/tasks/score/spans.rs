//! Span corruption, the objective that T5 was pretrained with.
//!
//! Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.4 and the
//! `random_spans_noise_mask` of its published code: 15 % of the tokens are dropped in spans of 3
//! on average; each span is replaced by a sentinel in the input, and the target lists the spans,
//! each after its sentinel.

use crate::ops::Rng;
use crate::text::Tokenizer;

/// Share of the tokens that are dropped.
const NOISE: f64 = 0.15;
/// Mean length of a dropped span.
const MEAN_SPAN: f64 = 3.0;

/// The sentinels `<extra_id_0>`, `<extra_id_1>`, … of a vocabulary, in the order they are used.
pub(super) fn sentinels(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..).map_while(|i| tokenizer.token_id(&format!("<extra_id_{i}>"))).collect()
}

/// The most tokens that these sentinels suffice for.
pub(super) fn longest(sentinels: usize) -> usize {
    // One span is the least there is.
    (2..1 << 14).take_while(|&n| plan(n).1 <= sentinels).last().unwrap_or(0)
}

/// How many of `length` tokens are dropped, and in how many spans.
fn plan(length: usize) -> (usize, usize) {
    let dropped = (length as f64 * NOISE).round() as usize;
    let dropped = dropped.clamp(1, length.saturating_sub(1).max(1));
    let spans = (dropped as f64 / MEAN_SPAN).round() as usize;
    // Every span has a token, and so has every gap before one.
    (dropped, spans.clamp(1, dropped.min(length.saturating_sub(dropped)).max(1)))
}

/// Cuts `total` into `parts` lengths of at least 1, every way being as likely as any other.
fn segments(rng: &mut Rng, total: usize, parts: usize) -> Vec<usize> {
    // Choose the places of the cuts among the gaps between neighbours.
    let mut cuts: Vec<bool> = (1..total).map(|i| i < parts).collect();
    for i in (1..cuts.len()).rev() {
        cuts.swap(i, rng.below(i + 1));
    }
    let mut lengths = vec![1];
    for cut in cuts {
        match lengths.last_mut() {
            Some(last) if !cut => *last += 1,
            _ => lengths.push(1),
        }
    }
    lengths
}

/// Input and target of at least two tokens, without the end token of either. There must be a
/// sentinel for every span; see [`longest`].
pub(super) fn corrupt(ids: &[u32], sentinels: &[u32], rng: &mut Rng) -> (Vec<u32>, Vec<u32>) {
    let (dropped, spans) = plan(ids.len());
    let gaps = segments(rng, ids.len() - dropped, spans);
    let spans = segments(rng, dropped, spans);
    let (mut input, mut target, mut at) = (Vec::new(), Vec::new(), 0);
    for ((gap, span), sentinel) in gaps.into_iter().zip(spans).zip(sentinels) {
        input.extend_from_slice(&ids[at..at + gap]);
        input.push(*sentinel);
        target.push(*sentinel);
        target.extend_from_slice(&ids[at + gap..at + gap + span]);
        at += gap + span;
    }
    (input, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_and_target_make_up_the_text() {
        let sentinels: Vec<u32> = (900..1000).collect();
        for length in (2..60).chain([100, 512]) {
            let ids: Vec<u32> = (0..length).collect();
            let (input, target) = corrupt(&ids, &sentinels, &mut Rng::new(u64::from(length)));
            let (dropped, spans) = plan(ids.len());
            let marks = |ids: &[u32]| ids.iter().copied().filter(|i| *i >= 900).collect::<Vec<_>>();
            assert_eq!(marks(&input), sentinels[..spans], "{length}");
            assert_eq!(marks(&target), sentinels[..spans], "{length}");
            assert_eq!(target.len(), dropped + spans, "{length}");
            assert_eq!(target[0], sentinels[0]);
            // The spans put back where their sentinels stand.
            let mut whole = Vec::new();
            for id in input {
                if id < 900 {
                    whole.push(id);
                    continue;
                }
                let from = target.iter().position(|t| *t == id).unwrap() + 1;
                whole.extend(target[from..].iter().take_while(|t| **t < 900));
            }
            assert_eq!(whole, ids, "{length}");
        }
    }

    #[test]
    fn about_15_percent_are_dropped_in_spans_of_3() {
        assert_eq!(plan(512), (77, 26));
        assert_eq!(plan(100), (15, 5));
        assert_eq!(plan(2), (1, 1));
        let longest = longest(26);
        assert!(plan(longest).1 <= 26 && plan(longest + 1).1 > 26 && longest >= 512);
        assert_eq!(super::longest(0), 0);
    }

    #[test]
    fn every_cut_is_possible() {
        let mut seen = std::collections::BTreeSet::new();
        let mut rng = Rng::new(1);
        for _ in 0..400 {
            let lengths = segments(&mut rng, 5, 3);
            assert!(lengths.iter().all(|n| *n > 0) && lengths.iter().sum::<usize>() == 5);
            seen.insert(lengths);
        }
        assert_eq!(seen.len(), 6, "{seen:?}");
        assert_eq!(segments(&mut rng, 1, 1), [1]);
    }
}
