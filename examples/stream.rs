//! Text as it is generated, piece by piece, and a caller who may stop it.
//!
//! ```text
//! cargo run --release --example stream -- "Once upon a time there was a fox"
//! ```

use std::error::Error;
use std::io::{Write, stdout};
use std::ops::ControlFlow;

use tilewright::engine::{Device, shipped};
use tilewright::gpu::{GpuOptions, Selector, select};
use tilewright::tasks::{Event, GenerateOptions, TextGenerator};
use tilewright::weights::GenerationConfig;

/// A caller's own limit; one with a window would ask whether it was closed.
const SENTENCES: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| "Once upon a time".to_owned());
    let folder = shipped("storyteller").ok_or("the shipped models are not here")?.folder;
    let device = Device::from(select(&Selector::Auto, GpuOptions::default())?);
    let model = TextGenerator::open(folder, device, GenerateOptions::default())?;

    // The folder's own settings, some of them replaced.
    let config = GenerationConfig {
        do_sample: true,
        temperature: 0.8,
        top_k: 40,
        max_new_tokens: Some(120),
        ..model.config().clone()
    };
    let prompts = model.encode(&[&prompt], true)?;
    let (mut sentences, mut failed) = (0, None);
    print!("{prompt}");
    let (texts, timing) = model.generate_ids(&prompts, &config, 7, &mut |event| {
        let Event::Text(_, piece) = event else { return ControlFlow::Continue(()) };
        // A piece is whole characters, ready to be shown.
        if let Err(error) = write!(stdout(), "{piece}").and_then(|()| stdout().flush()) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        sentences += piece.matches('.').count();
        match sentences < SENTENCES {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let ids = texts.first().map_or(0, |text| text.ids.len());
    println!("\n{ids} tokens, {:.0} tokens/s", timing.decode_tokens_per_s);
    Ok(())
}
