//! The room `models`: every family against goldens and against itself, and what must be refused.

mod bad_decoders;
#[path = "../common/bad_inputs.rs"]
mod bad_inputs;
mod bad_seq2seq;
#[path = "../common/mod.rs"]
mod common;
mod decoders;
#[path = "../common/draft.rs"]
mod draft;
mod embed;
mod encoders;
#[path = "../common/folder.rs"]
mod folder;
#[path = "../common/golden.rs"]
mod golden;
mod layers;
mod seq2seq;
