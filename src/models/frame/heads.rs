//! Heads on an encoder's hidden states: what each model class gives out, under each family's
//! tensor names.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::info::{Class, labels};
use crate::nn::{Norm, Parameters, add, linear};
use crate::ops::{Activate, Activation, Column, Matmul, Pool};
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
    pub parameters: &'a Parameters,
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

    /// Adds what `class` gives out.
    pub fn outputs(&self, graph: &mut Graph, class: Class, trunk: &Trunk<'_>) -> Result<()> {
        let none = || trunk.config.error("architectures", "a head", "one that the family has");
        let logits = match class {
            Class::TokenDetection => trunk.detector(graph, self.detector.ok_or_else(none)?)?,
            Class::PreTraining => {
                let predictions = trunk.masked_lm(graph, &self.masked_lm)?;
                graph.output("prediction_logits", predictions);
                let pooled = trunk.first(graph, self.classifier.dense, Activation::Tanh)?;
                let follows =
                    trunk.next_sentence(graph, self.next_sentence.ok_or_else(none)?, pooled)?;
                graph.output("seq_relationship_logits", follows);
                return Ok(());
            }
            Class::MaskedLm => trunk.masked_lm(graph, &self.masked_lm)?,
            Class::SequenceClassification => {
                let h = trunk.first(graph, self.classifier.dense, self.classifier.activation)?;
                trunk.labelled(graph, self.classifier.out, h)?
            }
            Class::TokenClassification => trunk.labelled(graph, "classifier", trunk.last)?,
            Class::QuestionAnswering => return trunk.question_answering(graph),
            _ => {
                graph.output("last_hidden_state", trunk.last);
                if let Some(pooler) = self.pooler.filter(|p| trunk.has(p)) {
                    let pooled = trunk.first(graph, pooler, Activation::Tanh)?;
                    graph.output("pooler_output", pooled);
                }
                return Ok(());
            }
        };
        graph.output("logits", logits);
        Ok(())
    }
}

/// The layer a head's nodes stand in: its tensor's name without the last part, if it has several.
fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

impl Trunk<'_> {
    fn has(&self, name: &str) -> bool {
        self.parameters.contains(&format!("{name}.weight"))
    }

    /// `act(W h[0] + b)`, of the first token.
    fn first(&self, graph: &mut Graph, dense: &str, activation: Activation) -> Result<Value> {
        graph.enter(layer_of(dense));
        let (width, p) = (self.norm.width, self.parameters);
        let first = graph.apply(Pool::Cls, [Some(self.last), None])?;
        let h = linear(graph, p, dense, first, width, width)?;
        let h = graph.apply(Activate { activation }, [Some(h)])?;
        graph.leave();
        Ok(h)
    }

    /// One logit per label of the configuration.
    fn labelled(&self, graph: &mut Graph, name: &str, h: Value) -> Result<Value> {
        graph.enter(layer_of(name));
        let count = labels(self.config)?.len();
        let logits = linear(graph, self.parameters, name, h, self.norm.width, count)?;
        graph.leave();
        Ok(logits)
    }

    /// `start_logits` and `end_logits` [batch, tokens]: the columns of one projection.
    fn question_answering(&self, graph: &mut Graph) -> Result<()> {
        let name = "qa_outputs";
        graph.enter(name);
        let both = linear(graph, self.parameters, name, self.last, self.norm.width, 2)?;
        for (column, output) in ["start_logits", "end_logits"].into_iter().enumerate() {
            let logits = graph.apply(Column { column }, [Some(both)])?;
            graph.output(output, logits);
        }
        graph.leave();
        Ok(())
    }

    /// One logit per token: whether it was replaced.
    fn detector(&self, graph: &mut Graph, [dense, out]: [&str; 2]) -> Result<Value> {
        graph.enter(layer_of(dense));
        let (width, p) = (self.norm.width, self.parameters);
        let h = linear(graph, p, dense, self.last, width, width)?;
        let h = graph.apply(Activate { activation: self.activation }, [Some(h)])?;
        let one = linear(graph, p, out, h, width, 1)?;
        let logits = graph.apply(Column { column: 0 }, [Some(one)])?;
        graph.leave();
        Ok(logits)
    }

    /// Two logits of the pooled text: whether its second part follows the first.
    fn next_sentence(&self, graph: &mut Graph, name: &str, pooled: Value) -> Result<Value> {
        graph.enter(layer_of(name));
        let logits = linear(graph, self.parameters, name, pooled, self.norm.width, 2)?;
        graph.leave();
        Ok(logits)
    }

    /// `logits` [.., vocabulary].
    pub fn masked_lm(&self, graph: &mut Graph, names: &MaskedLm) -> Result<Value> {
        graph.enter(layer_of(names.dense));
        let (p, inner) = (self.parameters, self.word_width);
        let h = linear(graph, p, names.dense, self.last, self.norm.width, inner)?;
        let h = graph.apply(Activate { activation: names.activation }, [Some(h)])?;
        let norm = Norm { width: inner, ..self.norm };
        let h = norm.apply(graph, p, names.norm, h)?;
        let own = format!("{}.weight", names.decoder);
        let table = graph.weight(p.output(&own, &[self.vocab_size, inner])?);
        let y = graph.apply(Matmul::linear(), [Some(h), Some(table), None, None])?;
        // A checkpoint may have both; the projection's own is the one that counts.
        let own = format!("{}.bias", names.decoder);
        let bias = if p.contains(&own) { &own } else { names.bias };
        let bias = graph.weight(p.vector(bias, &[self.vocab_size])?);
        let logits = add(graph, y, bias)?;
        graph.leave();
        Ok(logits)
    }
}
