//! Who attends to whom: one text through a model, and every head's weights to look at.

mod page;
mod text;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use text::{Text, Token};

use crate::engine::{AttentionMap, Device, attention_maps, by_name, model_inputs};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::graph::{Graph, Progress, fuse};
use crate::models::{self, BuildOptions, Kind, Model, ModelInfo};
use crate::tensor::Tensor;
use crate::text::Tokenizer;
use crate::weights::{Config, GenerationConfig};

/// Shows which token attends to which, in every layer and head of any model.
///
/// ```no_run
/// use tilewright::engine::Device;
/// use tilewright::tasks::Attender;
///
/// let attender = Attender::open("models/bert-base-uncased", Device::cpu(), None)?;
/// let attended = attender.attend("The cat sat because it was tired.", None, None)?;
/// let first = &attended.maps[0];
/// println!("{} {}", first.layer, first.weights.shape());
/// std::fs::write("attention.html", attended.to_html()).expect("a writable folder");
/// # Ok::<(), tilewright::Error>(())
/// ```
pub struct Attender {
    tokenizer: Tokenizer,
    graph: Arc<Graph>,
    device: Device,
    info: ModelInfo,
    /// The decoder's first token, in an encoder-decoder.
    start: Option<u32>,
    name: String,
    notices: Vec<String>,
}

/// One text's attention.
#[derive(Clone, Debug)]
pub struct Attended {
    /// The model, for a title.
    pub model: String,
    /// Which stacks it has.
    pub kind: Kind,
    /// The text, without its pair or target.
    pub text: String,
    /// What `input_ids` were.
    pub input: Text,
    /// What `decoder_input_ids` were, behind an encoder.
    pub target: Option<Text>,
    /// Every attention layer, in the order they run; batch 1.
    pub maps: Vec<AttentionMap>,
}

impl Attender {
    /// Opens a model folder. Weights are read at the first call; `dtype` is their storage, `None`
    /// the file's.
    pub fn open(folder: impl AsRef<Path>, device: Device, dtype: Option<Format>) -> Result<Self> {
        let options = BuildOptions { dtype, ..BuildOptions::default() };
        Self::new(models::open(&folder, &options)?, folder.as_ref(), device)
    }

    /// The same for another folder's head on that model; see [`models::open_head`].
    pub fn open_head(
        folder: impl AsRef<Path>,
        head: impl AsRef<Path>,
        device: Device,
        dtype: Option<Format>,
    ) -> Result<Self> {
        let options = BuildOptions { dtype, ..BuildOptions::default() };
        Self::new(models::open_head(&folder, head, &options)?, folder.as_ref(), device)
    }

    fn new(model: Model, folder: &Path, device: Device) -> Result<Self> {
        let tokenizer = Tokenizer::open(folder)?;
        tokenizer.check_vocab(model.info.vocab_size)?;
        let start = match model.info.kind {
            Kind::EncoderDecoder => {
                let (config, vocab) = (Config::open(folder)?, model.info.output_vocab_size());
                Some(GenerationConfig::open(folder, &config, vocab)?.decoder_start()?)
            }
            Kind::Encoder | Kind::Decoder => None,
        };
        let last = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            tokenizer,
            graph: Arc::new(fuse(model.graph, &[])?),
            device,
            name: last.unwrap_or_else(|| model.info.model_type.clone()),
            info: model.info,
            start,
            notices: model.notices,
        })
    }

    /// Sizes of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Things the user should be told about the model folder.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What is wrong with the weights, one line each; complete after the first call.
    pub fn warnings(&self) -> Vec<String> {
        self.graph.warnings()
    }

    /// The attention over a text, or over a pair of them; an encoder-decoder also reads `target`,
    /// the text that it is made to write.
    ///
    /// Errors: a text of no token, or longer than the model takes; a target for a model that has
    /// no second stack, or none for one that has.
    pub fn attend(&self, text: &str, pair: Option<&str>, target: Option<&str>) -> Result<Attended> {
        self.attend_with(text, pair, target, &mut |_| ControlFlow::Continue(()))
    }

    /// The same with a callback while weights are read, which may stop it.
    pub fn attend_with(
        &self,
        text: &str,
        pair: Option<&str>,
        target: Option<&str>,
        loading: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Attended> {
        let encoding = match pair {
            Some(pair) => self.tokenizer.encode_pair(text, pair, true)?,
            None => self.tokenizer.encode(text, true)?,
        };
        let mut input = Text::default();
        input.extend(&encoding, 0, [text, pair.unwrap_or_default()]);
        let row = |ids: Vec<u32>| Tensor::u32([1, ids.len()], ids);
        let mut inputs = BTreeMap::new();
        inputs.insert("input_ids".to_owned(), row(encoding.ids)?);
        if self.info.type_vocab_size > 0 {
            inputs.insert("token_type_ids".to_owned(), row(encoding.type_ids)?);
        }
        let target = self.target(target)?;
        if let Some(target) = &target {
            let ids = target.tokens.iter().map(|token| token.id).collect();
            inputs.insert("decoder_input_ids".to_owned(), row(ids)?);
        }
        let inputs = model_inputs(&self.info, inputs)?;
        let maps = attention_maps(&self.graph, &self.device, &by_name(&inputs), loading)?;
        if maps.is_empty() {
            return Err(Error::Argument("the model has no attention layers".to_owned()));
        }
        let (model, text) = (self.name.clone(), text.to_owned());
        Ok(Attended { model, kind: self.info.kind, text, input, target, maps })
    }

    /// What the decoder reads: its start token, then the target without its end, once.
    fn target(&self, target: Option<&str>) -> Result<Option<Text>> {
        let (start, target) = match (self.start, target) {
            (None, None) => return Ok(None),
            (Some(start), Some(target)) => (start, target),
            (None, Some(_)) => {
                let message = format!(
                    "a target is for encoder-decoders; `{}` has one stack, which reads the text",
                    self.info.model_type
                );
                return Err(Error::Argument(message));
            }
            (Some(_), None) => {
                let message = format!(
                    "`{}` is an encoder-decoder: it also needs a target, the text it is to write",
                    self.info.model_type
                );
                return Err(Error::Argument(message));
            }
        };
        let mut encoding = self.tokenizer.encode(target, true)?;
        let spelling = self.tokenizer.token(start).unwrap_or_else(|| start.to_string());
        let mut text = Text::default();
        text.push_special(spelling, start);
        // The last token is written, not read.
        let keep = encoding.len().saturating_sub(1);
        encoding.ids.truncate(keep);
        let first = usize::from(encoding.ids.first() == Some(&start));
        text.extend(&encoding, first, [target, ""]);
        Ok(Some(text))
    }
}
