//! The room `text`: tokenizers.

mod bad_inputs;
#[path = "../common/bad_inputs.rs"]
mod expect;
#[path = "../common/folder.rs"]
mod folder;
mod tokenizer;
