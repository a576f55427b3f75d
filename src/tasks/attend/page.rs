//! The page that shows attention: one file that needs no network.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Attended, Text};
use crate::engine::{AttentionMap, Stack};
use crate::models::Kind;

/// Weights are written in whole parts of this: a tenth of the tenth of a percent that is shown.
const UNIT: f32 = 10_000.0;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Attended {
    /// One self-contained HTML page on which a reader picks layer and head and points at tokens.
    pub fn to_html(&self) -> String {
        let parts = [
            ("<!--style-->\n", STYLE.to_owned()),
            ("<!--data-->", self.data()),
            ("<!--script-->\n", SCRIPT.to_owned()),
        ];
        let (mut page, mut rest) = (String::new(), PAGE);
        for (mark, part) in parts {
            // Each mark stands in the page, in this order; the test below holds that.
            let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
            page += before;
            page += &part;
            rest = after;
        }
        page + rest
    }

    /// What the page's script reads. JSON inside a script element must not end that element.
    fn data(&self) -> String {
        let target = self.target.as_ref().map_or(Value::Null, text);
        let mut out = format!(
            "{{\"model\":{},\"unit\":{UNIT},\"causal\":{},\"input\":{},\"target\":{target},\"maps\":[",
            json!(self.model),
            self.kind == Kind::Decoder,
            text(&self.input)
        );
        for (i, map) in self.maps.iter().enumerate() {
            out += if i == 0 { "" } else { "," };
            let (stack, layer) = (json!(name(map.stack)), json!(map.layer));
            // Writing to a string cannot fail.
            let _ = write!(out, "{{\"stack\":{stack},\"layer\":{layer},\"heads\":[");
            for (head, weights) in heads(map).enumerate() {
                out += if head == 0 { "[" } else { ",[" };
                for (i, weight) in weights.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let _ = write!(out, "{comma}{}", (weight * UNIT).round() as u32);
                }
                out.push(']');
            }
            out += "]}";
        }
        (out + "]}").replace('<', "\\u003c")
    }

    /// Everything as JSON: tokens, and per layer and head rows of weights, one row per query.
    pub fn to_json(&self) -> Value {
        let rows = |map: &AttentionMap, head: &[f32]| {
            let keys = map.weights.shape().last().max(1);
            head.chunks_exact(keys).map(|row| json!(row)).collect::<Vec<_>>()
        };
        let map = |map: &AttentionMap| {
            let heads: Vec<_> = heads(map).map(|head| rows(map, head)).collect();
            json!({"stack": name(map.stack), "layer": map.layer, "heads": heads})
        };
        json!({
            "text": self.text,
            "model": self.model,
            "input": text(&self.input),
            "target": self.target.as_ref().map(text),
            "maps": self.maps.iter().map(map).collect::<Vec<_>>(),
        })
    }
}

fn name(stack: Stack) -> &'static str {
    match stack {
        Stack::Input => "input",
        Stack::Decoder => "decoder",
        Stack::Cross => "cross",
    }
}

/// The heads of the one text, [queries, keys] each.
fn heads(map: &AttentionMap) -> impl Iterator<Item = &[f32]> {
    let shape = map.weights.shape();
    let each = shape.dims().iter().skip(2).product::<usize>().max(1);
    map.weights.as_f32().unwrap_or_default().chunks_exact(each)
}

fn text(text: &Text) -> Value {
    let token = |t: &super::Token| {
        let mut token = json!({"label": t.label, "id": t.id, "word": t.word});
        if t.special {
            token["special"] = Value::Bool(true);
        }
        token
    };
    let tokens: Vec<_> = text.tokens.iter().map(token).collect();
    json!({"tokens": tokens, "words": text.words})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::tasks::attend::Token;

    fn attended(label: &str) -> Attended {
        let token = Token { label: label.to_owned(), id: 7, word: 0, special: false };
        let input = Text { tokens: vec![token.clone(), token], words: vec![label.to_owned()] };
        let weights =
            Tensor::f32([1, 2, 2, 2], vec![1., 0., 0.25, 0.75, 1., 0., 0.5, 0.5]).unwrap();
        let map = AttentionMap { stack: Stack::Input, layer: "h.0".to_owned(), weights };
        Attended {
            model: "m".to_owned(),
            kind: Kind::Encoder,
            text: label.to_owned(),
            input,
            target: None,
            maps: vec![map],
        }
    }

    #[test]
    fn the_page_holds_style_data_and_script() {
        let page = attended("cat").to_html();
        assert!(!page.contains("<!--"), "a mark was left");
        assert!(page.contains(STYLE) && page.contains(SCRIPT) && page.ends_with("</html>\n"));
        assert!(page.contains("[10000,0,2500,7500],[10000,0,5000,5000]"));
    }

    #[test]
    fn text_cannot_leave_its_script_element() {
        let nasty = "</script><script>alert(1)</script><!--";
        let page = attended(nasty).to_html();
        assert_eq!(page.matches("</script").count(), 2);
        let data = attended(nasty).data();
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(data["input"]["words"][0], nasty);
    }

    #[test]
    fn json_has_a_row_per_query() {
        let json = attended("cat").to_json();
        assert_eq!(json["maps"][0]["heads"][0].to_string(), "[[1.0,0.0],[0.25,0.75]]");
        assert_eq!(json["target"], Value::Null);
    }
}
