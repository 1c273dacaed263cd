//! The report's plots, as SVG.

use std::fmt::Write as _;

use muster_cluster_tests::figures::{Against, Better, Figure, Verdict};

use super::report::{best_peer, number};

/// Sizes in pixels.
const LABELS: f64 = 250.0;
const PLOT: f64 = 420.0;
const NOTES: f64 = 330.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 56.0;
/// Both plots go from a tenth to ten times of what is compared with: a bar that ends there goes on.
const DECADES: f64 = 1.0;

const GOOD: &str = "#3a7d44";
const BAD: &str = "#b23a48";
const INK: &str = "#222222";
const FAINT: &str = "#999999";

/// A line of a plot.
struct Line {
    label: String,
    /// How good it is, on a scale on which 1 is what is compared with and more is better.
    good: f64,
    color: &'static str,
    note: String,
}

/// Each figure against its bars: what reaches beyond the line holds.
pub fn bars(figures: &[Figure]) -> String {
    let mut lines = Vec::new();
    for figure in figures {
        for bar in &figure.bars {
            let (is, color) = match figure.judge(*bar) {
                Verdict::Holds(is) => (is, GOOD),
                Verdict::Missed(is) => (is, BAD),
                Verdict::Open => continue,
            };
            let against = match bar.against {
                Against::Value => figure.unit.as_str(),
                Against::Floor => "of the floor",
                Against::Peers => "of the best peer",
            };
            lines.push(Line {
                label: figure.name.clone(),
                good: goodness(figure.better, is, bar.limit),
                color,
                note: format!("{} {against}, bar {}", number(is), number(bar.limit)),
            });
        }
    }
    draw("Figures and their bars: beyond the line a bar holds", ["1/10", "the bar", "10 x"], &lines)
}

/// Each figure beside its floor and its best peer: what reaches beyond the line is better than that.
pub fn beside(figures: &[Figure]) -> String {
    let mut lines = Vec::new();
    for figure in figures {
        let floor = figure.floor.as_ref().map(|floor| (floor.what.as_str(), floor.value, "#4a6fa5"));
        let peer = best_peer(figure).map(|(what, value)| (what, value, "#c98a2b"));
        for (what, other, color) in floor.into_iter().chain(peer) {
            lines.push(Line {
                label: figure.name.clone(),
                good: goodness(figure.better, figure.value, other),
                color,
                note: format!("{} {}; {what}: {}", number(figure.value), figure.unit, number(other)),
            });
        }
    }
    draw(
        "Figures beside their floors (blue) and best peers (ochre)",
        ["1/10", "the same", "10 x better"],
        &lines,
    )
}

/// How good a value is beside another, 1 if it is the same.
fn goodness(better: Better, value: f64, other: f64) -> f64 {
    let (upper, lower) = match better {
        Better::Higher => (value, other),
        Better::Lower => (other, value),
    };
    // What takes no time, or no room, is as good as can be shown.
    if lower > 0.0 { upper / lower } else { f64::INFINITY }
}

/// Where something of this goodness is: logarithmic, within the plot.
fn place(good: f64) -> f64 {
    let exponent = good.max(f64::MIN_POSITIVE).log10().clamp(-DECADES, DECADES);
    LABELS + PLOT * (exponent + DECADES) / (2.0 * DECADES)
}

fn draw(title: &str, marks: [&str; 3], lines: &[Line]) -> String {
    let (width, height) = (LABELS + PLOT + NOTES, HEAD + ROW * lines.len() as f64 + 10.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" fill=\"{INK}\">{}</text>\n",
        escaped(title)
    );
    let middle = place(1.0);
    for (x, mark) in [LABELS, middle, LABELS + PLOT].into_iter().zip(marks) {
        let _ = writeln!(
            text,
            "<text x=\"{x}\" y=\"44\" text-anchor=\"middle\" fill=\"{FAINT}\">{}</text>\
             <line x1=\"{x}\" y1=\"{1}\" x2=\"{x}\" y2=\"{height}\" stroke=\"#dddddd\"/>",
            escaped(mark),
            HEAD - 6.0
        );
    }
    for (number, line) in (0u32..).zip(lines) {
        let y = HEAD + ROW * f64::from(number);
        let end = place(line.good);
        let baseline = y + 13.0;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\" fill=\"{INK}\">{}</text>\
             <rect x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{baseline}\" fill=\"{INK}\">{}</text>",
            LABELS - 10.0,
            escaped(&line.label),
            middle.min(end),
            y + 2.0,
            (end - middle).abs().max(1.0),
            ROW - 8.0,
            line.color,
            LABELS + PLOT + 10.0,
            escaped(&line.note)
        );
    }
    let _ = writeln!(
        text,
        "<line x1=\"{middle}\" y1=\"{}\" x2=\"{middle}\" y2=\"{height}\" stroke=\"{INK}\"/>\n</svg>",
        HEAD - 6.0
    );
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_on_the_side_of_the_line_that_says_whether_they_hold() {
        let good = Figure::new("a.rate", "<tasks>", 20.0, "1/s", Better::Higher).bar(Against::Value, 10.0);
        let bad = Figure::new("b.time", "t", 20.0, "ms", Better::Lower).bar(Against::Value, 10.0);
        let open = Figure::new("c.rate", "t", 20.0, "1/s", Better::Higher).bar(Against::Floor, 1.0);
        let svg = bars(&[good, bad, open]);
        let rects: Vec<&str> = svg.split("<rect x=\"").skip(1).collect();
        let begin = |rect: &str| rect.split('"').next().and_then(|x| x.parse::<f64>().ok());
        assert_eq!(rects.len(), 2, "an open bar is not drawn: {svg}");
        assert_eq!(begin(rects[0]), Some(460.0));
        assert!(begin(rects[1]).is_some_and(|x| x < 460.0), "{svg}");
        assert!(rects[0].contains(GOOD) && rects[1].contains(BAD), "{svg}");
    }

    #[test]
    fn what_is_out_of_the_plot_ends_at_its_edge() {
        assert_eq!(place(1.0), LABELS + PLOT / 2.0);
        assert_eq!((place(0.0), place(f64::INFINITY)), (LABELS, LABELS + PLOT));
        assert_eq!(goodness(Better::Lower, 0.0, 5.0), f64::INFINITY);
    }

    #[test]
    fn texts_of_figures_are_no_marks() {
        let figure = Figure::new("a.rate", "t", 2.0, "1/s", Better::Higher).floor("<b> & c", 1.0);
        assert!(beside(&[figure]).contains("&lt;b&gt; &amp; c: 1.00"));
    }
}
