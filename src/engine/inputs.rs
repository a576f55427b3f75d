//! Checks on what a caller feeds a model, before anything runs.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::models::{Kind, ModelInfo};
use crate::tensor::{Shape, Tensor};

/// One input: its Hugging Face name, what a missing one is filled with, and the bound its
/// values must stay below.
struct Input {
    name: &'static str,
    default: Option<u32>,
    below: usize,
}

/// Completes and checks a whole pass's inputs by their Hugging Face names: `input_ids` [batch,
/// tokens] and, behind an encoder, `decoder_input_ids`; missing masks are all ones, missing
/// `token_type_ids` all zeros.
///
/// Errors name the input: unknown names, shapes that differ from the ids', length or batch 0,
/// ids beyond the vocabulary, more tokens than the model has positions, masks other than 0/1.
pub fn model_inputs(
    info: &ModelInfo,
    mut given: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let ids = |name, below| Input { name, default: None, below };
    let mask = |name| Input { name, default: Some(1), below: 2 };
    let mut groups =
        vec![(vec![ids("input_ids", info.vocab_size), mask("attention_mask")], info.max_tokens)];
    if info.type_vocab_size > 0 {
        let below = info.type_vocab_size;
        groups[0].0.push(Input { name: "token_type_ids", default: Some(0), below });
    }
    if let (Kind::EncoderDecoder, Some(decoder)) = (info.kind, info.decoder) {
        let inputs =
            vec![ids("decoder_input_ids", decoder.vocab_size), mask("decoder_attention_mask")];
        groups.push((inputs, decoder.max_tokens));
    }
    let known = || groups.iter().flat_map(|(inputs, _)| inputs.iter().map(|i| i.name));
    if let Some(name) = given.keys().find(|n| !known().any(|k| k == n.as_str())) {
        let names: Vec<_> = known().collect();
        let message = format!("is not an input of this model; it takes {}", names.join(", "));
        return Err(Error::tensor(name, message));
    }
    let mut first_batch = None;
    for (inputs, max_tokens) in &groups {
        let shape = check_ids(&given, inputs[0].name, *max_tokens)?;
        let batch = shape.rows();
        if *first_batch.get_or_insert(batch) != batch {
            let message = format!("has shape {shape}, but input_ids has another batch size");
            return Err(Error::tensor(inputs[0].name, message));
        }
        for input in inputs {
            if let (Some(value), false) = (input.default, given.contains_key(input.name)) {
                let filled = Tensor::u32(shape, vec![value; shape.numel()])?;
                given.insert(input.name.to_owned(), filled);
            }
            check_values(&given, input, shape)?;
        }
    }
    Ok(given)
}

/// The form in which graphs and sessions take inputs.
pub fn by_name(inputs: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

fn check_ids(given: &BTreeMap<String, Tensor>, name: &str, max_tokens: usize) -> Result<Shape> {
    let shape = given.get(name).ok_or_else(|| Error::tensor(name, "is missing"))?.shape();
    let &[batch, tokens] = shape.dims() else {
        return Err(Error::tensor(name, format!("has shape {shape}, not [batch, tokens]")));
    };
    if batch == 0 || tokens == 0 {
        let message = format!("has shape {shape}; batch and tokens must be at least 1");
        return Err(Error::tensor(name, message));
    }
    if tokens > max_tokens {
        let message = format!("has {tokens} tokens, the model takes at most {max_tokens}");
        return Err(Error::tensor(name, message));
    }
    Ok(shape)
}

fn check_values(given: &BTreeMap<String, Tensor>, input: &Input, shape: Shape) -> Result<()> {
    let Input { name, below, .. } = *input;
    let Some(tensor) = given.get(name) else { return Ok(()) };
    if tensor.shape() != shape {
        let message = format!("has shape {}, its ids have {shape}", tensor.shape());
        return Err(Error::tensor(name, message));
    }
    let values = tensor.as_u32().map_err(|_| {
        Error::tensor(name, format!("has dtype {}, integers are needed", tensor.dtype()))
    })?;
    if let Some(at) = values.iter().position(|&v| v as usize >= below) {
        let message = format!("value {} at index {at} must be below {below}", values[at]);
        return Err(Error::tensor(name, message));
    }
    Ok(())
}
