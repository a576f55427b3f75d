//! Heads on an encoder's hidden states: what each model class gives out, under each family's
//! tensor names.

use crate::error::Result;
use crate::graph::Value;
use crate::models::info::{Class, labels};
use crate::nn::{Norm, Scope};
use crate::ops::{Activation, Column, Pool};
use crate::weights::Config;

/// `act(W h[0] + b)` of the first token, and the projection to one logit per label.
#[derive(Clone, Copy, Debug)]
pub struct Classifier {
    pub dense: &'static str,
    pub activation: Activation,
    pub out: &'static str,
}

/// `LayerNorm(act(W h + b))` and the projection to the vocabulary, whose matrix is the word
/// table unless the checkpoint has one of its own.
#[derive(Clone, Copy, Debug)]
pub struct MaskedLm {
    pub dense: &'static str,
    pub norm: &'static str,
    pub decoder: &'static str,
    /// The projection's bias, in checkpoints where it is not `{decoder}.bias`.
    pub bias: &'static str,
    pub activation: Activation,
}

/// A family's heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Projection behind `pooler_output`, in families that have one.
    pub pooler: Option<&'static str>,
    pub classifier: Classifier,
    pub masked_lm: MaskedLm,
    /// ELECTRA's discriminator: projection, activation, projection to one logit per token.
    pub detector: Option<[&'static str; 2]>,
    /// BERT's projection behind the pooler that tells whether one text follows another.
    pub next_sentence: Option<&'static str>,
}

/// What heads build on.
pub struct Trunk<'a> {
    pub config: &'a Config,
    pub heads: &'a Heads,
    /// Last hidden state f32 [batch, tokens, width].
    pub last: Value,
    /// Norm of the hidden states.
    pub norm: Norm,
    pub activation: Activation,
    /// The word table's rows and width.
    pub vocab_size: usize,
    pub word_width: usize,
}

impl Heads {
    /// The classes these heads serve.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes = vec![
            Class::Base,
            Class::MaskedLm,
            Class::SequenceClassification,
            Class::TokenClassification,
            Class::QuestionAnswering,
        ];
        classes.extend(self.detector.map(|_| Class::TokenDetection));
        classes.extend(self.next_sentence.map(|_| Class::PreTraining));
        classes
    }

    /// The classes among them that predict masked tokens.
    pub fn masked_classes(&self) -> Vec<Class> {
        let more = self.next_sentence.map(|_| Class::PreTraining);
        [Class::MaskedLm].into_iter().chain(more).collect()
    }
}

/// The layer a head's nodes stand in: its tensor's name without the last part, if it has several.
fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

impl Trunk<'_> {
    /// Adds what `class` gives out.
    pub fn outputs(&self, at: &mut Scope, class: Class) -> Result<()> {
        let Heads { classifier, detector, next_sentence, .. } = self.heads;
        let none = || self.config.error("architectures", "a head", "one that the family has");
        let logits = match class {
            Class::TokenDetection => self.detector(at, detector.ok_or_else(none)?)?,
            Class::PreTraining => {
                let predictions = self.masked_lm(at)?;
                at.graph().output("prediction_logits", predictions);
                let pooled = self.first(at, classifier.dense, Activation::Tanh)?;
                let name = next_sentence.ok_or_else(none)?;
                let follows = at.group(layer_of(name), |at| at.linear(name, pooled, 2))?;
                at.graph().output("seq_relationship_logits", follows);
                return Ok(());
            }
            Class::MaskedLm => self.masked_lm(at)?,
            Class::SequenceClassification => {
                let h = self.first(at, classifier.dense, classifier.activation)?;
                self.labelled(at, classifier.out, h)?
            }
            Class::TokenClassification => self.labelled(at, "classifier", self.last)?,
            Class::QuestionAnswering => return self.spans(at, "qa_outputs", self.last),
            _ => return self.hidden(at),
        };
        at.graph().output("logits", logits);
        Ok(())
    }

    /// `last_hidden_state` and, where the checkpoint has a pooler, `pooler_output`.
    fn hidden(&self, at: &mut Scope) -> Result<()> {
        at.graph().output("last_hidden_state", self.last);
        let stored = |name: &&str| at.parameters().contains(&at.name(&format!("{name}.weight")));
        if let Some(pooler) = self.heads.pooler.filter(stored) {
            let pooled = self.first(at, pooler, Activation::Tanh)?;
            at.graph().output("pooler_output", pooled);
        }
        Ok(())
    }

    /// `act(W h[0] + b)`, of the first token.
    fn first(&self, at: &mut Scope, dense: &str, activation: Activation) -> Result<Value> {
        at.group(layer_of(dense), |at| {
            let first = at.apply(Pool::Cls, [Some(self.last), None])?;
            let h = at.linear(dense, first, self.norm.width)?;
            at.activate(activation, h)
        })
    }

    /// One logit per label of the configuration.
    pub fn labelled(&self, at: &mut Scope, name: &str, h: Value) -> Result<Value> {
        let count = labels(self.config)?.len();
        at.group(layer_of(name), |at| at.linear(name, h, count))
    }

    /// `start_logits` and `end_logits` [batch, tokens]: the columns of the projection `name`.
    pub fn spans(&self, at: &mut Scope, name: &str, h: Value) -> Result<()> {
        at.group(name, |at| {
            let both = at.linear(name, h, 2)?;
            for (column, output) in ["start_logits", "end_logits"].into_iter().enumerate() {
                let logits = at.apply(Column { column }, [Some(both)])?;
                at.graph().output(output, logits);
            }
            Ok(())
        })
    }

    /// One logit per token: whether it was replaced.
    fn detector(&self, at: &mut Scope, [dense, out]: [&str; 2]) -> Result<Value> {
        at.group(layer_of(dense), |at| {
            let h = at.linear(dense, self.last, self.norm.width)?;
            let h = at.activate(self.activation, h)?;
            let one = at.linear(out, h, 1)?;
            at.apply(Column { column: 0 }, [Some(one)])
        })
    }

    /// `logits` [.., vocabulary].
    pub fn masked_lm(&self, at: &mut Scope) -> Result<Value> {
        let MaskedLm { dense, norm, decoder, bias, activation } = self.heads.masked_lm;
        at.group(layer_of(dense), |at| {
            let h = at.linear(dense, self.last, self.word_width)?;
            let h = at.activate(activation, h)?;
            let h = at.norm(norm, Norm { width: self.word_width, ..self.norm }, h)?;
            let y = at.output(&format!("{decoder}.weight"), h, self.vocab_size)?;
            // A checkpoint may have both; the projection's own is the one that counts.
            let own = at.name(&format!("{decoder}.bias"));
            let bias = if at.parameters().contains(&own) { own } else { at.name(bias) };
            let bias = at.parameters().vector(&bias, &[self.vocab_size])?;
            let bias = at.weight(bias);
            at.add(y, bias)
        })
    }
}
