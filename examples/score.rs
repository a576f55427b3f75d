//! How well a language model predicts texts: which of two sentences is the likelier one, and the
//! word of it that surprises most.
//!
//! ```text
//! cargo run --release --example score -- "A fox named Max sat by the well." "Well the by sat."
//! ```

use std::error::Error;

use tilewright::engine::{Device, shipped};
use tilewright::gpu::{GpuOptions, Selector, select};
use tilewright::tasks::{ScoreOptions, Scorer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut texts: Vec<String> = std::env::args().skip(1).collect();
    if texts.is_empty() {
        texts = [
            "Once upon a time there was a fox named Max.",
            "Once upon a time there was a fox named Wednesday.",
        ]
        .map(str::to_owned)
        .into();
    }
    let folder = shipped("storyteller").ok_or("the shipped models are not here")?.folder;
    let device = Device::from(select(&Selector::Auto, GpuOptions::default())?);
    let scorer = Scorer::open(folder, device, ScoreOptions::default())?;
    for (text, score) in texts.iter().zip(scorer.score(&texts)?) {
        let Some(perplexity) = score.perplexity() else {
            println!("nothing to predict in {text:?}");
            continue;
        };
        let worst = score.tokens.iter().min_by(|a, b| a.logprob.total_cmp(&b.logprob));
        let worst = worst.and_then(|worst| scorer.tokenizer().token(worst.id)).unwrap_or_default();
        println!("perplexity {perplexity:8.2}, the least expected token is {worst:?}: {text}");
    }
    Ok(())
}
