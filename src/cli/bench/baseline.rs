//! Materialised attention, the formula taken literally: q k^T, scale, mask and bias, softmax and
//! the product with v, each by this library's own kernel, with the scores in memory between them.
//!
//! Operands lie by heads, so that no transposition is timed; heads that share keys and values are
//! rows of one product.

use super::presets::Bias;
use super::work::{BUCKETS, Heads, MAX_DISTANCE};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Pass, Upload};
use crate::ops::{
    Add, Call, Compiled, Dispatch, Launch, Layout, Matmul, Op, Precision, Scale, Slot, Softmax,
    candidates, choose, found, infer, relative_bucket,
};
use crate::tensor::{DType, Meta, Shape, Sizes, Tensor};

/// The variant's name.
pub(super) const NAME: &str = "naive";

/// One op with its buffers.
struct Step {
    launch: Launch,
    dispatches: Vec<Dispatch>,
    _scratch: Option<Buffer>,
}

/// The steps of one attention, ready on a device.
pub(super) struct Naive {
    steps: Vec<Step>,
    heads: Heads,
    out: Buffer,
    /// What its kernels may err by.
    pub nmse: f64,
    /// Bytes besides operands and result.
    pub extra: u64,
    // Held so that the bind groups' buffers stay in the memory account.
    _operands: Vec<Buffer>,
    _scores: [Buffer; 2],
}

impl Naive {
    /// Uploads the operands of the fused op, laid out by heads, and binds every step.
    pub fn new(
        gpu: &Gpu,
        heads: Heads,
        inputs: &[Option<Tensor>],
        precision: Precision,
        tuned: bool,
    ) -> Result<Self> {
        let [Some(q), Some(k), Some(v), _, bias, _] = inputs else {
            return Err(Error::op("attention", "the baseline needs q, k and v"));
        };
        let Heads { batch, kv_heads, dim, queries, keys, .. } = heads;
        let rows = heads.heads / kv_heads * queries;
        let square = Meta::f32(Shape::new(&[batch, kv_heads, rows, keys])?);
        let limit = gpu.caps().max_binding.min(gpu.caps().max_buffer);
        if square.bytes() as u64 > limit {
            let message = format!("scores {square} exceed the largest binding of {limit} bytes");
            return Err(Error::op("attention", message));
        }
        let by_heads = |x: &Tensor, n: usize| by_heads(x, n, dim);
        let shape = |rows| Shape::new(&[batch, kv_heads, rows, dim]);
        let query = Meta::f32(shape(rows)?);
        let kv = Meta { shape: shape(keys)?, dtype: heads.dtype };
        let mut chain = Chain { gpu, precision, tuned, steps: Vec::new(), nmse: 0.0, scratch: 0 };
        let mut upload = Upload::new(gpu)?;
        let mut send = |name, x: &Tensor| send(gpu, &mut upload, name, x);
        let q = send("q", &by_heads(q, heads.heads)?)?;
        let k = send("k", &by_heads(k, kv_heads)?)?;
        let v = send("v", &by_heads(v, kv_heads)?)?;
        let terms = Terms::new(&heads, bias.as_ref())?;
        let added = terms.as_ref().map(|terms| send("mask", &terms.tensor)).transpose()?;
        let out = gpu.buffer("out", query.bytes())?;
        let mut scores = [gpu.buffer("scores", square.bytes())?, gpu.buffer("p", square.bytes())?];
        let mut operands = Vec::new();
        let mut extra = 2 * square.bytes() as u64;

        let scale = heads.op().scale;
        let product = Matmul::plain;
        // Without a cap the queries are scaled, which is less work than scaling the scores.
        let scaled = match heads.softcap {
            None if scale != 1.0 => Some(gpu.buffer("scaled q", query.bytes())?),
            _ => None,
        };
        if let Some(scaled) = &scaled {
            let op = Scale { scale, cap: None };
            chain.step(&op, &[Some((query, &q))], (query, scaled))?;
            extra += query.bytes() as u64;
        }
        let first = scaled.as_ref().unwrap_or(&q);
        let factors = [Some((query, first)), Some((kv, &k)), None, None];
        chain.step(&product(Layout::Nt), &factors, (square, &scores[0]))?;
        if heads.softcap.is_some() {
            let op = Scale { scale, cap: heads.softcap };
            chain.step(&op, &[Some((square, &scores[0]))], (square, &scores[1]))?;
            scores.swap(0, 1);
        }
        if let (Some(terms), Some(added)) = (&terms, &added) {
            // One row of terms is added to every row of as many scores.
            let row = Meta::f32([terms.tensor.shape().numel()]);
            let of = Shape::new(&[square.shape.numel() / row.shape.numel(), row.shape.numel()])?;
            let of = Meta::f32(of);
            chain.step(&Add, &[Some((of, &scores[0])), Some((row, added))], (of, &scores[1]))?;
            scores.swap(0, 1);
            extra += terms.extra;
        }
        let op = Softmax { log: false };
        chain.step(&op, &[Some((square, &scores[0]))], (square, &scores[1]))?;
        let factors = [Some((square, &scores[1])), Some((kv, &v)), None, None];
        chain.step(&product(Layout::Nn), &factors, (query, &out))?;

        operands.extend([q, k, v]);
        operands.extend(scaled);
        operands.extend(added);
        let Chain { steps, nmse, scratch, .. } = chain;
        let extra = extra + scratch;
        Ok(Self { steps, heads, out, nmse, extra, _operands: operands, _scores: scores })
    }

    /// Records every step once.
    pub fn record(&self, pass: &mut Pass<'_>) {
        for step in &self.steps {
            step.launch.record(pass, &step.dispatches);
        }
    }

    /// Waits for the result and lays it out by tokens, as the fused op gives it.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<Tensor>> {
        let Heads { batch, heads, dim, queries, .. } = self.heads;
        let meta = Meta::f32(Shape::new(&[batch, queries, heads * dim])?);
        let bytes = gpu.read(&self.out, meta.bytes())?;
        let by_heads = Tensor::from_le_bytes(meta.shape, DType::F32, &bytes)?;
        let from = by_heads.as_f32()?;
        let mut y = Vec::with_capacity(from.len());
        for (b, i, h) in places(batch, queries, heads) {
            let at = ((b * heads + h) * queries + i) * dim;
            y.extend_from_slice(&from[at..at + dim]);
        }
        Ok(vec![Tensor::f32(meta.shape, y)?])
    }
}

/// What the steps are made with, and what they add up to.
struct Chain<'a> {
    gpu: &'a Gpu,
    precision: Precision,
    /// Whether findings of tuning decide.
    tuned: bool,
    steps: Vec<Step>,
    nmse: f64,
    scratch: u64,
}

impl Chain<'_> {
    /// Binds one op: by the kernel that tuning found or ranks choose, as models would.
    fn step(
        &mut self,
        op: &dyn Op,
        inputs: &[Option<(Meta, &Buffer)>],
        (meta, out): (Meta, &Buffer),
    ) -> Result<()> {
        let gpu = self.gpu;
        let metas: Vec<_> = inputs.iter().map(|input| input.map(|(meta, _)| meta)).collect();
        let (sizes, outputs) = (&Sizes::default(), &[meta]);
        if infer(op, &metas, sizes)? != outputs {
            return Err(Error::op(op.name(), format!("does not give the baseline's {meta}")));
        }
        let call = Call { op, inputs: &metas, outputs, sizes, caps: gpu.caps(), part: None };
        let tuned = match self.tuned {
            true => found(gpu, &call, &candidates(&call, self.precision))?,
            false => None,
        };
        let kernel = tuned.map_or_else(|| choose(&call, self.precision, None, |_| Ok(true)), Ok)?;
        let scratch = match kernel.scratch(&call)? {
            0 => None,
            bytes => Some(gpu.buffer("scratch", bytes)?),
        };
        let find = |slot, _part| match slot {
            Slot::Input(i) => inputs.get(i).copied().flatten().map(|(_, buffer)| buffer),
            Slot::Output(_) => Some(out),
            Slot::Scratch => scratch.as_ref(),
            Slot::Plane(..) => None,
        };
        let launch = Compiled::new(gpu, kernel, &call)?.bind(gpu, op, &[None], find)?;
        let mut dispatches = Vec::new();
        launch.prepare(&call, &mut dispatches)?;
        self.nmse = self.nmse.max(kernel.precision().nmse());
        self.scratch += scratch.as_ref().map_or(0, Buffer::size);
        self.steps.push(Step { launch, dispatches, _scratch: scratch });
        Ok(())
    }
}

/// What is added to the scores: bias, and -inf where a key is hidden.
struct Terms {
    tensor: Tensor,
    /// Bytes that the fused kernel is not given.
    extra: u64,
}

impl Terms {
    /// One row that serves every sequence and head that it can; `None` where nothing is added.
    fn new(heads: &Heads, bias: Option<&Tensor>) -> Result<Option<Self>> {
        let Heads { queries, keys, window, .. } = *heads;
        let ordered = heads.causal || window.is_some();
        if !ordered && !heads.padded && heads.bias == Bias::None {
            return Ok(None);
        }
        let sequences = if heads.padded { heads.batch } else { 1 };
        let biased = heads.bias != Bias::None;
        let n_heads = if biased || sequences > 1 { heads.heads } else { 1 };
        let shape = Shape::new(&[sequences, n_heads, queries, keys])?;
        let bias = bias.map(Tensor::as_f32).transpose()?.unwrap_or_default();
        let term = |h: usize, i: usize, j: usize| match heads.bias {
            Bias::None => 0.0,
            Bias::Tensor => bias[(h * queries + i) * keys + j],
            Bias::T5 => {
                let distance = j as i64 - (i + heads.offset()) as i64;
                let bucket = relative_bucket(distance, !heads.causal, BUCKETS, MAX_DISTANCE);
                bias[bucket * heads.heads + h]
            }
        };
        let mut values = Vec::new();
        values
            .try_reserve_exact(shape.numel())
            .map_err(|_| Error::Argument(format!("the host's memory does not hold {shape}")))?;
        for (b, h, i) in places(sequences, n_heads, queries) {
            let (real, position) = (heads.real_keys(b), i + heads.offset());
            let last = if ordered { position + heads.ahead() } else { keys };
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            values.extend((0..keys).map(|j| match j < real && (first..=last).contains(&j) {
                true => term(h, i, j),
                false => f32::NEG_INFINITY,
            }));
        }
        let tensor = Tensor::f32(shape, values)?;
        let given = if heads.bias == Bias::Tensor { bias.len() * 4 } else { 0 };
        let extra = tensor.meta().bytes().saturating_sub(given) as u64;
        Ok(Some(Self { tensor, extra }))
    }
}

/// Every place of three nested loops.
fn places(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |x| (0..b).flat_map(move |y| (0..c).map(move |z| (x, y, z))))
}

/// `[B, T, H * D]` as `[B, H, T, D]`.
fn by_heads(x: &Tensor, heads: usize, dim: usize) -> Result<Tensor> {
    let &[batch, tokens, width] = x.shape().dims() else {
        return Err(Error::op("attention", format!("{} is not laid out by tokens", x.meta())));
    };
    let from = x.to_f32()?;
    let mut y = Vec::with_capacity(from.len());
    for (b, h, i) in places(batch, heads, tokens) {
        let at = (b * tokens + i) * width + h * dim;
        y.extend_from_slice(&from[at..at + dim]);
    }
    Tensor::f32(Shape::new(&[batch, heads, tokens, dim])?, y)?.cast(x.dtype())
}

fn send(gpu: &Gpu, upload: &mut Upload, name: &str, x: &Tensor) -> Result<Buffer> {
    let bytes = x.as_bytes();
    let buffer = gpu.buffer(name, bytes.len())?;
    upload.fill(&buffer, bytes.len(), |offset, chunk| {
        chunk.copy_from_slice(&bytes[offset..offset + chunk.len()]);
        Ok(())
    })?;
    Ok(buffer)
}
