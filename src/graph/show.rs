//! Pictures of a graph: Graphviz, JSON, and a self-contained SVG.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::json;

use super::node::{Graph, Node, Value};

/// Runs of consecutive nodes of one layer, in order.
fn layers(graph: &Graph) -> Vec<(&str, Vec<(usize, &Node)>)> {
    let mut out: Vec<(&str, Vec<(usize, &Node)>)> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        match out.last_mut() {
            Some((name, nodes)) if *name == node.layer => nodes.push((i, node)),
            _ => out.push((&node.layer, vec![(i, node)])),
        }
    }
    out
}

/// Result shape and weights of a node, for people.
fn details(graph: &Graph, node: &Node) -> (String, Vec<String>) {
    let shape = node.outputs.first().map(|v| graph.show_meta(graph.meta(*v)));
    let weights = node.inputs.iter().flatten().filter_map(|v| graph.as_weight(*v));
    (shape.unwrap_or_default(), weights.map(|w| w.name().to_owned()).collect())
}

/// Graphviz text, one cluster per layer.
pub fn to_dot(graph: &Graph) -> String {
    let mut out =
        "digraph tilewright {\n  rankdir=TB; node [shape=box, fontname=Helvetica];\n".to_owned();
    let quote = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
    for (name, _, meta) in graph.inputs() {
        let label = format!("{name}\\n{}", graph.show_meta(meta));
        let _ = writeln!(out, "  \"{}\" [shape=oval, label=\"{label}\"];", quote(name));
    }
    for (c, (layer, nodes)) in layers(graph).into_iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{c} {{ label=\"{}\";", quote(layer));
        for (i, node) in nodes {
            let (shape, _) = details(graph, node);
            let _ = writeln!(out, "    n{i} [label=\"{}\\n{shape}\"];", node.op.name());
        }
        out.push_str("  }\n");
    }
    let mut producer = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().for_each(|v| drop(producer.insert(*v, format!("n{i}"))));
    }
    for (name, value, _) in graph.inputs() {
        producer.insert(value, format!("\"{}\"", quote(name)));
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for from in node.inputs.iter().flatten().filter_map(|v| producer.get(v)) {
            let _ = writeln!(out, "  {from} -> n{i};");
        }
    }
    for (name, value) in &graph.outputs {
        if let Some(from) = producer.get(value) {
            let name = quote(name);
            let _ = writeln!(out, "  \"out {name}\" [shape=oval, label=\"{name}\"];");
            let _ = writeln!(out, "  {from} -> \"out {name}\";");
        }
    }
    out.push_str("}\n");
    out
}

/// The graph as one JSON object: `inputs`, `nodes` (with layer, op, attributes, operands,
/// results), `outputs`.
pub fn to_json(graph: &Graph) -> serde_json::Value {
    let input =
        |(name, _, meta): (&str, _, _)| json!({"name": name, "type": graph.show_meta(meta)});
    let node = |(i, node): (usize, &Node)| {
        let operand = |(name, v): (&&str, &Option<Value>)| {
            v.map(|v| json!({"name": name, "value": graph.describe(v)}))
        };
        let operands = node.op.inputs().iter().zip(&node.inputs).filter_map(operand);
        let result = |v: &Value| json!({"value": graph.describe(*v), "type": graph.show_meta(graph.meta(*v))});
        json!({
            "index": i,
            "layer": node.layer,
            "op": node.op.name(),
            "attributes": format!("{:?}", node.op),
            "inputs": operands.collect::<Vec<_>>(),
            "outputs": node.outputs.iter().map(result).collect::<Vec<_>>(),
        })
    };
    let output = |(name, v): &(String, Value)| json!({"name": name, "value": graph.describe(*v)});
    json!({
        "inputs": graph.inputs().map(input).collect::<Vec<_>>(),
        "nodes": graph.nodes.iter().enumerate().map(node).collect::<Vec<_>>(),
        "outputs": graph.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}

const WIDTH: usize = 720;
const ROW: usize = 26;
const PAD: usize = 12;

/// A self-contained SVG: a box per layer, a row per dispatch with its result and weights.
/// Consecutive layers that look the same are drawn once, with their number.
pub fn to_svg(graph: &Graph) -> String {
    let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    /// A layer's name, its nodes, and how many layers in a row look like it.
    type Group<'a> = (String, Vec<(usize, &'a Node)>, usize);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (name, nodes) in layers(graph) {
        let look = |nodes: &[(usize, &Node)]| -> Vec<String> {
            nodes.iter().map(|(_, n)| format!("{:?}{}", n.op, details(graph, n).0)).collect()
        };
        match groups.last_mut() {
            Some((_, first, count)) if look(first) == look(&nodes) => *count += 1,
            _ => groups.push((name.to_owned(), nodes, 1)),
        }
    }
    let mut body = String::new();
    let mut y = PAD;
    let text = |x: usize, y: usize, class: &str, s: &str| {
        format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>\n", escape(s))
    };
    let inputs: Vec<_> =
        graph.inputs().map(|(n, _, m)| format!("{n} {}", graph.show_meta(m))).collect();
    body += &text(PAD, y + 14, "io", &format!("in: {}", inputs.join("   ")));
    y += ROW;
    for (name, nodes, count) in groups {
        let height = nodes.len() * ROW + ROW + 6;
        let _ = writeln!(
            body,
            "<rect x=\"{PAD}\" y=\"{y}\" width=\"{}\" height=\"{height}\" rx=\"8\" class=\"layer\"/>",
            WIDTH - 2 * PAD
        );
        let times = if count > 1 { format!("   x {count}") } else { String::new() };
        body += &text(2 * PAD, y + 18, "name", &format!("{name}{times}"));
        for (row, (_, node)) in nodes.iter().enumerate() {
            let top = y + ROW + row * ROW;
            let (shape, weights) = details(graph, node);
            let _ = writeln!(
                body,
                "<rect x=\"{}\" y=\"{top}\" width=\"132\" height=\"20\" rx=\"4\" class=\"op\"/>",
                2 * PAD
            );
            body += &text(2 * PAD + 8, top + 14, "kernel", node.op.name());
            body += &text(2 * PAD + 144, top + 14, "shape", &shape);
            let short: Vec<_> = weights.iter().map(|w| short_name(w, &node.layer)).collect();
            let mut line = short.join(", ");
            if line.chars().count() > 52 {
                line = line.chars().take(51).chain(['…']).collect();
            }
            body += &text(2 * PAD + 340, top + 14, "weight", &line);
        }
        y += height + PAD;
    }
    let outputs: Vec<_> = graph.outputs.iter().map(|(n, _)| n.as_str()).collect();
    body += &text(PAD, y + 14, "io", &format!("out: {}", outputs.join("   ")));
    y += ROW;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
         height=\"{y}\">\n<style>text{{font:12px Helvetica,Arial,sans-serif;fill:#1d2733}}\
         .name{{font-weight:bold}}.kernel{{fill:#fff}}.weight{{fill:#5b6b7c;font-size:11px}}\
         .io{{fill:#5b6b7c}}.layer{{fill:#f3f6fa;stroke:#c8d2dd}}.op{{fill:#2f6f9f}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// A weight's name without the layer's name before it.
fn short_name(weight: &str, layer: &str) -> String {
    let strip = |w: &str| match w.split_once(layer) {
        Some((_, rest)) if !layer.is_empty() => rest.trim_start_matches('.').to_owned(),
        _ => w.to_owned(),
    };
    weight.split('+').map(strip).collect::<Vec<_>>().join("+")
}
