//! One chart: two axes, and what is drawn between them.

use std::fmt::Write;

use muster_core::notation::format_time_s;

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 64.0;
/// About how many ticks an axis has.
const TICKS: f64 = 6.0;
const INK: &str = "#1f2933";
const GRID: &str = "#d9dee4";
const FILL: &str = "#2f6f9f";
const MARK: &str = "#c2410c";

/// An axis with its label.
pub(super) struct Axis {
    label: String,
    low: f64,
    high: f64,
    ticks: Ticks,
}

/// Where the ticks of an axis are.
enum Ticks {
    /// At round numbers.
    Round,
    /// At round numbers, one class for each, named.
    Classes(Vec<String>),
    /// At seconds, minutes, hours and days that people know, on a logarithmic axis of seconds.
    Durations,
}

impl Axis {
    pub fn linear(label: &str, low: f64, high: f64) -> Self {
        Self { label: label.to_owned(), low, high: high.max(low + 1e-9), ticks: Ticks::Round }
    }

    /// Seconds from 1 to `high`, on a logarithmic axis.
    pub fn durations(label: &str, high: f64) -> Self {
        Self { label: label.to_owned(), low: 0.0, high: high.max(10.0).log10(), ticks: Ticks::Durations }
    }

    pub fn classes(label: &str, names: Vec<String>) -> Self {
        let high = names.len().max(1) as f64;
        Self { label: label.to_owned(), low: 0.0, high, ticks: Ticks::Classes(names) }
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = match self.ticks {
            Ticks::Durations => value.max(1.0).log10(),
            Ticks::Round | Ticks::Classes(_) => value,
        };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Values and names of the ticks.
    fn marks(&self) -> Vec<(f64, String)> {
        match &self.ticks {
            Ticks::Classes(names) => {
                names.iter().enumerate().map(|(i, name)| (i as f64 + 0.5, name.clone())).collect()
            }
            Ticks::Round => {
                let step = round_step((self.high - self.low) / TICKS);
                let count = ((self.high - self.low) / step) as usize;
                let digits = if step < 1.0 { (-step.log10()).ceil() as usize } else { 0 };
                (0..=count)
                    .map(|i| self.low + i as f64 * step)
                    .map(|at| (at, format!("{at:.digits$}")))
                    .collect()
            }
            Ticks::Durations => {
                let known = [
                    (1.0, "1 s"),
                    (10.0, "10 s"),
                    (60.0, "1 min"),
                    (600.0, "10 min"),
                    (3600.0, "1 h"),
                    (36_000.0, "10 h"),
                    (86_400.0, "1 d"),
                    (864_000.0, "10 d"),
                    (8_640_000.0, "100 d"),
                ];
                known
                    .into_iter()
                    .map(|(seconds, name): (f64, &str)| (seconds, name.to_owned()))
                    .filter(|(seconds, _)| seconds.log10() <= self.high)
                    .collect()
            }
        }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step).unwrap_or(10.0);
    factor * power
}

/// A chart that is being drawn.
pub(super) struct Chart {
    x: Axis,
    y: Axis,
    svg: String,
}

impl Chart {
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
            escape(title)
        );
        let mut chart = Self { x, y, svg };
        chart.axes();
        chart
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.svg, "{element}");
    }

    fn axes(&mut self) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, name) in self.y.marks() {
            let y = self.at_y(value);
            self.add(format_args!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>"
            ));
            let (x, y) = (LEFT - 8.0, y + 4.0);
            self.add(format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{name}</text>"));
        }
        let classes = matches!(self.x.ticks, Ticks::Classes(_));
        let marks = self.x.marks();
        // Names of many classes are turned a little smaller, so that they do not run into each other.
        let size = if classes && marks.len() > 10 { 9 } else { 12 };
        for (value, name) in marks {
            let x = self.at_x(value);
            let (from, to, text) = (bottom, bottom + 5.0, bottom + 20.0);
            self.add(format_args!(
                "<line x1=\"{x:.1}\" y1=\"{from}\" x2=\"{x:.1}\" y2=\"{to}\" stroke=\"{INK}\"/>"
            ));
            self.add(format_args!(
                "<text x=\"{x:.1}\" y=\"{text}\" text-anchor=\"middle\" font-size=\"{size}\">{name}</text>"
            ));
        }
        self.add(format_args!(
            "<path d=\"M{LEFT} {TOP} V{bottom} H{right}\" fill=\"none\" stroke=\"{INK}\"/>"
        ));
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let (x_label, y_label) = (escape(&self.x.label), escape(&self.y.label));
        let below = bottom + 42.0;
        self.add(format_args!(
            "<text x=\"{middle_x}\" y=\"{below}\" text-anchor=\"middle\">{x_label}</text>"
        ));
        self.add(format_args!(
            "<text x=\"20\" y=\"{middle_y}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {middle_y})\">{y_label}</text>"
        ));
    }

    /// A curve with what lies below it.
    pub fn area(mut self, curve: &[(f64, f64)]) -> Self {
        let mut line = String::new();
        for (x, y) in curve {
            let _ = write!(line, " {:.1},{:.1}", self.at_x(*x), self.at_y(*y));
        }
        let bottom = HEIGHT - BOTTOM;
        let first = curve.first().map_or(LEFT, |(x, _)| self.at_x(*x));
        let last = curve.last().map_or(LEFT, |(x, _)| self.at_x(*x));
        self.add(format_args!(
            "<polygon points=\"{first:.1},{bottom}{line} {last:.1},{bottom}\" fill=\"{FILL}\" fill-opacity=\"0.25\"/>"
        ));
        self.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{FILL}\" stroke-width=\"1\"/>",
            line.trim()
        ));
        self
    }

    /// A class's quartiles, median and 95th percentile, and how many it has.
    pub fn summary(mut self, class: usize, values: [f64; 4], count: usize) -> Self {
        let middle = self.at_x(class as f64 + 0.5);
        let half = ((self.at_x(1.0) - self.at_x(0.0)) * 0.3).min(24.0);
        let [low, median, high, most] = values.map(|value| self.at_y(value));
        let (left, width, height) = (middle - half, 2.0 * half, (low - high).max(1.0));
        let tip = format!("{} jobs, median {} s, 95 % {}", count, values[1], format_time_s(values[3] as u64));
        self.add(format_args!("<g><title>{tip}</title>"));
        self.add(format_args!("<line x1=\"{middle:.1}\" y1=\"{high:.1}\" x2=\"{middle:.1}\" y2=\"{most:.1}\" stroke=\"{FILL}\"/>"));
        self.add(format_args!(
            "<rect x=\"{left:.1}\" y=\"{high:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{FILL}\" \
             fill-opacity=\"0.35\" stroke=\"{FILL}\"/>"
        ));
        let right = middle + half;
        self.add(format_args!(
            "<line x1=\"{left:.1}\" y1=\"{median:.1}\" x2=\"{right:.1}\" y2=\"{median:.1}\" stroke=\"{INK}\" stroke-width=\"2\"/>"
        ));
        self.add(format_args!("<circle cx=\"{middle:.1}\" cy=\"{most:.1}\" r=\"3.5\" fill=\"{MARK}\"/>"));
        let text = (most.min(high) - 8.0).max(TOP - 4.0);
        self.add(format_args!("<text x=\"{middle:.1}\" y=\"{text:.1}\" text-anchor=\"middle\" font-size=\"10\">{count}</text></g>"));
        self
    }

    /// A line of explanation in the lower left corner.
    pub fn legend(mut self, text: &str) -> Self {
        let y = HEIGHT - 6.0;
        self.add(format_args!("<text x=\"{LEFT}\" y=\"{y}\" font-size=\"10\">{}</text>", escape(text)));
        self
    }

    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
