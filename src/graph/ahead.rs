//! Steps that feed each other on the device, with results that reach the host a few steps late.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::exec::Session;
use super::executor::Ahead;
use super::node::Value;
use crate::error::{Error, Result};
use crate::gpu::{Mapping, Readback};
use crate::tensor::Sizes;

/// A loop around a session. Nothing is allocated, compiled or bound after [`new`](Self::new): a
/// step's result is copied to where the host can read it, and asked for at once.
pub(super) struct DeviceAhead {
    session: Arc<Session>,
    from: Value,
    to: String,
    slots: Vec<Readback>,
    free: Vec<usize>,
    in_flight: VecDeque<(usize, Mapping)>,
    deepest: usize,
}

impl DeviceAhead {
    /// See [`Executor::ahead`](super::Executor::ahead).
    pub fn new(session: Arc<Session>, from: &str, to: &str, depth: usize) -> Result<Self> {
        let graph = session.graph();
        let output = graph.outputs().iter().find(|(name, _)| name == from);
        let Some((_, value)) = output else {
            return Err(Error::tensor(from, "is not an output of this graph"));
        };
        session.input_buffer(to)?;
        let bytes = graph.meta(*value).eval(&session.plan().capacity)?.bytes();
        let depth = depth.max(1);
        let slot = |_| Readback::new(session.gpu(), from, bytes);
        let slots = (0..depth).map(slot).collect::<Result<_>>()?;
        Ok(Self {
            from: *value,
            to: to.to_owned(),
            session,
            slots,
            free: (0..depth).collect(),
            in_flight: VecDeque::with_capacity(depth),
            deepest: 0,
        })
    }
}

impl Ahead for DeviceAhead {
    fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    fn deepest(&self) -> usize {
        self.deepest
    }

    fn submit(&mut self, sizes: &Sizes) -> Result<()> {
        let session = &self.session;
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

    fn take(&mut self, sizes: &Sizes) -> Result<Option<Vec<u32>>> {
        let session = &self.session;
        let Some((slot, mapping)) = self.in_flight.pop_front() else { return Ok(None) };
        let bytes = session.graph().meta(self.from).eval(sizes)?.bytes();
        let bytes = self.slots[slot].finish(&session.gpu, &mapping, bytes)?;
        self.free.push(slot);
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|&w| u32::from_le_bytes(w)).collect()))
    }
}
