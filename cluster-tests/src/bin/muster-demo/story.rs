//! What the demo prints: steps with their times, and progress on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The steps so far and how long each took.
pub struct Story {
    steps: Vec<(String, Duration)>,
    started: Instant,
}

impl Story {
    pub fn new() -> Self {
        Self { steps: Vec::new(), started: Instant::now() }
    }

    /// Says what happened and how long it took.
    pub fn step(&mut self, what: impl Into<String>, time: Duration) {
        let what = what.into();
        println!("{:>8}  {what}", seconds(time));
        self.steps.push((what, time));
    }

    /// A headline.
    pub fn headline(&self, text: &str) {
        println!("\n== {text}");
    }

    /// How long each step took, once more, together.
    pub fn summary(&self) {
        self.headline("How long each stage took");
        for (what, time) in &self.steps {
            println!("{:>8}  {what}", seconds(*time));
        }
        println!("{:>8}  all together", seconds(self.started.elapsed()));
    }
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.0} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// A bar on a terminal; nothing in a pipe.
pub fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} tasks finished [{bar:40}] {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
