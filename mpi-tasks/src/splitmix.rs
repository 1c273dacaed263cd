//! SplitMix64 as a counter-based generator: the n-th value of a stream is a function of seed and n.
//!
//! Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the constants are
//! those of Vigna's public domain `splitmix64.c`.

/// The step between two counters, the golden ratio in 64 bits.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles 64 bits, one to one.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A stream of values that depends on its seed only.
#[derive(Clone, Debug)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// Starts the stream of a seed. Neighbouring seeds start far apart, because the seed is scrambled first.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed.wrapping_add(GAMMA)) }
    }

    /// The next 64 bits.
    pub fn next_bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// The next number in `[0, 1)`, with 53 random bits.
    pub fn next_unit(&mut self) -> f64 {
        unit(self.next_bits())
    }
}

/// Turns 64 random bits into a number in `[0, 1)`; the upper 53 bits count.
#[must_use]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_published_generator() {
        // splitmix64.c with x = 0 gives these first values.
        let mut stream = Stream { state: 0 };
        assert_eq!(stream.next_bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(stream.next_bits(), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(stream.next_bits(), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn units_stay_in_their_interval_and_average_one_half() {
        let mut stream = Stream::new(7);
        let values: Vec<f64> = (0..100_000).map(|_| stream.next_unit()).collect();
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
        // The standard deviation of the mean is 0.2887 / sqrt(1e5) = 0.0009.
        assert!((values.iter().sum::<f64>() / 1e5 - 0.5).abs() < 0.005);
    }

    #[test]
    fn neighbouring_seeds_share_no_early_value() {
        let first: Vec<u64> =
            std::iter::repeat_n((), 1000).scan(Stream::new(1), |s, ()| Some(s.next_bits())).collect();
        let mut second = Stream::new(2);
        assert!((0..1000).all(|_| !first.contains(&second.next_bits())));
    }
}
