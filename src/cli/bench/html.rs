//! The report as one page without scripts or outside files: plots, bars, and the table.

use super::plot::{Axis, Limit, Plot, Scale, Series, escape};
use super::rows::{Columns, Outcome, Place, Row, Unit, complaints, digits, span};

const STYLE: &str = "\
:root{color-scheme:light dark;--track:#8883;--grid:#8884;--limit:#777;\
--c0:#2a6fdb;--c1:#d9480f;--c2:#2b8a3e;--c3:#9c36b5;--c4:#c2255c;--c5:#0b7285;--c6:#846200;--c7:#495057}\
@media(prefers-color-scheme:dark){:root{--limit:#999;\
--c0:#74a9ff;--c1:#ff9057;--c2:#69db7c;--c3:#da77f2;--c4:#ff7aa8;--c5:#3bc9db;--c6:#e0b040;--c7:#adb5bd}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}\
h2{font-size:1.1rem;margin:1.5rem 0 .3rem}figure{margin:0;max-width:44rem}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(34rem,100%),1fr));gap:0 2rem}\
table{border-collapse:collapse;margin:1rem 0}\
th,td{padding:.25rem .5rem;border-bottom:1px solid #8884;text-align:left;white-space:nowrap}\
th:nth-child(n+5),td:nth-child(n+5){text-align:right;font-variant-numeric:tabular-nums}\
.scroll{overflow-x:auto}.bad{color:#c22}\
svg{width:100%;height:auto}svg text{font:14px system-ui,sans-serif;fill:currentColor}\
.bars{max-width:60rem}.bar{fill:var(--c0)}.track{fill:var(--track)}\
.grid{stroke:var(--grid)}.limit{stroke:var(--limit);stroke-width:2}\
.curve{fill:none;stroke:currentColor;stroke-width:2}.curve.dash{stroke-dasharray:6 4}\
.dot{fill:currentColor}.dot.dash{fill:none;stroke:currentColor;stroke-width:2}\
.key{list-style:none;margin:0;padding:0 0 0 3rem;font-size:13px;display:flex;flex-wrap:wrap;gap:0 1.2rem}\
.swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:50%;margin-right:.4rem;\
border:2px solid currentColor;background:currentColor;box-sizing:border-box;vertical-align:-1px}\
.swatch.dash{background:none}\
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}\
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}";

/// Widths of the label, of the longest bar and of the figure beside it.
const LABEL: usize = 420;
const BAR: f64 = 400.0;
const FIGURE: usize = 110;
const LINE: usize = 24;

/// The whole page.
pub(super) fn page(place: &Place, rows: &[Row]) -> String {
    let unit = Unit::rate(rows);
    let rate = |row: &Row| row.gflops().map(|rate| unit.convert(rate));
    let fraction = |row: &Row| row.fraction(place).map(|f| f * 100.0);
    let mut body = String::from("<div class=\"plots\">\n");
    body += &against_length(rows, "Time", Scale::LogTime, |row| Some(measured(row)?.0));
    body += &against_length(rows, unit.name, Scale::Linear, rate);
    if rows.iter().any(needs_memory) {
        body += &against_length(rows, "Memory", Scale::LogBytes, |row| Some(measured(row)?.1));
    }
    body += &roofline(place, rows, unit);
    body += "</div>\n";
    body += &bars(unit.name, rows, rate, None);
    body += &bars("Share of the roofline, %", rows, fraction, Some(100.0));
    body += &table(place, rows);
    body += &again(rows);
    let title = "tilewright bench";
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n{body}\
         <p>Median time of the samples, fastest to slowest as spread. Error: normalised mean \
         squared error against the CPU path. Roofline: the time the measured limits allow over \
         the median. Memory: operands, results and what the variant needs besides.</p>\n\
         </body>\n</html>\n",
        escape(&place.describe(rows))
    )
}

/// Nanoseconds and bytes of a measured row.
fn measured(row: &Row) -> Option<(f64, f64)> {
    let Outcome::Measured { time, cost, extra, .. } = &row.outcome else { return None };
    Some((time.median_ns, cost.bytes + extra.unwrap_or(0) as f64))
}

fn needs_memory(row: &Row) -> bool {
    matches!(row.outcome, Outcome::Measured { extra: Some(1..), .. })
}

/// Rows grouped by a name, in the order in which the names appear.
fn grouped(rows: &[Row], name: impl Fn(&Row) -> Option<String>) -> Vec<(String, Vec<&Row>)> {
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let Some(name) = name(row) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups
}

fn told(row: &Row) -> String {
    let time = measured(row).map_or_else(String::new, |(ns, _)| format!(": {}", span(ns)));
    format!("{} {} {}{time}", row.variant, row.shape, row.dtype)
}

/// A curve per variant and attention, where rows have a length.
fn against_length(
    rows: &[Row],
    name: &str,
    scale: Scale,
    value: impl Fn(&Row) -> Option<f64>,
) -> String {
    let name_of = |row: &Row| Some(format!("{} {}", row.variant, row.curve.as_ref()?.name));
    let series = grouped(rows, name_of).into_iter().map(|(name, rows)| {
        let point = |row: &&Row| Some((row.curve.as_ref()?.length as f64, value(row)?, told(row)));
        let mut points: Vec<_> = rows.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series { name, points, joined: true }
    });
    let plot = Plot {
        title: format!("{name} against length"),
        x: Axis { name: "tokens".to_owned(), scale: Scale::LogTokens },
        y: Axis { name: name.to_owned(), scale },
        series: series.filter(|series| !series.points.is_empty()).collect(),
        limits: Vec::new(),
    };
    plot.html()
}

/// Every measured row by operations per byte, under what copying and arithmetic allow.
fn roofline(place: &Place, rows: &[Row], unit: Unit) -> String {
    let point = |row: &&Row| match &row.outcome {
        Outcome::Measured { cost, .. } if cost.bytes > 0.0 && cost.flops > 0.0 => {
            Some((cost.flops / cost.bytes, unit.convert(row.gflops()?), told(row)))
        }
        _ => None,
    };
    let name = |row: &Row| Some(format!("{} {} {}", row.op, row.variant, row.dtype));
    let series = grouped(rows, name);
    let series: Vec<_> = series
        .into_iter()
        .map(|(name, rows)| Series {
            name,
            points: rows.iter().filter_map(point).collect(),
            joined: false,
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let limits = place.roofline.map_or_else(Vec::new, |limits| {
        let (peak, copy) = (limits.flops_per_s / 1e9, limits.bytes_per_s / 1e9);
        let ridge = peak / copy;
        let xs = || series.iter().flat_map(|series| series.points.iter().map(|p| p.0));
        let first = xs().fold(ridge, f64::min) / 2.0;
        let last = xs().fold(ridge, f64::max) * 2.0;
        let convert = |rate: f64| unit.convert(rate);
        let copy_name = format!("copy {} GB/s", digits(copy));
        let peak_name = format!("f32 peak {} {}", digits(convert(peak)), unit.name);
        let rising = [(first, convert(first * copy)), (ridge, convert(peak))];
        let level = [(ridge, convert(peak)), (last, convert(peak))];
        vec![Limit { name: copy_name, ends: rising }, Limit { name: peak_name, ends: level }]
    });
    let plot = Plot {
        title: "Roofline".to_owned(),
        x: Axis { name: "FLOP per byte that must be moved".to_owned(), scale: Scale::Log },
        y: Axis { name: unit.name.to_owned(), scale: Scale::Log },
        series,
        limits,
    };
    plot.html()
}

/// The command lines that repeat the rows.
fn again(rows: &[Row]) -> String {
    let lines: Vec<_> = rows.iter().filter(|row| measured(row).is_some()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = lines.iter().map(|row| escape(&row.repeat)).collect();
    let lines = lines.join("\n");
    format!(
        "<details><summary>Command lines that repeat each row</summary><pre class=\"scroll\">{lines}</pre></details>\n"
    )
}

/// A bar per measured row, as wide as its value against `full`, or against the largest.
fn bars(
    title: &str,
    rows: &[Row],
    value: impl Fn(&Row) -> Option<f64>,
    full: Option<f64>,
) -> String {
    let values: Vec<_> = rows.iter().filter_map(|row| Some((row, value(row)?))).collect();
    if values.is_empty() {
        return String::new();
    }
    let largest = values.iter().map(|(_, v)| *v).fold(full.unwrap_or(0.0), f64::max);
    let (width, height) = (LABEL + BAR as usize + FIGURE, values.len() * LINE);
    let mut svg = format!(
        "<h2>{}</h2>\n<svg class=\"bars\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title),
        escape(title)
    );
    for (i, (row, value)) in values.iter().enumerate() {
        let long = if largest > 0.0 { value / largest * BAR } else { 0.0 };
        let (top, base) = (i * LINE + 4, i * LINE + 17);
        svg += &format!(
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect class=\"track\" x=\"{LABEL}\" y=\"{top}\" width=\"{BAR}\" height=\"16\"/>\
             <rect class=\"bar\" x=\"{LABEL}\" y=\"{top}\" width=\"{long:.1}\" height=\"16\"/>\
             <text x=\"{}\" y=\"{base}\">{}</text>\n",
            LABEL - 8,
            escape(&format!("{} {} {}", row.variant, row.shape, row.dtype)),
            LABEL + BAR as usize + 8,
            digits(*value)
        );
    }
    svg + "</svg>\n"
}

fn table(place: &Place, rows: &[Row]) -> String {
    let line = |tag: &str, cells: &[String]| {
        let cells = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let columns = Columns::new(place, rows);
    let header: Vec<_> = columns.header().into_iter().map(str::to_owned).collect();
    let mut out =
        format!("<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>\n", line("th", &header));
    out.extend(rows.iter().filter_map(|row| columns.cells(row)).map(|cells| line("td", &cells)));
    out += "</tbody>\n</table></div>\n";
    let complaints = complaints(rows);
    out.extend(complaints.iter().map(|c| format!("<p class=\"bad\">{}</p>\n", escape(c))));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_measured_rows_has_no_bars() {
        let place =
            Place { device: "a < b".to_owned(), driver: "driver".to_owned(), roofline: None };
        let row = Row {
            op: "matmul".to_owned(),
            variant: "v".to_owned(),
            pick: false,
            shape: "1x1x1".to_owned(),
            dtype: "f32".to_owned(),
            repeat: "tilewright bench matmul".to_owned(),
            curve: None,
            start: None,
            outcome: Outcome::NotRun("the device lacks x & y".to_owned()),
        };
        let page = page(&place, &[row]);
        assert!(!page.contains("<svg") && page.contains("lacks x &amp; y"));
        assert!(page.contains("a &lt; b"));
    }
}
