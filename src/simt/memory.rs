//! Words of buffers, which workgroups that run side by side share, and of workgroup memory.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::code::Kind;
use super::shadow::Shadow;

/// A buffer that a kernel works on.
#[derive(Debug)]
pub struct Buffer {
    words: Vec<AtomicU32>,
    bytes: usize,
    /// Which words have a value; `None` where all have.
    known: Option<Vec<AtomicBool>>,
}

impl Buffer {
    /// A buffer of these bytes, rounded up to whole words.
    pub fn new(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            AtomicU32::new(u32::from_le_bytes(word))
        };
        let words: Vec<_> = bytes.chunks(4).map(word).collect();
        Self { bytes: words.len() * 4, words, known: None }
    }

    /// A buffer of so many bytes that nobody has written: reading it before is a finding.
    pub fn poison(bytes: usize) -> Self {
        let words = bytes.div_ceil(4);
        Self {
            words: (0..words).map(|_| AtomicU32::new(0x7fc0_dead)).collect(),
            bytes: words * 4,
            known: Some((0..words).map(|_| AtomicBool::new(false)).collect()),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(super) fn get(&self, at: u32, kind: Kind) -> u32 {
        let word = self.words[at as usize / 4].load(Ordering::Relaxed);
        if kind == Kind::F16 { word >> (at % 4 * 8) & 0xffff } else { word }
    }

    #[inline]
    pub(super) fn set(&self, at: u32, kind: Kind, value: u32) {
        let word = &self.words[at as usize / 4];
        if kind == Kind::F16 {
            // The other half may be another workgroup's.
            let shift = at % 4 * 8;
            let put = |old: u32| Some(old & !(0xffff << shift) | value << shift);
            // The closure always gives a value.
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
        } else {
            word.store(value, Ordering::Relaxed);
        }
        if let Some(known) = &self.known {
            known[at as usize / 4].store(true, Ordering::Relaxed);
        }
    }

    /// Changes a word as one step; gives what it was.
    pub(super) fn update(&self, at: u32, f: impl Fn(u32) -> u32) -> u32 {
        let word = &self.words[at as usize / 4];
        if let Some(known) = &self.known {
            known[at as usize / 4].store(true, Ordering::Relaxed);
        }
        let put = |old| Some(f(old));
        word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put).unwrap_or_else(|old| old)
    }

    #[inline]
    pub(super) fn is_known(&self, at: u32) -> bool {
        self.known.as_ref().is_none_or(|known| known[at as usize / 4].load(Ordering::Relaxed))
    }
}

/// A variable of workgroup memory.
#[derive(Debug)]
pub(super) struct Local {
    pub words: Vec<u32>,
    pub shadow: Shadow,
}

impl Local {
    pub fn new(bytes: u32, granule: u32) -> Self {
        let shadow = Shadow::new(bytes.div_ceil(granule) as usize);
        Self { words: vec![0x7fc0_dead; bytes.div_ceil(4) as usize], shadow }
    }

    #[inline]
    pub fn get(&self, at: u32, kind: Kind) -> u32 {
        let word = self.words[at as usize / 4];
        if kind == Kind::F16 { word >> (at % 4 * 8) & 0xffff } else { word }
    }

    #[inline]
    pub fn set(&mut self, at: u32, kind: Kind, value: u32) {
        let word = &mut self.words[at as usize / 4];
        if kind == Kind::F16 {
            let shift = at % 4 * 8;
            *word = *word & !(0xffff << shift) | value << shift;
        } else {
            *word = value;
        }
    }
}
