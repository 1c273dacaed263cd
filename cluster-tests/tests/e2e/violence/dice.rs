//! Random numbers that a seed gives again.

use std::ops::Range;
use std::time::Duration;

use muster_sim::Rng;

/// What is drawn for the violence, or for what one client submits.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    /// The generator number `stream` of a seed. Streams do not depend on each other, so that a thread that draws more
    /// or less changes nothing for the others.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut seeds = Rng::new(stream);
        Self(Rng::new(seed ^ seeds.draw()))
    }

    pub fn between(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.below(range.end - range.start)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.one_in(n)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.0.below(from.len() as u64)).unwrap()]
    }

    pub fn milliseconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.between(range))
    }
}
