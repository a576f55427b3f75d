//! What models share: parameters by their checkpoint names, a [`Scope`] that builds layers of
//! them, attention, positions and caches.

mod attention;
mod kept;
mod memory;
mod norm;
mod parameters;
mod rotary;
mod scope;
mod sequence;

pub use attention::{Attend, RelativeBias};
pub use kept::{Cache, Heads};
pub use memory::Memory;
pub use norm::{Norm, NormKind};
pub use parameters::Parameters;
pub use rotary::Rotary;
pub use scope::Scope;
pub use sequence::{Sequence, sinusoid};
