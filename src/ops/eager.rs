//! One op at a time, from host tensors to host tensors: for tests, `verify`, benches and
//! `tilewright op`. Models go through a graph instead.

use super::kernel::{Dispatch, Part, Precision};
use super::launch::{Compiled, Launch, Slot};
use super::op::{Args, Call, Cost, Kernel, Op, infer, results};
use super::parts::{parts, rows_per_part};
use super::select::choose;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Pass, Upload};
use crate::tensor::{DType, Meta, Sizes, Tensor};

/// How [`run`] behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions<'a> {
    /// The variant to run, instead of the preferred one.
    pub kernel: Option<&'a str>,
    /// The precision that kernels may lose digits to.
    pub precision: Precision,
    /// Elements of a split operand per part, to test splitting; `None` splits only what
    /// exceeds the device's largest binding.
    pub rows_per_part: Option<usize>,
    /// Whether results that can be [stored in f16](Op::stores_f16) are.
    pub narrow: bool,
}

/// Words written behind each result, which no kernel may touch.
const SENTINELS: usize = 64;
/// A NaN no kernel produces: what results hold before the kernel runs, and the sentinels.
const POISON: u32 = 0x7fc0_dead;

/// Runs an op's CPU route on host tensors, after the same checks as on a device.
pub fn run_cpu(op: &dyn Op, inputs: &[Option<Tensor>], sizes: &Sizes) -> Result<Vec<Tensor>> {
    infer(op, &metas(inputs), sizes)?;
    let tensors: Vec<_> = inputs.iter().map(Option::as_ref).collect();
    op.run_cpu(&Args { op: op.name(), tensors: &tensors, sizes })
}

/// Runs an op on a device, results poisoned before and guarded by sentinels behind.
///
/// Errors when the op's checks fail, when no kernel fits, or when a sentinel was overwritten.
pub fn run(
    gpu: &Gpu,
    op: &dyn Op,
    inputs: &[Option<Tensor>],
    sizes: &Sizes,
    options: RunOptions<'_>,
) -> Result<Vec<Tensor>> {
    let prepared = Prepared::new(gpu, op, inputs, sizes, options)?;
    let mut commands = gpu.commands(op.name());
    prepared.record(&mut commands.pass());
    gpu.submit(commands)?;
    prepared.read(gpu)
}

fn metas(inputs: &[Option<Tensor>]) -> Vec<Option<Meta>> {
    inputs.iter().map(|t| t.as_ref().map(Tensor::meta)).collect()
}

/// An op made ready on a device: operands uploaded, pipeline compiled, buffers bound.
pub struct Prepared {
    launch: Launch,
    dispatches: Vec<Dispatch>,
    results: Vec<(Buffer, Meta)>,
    cost: Cost,
    // Held so that the bind groups' buffers stay in the memory account.
    _operands: Vec<Vec<Vec<Buffer>>>,
    _scratch: Option<Buffer>,
}

impl Prepared {
    /// Uploads, compiles and binds.
    pub fn new(
        gpu: &Gpu,
        op: &dyn Op,
        inputs: &[Option<Tensor>],
        sizes: &Sizes,
        options: RunOptions<'_>,
    ) -> Result<Self> {
        let metas = metas(inputs);
        let outputs = results(op, &metas, sizes, options.narrow)?;
        let call =
            Call { op, inputs: &metas, outputs: &outputs, sizes, caps: gpu.caps(), part: None };
        let kernel = choose(&call, options.precision, options.kernel, |_| Ok(true))?;
        let compiled = Compiled::new(gpu, kernel, &call)?;
        let scratch = match kernel.scratch(&call)? {
            0 => None,
            bytes => Some(gpu.buffer("scratch", bytes)?),
        };
        let mut upload = Upload::new(gpu)?;
        // By operand, plane and part.
        let mut operands: Vec<Vec<Vec<Buffer>>> = Vec::new();
        let mut ranges = vec![None];
        for (i, tensor) in inputs.iter().enumerate() {
            let name = op.inputs().get(i).copied().unwrap_or("operand");
            let Some(tensor) = tensor else {
                operands.push(Vec::new());
                continue;
            };
            let split = op.splittable() == Some(i);
            let rows = split.then(|| part_rows(gpu, tensor.meta(), options.rows_per_part));
            let total = tensor.shape().dims().first().copied().unwrap_or(1).max(1);
            let of_operand = match rows.flatten() {
                Some(rows) => parts(total, rows).collect(),
                None => vec![Part { first: 0, rows: total }],
            };
            if rows.flatten().is_some() {
                ranges = of_operand.iter().copied().map(Some).collect();
            }
            let mut upload = |plane: &[u8], p: &Part| {
                let row = plane.len() / total;
                let bytes = &plane[p.first * row..(p.first + p.rows) * row];
                send(gpu, &mut upload, name, bytes)
            };
            let planes = (0..tensor.meta().planes()).map(|plane| tensor.plane(plane));
            let planes = planes.map(|plane| of_operand.iter().map(|p| upload(plane, p)).collect());
            operands.push(planes.collect::<Result<_>>()?);
        }
        let poison: Vec<u8> = POISON.to_le_bytes().repeat(SENTINELS);
        let results = outputs
            .iter()
            .zip(op.outputs())
            .enumerate()
            .map(|(o, (meta, name))| {
                let bytes = meta.bytes().next_multiple_of(4) + SENTINELS * 4;
                let buffer = gpu.buffer(name, bytes)?;
                // A result in place starts as its operand.
                let operand = op.in_place().iter().find(|(result, _)| *result == o);
                let start = operand.and_then(|&(_, i)| inputs.get(i)?.as_ref());
                let start = start.map_or(&[][..], Tensor::as_bytes);
                upload.fill(&buffer, bytes, |offset, chunk| {
                    for piece in chunk.chunks_mut(poison.len()) {
                        piece.copy_from_slice(&poison[..piece.len()]);
                    }
                    let known = start.get(offset..).unwrap_or_default();
                    let known = &known[..known.len().min(chunk.len())];
                    chunk[..known.len()].copy_from_slice(known);
                    Ok(())
                })?;
                Ok((buffer, *meta))
            })
            .collect::<Result<Vec<_>>>()?;
        let find = |slot, part| match slot {
            Slot::Output(o) => results.get(o).map(|(buffer, _): &(Buffer, Meta)| buffer),
            Slot::Input(i) => of_part(&operands, i, 0, part),
            Slot::Plane(i, plane) => of_part(&operands, i, plane, part),
            Slot::Scratch => scratch.as_ref(),
        };
        let launch = compiled.bind(gpu, op, &ranges, find)?;
        let mut dispatches = Vec::new();
        launch.prepare(&call, &mut dispatches)?;
        let cost = op.cost(&call);
        Ok(Self { launch, dispatches, results, cost, _operands: operands, _scratch: scratch })
    }

    /// The kernel that was chosen.
    pub fn kernel(&self) -> &'static dyn Kernel {
        self.launch.kernel()
    }

    /// The work of one run.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Records the op once.
    pub fn record(&self, pass: &mut Pass<'_>) {
        self.launch.record(pass, &self.dispatches);
    }

    /// Waits for the results and checks the sentinels.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<Tensor>> {
        let read = |(buffer, meta): &(Buffer, Meta)| {
            let bytes = gpu.read(buffer, buffer.size() as usize)?;
            let (data, tail) = bytes.split_at(meta.bytes().next_multiple_of(4));
            let words = tail[..SENTINELS * 4].as_chunks::<4>().0;
            if words.iter().any(|&w| u32::from_le_bytes(w) != POISON) {
                let message = "wrote beyond the end of its result".to_owned();
                return Err(Error::kernel(self.kernel().name(), message));
            }
            Tensor::from_le_bytes(meta.shape, meta.dtype, &data[..meta.bytes()])
        };
        self.results.iter().map(read).collect()
    }
}

/// The buffer of an operand's plane for a part; the only one where it is not split.
fn of_part(operands: &[Vec<Vec<Buffer>>], i: usize, plane: usize, part: usize) -> Option<&Buffer> {
    let buffers = operands.get(i)?.get(plane)?;
    buffers.get(part).or(buffers.first())
}

fn send(gpu: &Gpu, upload: &mut Upload, name: &str, bytes: &[u8]) -> Result<Buffer> {
    let buffer = gpu.buffer(name, bytes.len())?;
    upload.fill(&buffer, bytes.len(), |offset, chunk| {
        chunk.copy_from_slice(&bytes[offset..offset + chunk.len()]);
        Ok(())
    })?;
    Ok(buffer)
}

/// Rows per part, or `None` when the operand fits one binding and no split was asked for.
fn part_rows(gpu: &Gpu, meta: Meta, asked: Option<usize>) -> Option<usize> {
    asked.or_else(|| rows_per_part(meta, gpu.caps().max_binding)).filter(|&rows| {
        // Packed 16-bit rows must start on a whole word.
        meta.dtype == DType::F32 || (rows * meta.shape.last()).is_multiple_of(2)
    })
}
