//! Text to token ids and back: `tokenizer.json` through the `tokenizers` crate, checked before
//! that crate sees it, with padding and truncation of our own; and chat templates, which make
//! one text of a conversation.

mod charsmap;
mod chat;
mod check;
mod encoding;
mod oniguruma;
mod pattern;
mod stream;
mod tokenizer;
mod vocab;

pub use chat::{ChatTemplate, Message};
pub use encoding::{Batch, Encoding, Window};
pub use stream::TextStream;
pub use tokenizer::{MAX_TEXT_BYTES, Tokenizer};
