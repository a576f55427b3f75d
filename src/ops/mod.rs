//! Ops: what a graph is made of, each defined once for every device.
//!
//! An op's file holds, in this order: formula and shapes, the f64-accumulating reference,
//! parameters, checks, its kernels or where they are, and the cases that all of them are tested
//! with. The reference is plain loops and shares no code with the kernels. [`registry`] lists the
//! ops; tests, `verify ops` and benches walk it, so a new op needs its file, its shader and one
//! line there, and a new kernel its shader and one file. An embedder's own op is not listed and
//! runs, is certified and verified just the same.

mod activation;
mod add;
mod argmax;
mod attention;
pub mod bench;
mod cache;
mod certify;
mod check;
mod column;
mod cross_entropy;
mod eager;
mod elementwise;
mod embedding;
mod gated;
mod gather;
mod imagined;
mod kernel;
mod launch;
mod layer_norm;
mod matmul;
mod op;
mod padded_positions;
mod parts;
mod pool;
mod position;
mod positions;
mod random;
mod registry;
mod request;
mod rms_norm;
mod rng;
mod rope;
mod rope_append;
pub mod rounds;
mod rows;
mod sample;
mod scale;
mod select;
mod single;
mod softmax;
mod splade;
mod store;
mod tolerance;
mod tune;
mod verify;

pub use activation::{Activate, Activation};
pub use add::Add;
pub use argmax::Argmax;
pub use attention::{Attention, HeadLayout, relative_bucket, relative_buckets};
pub use bench::extra_kernels;
pub use cache::CacheAppend;
pub use certify::{certify, certify_all, class_of};
pub use check::{CheckOptions, Checked, Checker, check_entry, costs, idle_barriers, summary};
pub use column::Column;
pub use cross_entropy::CrossEntropy;
pub use eager::{Prepared, RunOptions, run, run_cpu};
pub use embedding::Embedding;
pub use gated::Gated;
pub use gather::Gather;
pub use imagined::imagined;
pub use kernel::{Dispatch, Needs, Part, Precision, Stage};
pub use launch::{Compiled, Launch, Slot};
pub use layer_norm::LayerNorm;
pub use matmul::{Layout, Matmul};
pub use op::{Args, Built, Call, Case, Cost, Entry, Kernel, Op, infer};
pub use padded_positions::PaddedPositions;
pub use parts::{parts, rows_per_part};
pub use pool::{L2Normalize, Pool};
pub use position::{RopeScaling, Sinusoid, rope_frequencies, rope_tables, sinusoidal};
pub use positions::Positions;
pub use random::random_cases;
pub use registry::{find, registry};
pub use request::Request;
pub use rms_norm::RmsNorm;
pub use rng::Rng;
pub use rope::{Pairing, Rope};
pub use rope_append::RopeAppend;
pub use rounds::MAX_ROUNDS;
pub use sample::{Sample, Sampling};
pub use scale::Scale;
pub use select::{candidates, choose};
pub use single::{Single, no_loops};
pub use softmax::Softmax;
pub use splade::Splade;
pub use tolerance::{Comparison, Tolerance};
pub use tune::{Pick, Timing, fastest, found};
pub use verify::{Outcome, Verdict, verify_case, verify_cpu, verify_entry, verify_ops};
