//! Steps that feed each other on the device, with results that reach the host a few steps late.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::exec::Session;
use super::node::Value;
use crate::error::{Error, Result};
use crate::gpu::{Mapping, Readback};
use crate::tensor::Sizes;

/// A loop around a session whose result becomes an input of the next step without a round trip
/// through the host: decoding, where the id a step chooses is what the next one embeds.
///
/// Every step is submitted at once; its result is copied where the host can read it and asked
/// for, but only waited for when `depth` steps are on their way. Nothing is allocated, compiled
/// or bound after [`new`](Self::new).
pub struct Ahead {
    from: Value,
    to: String,
    slots: Vec<Readback>,
    free: Vec<usize>,
    in_flight: VecDeque<(usize, Mapping)>,
    deepest: usize,
}

impl Ahead {
    /// A loop from output `from`, u32 `[batch]`, to input `to` of as many elements, with up to
    /// `depth` steps on their way.
    pub fn new(session: &Session, from: &str, to: &str, depth: usize) -> Result<Self> {
        let graph = session.graph();
        let output = graph.outputs().iter().find(|(name, _)| name == from);
        let Some((_, value)) = output else {
            return Err(Error::tensor(from, "is not an output of this graph"));
        };
        session.input_buffer(to)?;
        let bytes = graph.meta(*value).eval(&session.plan().capacity)?.bytes();
        let depth = depth.max(1);
        let slot = |_| Readback::new(session.gpu(), from, bytes);
        Ok(Self {
            from: *value,
            to: to.to_owned(),
            slots: (0..depth).map(slot).collect::<Result<_>>()?,
            free: (0..depth).collect(),
            in_flight: VecDeque::with_capacity(depth),
            deepest: 0,
        })
    }

    /// Whether a result must be [taken](Self::take) before the next step.
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Steps whose results were not taken yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The most steps that were ever on their way at once.
    pub fn deepest(&self) -> usize {
        self.deepest
    }

    /// Submits one step of these sizes, on the inputs that lie on the device, and carries its
    /// result over to the next step's input. Errors when the loop is full.
    pub fn submit(&mut self, session: &Session, sizes: &Sizes) -> Result<()> {
        session.check_capacity(sizes)?;
        let _running = session.running.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.free.pop().ok_or_else(|| {
            Error::Argument("a result must be taken before the next step".to_owned())
        })?;
        let mut commands = session.encode(sizes)?;
        let missing = || Error::tensor(&self.to, "has no buffer");
        let result = session.output_buffer(self.from).ok_or_else(missing)?;
        let bytes = session.graph().meta(self.from).eval(sizes)?.bytes();
        commands.copy(result, session.input_buffer(&self.to)?, bytes);
        commands.copy_out(result, &self.slots[slot], bytes);
        session.gpu.submit(commands)?;
        let mapping = self.slots[slot].start(&session.gpu)?;
        self.in_flight.push_back((slot, mapping));
        self.deepest = self.deepest.max(self.in_flight.len());
        Ok(())
    }

    /// The oldest result not taken yet, waited for; `None` when no step is on its way.
    pub fn take(&mut self, session: &Session, sizes: &Sizes) -> Result<Option<Vec<u32>>> {
        let Some((slot, mapping)) = self.in_flight.pop_front() else { return Ok(None) };
        let bytes = session.graph().meta(self.from).eval(sizes)?.bytes();
        let bytes = self.slots[slot].finish(&session.gpu, &mapping, bytes)?;
        self.free.push(slot);
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|&w| u32::from_le_bytes(w)).collect()))
    }
}
