//! Pi by counting random points in the quarter circle, as a map and a reduce.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::splitmix::Stream;

/// How many standard deviations an estimate may be off before it is called wrong: by chance this happens once
/// in 1.7 million correct runs.
pub const SIGMAS: f64 = 5.0;

/// What one map task found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapResult {
    /// Always `pi-map`, so that other JSON files are refused.
    pub program: MapProgram,
    /// The stream that was used; two results of one seed hold the same points.
    pub seed: u64,
    /// Points drawn.
    pub samples: u64,
    /// Points inside the quarter circle.
    pub hits: u64,
    /// Time spent in counting, in seconds.
    pub seconds: f64,
    /// The host that counted.
    pub host: String,
}

/// The mark of a map result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapProgram {
    /// The only one.
    #[serde(rename = "pi-map")]
    PiMap,
}

/// Counts how many of `samples` points of a seed's stream lie in the quarter circle.
#[must_use]
pub fn count_hits(seed: u64, samples: u64) -> u64 {
    let mut stream = Stream::new(seed);
    let mut hits = 0;
    for _ in 0..samples {
        let (x, y) = (stream.next_unit(), stream.next_unit());
        hits += u64::from(x * x + y * y < 1.0);
    }
    hits
}

/// An estimate of pi and how far it may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub pi: f64,
    /// The standard deviation that this many samples have.
    pub sigma: f64,
    /// How many standard deviations the estimate is off.
    pub sigmas_off: f64,
}

impl Estimate {
    /// The estimate from all points; `None` without any.
    #[must_use]
    pub fn of(hits: u64, samples: u64) -> Option<Self> {
        if samples == 0 {
            return None;
        }
        let inside = PI / 4.0;
        let pi = 4.0 * hits as f64 / samples as f64;
        let sigma = 4.0 * (inside * (1.0 - inside) / samples as f64).sqrt();
        Some(Self { pi, sigma, sigmas_off: (pi - PI).abs() / sigma })
    }

    /// Whether the estimate is within [`SIGMAS`] standard deviations of pi.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.sigmas_off < SIGMAS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_seeds_together_give_pi() {
        let hits: u64 = (0..20).map(|seed| count_hits(seed, 20_000)).sum();
        let estimate = Estimate::of(hits, 400_000).unwrap();
        assert!(estimate.is_plausible(), "{estimate:?}");
    }

    #[test]
    fn a_wrong_count_is_found() {
        // One map of twenty that counted nothing: 5 % off, some 60 standard deviations.
        let hits: u64 = (0..19).map(|seed| count_hits(seed, 20_000)).sum();
        assert!(!Estimate::of(hits, 400_000).unwrap().is_plausible());
        assert_eq!(Estimate::of(0, 0), None);
    }

    #[test]
    fn other_documents_are_refused() {
        let text = r#"{"program":"stencil","seed":1,"samples":1,"hits":1,"seconds":0.0,"host":"a"}"#;
        assert!(serde_json::from_str::<MapResult>(text).is_err());
        assert!(serde_json::from_str::<MapResult>(&text.replace("stencil", "pi-map")).is_ok());
    }
}
