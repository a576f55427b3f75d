//! Two passes of a model in one command encoder, with commands of the host's own between them.
//!
//! A session owns its buffers, so a result is valid until the next recorded step runs: the host
//! copies it away within the same encoder, and one submission does all of the work.
//!
//! ```text
//! cargo run --release --example record
//! ```

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::engine::shipped;
use tilewright::gpu::{GpuOptions, adapters};
use tilewright::graph::{DeviceWeights, Session, SessionOptions, fuse};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::tensor::Sizes;
use tilewright::text::Tokenizer;
use tilewright::weights::Pooling;
use wgpu::util::DeviceExt;

const TEXTS: [&str; 2] = ["the food was good.", "we liked the soup, and the waiter was kind."];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = shipped("reader").ok_or("the shipped models are not here")?.folder;
    let gpu = adapters().first().ok_or("no adapter")?.open(GpuOptions::default())?;
    let (device, queue) = (gpu.device(), gpu.queue());

    let outputs = Outputs::Embedding { pooling: Pooling::Mean, normalize: true };
    let model = models::open(&folder, &BuildOptions { outputs, ..BuildOptions::default() })?;
    let bytes = model.info.hidden_size as u64 * 4;
    let graph = Arc::new(fuse(model.graph, &[])?);
    let mut capacity = Sizes::default();
    for (name, most) in [("batch", 1), ("tokens", 32)] {
        capacity.set(graph.find_symbol(name).ok_or("an encoder has these sizes")?, most);
    }
    let (weights, options) = (DeviceWeights::new(&gpu), SessionOptions::default());
    let go_on = &mut |_: tilewright::graph::Progress<'_>| ControlFlow::Continue(());
    let session = Session::new(graph, &weights, capacity, &options, go_on)?;

    let both = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("both embeddings"),
        size: 2 * bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let upload = |label, values: &[u32]| {
        let usage = wgpu::BufferUsages::COPY_SRC;
        let contents = bytemuck::cast_slice(values);
        let label = Some(label);
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label, contents, usage })
    };
    let tokenizer = Tokenizer::open(&folder)?;
    let mut encoder = device.create_command_encoder(&Default::default());
    for (place, text) in TEXTS.iter().enumerate() {
        let ids = tokenizer.encode(text, true)?.ids;
        let (n, input_ids) = (ids.len(), upload("ids", &ids));
        let (mask, types) = (upload("mask", &vec![1; n]), upload("types", &vec![0; n]));
        let inputs =
            [("input_ids", &input_ids), ("attention_mask", &mask), ("token_type_ids", &types)];
        let results = session.record(&mut encoder, &inputs, &[("batch", 1), ("tokens", n)])?;
        let embedding = results.first().ok_or("the model has no output")?.buffer;
        encoder.copy_buffer_to_buffer(embedding, 0, &both, place as u64 * bytes, Some(bytes));
    }
    queue.submit([encoder.finish()]);

    both.slice(..).map_async(wgpu::MapMode::Read, |result| result.expect("the buffer is mapped"));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = both.slice(..).get_mapped_range()?;
    let (a, b) = view.split_at(bytes as usize);
    let (a, b): (&[f32], &[f32]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
    let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    println!("{TEXTS:?} on {}: cosine {cosine:.4}", gpu.caps().name);
    Ok(())
}
