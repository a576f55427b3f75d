//! Checks on what a caller feeds a model, before anything runs.

use std::collections::BTreeMap;

use super::ModelInfo;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Completes and checks encoder inputs by their Hugging Face names: `input_ids` [batch,
/// tokens]; a missing `attention_mask` is all ones, missing `token_type_ids` all zeros.
///
/// Errors name the input: unknown names, shapes that differ from the ids', length or batch 0,
/// ids beyond the vocabulary, more tokens than the model has positions, masks other than 0/1.
pub fn encoder_inputs(
    info: &ModelInfo,
    mut given: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    const NAMES: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
    if let Some(name) = given.keys().find(|n| !NAMES.contains(&n.as_str())) {
        let message = format!("is not an input of this model; it takes {}", NAMES.join(", "));
        return Err(Error::tensor(name, message));
    }
    let ids = given.get("input_ids").ok_or_else(|| Error::tensor("input_ids", "is missing"))?;
    let shape = ids.shape();
    let &[batch, tokens] = shape.dims() else {
        return Err(Error::tensor("input_ids", format!("has shape {shape}, not [batch, tokens]")));
    };
    if batch == 0 || tokens == 0 {
        let message = format!("has shape {shape}; batch and tokens must be at least 1");
        return Err(Error::tensor("input_ids", message));
    }
    if tokens > info.max_tokens {
        let message = format!("has {tokens} tokens, the model takes at most {}", info.max_tokens);
        return Err(Error::tensor("input_ids", message));
    }
    for (name, value) in [("attention_mask", 1), ("token_type_ids", 0)] {
        if !given.contains_key(name) {
            given.insert(name.to_owned(), Tensor::u32(shape, vec![value; batch * tokens])?);
        }
    }
    let limits = [info.vocab_size, 2, info.type_vocab_size];
    for (name, limit) in NAMES.into_iter().zip(limits) {
        let Some(tensor) = given.get(name) else { continue };
        if tensor.shape() != shape {
            let message = format!("has shape {}, input_ids has {shape}", tensor.shape());
            return Err(Error::tensor(name, message));
        }
        let values = tensor.as_u32().map_err(|_| {
            Error::tensor(name, format!("has dtype {}, integers are needed", tensor.dtype()))
        })?;
        if let Some(at) = values.iter().position(|&v| v as usize >= limit) {
            let message = format!("value {} at index {at} must be below {limit}", values[at]);
            return Err(Error::tensor(name, message));
        }
    }
    Ok(given)
}
