//! Masked language modelling: the likeliest tokens in place of a mask.

use std::ops::ControlFlow;
use std::path::Path;

use super::texts::{
    InputText, Step, TaskOptions, TextModel, go_on, softmax, text_model_accessors, top,
};
use crate::engine::Device;
use crate::error::{Error, Result};
use crate::models::{Class, Outputs};

/// A token in place of a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The token as the vocabulary spells it.
    pub token: String,
    /// Its id.
    pub id: u32,
    /// Its probability.
    pub score: f64,
}

/// One mask of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// Where the mask stands among the text's tokens, special tokens included.
    pub position: usize,
    /// The likeliest tokens, the first one first.
    pub candidates: Vec<Candidate>,
}

/// Fills masks in texts.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::{FillMask, TaskOptions};
///
/// let model = FillMask::open("models/bert-base-uncased", Device::cpu(), &TaskOptions::default())?;
/// let masks = model.fill(&["Paris is the [MASK] of France."], 5)?;
/// for candidate in &masks[0][0].candidates {
///     println!("{} {:.3}", candidate.token, candidate.score);
/// }
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct FillMask {
    model: TextModel,
    mask_id: u32,
    mask: String,
}

impl FillMask {
    /// Opens a model folder with a masked-LM head, or such a head on a trunk.
    pub fn open(folder: impl AsRef<Path>, device: Device, options: &TaskOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let model =
            TextModel::open(folder, device, options, Outputs::MaskedTokens, Class::MaskedLm)?;
        let tokenizer = &model.tokenizer;
        let mask_id = tokenizer.mask_id().ok_or_else(|| {
            Error::file(tokenizer.path(), "has no mask token; a masked LM needs one")
        })?;
        let mask = tokenizer.token(mask_id).unwrap_or_default();
        Ok(Self { model, mask_id, mask })
    }

    text_model_accessors!();

    /// The token that stands for a word to be guessed, such as `[MASK]`.
    pub fn mask(&self) -> &str {
        &self.mask
    }

    /// The `top_k` likeliest tokens for every mask of every text.
    pub fn fill<S: AsRef<str>>(&self, texts: &[S], top_k: usize) -> Result<Vec<Vec<Filled>>> {
        let texts: Vec<_> = texts.iter().map(|t| InputText::from(t.as_ref())).collect();
        self.fill_with(&texts, top_k, &mut go_on)
    }

    /// The same for texts and pairs of texts, with a callback, which may stop it with
    /// [`Error::Cancelled`].
    ///
    /// Errors name a text without a mask, or whose mask lies beyond the most tokens that the
    /// model takes; `top_k` must be at least 1.
    pub fn fill_with(
        &self,
        texts: &[InputText<'_>],
        top_k: usize,
        step: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Filled>>> {
        if top_k == 0 {
            return Err(Error::Argument("0 candidates per mask; at least 1 is needed".to_owned()));
        }
        let (most, mask) = (self.model.max_tokens, &self.mask);
        let encoded = self.model.encode(texts, step, |index, mut encoding| {
            let masks = |ids: &[u32]| ids.iter().filter(|id| **id == self.mask_id).count();
            let number = index + 1;
            let wanted = masks(&encoding.ids);
            if wanted == 0 {
                let message = format!("text {number} holds no mask token `{mask}` to fill");
                return Err(Error::Argument(message));
            }
            encoding.truncate(most)?;
            if masks(&encoding.ids) < wanted {
                let message = format!(
                    "text {number} is cut to the model's {most} tokens, which loses a `{mask}`"
                );
                return Err(Error::Argument(message));
            }
            let at = encoding.ids.iter().enumerate().filter(|(_, id)| **id == self.mask_id);
            let picks: Vec<u32> = at.map(|(i, _)| i as u32).collect();
            Ok((encoding, picks))
        })?;
        let (rows, picks): (Vec<_>, Vec<_>) = encoded.into_iter().unzip();
        let mut out: Vec<Vec<Filled>> = rows.iter().map(|_| Vec::new()).collect();
        self.model.run(&rows, Some(&picks), step, &mut |index, row| {
            let logits = row.get("logits")?.chunks_exact(self.model.info.vocab_size);
            let filled = picks[index].iter().zip(logits).map(|(&position, logits)| Filled {
                position: position as usize,
                candidates: self.candidates(logits, top_k),
            });
            out[index] = filled.collect();
            Ok(())
        })?;
        Ok(out)
    }

    fn candidates(&self, logits: &[f32], top_k: usize) -> Vec<Candidate> {
        let scores = softmax(logits);
        let candidate = |i: usize| Candidate {
            token: self.model.tokenizer.token(i as u32).unwrap_or_default(),
            id: i as u32,
            score: scores[i],
        };
        top(&scores, top_k).into_iter().map(candidate).collect()
    }
}
