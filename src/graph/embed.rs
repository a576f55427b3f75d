//! The embedder's door: our work in the host program's own command encoder.

use super::exec::Session;
use crate::error::{Error, Result};
use crate::gpu::Pass;
use crate::tensor::Meta;

/// A named result of a recorded step, still on the device.
pub struct Recorded<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape and dtype at the recorded sizes; rows are dense from offset 0.
    pub meta: Meta,
    /// The buffer; it may be larger than the result. Valid until the next recorded step runs.
    pub buffer: &'a wgpu::Buffer,
}

impl Session {
    /// Records one step into the host's encoder: copies the inputs from the host's buffers,
    /// runs the graph in one pass, and gives the results' buffers without reading them back.
    ///
    /// `inputs` are (name, buffer) with dense rows from offset 0 and usage `COPY_SRC`; `sizes`
    /// gives each symbol by name. Nothing is submitted. Token ids must be below the
    /// vocabulary: on a host buffer this cannot be checked (kernels stay in bounds all the
    /// same). Errors when an input or size is missing, too small or over the capacity.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        inputs: &[(&str, &wgpu::Buffer)],
        sizes: &[(&str, usize)],
    ) -> Result<Vec<Recorded<'_>>> {
        let sizes = self.graph().sizes(sizes)?;
        self.check_capacity(&sizes)?;
        for (name, _, meta) in self.graph().inputs() {
            let given = inputs.iter().find(|(n, _)| *n == name).map(|(_, b)| *b);
            let given = given.ok_or_else(|| Error::tensor(name, "this input is missing"))?;
            let bytes = meta.eval(&sizes)?.bytes().next_multiple_of(4) as u64;
            if given.size() < bytes {
                let message = format!("its buffer has {} bytes, needs {bytes}", given.size());
                return Err(Error::tensor(name, message));
            }
            if !given.usage().contains(wgpu::BufferUsages::COPY_SRC) {
                return Err(Error::tensor(name, "its buffer lacks the usage COPY_SRC"));
            }
            if bytes > 0 {
                let own = self.input_buffer(name)?.raw();
                encoder.copy_buffer_to_buffer(given, 0, own, 0, Some(bytes));
            }
        }
        self.record_pass(&mut Pass::begin(encoder), &sizes)?;
        self.graph()
            .outputs()
            .iter()
            .map(|(name, value)| {
                let buffer = self.output_buffer(*value);
                let buffer = buffer.ok_or_else(|| Error::tensor(name, "has no buffer"))?;
                let meta = self.graph().meta(*value).eval(&sizes)?;
                Ok(Recorded { name, meta, buffer: buffer.raw() })
            })
            .collect()
    }
}
