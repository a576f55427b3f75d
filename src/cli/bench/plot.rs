//! Plots as inline SVG, readable on light and dark pages: colours are the page's variables.

use super::rows::{digits, memory};

/// Size of a plot, and the room for labels around its inside.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 50.0;
/// Colours before they repeat, with dashes.
const COLOURS: usize = 8;
/// Most ticks of an axis.
const TICKS: usize = 9;

/// How values stand on an axis, and what its ticks say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0, in even steps.
    Linear,
    /// Numbers on a logarithmic axis.
    Log,
    /// Nanoseconds on one.
    LogTime,
    /// Bytes on one.
    LogBytes,
    /// Tokens on one, which are mostly powers of 2.
    LogTokens,
}

/// One axis.
pub(super) struct Axis {
    pub name: String,
    pub scale: Scale,
}

/// Points that belong together.
pub(super) struct Series {
    pub name: String,
    /// Place, and what a pointer at it is told.
    pub points: Vec<(f64, f64, String)>,
    /// Whether they are joined.
    pub joined: bool,
}

/// A line that nothing should cross, by its ends.
pub(super) struct Limit {
    pub name: String,
    pub ends: [(f64, f64); 2],
}

/// A figure with its key.
pub(super) struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub limits: Vec<Limit>,
}

/// An axis with its range.
struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// Holds every value, with a little room on a logarithmic axis.
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if scale == Scale::Linear {
            return Self { scale, low: 0.0, high: if high > 0.0 { high * 1.08 } else { 1.0 } };
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        Self { scale, low: low / 1.25, high: high * 1.25 }
    }

    /// 0 at the low end, 1 at the high one.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.high,
            _ => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = match self.scale {
            Scale::Linear => self.even(),
            Scale::Log | Scale::LogTime => self.decades(),
            Scale::LogBytes | Scale::LogTokens => self.powers_of_2(),
        };
        ticks.retain(|t| (self.low..=self.high).contains(t));
        let every = ticks.len().div_ceil(TICKS).max(1);
        ticks.into_iter().step_by(every).collect()
    }

    fn even(&self) -> Vec<f64> {
        let rough = self.high / 6.0;
        let decade = 10f64.powi(rough.log10().floor() as i32);
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|s| s * decade >= rough);
        let step = step.unwrap_or(10.0) * decade;
        (0..TICKS).map(|i| i as f64 * step).collect()
    }

    /// 1, 2 and 5 of each decade, or powers of 10 alone where those are many.
    fn decades(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let steps: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decade = |e: i32| if e < 0 { 1.0 / 10f64.powi(-e) } else { 10f64.powi(e) };
        (first..=last).flat_map(|e| steps.iter().map(move |s| s * decade(e))).collect()
    }

    fn powers_of_2(&self) -> Vec<f64> {
        let (first, last) = (self.low.log2().floor() as i32, self.high.log2().ceil() as i32);
        (first..=last).map(|e| 2f64.powi(e)).collect()
    }

    fn label(&self, value: f64) -> String {
        match self.scale {
            Scale::LogBytes => memory(value as u64),
            Scale::LogTime => {
                let (scale, unit) = match value {
                    1e9.. => (1e9, "s"),
                    1e6.. => (1e6, "ms"),
                    1e3.. => (1e3, "µs"),
                    _ => (1.0, "ns"),
                };
                format!("{} {unit}", value / scale)
            }
            // Steps are short decimals; what multiplication left behind them is dropped.
            Scale::Linear => digits(value).trim_end_matches('0').trim_end_matches('.').to_owned(),
            Scale::Log | Scale::LogTokens => value.to_string(),
        }
    }
}

impl Plot {
    /// The figure; empty where there is nothing to show.
    pub fn html(&self) -> String {
        if self.series.iter().all(|series| series.points.is_empty()) {
            return String::new();
        }
        let places = || self.series.iter().flat_map(|series| &series.points);
        let ends = || self.limits.iter().flat_map(|limit| limit.ends);
        let xs = places().map(|p| p.0).chain(ends().map(|e| e.0));
        let ys = places().map(|p| p.1).chain(ends().map(|e| e.1));
        let (x, y) = (Range::of(self.x.scale, xs), Range::of(self.y.scale, ys));
        let at = |(px, py): (f64, f64)| {
            let inside = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
            (LEFT + x.share(px) * inside.0, HEIGHT - BOTTOM - y.share(py) * inside.1)
        };
        let title = escape(&self.title);
        let mut svg = format!(
            "<figure><h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\">\n"
        );
        svg += &self.axes(&x, &y, &at);
        for limit in &self.limits {
            let [(x1, y1), (x2, y2)] = limit.ends.map(at);
            // A rising line is named at its middle, a level one at its right end.
            let (tx, ty, anchor) = match limit.ends[0].1 == limit.ends[1].1 {
                true => (x2 - 4.0, y2 + 16.0, "end"),
                false => ((x1 + x2) / 2.0 + 10.0, (y1 + y2) / 2.0 + 12.0, "start"),
            };
            svg += &format!(
                "<line class=\"limit\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" \
                 y2=\"{y2:.1}\"/><text x=\"{tx:.1}\" y=\"{ty:.1}\" text-anchor=\"{anchor}\">\
                 {}</text>\n",
                escape(&limit.name)
            );
        }
        let mut key = String::new();
        for (i, series) in self.series.iter().enumerate() {
            let class = format!("c{}{}", i % COLOURS, if i >= COLOURS { " dash" } else { "" });
            if series.joined {
                let points = series.points.iter().map(|p| at((p.0, p.1)));
                let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                svg += &format!(
                    "<polyline class=\"curve {class}\" points=\"{}\"/>\n",
                    points.join(" ")
                );
            }
            for (px, py, told) in &series.points {
                let (cx, cy) = at((*px, *py));
                svg += &format!(
                    "<circle class=\"dot {class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\">\
                     <title>{}</title></circle>\n",
                    escape(told)
                );
            }
            key += &format!("<li><i class=\"swatch {class}\"></i>{}</li>\n", escape(&series.name));
        }
        format!("{svg}</svg>\n<ul class=\"key\">\n{key}</ul></figure>\n")
    }

    fn axes(&self, x: &Range, y: &Range, at: &dyn Fn((f64, f64)) -> (f64, f64)) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut svg = String::new();
        for tick in x.ticks() {
            let (px, _) = at((tick, y.low));
            svg += &format!(
                "<line class=\"grid\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{px:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 18.0,
                escape(&x.label(tick))
            );
        }
        for tick in y.ticks() {
            let (_, py) = at((x.low.max(f64::MIN_POSITIVE), tick));
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{py:.1}\" x2=\"{right}\" y2=\"{py:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                py + 4.0,
                escape(&y.label(tick))
            );
        }
        let middle = (TOP + bottom) / 2.0;
        svg + &format!(
            "<text class=\"axis\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text class=\"axis\" x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {middle:.1})\">{}</text>\n",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            escape(&self.x.name),
            escape(&self.y.name)
        )
    }
}

/// Text between tags or in an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(scale: Scale, values: &[f64]) -> Range {
        Range::of(scale, values.iter().copied())
    }

    fn labels(range: &Range) -> Vec<String> {
        range.ticks().into_iter().map(|tick| range.label(tick)).collect()
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }

    #[test]
    fn ticks_are_round_numbers_inside_the_range() {
        assert_eq!(labels(&range(Scale::Linear, &[3.0, 60.0])), ["0", "20", "40", "60"]);
        assert_eq!(labels(&range(Scale::Linear, &[0.06])), ["0", "0.02", "0.04", "0.06"]);
        assert_eq!(
            labels(&range(Scale::LogTime, &[2e3, 1e5])),
            ["2 µs", "5 µs", "10 µs", "20 µs", "50 µs", "100 µs"]
        );
        assert_eq!(labels(&range(Scale::LogTokens, &[128.0, 512.0])), ["128", "256", "512"]);
        assert_eq!(
            labels(&range(Scale::Log, &[0.01, 1e3])),
            ["0.01", "0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(labels(&range(Scale::LogBytes, &[1e6, 2e6])), ["1.00 MiB", "2.00 MiB"]);
        assert!(range(Scale::LogTokens, &[1.0, 1e9]).ticks().len() <= TICKS);
    }

    #[test]
    fn ends_of_a_logarithmic_axis_are_equally_far_from_its_middle() {
        let range = range(Scale::Log, &[1.0, 10_000.0]);
        assert!((range.share(100.0) - 0.5).abs() < 1e-12);
        assert!(range.share(1.0) > 0.0 && range.share(10_000.0) < 1.0);
    }

    #[test]
    fn a_plot_without_points_is_nothing() {
        let axis = || Axis { name: "a".to_owned(), scale: Scale::Log };
        let series = Series { name: "s".to_owned(), points: Vec::new(), joined: true };
        let (title, limits) = ("t".to_owned(), Vec::new());
        let plot = Plot { title, x: axis(), y: axis(), series: vec![series], limits };
        assert_eq!(plot.html(), "");
    }
}
