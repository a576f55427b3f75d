//! Sizes of the attention of well-known models, from their published configurations.

/// A model whose attention is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Preset {
    #[value(name = "bert-base")]
    BertBase,
    #[value(name = "bert-large")]
    BertLarge,
    /// Layers that see a window to both sides
    #[value(name = "modernbert-base")]
    ModernBertBase,
    #[value(name = "gpt2")]
    Gpt2,
    #[value(name = "llama-3-8b")]
    Llama38b,
    #[value(name = "mistral-7b")]
    Mistral7b,
    #[value(name = "qwen3-0.6b")]
    Qwen306b,
    /// Layers with a window
    #[value(name = "gemma-2-9b")]
    Gemma29b,
    /// Layers with a window
    #[value(name = "gemma-3-4b")]
    Gemma34b,
    /// The encoder
    #[value(name = "t5-base")]
    T5Base,
    /// The encoder
    #[value(name = "whisper-small")]
    WhisperSmall,
    /// The encoder
    #[value(name = "whisper-large-v3")]
    WhisperLargeV3,
}

/// What is added to the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Bias {
    #[default]
    None,
    /// One value per head, query and key
    Tensor,
    /// T5's table of relative distances
    T5,
}

/// One model's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spec {
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub causal: bool,
    pub window: Option<usize>,
    pub softcap: Option<f32>,
    pub bias: Bias,
    /// `None` stands for `1 / sqrt(dim)`.
    pub scale: Option<f32>,
}

impl Preset {
    /// Its sizes.
    pub fn spec(self) -> Spec {
        let encoder = |heads, dim| Spec {
            heads,
            kv_heads: heads,
            dim,
            causal: false,
            window: None,
            softcap: None,
            bias: Bias::None,
            scale: None,
        };
        let decoder = |heads, kv_heads, dim| Spec { kv_heads, causal: true, ..encoder(heads, dim) };
        match self {
            Self::BertBase | Self::WhisperSmall => encoder(12, 64),
            Self::BertLarge => encoder(16, 64),
            // 64 tokens to each side, the token itself besides.
            Self::ModernBertBase => Spec { window: Some(65), ..encoder(12, 64) },
            Self::Gpt2 => decoder(12, 12, 64),
            Self::Llama38b => decoder(32, 8, 128),
            Self::Mistral7b => Spec { window: Some(4096), ..decoder(32, 8, 128) },
            Self::Qwen306b => decoder(16, 8, 128),
            Self::Gemma29b => {
                Spec { window: Some(4096), softcap: Some(50.0), ..decoder(16, 8, 256) }
            }
            Self::Gemma34b => Spec { window: Some(1024), ..decoder(8, 4, 256) },
            // T5 does not scale its scores.
            Self::T5Base => Spec { bias: Bias::T5, scale: Some(1.0), ..encoder(12, 64) },
            Self::WhisperLargeV3 => encoder(20, 64),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_preset_is_an_attention_that_the_op_takes() {
        for preset in Preset::value_variants() {
            let spec = preset.spec();
            assert!(spec.heads.is_multiple_of(spec.kv_heads), "{preset:?}");
            assert!((1..=256).contains(&spec.dim), "{preset:?}");
        }
    }
}
