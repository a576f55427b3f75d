//! Rows of a session's states, put into another order on the device.

use std::sync::PoisonError;

use super::exec::Session;
use super::state::check_rows;
use crate::error::{Error, Result};
use crate::tensor::Sizes;

impl Session {
    /// See [`Executor::permute`](super::Executor::permute). Allocates at the first call only.
    pub fn permute(&self, rows: &[usize], sizes: &Sizes) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match exchange.take() {
            Some(made) => made,
            None => {
                let mut largest = 0;
                for (_, _, meta) in self.graph.written_states() {
                    largest = largest.max(meta.eval(&self.plan().capacity)?.bytes());
                }
                self.gpu.buffer("state exchange", largest)?
            }
        };
        let scratch = exchange.insert(scratch);
        let mut commands = self.gpu.commands("permute");
        for (name, value, meta) in self.graph.written_states() {
            let missing = || Error::tensor(name, "has no buffer");
            let buffer = self.output_buffer(value).ok_or_else(missing)?;
            let meta = meta.eval(sizes)?;
            let row = (meta.bytes() / check_rows(name, meta, rows)?) as u64;
            commands.copy(buffer, scratch, meta.bytes());
            for (to, &from) in rows.iter().enumerate() {
                commands.copy_range(scratch, from as u64 * row, buffer, to as u64 * row, row);
            }
        }
        self.gpu.submit(commands)
    }
}
