//! Transformers on any GPU that wgpu reaches, through compute kernels written by hand in WGSL.
//!
//! # The mental model
//!
//! A **model** file reads a Hugging Face folder and builds a [`graph::Graph`]: [`ops`] applied
//! to inputs and weights, grouped in layers named as in the checkpoint. [`graph::fuse`] merges
//! what belongs in one dispatch, [`graph::Plan`] lays all intermediates into a few buffers and
//! knows the exact bytes, and a [`graph::Session`] replays the result: one encoder, one pass,
//! and nothing compiled, allocated or bound from then on, whatever the batch and length.
//!
//! Every op has a reference in plain loops that accumulates in f64. The same graph runs through
//! those references on the CPU, so a whole model can be checked node by node
//! ([`engine::verify`]), and a kernel that gives a wrong answer on some adapter is off there
//! ([`ops::certify`]).
//!
//! # From text to vectors
//!
//! ```no_run
//! use tilewright::gpu::{GpuOptions, Selector, select};
//! use tilewright::engine::Device;
//! use tilewright::tasks::{EmbedOptions, Embedder};
//!
//! let device = Device::from(select(&Selector::Auto, GpuOptions::default())?);
//! let embedder = Embedder::open("models/all-MiniLM-L6-v2", device, EmbedOptions::default())?;
//! for embedding in embedder.embed(&["A cat on a warm sill.", "Interest rates rose."])? {
//!     println!("{} tokens: {:?} …", embedding.tokens, &embedding.vector[..4]);
//! }
//! # Ok::<(), tilewright::Error>(())
//! ```
//!
//! # From a prompt to a text
//!
//! ```
//! use tilewright::engine::{Device, shipped};
//! use tilewright::tasks::{GenerateOptions, TextGenerator};
//!
//! let folder = shipped("storyteller").expect("the shipped models").folder;
//! let model = TextGenerator::open(folder, Device::cpu(), GenerateOptions::default())?;
//! let stories = model.generate(&["Once upon a time"], model.config(), 0)?;
//! println!("{}", stories[0].text);
//! # assert!(stories[0].ids.len() > 10);
//! # Ok::<(), tilewright::Error>(())
//! ```
//!
//! # One op, checked
//!
//! ```
//! use tilewright::Tensor;
//! use tilewright::ops::{LayerNorm, run_cpu};
//! use tilewright::tensor::Sizes;
//!
//! let x = Tensor::f32([1, 2], vec![1.0, 3.0])?;
//! let norm = LayerNorm { eps: 0.0, with_sum: false };
//! let y = run_cpu(&norm, &[Some(x), None, None, None], &Sizes::default())?;
//! assert_eq!(y[0].as_f32()?, [-1.0, 1.0]);
//! # Ok::<(), tilewright::Error>(())
//! ```
//!
//! # In a program with its own device
//!
//! [`gpu::Gpu::from_wgpu`] uses the host's `wgpu::Device` and installs nothing on it;
//! [`graph::Session::record`] puts a forward pass into the host's command encoder and hands
//! back the results' buffers. `examples/host_device.rs` does both.
//!
//! # Rooms
//!
//! `cli -> tasks -> engine -> models -> nn -> graph -> ops -> simt -> gpu -> format, sym, tensor, error`; imports
//! point this way only, and [`weights`] and [`text`] stand beside the stack. Nothing below `cli` prints,
//! panics on bad input, or waits without a time limit; errors are [`Error`] values of one line.
//!
//! # Features
//!
//! `cli`, on by default, is the program. A library does without it, and without the crates that
//! only the program needs: `default-features = false`.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod activation;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod error;
mod files;
pub mod format;
pub mod gpu;
pub mod graph;
pub mod models;
pub mod nn;
pub mod ops;
pub mod simt;
pub mod sym;
pub mod tasks;
pub mod tensor;
pub mod text;
mod trusted;
pub mod weights;

pub use error::{Error, Result};
pub use format::Format;
pub use tensor::{DType, Meta, Shape, Tensor};
