//! Timing of one op on a device, and the device's own limits to compare the time with.
//!
//! A sample repeats the op in one pass until it is long enough for the clock, and divides.
//! Repeats write the same results, so the driver keeps them in order, as in a model's step. They
//! read the same operands, so the caches are warm: what fits them is read from them.

mod measure;
mod roofline;

pub use measure::{MeasureOptions, Measurement, Timer, measure, measure_with};
pub use roofline::{Roofline, extra_kernels};
