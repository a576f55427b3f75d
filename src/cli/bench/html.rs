//! The report as one page without scripts or outside files: bars, and the table.

use super::rows::{HEADER, Outcome, Place, Row, complaints, digits};

const STYLE: &str = "\
:root{color-scheme:light dark;--bar:#2f6fde;--track:#8883}\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0}\
th,td{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:left;white-space:nowrap}\
th:nth-child(n+5),td:nth-child(n+5){text-align:right;font-variant-numeric:tabular-nums}\
.scroll{overflow-x:auto}.bad{color:#c22}\
svg{width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:currentColor}\
.bar{fill:var(--bar)}.track{fill:var(--track)}";

/// Widths of the label, of the longest bar and of the figure beside it.
const LABEL: usize = 420;
const BAR: f64 = 400.0;
const FIGURE: usize = 110;
const LINE: usize = 24;

/// The whole page.
pub(super) fn page(place: &Place, rows: &[Row]) -> String {
    let rate = |row: &Row| match &row.outcome {
        Outcome::Measured { time, cost, .. } => Some(cost.flops / time.median_ns),
        _ => None,
    };
    let fraction = |row: &Row| row.fraction(place).map(|f| f * 100.0);
    let mut body = String::new();
    body += &bars("GFLOP/s", rows, rate, None);
    body += &bars("Share of the roofline, %", rows, fraction, Some(100.0));
    body += &table(place, rows);
    let title = "tilewright bench";
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{}</p>\n{body}\
         <p>Median time of the samples, fastest to slowest as spread. Error: normalised mean \
         squared error against the CPU path. Roofline: the time the measured limits allow over \
         the median.</p>\n</body>\n</html>\n",
        escape(&place.describe(rows))
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
        "<h2>{}</h2>\n<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
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
    let mut out = format!(
        "<div class=\"scroll\"><table>\n<thead>{}</thead>\n<tbody>\n",
        line("th", &HEADER.map(str::to_owned))
    );
    out.extend(rows.iter().filter_map(|row| row.cells(place)).map(|cells| line("td", &cells)));
    out += "</tbody>\n</table></div>\n";
    let complaints = complaints(rows);
    out.extend(complaints.iter().map(|c| format!("<p class=\"bad\">{}</p>\n", escape(c))));
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }

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
            outcome: Outcome::NotRun("the device lacks x & y".to_owned()),
        };
        let page = page(&place, &[row]);
        assert!(!page.contains("<svg") && page.contains("lacks x &amp; y"));
        assert!(page.contains("a &lt; b"));
    }
}
