//! Host programs: their own devices, threads, and dropping things in any order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tilewright::engine::Device;
use tilewright::gpu::{Gpu, GpuOptions};
use tilewright::graph::{DeviceWeights, Session, SessionOptions};
use tilewright::models::{self, BuildOptions, Model};
use tilewright::tasks::{EmbedOptions, Embedder};
use tilewright::tensor::{Sizes, Sym};
use tilewright::{Error, Tensor};

use crate::common;
use crate::folder::Folder;

const TOKENS: usize = 12;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/bert_base")
}

fn embedder(gpu: &Gpu) -> Embedder {
    Embedder::open(folder(), Device::gpu(gpu), EmbedOptions::default()).unwrap()
}

fn session(gpu: &Gpu) -> Result<Session, Error> {
    let Model { graph, .. } = models::open(folder(), &BuildOptions::default()).unwrap();
    let capacity = Sizes::default().with(Sym(0), 1).with(Sym(1), TOKENS);
    let weights = DeviceWeights::new(gpu);
    let options = SessionOptions::default();
    let go_on = &mut |_: tilewright::graph::Progress<'_>| std::ops::ControlFlow::Continue(());
    Session::new(Arc::new(graph), &weights, capacity, &options, go_on)
}

fn step(session: &Session, first: u32) -> Result<Vec<f32>, Error> {
    let row = |values: Vec<u32>| Tensor::u32([1, TOKENS], values).unwrap();
    let ids = row((0..TOKENS as u32).map(|i| (first + i) % 300).collect());
    let (mask, segments) = (row(vec![1; TOKENS]), row(vec![0; TOKENS]));
    let inputs = [("input_ids", &ids), ("attention_mask", &mask), ("token_type_ids", &segments)];
    Ok(session.run(&inputs)?["last_hidden_state"].as_f32().unwrap().to_vec())
}

/// A host program's adapter, the one the tests run on.
fn adapter() -> wgpu::Adapter {
    let name = common::shared().caps().name.clone();
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(descriptor);
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let found = pollster::block_on(instance.enumerate_adapters(backends));
    found.into_iter().find(|a| a.get_info().name == name).expect("the tests' adapter")
}

fn request(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> (wgpu::Device, wgpu::Queue) {
    let descriptor = wgpu::DeviceDescriptor {
        required_features: features,
        required_limits: limits,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).unwrap()
}

fn wrap(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> Result<Gpu, Error> {
    let (device, queue) = request(adapter, features, limits);
    Gpu::from_wgpu(adapter, device, queue, GpuOptions::default())
}

#[test]
fn two_threads_share_an_embedder_and_a_session() {
    let gpu = common::open(GpuOptions::default());
    let texts = ["Rain fell on the house", "We read books", "x", "the sentence, the house"];
    for device in [Device::gpu(&gpu), Device::cpu()] {
        let embedder = Embedder::open(folder(), device, EmbedOptions::default()).unwrap();
        let want: Vec<_> = texts.iter().map(|t| embedder.embed(&[t]).unwrap()).collect();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (embedder, want) = (&embedder, &want);
                scope.spawn(move || {
                    for i in 0..12 {
                        let at = (i + thread) % texts.len();
                        assert_eq!(embedder.embed(&[texts[at]]).unwrap(), want[at]);
                    }
                });
            }
        });
    }

    let session = session(&gpu).unwrap();
    let want = [step(&session, 0).unwrap(), step(&session, 100).unwrap()];
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (session, want) = (&session, &want);
            scope.spawn(move || {
                for _ in 0..300 {
                    let got = step(session, thread * 100).unwrap();
                    assert!(got == want[thread as usize], "a step was disturbed by another");
                }
            });
        }
    });
}

#[test]
fn a_host_device_that_lacks_something_is_told_what() {
    let adapter = adapter();
    let name = adapter.get_info().name;
    let plain = wrap(&adapter, wgpu::Features::empty(), wgpu::Limits::downlevel_defaults());
    let error = plain.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert_eq!(error.to_string(), format!("device `{name}` lacks the feature IMMEDIATES"));

    let immediates = wgpu::Features::IMMEDIATES;
    let small = wgpu::Limits { max_immediate_size: 64, ..wgpu::Limits::downlevel_defaults() };
    let error = wrap(&adapter, immediates, small).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert!(error.to_string().contains("immediates of 128 bytes (it has 64)"), "{error}");
}

#[test]
fn the_smallest_limits_run_a_model_or_name_what_is_missing() {
    let adapter = adapter();
    let limits = wgpu::Limits { max_immediate_size: 128, ..wgpu::Limits::downlevel_defaults() };
    let error = wrap(&adapter, wgpu::Features::IMMEDIATES, limits).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }));
    assert!(error.to_string().contains("8 storage buffers per kernel (it has 4)"), "{error}");

    // What WebGPU guarantees is enough, and gives the same as the whole device.
    let limits = wgpu::Limits { max_immediate_size: 128, ..wgpu::Limits::default() };
    let gpu = wrap(&adapter, wgpu::Features::IMMEDIATES, limits).unwrap();
    let got = step(&session(&gpu).unwrap(), 7).unwrap();
    let whole = common::open(GpuOptions::default());
    let want = step(&session(&whole).unwrap(), 7).unwrap();
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 2e-5), "{got:?} {want:?}");
}

fn host_gpu() -> (wgpu::Device, Gpu) {
    let adapter = adapter();
    let limits = wgpu::Limits { max_immediate_size: 128, ..wgpu::Limits::default() };
    let (device, queue) = request(&adapter, wgpu::Features::IMMEDIATES, limits);
    let gpu = Gpu::from_wgpu(&adapter, device.clone(), queue, GpuOptions::default()).unwrap();
    (device, gpu)
}

#[test]
fn the_host_may_drop_its_device_first() {
    let (device, gpu) = host_gpu();
    let session = session(&gpu).unwrap();
    let want = step(&session, 3).unwrap();
    drop((device, gpu));
    assert!(step(&session, 3).unwrap() == want);
}

#[test]
fn a_device_the_host_destroyed_is_an_error() {
    let (device, gpu) = host_gpu();
    let made = session(&gpu).unwrap();
    step(&made, 3).unwrap();
    device.destroy();
    for _ in 0..2 {
        let error = step(&made, 3).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("device"), "{error}");
    }
    session(&gpu).map(drop).unwrap_err();
    // Nothing of ours panics on a dead device.
    drop((made, gpu, device));
}

#[test]
fn our_own_device_destroyed_is_reported_as_lost() {
    let gpu = common::open(GpuOptions::default());
    let embedder = embedder(&gpu);
    embedder.embed(&["Rain"]).unwrap();
    gpu.device().destroy();
    let error = embedder.embed(&["Rain"]).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_) | Error::Device(_)), "{error}");
    // A new device serves the same process.
    let again = common::open(GpuOptions::default());
    self::embedder(&again).embed(&["Rain"]).unwrap();
}

#[test]
fn things_may_be_dropped_in_any_order() {
    let made = || {
        let gpu = common::open(GpuOptions::default());
        let session = session(&gpu).unwrap();
        (gpu, session)
    };
    let (gpu, session) = made();
    let pending = gpu.commands("never submitted");
    drop(gpu);
    step(&session, 1).unwrap();
    drop(session);
    drop(pending);

    let (gpu, session) = made();
    drop(session);
    gpu.finish().unwrap();

    let gpu = common::open(GpuOptions::default());
    let device = Device::gpu(&gpu);
    let embedder = Embedder::open(folder(), device.clone(), EmbedOptions::default()).unwrap();
    drop((gpu, device));
    assert_eq!(embedder.embed(&["Rain"]).unwrap().len(), 1);
}

#[test]
fn the_last_handle_may_go_inside_a_callback() {
    let gpu = common::open(GpuOptions::default());
    let session = session(&gpu).unwrap();
    step(&session, 1).unwrap();
    let (queue, device) = (gpu.queue().clone(), gpu.device().clone());
    let held = Mutex::new(Some((gpu, session)));
    queue.submit([]);
    queue.on_submitted_work_done(move || drop(held.lock().unwrap().take()));
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();

    // An embedder let go by the callback of its own loading.
    let gpu = common::open(GpuOptions::default());
    let owner = Arc::new(embedder(&gpu));
    let mut slot = Some((Arc::clone(&owner), gpu));
    let loading = &mut |_: tilewright::graph::Progress<'_>| {
        drop(slot.take());
        std::ops::ControlFlow::Continue(())
    };
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    assert_eq!(owner.embed_with(&["Rain"], loading, go_on).unwrap().len(), 1);
}

#[test]
fn a_callback_stops_the_work_and_it_can_be_taken_up_again() {
    let gpu = common::open(GpuOptions::default());
    let embedder = embedder(&gpu);
    let go_on = |_: usize| std::ops::ControlFlow::Continue(());
    let error = embedder
        .embed_with(&["Rain"], &mut |_| std::ops::ControlFlow::Break(()), &mut { go_on })
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    let stop = &mut |_: usize| std::ops::ControlFlow::Break(());
    let loading = &mut |_: tilewright::graph::Progress<'_>| std::ops::ControlFlow::Continue(());
    let error = embedder.embed_with(&["Rain"], loading, stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(embedder.embed(&["Rain"]).unwrap().len(), 1);
}

#[test]
fn folders_of_one_tensor_name_do_not_share_weights() {
    // Two checkpoints on one device, alike in every name and different in one value.
    let copy = Folder::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_str().unwrap();
        copy.file(name, std::fs::read(&from).unwrap());
    }
    let mut bytes = std::fs::read(copy.0.join("model.safetensors")).unwrap();
    // The sign bits of every stored value, past the header.
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[start..].iter_mut().skip(3).step_by(4).for_each(|high| *high ^= 0x80);
    copy.file("model.safetensors", bytes);
    let device = Device::gpu(&common::open(GpuOptions::default()));
    let embed = |from: &Path| {
        let options = EmbedOptions::default();
        Embedder::open(from, device.clone(), options).unwrap().embed(&["Rain"]).unwrap()
    };
    let (first, second) = (embed(&folder()), embed(&copy.0));
    assert_ne!(first, second);
    assert_eq!(embed(&folder()), first);
}
