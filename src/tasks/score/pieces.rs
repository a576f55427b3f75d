//! What goes through the model for a text: windows of its tokens, each scoring some of them.

use std::ops::Range;

/// Tokens to be scored.
pub(super) enum Item {
    /// A text between the tokens that the model puts around one.
    Text { prefix: Vec<u32>, body: Vec<u32>, suffix: Vec<u32> },
    /// What an encoder reads, and what its decoder is to write.
    Pair { source: Vec<u32>, target: Vec<u32> },
}

impl Item {
    /// The tokens that can be scored.
    pub fn scored(&self) -> &[u32] {
        match self {
            Self::Text { body, .. } => body,
            Self::Pair { target, .. } => target,
        }
    }
}

/// Part of an item: the window of tokens that the model sees, and those that it scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub item: usize,
    pub window: Range<usize>,
    pub targets: Range<usize>,
}

/// Sizes that pieces keep to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most tokens that the model sees at once.
    pub context: usize,
    /// Most tokens scored in a window behind the first.
    pub stride: usize,
    /// Most tokens scored in any window.
    pub picks: usize,
}

/// Windows that score each token of `length` from those before it, as many as fit: the first
/// window scores all of its tokens, later ones `stride`. Without a `prefix` the first token has
/// nothing before it and is not scored.
pub(super) fn causal(item: usize, prefix: usize, length: usize, limits: Limits) -> Vec<Piece> {
    let room = limits.context.saturating_sub(prefix).max(2);
    let mut pieces = Vec::new();
    let mut start = usize::from(prefix == 0);
    while start < length {
        let most = if pieces.is_empty() { room - start } else { limits.stride.min(room - 1) };
        let end = length.min(start + most.min(limits.picks).max(1));
        pieces.push(Piece { item, window: end.saturating_sub(room)..end, targets: start..end });
        start = end;
    }
    pieces
}

/// Windows that score one token of `length` each from those on both sides; `around` tokens stand
/// around every window. Neighbours share a window until it is `stride` tokens old.
pub(super) fn masked(item: usize, around: usize, length: usize, limits: Limits) -> Vec<Piece> {
    let room = limits.context.saturating_sub(around).max(1).min(length);
    let stride = limits.stride.min(room).max(1);
    let window = |target: usize| {
        let middle = target / stride * stride + stride / 2;
        let start = middle.saturating_sub(room / 2).min(length - room);
        start..start + room
    };
    (0..length)
        .map(|target| Piece { item, window: window(target), targets: target..target + 1 })
        .collect()
}

/// The decoder's steps of a target of `length` tokens.
pub(super) fn steps(item: usize, length: usize, limits: Limits) -> Vec<Piece> {
    let starts = (0..length).step_by(limits.picks.max(1));
    starts
        .map(|start| {
            let end = length.min(start + limits.picks.max(1));
            Piece { item, window: 0..end, targets: start..end }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(context: usize, stride: usize, picks: usize) -> Limits {
        Limits { context, stride, picks }
    }

    #[test]
    fn every_token_is_scored_once_with_its_past_in_sight() {
        for prefix in [0, 1, 2] {
            for (context, stride, picks) in [(8, 4, 99), (8, 99, 99), (5, 1, 2), (9, 3, 1)] {
                for length in 0..40 {
                    let pieces = causal(7, prefix, length, limits(context, stride, picks));
                    let mut next = usize::from(prefix == 0).min(length);
                    for piece in &pieces {
                        assert_eq!(piece.targets.start, next);
                        next = piece.targets.end;
                        assert_eq!(piece.window.end, next);
                        assert!(prefix + piece.window.len() <= context);
                        assert!(piece.targets.len() <= picks);
                        // The token before a scored one is seen, unless the prefix is it.
                        let first = piece.targets.start;
                        assert!(piece.window.start < first || (first == 0 && prefix > 0));
                    }
                    assert_eq!(next, length, "{prefix} {context} {stride} {picks}");
                }
            }
        }
        let whole = causal(0, 0, 8, limits(8, 4, 99));
        assert_eq!(whole, [Piece { item: 0, window: 0..8, targets: 1..8 }]);
    }

    #[test]
    fn every_token_is_masked_once_inside_its_window() {
        for (context, stride) in [(10, 4), (10, 1), (5, 99), (7, 3)] {
            for length in 0..40 {
                let pieces = masked(0, 2, length, limits(context, stride, 1));
                assert_eq!(pieces.len(), length);
                for (i, piece) in pieces.iter().enumerate() {
                    assert_eq!(piece.targets, i..i + 1);
                    assert!(piece.window.contains(&i), "{i} of {length}: {piece:?}");
                    assert!(piece.window.end <= length);
                    assert_eq!(piece.window.len(), length.min(context - 2));
                }
            }
        }
    }

    #[test]
    fn long_targets_are_scored_in_steps() {
        let pieces = steps(1, 5, limits(99, 99, 2));
        let targets: Vec<_> = pieces.iter().map(|p| p.targets.clone()).collect();
        assert_eq!(targets, [0..2, 2..4, 4..5]);
        assert!(steps(1, 0, limits(9, 9, 9)).is_empty());
    }
}
