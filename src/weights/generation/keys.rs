//! Keys of a generation config that become no field: without effect here, or not supported.

use serde_json::Value;

use crate::error::Result;
use crate::files::{one_line, show};
use crate::weights::config::Config;

/// Keys that change nothing of what is generated here: caches, compilation, further outputs,
/// bookkeeping, and settings of an assistant model that is not there.
const NO_EFFECT: [&str; 26] = [
    "_commit_hash",
    "_from_model_config",
    "transformers_version",
    "trust_remote_code",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "low_memory",
    "prefill_chunk_size",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "target_lookbehind",
    "max_matching_ngram_size",
    "speculation_type",
];

/// The value at which a feature that is not supported is off; `null` and absent always are.
enum Off {
    At(f64),
    False,
    /// An empty list or object counts as absent.
    Absent,
}

const UNSUPPORTED: [(&str, Off); 24] = [
    ("typical_p", Off::At(1.0)),
    ("epsilon_cutoff", Off::At(0.0)),
    ("eta_cutoff", Off::At(0.0)),
    ("top_h", Off::Absent),
    ("encoder_repetition_penalty", Off::At(1.0)),
    ("encoder_no_repeat_ngram_size", Off::At(0.0)),
    ("exponential_decay_length_penalty", Off::Absent),
    ("sequence_bias", Off::Absent),
    ("guidance_scale", Off::At(1.0)),
    ("watermarking_config", Off::Absent),
    ("num_return_sequences", Off::At(1.0)),
    ("num_beam_groups", Off::At(1.0)),
    ("diversity_penalty", Off::At(0.0)),
    ("penalty_alpha", Off::At(0.0)),
    ("constraints", Off::Absent),
    ("force_words_ids", Off::Absent),
    ("forced_decoder_ids", Off::Absent),
    ("dola_layers", Off::Absent),
    ("token_healing", Off::False),
    ("use_mtp", Off::False),
    ("is_assistant", Off::False),
    ("prompt_lookup_num_tokens", Off::Absent),
    ("assistant_early_exit", Off::Absent),
    ("max_time", Off::Absent),
];

/// An error if a feature that is not supported is on; `source` gives the configuration that a
/// field is read from.
pub(super) fn refuse_unsupported<'a>(source: impl Fn(&'static str) -> &'a Config) -> Result<()> {
    for (field, off) in &UNSUPPORTED {
        let config = source(field);
        let Some(value) = config.get(field) else { continue };
        let (is_off, expected) = match off {
            Off::At(at) => (value.as_f64() == Some(*at), at.to_string()),
            Off::False => (value == &Value::Bool(false), "false".to_owned()),
            Off::Absent => (is_empty(value), "nothing".to_owned()),
        };
        if !is_off {
            let expected = format!("{expected}, because this feature is not supported");
            return Err(config.error(field, show(value), expected));
        }
    }
    // The one kind of cache that changes what is computed.
    let (config, field) = (source("cache_implementation"), "cache_implementation");
    if config.opt_str(field)? == Some("quantized") {
        let expected = "another cache, because a quantised one is not supported";
        return Err(config.error(field, "`quantized`", expected));
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A notice that names the keys which are neither `asked` for nor known to have no effect.
pub(super) fn unknown(config: &Config, asked: impl Fn(&str) -> bool) -> Option<String> {
    const MOST_NAMED: usize = 8;
    let unknown: Vec<&str> =
        config.keys().filter(|key| !asked(key) && !NO_EFFECT.contains(key)).collect();
    let named: Vec<_> =
        unknown.iter().take(MOST_NAMED).map(|key| format!("`{}`", one_line(key))).collect();
    let more = match unknown.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let path = config.path().display();
    (!unknown.is_empty())
        .then(|| format!("{path}: unknown keys are ignored: {}{more}", named.join(", ")))
}
