//! How usage is forgotten: exponentially, in integers, so that every replay of a journal gives the same bits.
//!
//! Usage that counts half after each half-life h follows U' = r - ln 2 / h × U while cores run at the rate r, so that
//! after a time t it is U × 2^(-t/h) + r × (1 - 2^(-t/h)) × h / ln 2. Both powers are products of square roots of
//! one half, one for each binary digit of t/h.

/// 1 in the fixed point of this module.
const ONE: u128 = 1 << 63;
/// 1 / ln 2, with 40 binary digits after the point.
const PER_LN_2: u128 = 1_586_259_972_792;

/// 2^(-1/2), 2^(-1/4), 2^(-1/8) and so on.
const ROOTS: [u64; 64] = roots();

const fn roots() -> [u64; 64] {
    let mut roots = [0; 64];
    let mut root = ONE / 2;
    let mut i = 0;
    while i < roots.len() {
        root = (root * ONE).isqrt();
        roots[i] = root as u64;
        i += 1;
    }
    roots
}

/// What a stretch of time does to usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decay {
    /// What is left of earlier usage, times 2^63.
    left: u128,
    /// What a core that ran all the time has added, in microseconds.
    added_us: u64,
}

impl Decay {
    /// The decay over `elapsed_us` microseconds; half-lives count as at least a second and at most 2^40.
    pub fn over(elapsed_us: u64, half_life_s: u64) -> Self {
        let half_life_us = u128::from(half_life_s.clamp(1, 1 << 40)) * 1_000_000;
        let (halvings, rest) = (u128::from(elapsed_us) / half_life_us, u128::from(elapsed_us) % half_life_us);
        let mut left = if halvings < 64 { ONE >> halvings } else { 0 };
        let mut digits = ((rest << 64) / half_life_us) as u64;
        while digits != 0 {
            let place = digits.leading_zeros();
            left = (left * u128::from(ROOTS[place as usize])) >> 63;
            digits &= !(1 << (63 - place));
        }
        let mean_life_us = (half_life_us * PER_LN_2) >> 40;
        let added_us = ((ONE - left) * mean_life_us + ONE / 2) >> 63;
        // Rounding must not make a core give more than the time that passed.
        Self { left, added_us: elapsed_us.min(u64::try_from(added_us).unwrap_or(u64::MAX)) }
    }

    /// Usage after that time, in core microseconds, if `charged` hundredths of cores ran all through it. Stops at
    /// the largest number, which 580,000 cores reach in a year.
    pub fn apply(self, core_us: u64, charged: u64) -> u64 {
        let kept = (u128::from(core_us) * self.left + ONE / 2) >> 63;
        let added = u128::from(self.added_us) * u128::from(charged) / 100;
        u64::try_from(kept + added).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    #[test]
    fn usage_counts_half_after_each_half_life() {
        for halvings in 0..40 {
            let left = Decay::over(halvings * HOUR_US, 3600).apply(1 << 60, 0);
            assert_eq!(left, (1 << 60) >> halvings, "after {halvings} half-lives");
        }
        assert_eq!(Decay::over(64 * HOUR_US, 3600).apply(u64::MAX, 0), 0);
        assert_eq!(Decay::over(u64::MAX, 1).apply(u64::MAX, 0), 0);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let year_s = 366 * 86_400;
        assert_eq!(Decay::over(0, year_s).apply(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(Decay::over(u64::MAX, u64::MAX).apply(u64::MAX, u64::MAX), u64::MAX);
        Decay::over(u64::MAX, 0).apply(u64::MAX, u64::MAX);
    }

    proptest! {
        #[test]
        fn follows_the_formula(elapsed_us in 0u64..1 << 50, half_life_s in 60u64..400 * 86_400,
                               core_us in 0u64..1 << 55, charged in 0u64..10_000_000) {
            let power = (-(elapsed_us as f64) / (half_life_s as f64 * 1e6)).exp2();
            let added = (1.0 - power) * half_life_s as f64 * 1e6 / std::f64::consts::LN_2;
            let exact = core_us as f64 * power + added * charged as f64 / 100.0;
            let found = Decay::over(elapsed_us, half_life_s).apply(core_us, charged) as f64;
            // One microsecond of each core, and what floating point makes of tiny powers.
            let tolerance = 1.0 + charged as f64 / 100.0 + exact * 1e-9 + half_life_s as f64 * 1e-9 * charged as f64;
            prop_assert!((found - exact).abs() <= tolerance, "{found} is not {exact}");
        }

        #[test]
        fn never_gives_more_than_the_time_that_passed(elapsed_us in 0u64..1 << 50, half_life_s in 1u64..400 * 86_400) {
            let decay = Decay::over(elapsed_us, half_life_s);
            prop_assert!(decay.apply(0, 100) <= elapsed_us);
            prop_assert!(decay.apply(1 << 50, 0) <= 1 << 50);
        }

        #[test]
        fn two_stretches_are_as_one(first in 0u64..1 << 42, second in 0u64..1 << 42, half_life_s in 60u64..1_000_000,
                                    charged in 0u64..100_000) {
            let one = Decay::over(first + second, half_life_s).apply(1 << 40, charged);
            let half = Decay::over(first, half_life_s).apply(1 << 40, charged);
            let two = Decay::over(second, half_life_s).apply(half, charged);
            prop_assert!(one.abs_diff(two) <= 4 + charged / 25, "{one} is not {two}");
        }
    }
}
