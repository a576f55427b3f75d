//! Which invocations of a workgroup are active.

use std::ops::{BitAnd, BitOr};

/// The most invocations a workgroup may have.
pub(super) const MAX_LANES: usize = 1024;
const WORDS: usize = MAX_LANES / 64;

/// A set of invocations by local index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u64; WORDS]);

impl Mask {
    pub const EMPTY: Self = Self([0; WORDS]);

    /// The invocations `from..to`.
    pub fn range(from: usize, to: usize) -> Self {
        let mut out = Self::EMPTY;
        for (i, word) in out.0.iter_mut().enumerate() {
            let low = from.clamp(i * 64, i * 64 + 64) - i * 64;
            let high = to.clamp(i * 64, i * 64 + 64) - i * 64;
            if low < high {
                *word = (u64::MAX >> (64 - (high - low))) << low;
            }
        }
        out
    }

    /// The invocations whose word in `values` is not zero.
    pub fn of(values: &[u32]) -> Self {
        let mut out = Self::EMPTY;
        for (word, chunk) in out.0.iter_mut().zip(values.chunks(64)) {
            for (bit, &value) in chunk.iter().enumerate() {
                *word |= u64::from(value != 0) << bit;
            }
        }
        out
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub fn has(&self, lane: usize) -> bool {
        self.0[lane / 64] >> (lane % 64) & 1 == 1
    }

    pub fn set(&mut self, lane: usize) {
        self.0[lane / 64] |= 1 << (lane % 64);
    }

    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Those that `other` lacks.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
        self
    }

    /// Its members, in order.
    #[inline]
    pub fn lanes(&self) -> Lanes {
        Lanes { words: self.0, at: 0, word: self.0[0] }
    }

    pub fn first(&self) -> Option<usize> {
        self.lanes().next()
    }
}

impl BitAnd for Mask {
    type Output = Self;
    fn bitand(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        self
    }
}

impl BitOr for Mask {
    type Output = Self;
    fn bitor(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
        self
    }
}

/// See [`Mask::lanes`].
pub(super) struct Lanes {
    words: [u64; WORDS],
    at: usize,
    /// What is left of the word at hand.
    word: u64,
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.at += 1;
            self.word = *self.words.get(self.at)?;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(self.at * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_invocations() {
        let some = Mask::range(3, 130);
        assert_eq!(some.count(), 127);
        assert_eq!(some.lanes().collect::<Vec<_>>(), (3..130).collect::<Vec<_>>());
        assert!(!some.has(2) && some.has(3) && some.has(129) && !some.has(130));
        assert_eq!((some & Mask::range(0, 5)).lanes().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(some.without(&Mask::range(4, 1024)).first(), Some(3));
        assert_eq!(Mask::of(&[0, 1, 0, 7]).lanes().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(Mask::range(0, 1024).count(), 1024);
        assert!(Mask::range(5, 5).is_empty());
    }
}
