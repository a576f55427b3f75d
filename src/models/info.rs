//! What callers need to know of a model to feed it and to read its results.

use crate::error::Result;
use crate::weights::Config;

/// Which stacks a model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every token sees every other (BERT).
    Encoder,
    /// Every token sees those before it (GPT).
    Decoder,
    /// A decoder that also attends to an encoder's result (T5).
    EncoderDecoder,
}

/// What a model's head computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No head: hidden states.
    Base,
    /// The same of an encoder-decoder's encoder alone.
    Encoder,
    /// `logits` [batch, tokens, vocabulary] for masked tokens.
    MaskedLm,
    /// `logits` [batch, labels] of a text.
    SequenceClassification,
    /// `logits` [batch, tokens, labels] of its tokens.
    TokenClassification,
    /// `start_logits` and `end_logits` [batch, tokens] of an answer.
    QuestionAnswering,
    /// `logits` [batch, tokens]: whether a token was replaced (ELECTRA's discriminator).
    TokenDetection,
    /// BERT's two objectives at once: `prediction_logits` [batch, tokens, vocabulary] for masked
    /// tokens, and `seq_relationship_logits` [batch, 2], whether a text follows another.
    PreTraining,
    /// `logits` [batch, tokens, vocabulary] of the next token.
    CausalLm,
    /// The same behind an encoder.
    Seq2SeqLm,
}

/// Endings of class names in `architectures`, the longer ones first.
const CLASSES: &[(&str, Class)] = &[
    ("ForMaskedLM", Class::MaskedLm),
    ("ForSequenceClassification", Class::SequenceClassification),
    ("ForTokenClassification", Class::TokenClassification),
    ("ForQuestionAnswering", Class::QuestionAnswering),
    ("ForPreTraining", Class::TokenDetection),
    ("ForPreTraining", Class::PreTraining),
    ("ForConditionalGeneration", Class::Seq2SeqLm),
    ("EncoderDecoderModel", Class::Seq2SeqLm),
    ("MTModel", Class::Seq2SeqLm),
    ("VaswaniTransformer", Class::Seq2SeqLm),
    // Of old T5 files.
    ("WithLMHeadModel", Class::Seq2SeqLm),
    ("ForCausalLM", Class::CausalLm),
    ("LMHeadModel", Class::CausalLm),
    ("EncoderModel", Class::Encoder),
    ("Model", Class::Base),
];

impl Class {
    /// The class that `architectures` names, if it is among those a family supports; the first
    /// of those when the config names none. Errors list what is supported.
    pub fn of(config: &Config, supported: &[Self]) -> Result<Self> {
        let names = config.architectures()?;
        let Some(name) = names.first().copied() else {
            return Ok(supported.first().copied().unwrap_or(Self::Base));
        };
        let ending = CLASSES.iter().map(|(ending, _)| ending).find(|e| name.ends_with(*e));
        let mut classes = CLASSES.iter().filter(|(e, _)| Some(e) == ending).map(|(_, c)| *c);
        classes.find(|c| supported.contains(c)).ok_or_else(|| {
            let known = CLASSES.iter().filter(|(_, c)| supported.contains(c));
            let known: Vec<_> = known.map(|(ending, _)| format!("*{ending}")).collect();
            config.error("architectures", format!("`{name}`"), known.join(", "))
        })
    }
}

/// The decoder of an encoder-decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderInfo {
    /// Its token ids must be below this.
    pub vocab_size: usize,
    /// Its longest input in tokens.
    pub max_tokens: usize,
}

/// Sizes and ids that callers need to feed a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// `model_type` of `config.json`.
    pub model_type: String,
    /// Which stacks it has.
    pub kind: Kind,
    /// What its head computes.
    pub class: Class,
    /// Token ids must be below this.
    pub vocab_size: usize,
    /// Longest input in tokens; [`UNLIMITED`] where positions are relative.
    pub max_tokens: usize,
    /// Segment ids must be below this; 0 where the model takes none.
    pub type_vocab_size: usize,
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// The decoder behind an encoder.
    pub decoder: Option<DecoderInfo>,
    /// Names of the labels of a classification head, by index.
    pub labels: Vec<String>,
}

/// The length of inputs to models that have no limit of their own: beyond it lie typing errors.
pub const UNLIMITED: usize = 1 << 24;

impl ModelInfo {
    /// Vocabulary of what the model generates.
    pub fn output_vocab_size(&self) -> usize {
        self.decoder.map_or(self.vocab_size, |d| d.vocab_size)
    }

    /// Most tokens, prompt included, of what it generates.
    pub fn max_output_tokens(&self) -> usize {
        self.decoder.map_or(self.max_tokens, |d| d.max_tokens)
    }
}

/// Label names from `id2label`, or `LABEL_0`, … of `num_labels` (2 when neither is given, as in
/// Hugging Face's configurations). Errors when ids are not 0, 1, 2, ….
pub fn labels(config: &Config) -> Result<Vec<String>> {
    let Some(value) = config.get("id2label") else {
        let count = config.usize_or("num_labels", 2, 1..=1 << 20)?;
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    let expected = "an object from \"0\", \"1\", … to label names";
    let wrong = || config.error("id2label", crate::files::show(value), expected);
    let map = value.as_object().filter(|m| !m.is_empty()).ok_or_else(wrong)?;
    (0..map.len())
        .map(|i| {
            let name = map.get(&i.to_string()).and_then(serde_json::Value::as_str);
            name.map(str::to_owned).ok_or_else(wrong)
        })
        .collect()
}
