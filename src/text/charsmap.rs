//! Check of SentencePiece's `precompiled_charsmap`, which the `tokenizers` crate follows without
//! bounds checks of its own: a bad one would panic at load or on some input.
//!
//! Format: base64 of a little-endian u32 (bytes of the trie), the trie as u32 units of a double
//! array, then the replacements, each ended by a zero byte. See `Darts::DoubleArray` and
//! `normalizer.cc` of SentencePiece.

/// Checks every state of the trie that some input can reach.
pub(super) fn check(base64: &str) -> Result<(), String> {
    let bytes = decode_base64(base64).ok_or("is not base64")?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("is under 4 bytes long")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length < 4 || !length.is_multiple_of(4) || length > rest.len() {
        return Err(format!("has a trie of {length} bytes; {} bytes are there", rest.len()));
    }
    let (trie, replacements) = rest.split_at(length);
    let trie: Vec<u32> =
        trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let replacements =
        std::str::from_utf8(replacements).map_err(|_| "has replacements that are not UTF-8")?;

    let unit_at = |at: usize| {
        trie.get(at)
            .copied()
            .ok_or_else(|| format!("leads to trie unit {at}; there are {}", trie.len()))
    };
    // A state is the index its children are found from, by exclusive or with the next byte.
    let root = offset(unit_at(0)?);
    let mut seen = vec![false; trie.len() + 256];
    let mut states = vec![root];
    while let Some(state) = states.pop() {
        for byte in 1..=255u8 {
            let unit = unit_at(state ^ usize::from(byte))?;
            if unit & ((1 << 31) | 0xff) != u32::from(byte) {
                continue;
            }
            let next = (state ^ usize::from(byte)) ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = (unit_at(next)? & 0x7fff_ffff) as usize;
                if !replacements.is_char_boundary(value) {
                    return Err(format!(
                        "points to replacement byte {value}, which starts no character"
                    ));
                }
            }
            let mark = seen
                .get_mut(next)
                .ok_or_else(|| format!("leads to trie unit {next}; there are {}", trie.len()))?;
            if !std::mem::replace(mark, true) {
                states.push(next);
            }
        }
    }
    Ok(())
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6)
}

/// Standard base64 with padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            let digit = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}
