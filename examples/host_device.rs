//! A program with its own `wgpu::Device` runs a model without giving it up.
//!
//! The host opens the device, keeps its error handling, records the model's work into its own
//! command encoder between its own commands, and reads the result's buffer in a later dispatch
//! of its own (here: a copy to the host).
//!
//! ```text
//! cargo run --release --example host_device -- models/all-MiniLM-L6-v2 "A cat on a warm sill."
//! ```

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::graph::{DeviceWeights, Session, SessionOptions, Size, fuse};
use tilewright::models::{self, BuildOptions, Outputs};
use tilewright::text::Tokenizer;
use tilewright::weights::Pooling;
use wgpu::util::DeviceExt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "models/all-MiniLM-L6-v2".to_owned());
    let text = args.next().unwrap_or_else(|| "A cat sits on the warm window sill.".to_owned());

    // The host's device, opened the host's way. Tilewright needs IMMEDIATES; the rest is used
    // when present.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
    let wanted = wgpu::Features::IMMEDIATES | wgpu::Features::SUBGROUP;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: wanted & adapter.features(),
        required_limits: adapter.limits(),
        ..Default::default()
    }))?;
    device.on_uncaptured_error(Arc::new(|error| eprintln!("the host's own handler: {error}")));

    // Tilewright on that device: no callback is installed, nothing is changed.
    let gpu = Gpu::from_wgpu(&adapter, device.clone(), queue.clone(), GpuOptions::default())?;
    let outputs = Outputs::Embedding { pooling: Pooling::Mean, normalize: true };
    let model = models::open(&folder, &BuildOptions { outputs, ..BuildOptions::default() })?;
    let width = model.info.hidden_size;
    let graph = Arc::new(fuse(model.graph, &[])?);
    let capacity = graph.sizes(&[(Size::Batch, 1), (Size::Tokens, 64)])?;
    let weights = DeviceWeights::new(&gpu);
    let options = SessionOptions::default();
    let session =
        Session::new(graph, &weights, capacity, &options, &mut |_| ControlFlow::Continue(()))?;

    // Inputs in the host's buffers, as any of its own passes could have written them.
    let ids = Tokenizer::open(&folder)?.encode(&text, true)?.ids;
    let tokens = ids.len();
    let upload = |label, values: &[u32]| {
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some(label),
            contents: bytemuck::cast_slice(values),
            usage: wgpu::BufferUsages::COPY_SRC,
        })
    };
    let input_ids = upload("ids", &ids);
    let mask = upload("mask", &vec![1; tokens]);
    let types = upload("types", &vec![0; tokens]);

    // One encoder of the host's: its commands, the model, its commands.
    let mut encoder = device.create_command_encoder(&Default::default());
    let inputs = [("input_ids", &input_ids), ("attention_mask", &mask), ("token_type_ids", &types)];
    let results = session.record(&mut encoder, &inputs, &[("batch", 1), ("tokens", tokens)])?;
    let embedding = results.first().ok_or("the model has no output")?;
    let bytes = (width * 4) as u64;
    let readable = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("readable"),
        size: bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    encoder.copy_buffer_to_buffer(embedding.buffer, 0, &readable, 0, Some(bytes));
    queue.submit([encoder.finish()]);

    readable.slice(..).map_async(wgpu::MapMode::Read, |result| {
        if let Err(error) = result {
            eprintln!("mapping failed: {error}");
        }
    });
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let view = readable.slice(..).get_mapped_range()?;
    let values: &[f32] = bytemuck::cast_slice(&view);
    let length: f32 = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    println!("{} {}: {:?} …", embedding.name, embedding.meta, &values[..4.min(values.len())]);
    println!("length {length:.6}, on {}", gpu.caps().name);
    Ok(())
}
