//! Text from ids that come one at a time.

use tokenizers::DecoderWrapper;

use super::tokenizer::Tokenizer;
use crate::error::Result;

/// Ids decoded again with each new one, at most; past this the window moves on.
const WINDOW: usize = 64;

/// Ids kept as context when the window moves: how a token is spelt depends on whether there is
/// one before it.
const CONTEXT: usize = 8;

/// Turns ids into pieces of text as they come. The pieces together are what
/// [`Tokenizer::decode`] gives for all ids, and none ends within a character.
///
/// Made by [`Tokenizer::stream`].
///
/// ```no_run
/// # let tokenizer = tilewright::text::Tokenizer::open("models/gpt2")?;
/// let mut stream = tokenizer.stream(true);
/// for id in [464, 3290, 13] {
///     print!("{}", stream.push(id)?);
/// }
/// println!("{}", stream.finish()?);
/// # Ok::<(), tilewright::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    decoder: Traits,
    /// The latest ids, without those that are not shown.
    ids: Vec<u32>,
    /// How many bytes of the text of `ids` were given out.
    sent: usize,
    /// Byte tokens at the end of `ids` that make whole characters of a prompt. They are context for
    /// a word, but bytes to come are not to be read together with them.
    whole: usize,
}

/// What a decoder may still change about text when more tokens come.
#[derive(Clone, Copy, Debug, Default)]
struct Traits {
    /// A byte token's text depends on all byte tokens beside it.
    byte_runs: bool,
    /// Tokens are bytes: the last character may be incomplete, and is U+FFFD then.
    bytes: bool,
    /// Anything.
    everything: bool,
}

impl Traits {
    fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let mut traits = Self::default();
        let parts = match decoder {
            None => return traits,
            Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
            Some(single) => std::slice::from_ref(single),
        };
        // Whether all tokens have become one: what then works per token works on the whole.
        let mut fused = false;
        for part in parts {
            match part {
                // Only the first characters matter, and the last, which are held back anyway.
                DecoderWrapper::Strip(_) | DecoderWrapper::Fuse(_) => {}
                _ if fused => traits.everything = true,
                DecoderWrapper::ByteLevel(_) => traits.bytes = true,
                DecoderWrapper::ByteFallback(_) => traits.byte_runs = true,
                DecoderWrapper::BPE(_)
                | DecoderWrapper::WordPiece(_)
                | DecoderWrapper::Metaspace(_)
                | DecoderWrapper::Replace(_) => {}
                DecoderWrapper::CTC(_) | DecoderWrapper::Sequence(_) => traits.everything = true,
            }
            fused |= matches!(part, DecoderWrapper::Fuse(_) | DecoderWrapper::ByteLevel(_));
        }
        traits
    }
}

impl Tokenizer {
    /// Turns ids that come one at a time into pieces of text.
    pub fn stream(&self, skip_special: bool) -> TextStream<'_> {
        TextStream::new(self, self.inner.get_decoder(), skip_special)
    }
}

impl<'a> TextStream<'a> {
    fn new(tokenizer: &'a Tokenizer, decoder: Option<&DecoderWrapper>, skip_special: bool) -> Self {
        let decoder = Traits::of(decoder);
        Self { tokenizer, skip_special, decoder, ids: Vec::new(), sent: 0, whole: 0 }
    }

    /// The same stream after a prompt, whose text is not given out: a first word keeps its space,
    /// and a character that the prompt began is completed.
    pub fn after(mut self, prompt: &[u32]) -> Result<Self> {
        self.ids = prompt.to_vec();
        self.ids.retain(|id| self.tokenizer.shown(*id, self.skip_special).is_some());
        let bytes = if self.decoder.byte_runs { self.last_bytes() } else { Vec::new() };
        if !self.decoder.everything {
            self.ids.drain(..self.ids.len().saturating_sub(WINDOW.max(bytes.len())));
        }
        let begun = unfinished(&bytes);
        if begun > 0 {
            // Only the character that the prompt began is read together with what comes.
            let end = self.ids.len();
            self.ids.drain(end - bytes.len()..end - begun);
        } else {
            self.whole = bytes.len();
        }
        let text = self.decode(0)?;
        self.sent = if self.decoder.byte_runs {
            text.len() - begun * char::REPLACEMENT_CHARACTER.len_utf8()
        } else {
            text.trim_end_matches(char::REPLACEMENT_CHARACTER).len()
        };
        Ok(self)
    }

    /// The bytes that the last of `ids` stand for.
    fn last_bytes(&self) -> Vec<u8> {
        let shown = |id: &u32| self.tokenizer.shown(*id, self.skip_special);
        let bytes = self.ids.iter().rev().map_while(|id| byte(&shown(id)?));
        let mut bytes: Vec<u8> = bytes.collect();
        bytes.reverse();
        bytes
    }

    /// Takes the next id and gives the text that is certain now; empty while a character is
    /// incomplete.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let Some(token) = self.tokenizer.shown(id, self.skip_special) else {
            return Ok(String::new());
        };
        let whole = std::mem::take(&mut self.whole);
        let is_byte = self.decoder.byte_runs && byte(&token).is_some();
        if is_byte && whole > 0 {
            self.ids.truncate(self.ids.len() - whole);
            self.sent = self.decode(0)?.len();
        }
        self.ids.push(id);
        if self.decoder.everything || is_byte {
            return Ok(String::new());
        }
        let text = self.decode(0)?;
        let certain = match text.strip_suffix(char::REPLACEMENT_CHARACTER) {
            Some(certain) if self.decoder.bytes => certain.len(),
            _ => text.len(),
        };
        let piece = text.get(self.sent..certain).unwrap_or_default().to_owned();
        self.sent += piece.len();
        if self.ids.len() >= WINDOW {
            self.move_window(&text[self.sent..])?;
        }
        Ok(piece)
    }

    /// The text that was held back, when no more ids come.
    pub fn finish(self) -> Result<String> {
        let text = self.decode(0)?;
        // More ids may have changed what came before: never cut within a character.
        let mut from = self.sent.min(text.len());
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        Ok(text[from..].to_owned())
    }

    fn decode(&self, from: usize) -> Result<String> {
        self.tokenizer.decode(&self.ids[from..], self.skip_special)
    }

    /// Forgets all ids but the last few, where their text is enough context for what comes.
    fn move_window(&mut self, held: &str) -> Result<()> {
        let from = self.ids.len() - CONTEXT;
        let text = self.decode(from)?;
        if text.ends_with(held) && text.len() > held.len() {
            self.sent = text.len() - held.len();
            self.ids.drain(..from);
        }
        Ok(())
    }
}

/// The byte that a token stands for, by the rule of the `tokenizers` crate.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.filter(|d| d.len() == 2).and_then(|d| u8::from_str_radix(d, 16).ok())
}

/// How many bytes at the end begin a character.
fn unfinished(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let Err(error) = std::str::from_utf8(rest) else { return 0 };
        rest = &rest[error.valid_up_to()..];
        match error.error_len() {
            Some(wrong) => rest = &rest[wrong..],
            None => return rest.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use crate::text::Tokenizer;

    /// A tokeniser of these tokens, with this decoder.
    fn tokenizer(name: &str, tokens: &[&str], special: &[&str], decoder: Value) -> Tokenizer {
        let all: Vec<_> = tokens.iter().chain(special).collect();
        let id = |token: &str| all.iter().position(|t| **t == token).unwrap();
        let added: Vec<_> = special
            .iter()
            .map(|token| {
                json!({"id": id(token), "content": token, "special": true, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let vocab: serde_json::Map<_, _> =
            tokens.iter().map(|token| ((*token).to_owned(), id(token).into())).collect();
        let file = json!({
            "version": "1.0", "added_tokens": added, "decoder": decoder,
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": tokens[0]},
        });
        let folder = std::env::temp_dir().join(format!("tilewright-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
        let tokenizer = Tokenizer::open(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        tokenizer
    }

    /// The pieces of these ids, the last from the end of the stream, checked to be the whole.
    fn pieces(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
        let mut stream = tokenizer.stream(skip_special);
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        let whole = tokenizer.decode(ids, skip_special).unwrap();
        assert_eq!(pieces.concat(), whole, "{ids:?} of {}", tokenizer.path().display());
        pieces
    }

    /// The text of ids that follow a prompt.
    fn text_after(tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32]) -> String {
        let mut stream = tokenizer.stream(true).after(prompt).unwrap();
        let text: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        text + &stream.finish().unwrap()
    }

    fn llama(strip: bool) -> Value {
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if strip {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": decoders})
    }

    #[test]
    fn byte_level_characters_come_whole() {
        let decoder = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": true});
        // € is E2 82 AC, in the alphabet of byte-level BPE: â Ĥ ¬.
        let tokens = ["a", "â", "Ĥ", "¬", "Ġb", "âĤ"];
        let tokenizer = tokenizer("byte-level", &tokens, &["<s>"], decoder);
        assert_eq!(pieces(&tokenizer, &[0, 1, 2, 3, 4], true), ["a", "", "", "€", " b", ""]);
        assert_eq!(pieces(&tokenizer, &[5, 3, 5, 6], true), ["", "€", "", "", "\u{fffd}"]);
        // An end that never comes: shown when the next character begins, or at the end.
        assert_eq!(
            pieces(&tokenizer, &[1, 0, 1, 1], true),
            ["", "\u{fffd}a", "", "\u{fffd}", "\u{fffd}"]
        );
        assert_eq!(pieces(&tokenizer, &[5, 6, 3], false), ["", "\u{fffd}<s>", "", "\u{fffd}"]);
    }

    #[test]
    fn byte_fallback_waits_for_the_end_of_the_bytes() {
        let tokens = ["a", "<0xE2>", "<0x82>", "<0xAC>", "▁b", "<0x41>"];
        let plain = tokenizer("byte-fallback", &tokens, &["<s>"], llama(false));
        assert_eq!(pieces(&plain, &[0, 1, 2, 3, 4], true), ["a", "", "", "", "€ b", ""]);
        // A special token that is left out does not end them.
        assert_eq!(pieces(&plain, &[1, 6, 2, 3], true), ["", "", "", "", "€"]);
        // One wrong byte spoils all that are beside it, also those that made a character.
        let spoilt = "\u{fffd}".repeat(4);
        assert_eq!(pieces(&plain, &[1, 2, 3, 1, 0], true)[4], spoilt.clone() + "a");
        assert_eq!(pieces(&plain, &[5, 1, 2, 1], true)[4], spoilt);
    }

    #[test]
    fn the_first_space_only_is_stripped() {
        let tokens = ["▁a", "▁", "b"];
        let stripped = tokenizer("strip", &tokens, &["<s>"], llama(true));
        assert_eq!(pieces(&stripped, &[0, 0, 2], true), ["a", " a", "b", ""]);
        assert_eq!(pieces(&stripped, &[3, 1, 1, 0], true), ["", "", " ", " a", ""]);
        assert_eq!(pieces(&stripped, &[3, 0], false), ["<s>", " a", ""]);
        let metaspace = json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "always", "split": true});
        let metaspace = tokenizer("metaspace", &tokens, &["<s>"], metaspace);
        assert_eq!(pieces(&metaspace, &[3, 0, 0, 2], true), ["", "a", " a", "b", ""]);
    }

    #[test]
    fn a_prompt_is_context() {
        let tokens = ["▁a", "b", "<0xE2>", "<0x82>", "<0xAC>"];
        let tokenizer = tokenizer("prompt", &tokens, &["<s>"], llama(true));
        let after = |prompt: &[u32], ids: &[u32]| text_after(&tokenizer, prompt, ids);
        assert_eq!(after(&[], &[0, 1]), "ab");
        assert_eq!(after(&[5, 0], &[0, 1]), " ab");
        assert_eq!(after(&[0; 500], &[0, 1]), " ab");
        assert_eq!(after(&[0, 2, 3, 4], &[0]), " a");
        assert_eq!(after(&[0, 2, 3], &[4, 0]), "€ a");
        assert_eq!(after(&[5], &[0]), "a");
    }

    #[test]
    fn bytes_are_not_read_together_with_whole_characters_of_the_prompt() {
        let tokens = ["▁a", "<0xE2>", "<0x82>", "<0xAC>", "<0x0A>"];
        let tokenizer = tokenizer("prompt-bytes", &tokens, &["<s>"], llama(true));
        let after = |prompt: &[u32], ids: &[u32]| text_after(&tokenizer, prompt, ids);
        let wrong = "\u{fffd}";
        assert_eq!(after(&[0, 4], &[0]), " a");
        assert_eq!(after(&[0, 4], &[4, 0]), "\n a");
        assert_eq!(after(&[0, 4], &[1, 0]), format!("{wrong} a"));
        assert_eq!(after(&[4], &[1]), wrong);
        assert_eq!(after(&[4], &[1, 0, 0]), format!("{wrong} a a"));
        assert_eq!(after(&[0, 4], &[1, 2, 3, 0]), "€ a");
        assert_eq!(after(&[0, 4, 1, 2], &[3, 0]), "€ a");
        assert_eq!(after(&[4, 1, 2], &[3, 4, 0]), "€\n a");
        assert_eq!(after(&[0, 2, 2], &[1, 0]), format!("{wrong} a"));
        assert_eq!(after(&[1, 2, 3].repeat(100), &[0]), " a");
        assert_eq!(after(&[1, 2, 3].repeat(100), &[4, 0]), "\n a");
        // What the prompt began and nothing completes is shown where it ends.
        assert_eq!(after(&[0, 4, 1], &[0]), format!("{wrong} a"));
    }

    #[test]
    fn word_pieces_join() {
        let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        let tokens = ["play", "##ing", ".", "is", "n't"];
        let tokenizer = tokenizer("word-piece", &tokens, &["[SEP]"], decoder);
        assert_eq!(
            pieces(&tokenizer, &[0, 1, 3, 4, 5, 2], true),
            ["play", "ing", " is", "n't", "", ".", ""]
        );
    }

    #[test]
    fn no_decoder_and_suffixes() {
        let none = tokenizer("none", &["a", "b"], &[], Value::Null);
        assert_eq!(pieces(&none, &[0, 1, 0], true), ["a", " b", " a", ""]);
        let suffix = json!({"type": "BPEDecoder", "suffix": "</w>"});
        let suffix = tokenizer("suffix", &["a", "b</w>"], &[], suffix);
        assert_eq!(pieces(&suffix, &[0, 1, 0, 1], true), ["a", "b", " a", "b", ""]);
    }

    #[test]
    fn a_decoder_that_may_change_anything_is_asked_at_the_end() {
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": " ."}, "content": "."},
        ]});
        let tokenizer = tokenizer("replace", &["a", " ", ".", "b"], &[], decoder);
        let ids = [0, 1, 2].repeat(50);
        assert_eq!(pieces(&tokenizer, &ids, true)[150], "a.".repeat(50));
    }

    #[test]
    fn long_texts_and_bytes_that_never_make_a_character() {
        let decoder = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": true});
        let tokenizer = tokenizer("long", &["a", "â", "Ġb"], &[], decoder);
        let wrong = vec![1; 1000];
        assert_eq!(pieces(&tokenizer, &wrong, true)[998], "\u{fffd}");
        let words = [2, 0, 0].repeat(1000);
        let mut stream = tokenizer.stream(true);
        for id in words {
            assert!(!stream.push(id).unwrap().is_empty());
            assert!(stream.ids.len() < 65);
        }
    }

    fn golden_folders() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|folder| folder.join("tokenizer_golden.json").is_file()).collect()
    }

    #[test]
    fn every_golden_text_streams_to_the_same_and_at_once() {
        let folders = golden_folders();
        assert!(folders.len() >= 25);
        for folder in folders {
            let tokenizer = Tokenizer::open(&folder).unwrap();
            let file = std::fs::read_to_string(folder.join("tokenizer_golden.json")).unwrap();
            let file: Value = serde_json::from_str(&file).unwrap();
            for case in file["cases"].as_array().unwrap() {
                let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                for skip_special in [true, false] {
                    let pieces = pieces(&tokenizer, &ids, skip_special);
                    let mut shown = String::new();
                    for (i, piece) in pieces[..ids.len()].iter().enumerate() {
                        shown += piece;
                        let so_far = tokenizer.decode(&ids[..=i], skip_special).unwrap();
                        // Nothing is held back without a reason.
                        let last = ids[..=i].iter().rev();
                        let last = last.filter_map(|id| tokenizer.shown(*id, skip_special)).next();
                        let waits = last.is_some_and(|token| super::byte(&token).is_some());
                        if !waits && !so_far.ends_with('\u{fffd}') {
                            assert_eq!(shown, so_far, "{}", folder.display());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn random_ids_stream_to_the_same() {
        let mut state = 5u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        for folder in golden_folders() {
            let tokenizer = Tokenizer::open(&folder).unwrap();
            for round in 0..12 {
                // Also ids past the vocabulary, and streaks of the same few tokens.
                let few: Vec<u32> = (0..4).map(|_| next(tokenizer.max_id() + 3)).collect();
                let ids: Vec<u32> = (0..200)
                    .map(|_| match round % 3 {
                        0 => few[next(4) as usize],
                        _ => next(tokenizer.max_id() + 3),
                    })
                    .collect();
                pieces(&tokenizer, &ids, round % 2 == 0);
            }
        }
    }
}
