//! How often somebody may ask: a token bucket for each user.
//!
//! Slurm's `rl_enable` (slurm.conf(5), `SlurmctldParameters`) is the same: a bucket holds some tokens, is filled again at a steady
//! rate, and each request takes one. What is kept of a bucket is the instant at which it is full again (the virtual scheduling
//! algorithm of ITU-T I.371), so that one which is full need not be kept.

use std::collections::HashMap;

use crate::ids::Timestamp;

/// Users whose buckets are kept one by one, as many as Slurm's `rl_table_size`; all others share one.
pub const BUCKETS_MAX: usize = 8192;
/// Microseconds in a second.
const SECOND_US: u64 = 1_000_000;

/// How often a user may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run; at least 1.
    pub per_s: u32,
    /// Requests at once, of one who has not asked for a while; at least 1.
    pub burst: u32,
}

impl Rate {
    /// How long a token takes to come, in microseconds.
    fn token_us(self) -> u64 {
        (SECOND_US / u64::from(self.per_s.max(1))).max(1)
    }

    /// How long an empty bucket takes to be full, in microseconds.
    fn whole_us(self) -> u64 {
        self.token_us() * u64::from(self.burst.max(1))
    }
}

/// The buckets of all users.
#[derive(Debug, Default)]
pub struct Buckets {
    /// By user id, when each is full; one that is not here is full.
    full_at: HashMap<u32, Timestamp>,
    /// The bucket of all that have no place of their own.
    others: Timestamp,
}

impl Buckets {
    /// Takes a token out of a user's bucket.
    ///
    /// # Errors
    /// How long, in microseconds, until there is one, if it is empty. Nothing was taken then.
    pub fn take(&mut self, rate: Rate, uid: u32, now: Timestamp) -> Result<(), u64> {
        if !self.full_at.contains_key(&uid) && self.full_at.len() >= BUCKETS_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let has_room = self.full_at.len() < BUCKETS_MAX;
        match self.full_at.get_mut(&uid) {
            Some(full_at) => take(full_at, rate, now),
            None if has_room => {
                let mut full_at = now;
                take(&mut full_at, rate, now)?;
                self.full_at.insert(uid, full_at);
                Ok(())
            }
            None => take(&mut self.others, rate, now),
        }
    }

    /// How many are kept one by one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}

fn take(full_at: &mut Timestamp, rate: Rate, now: Timestamp) -> Result<(), u64> {
    // A rate or a clock that was changed must not leave a debt that was made under another one.
    full_at.0 = full_at.0.clamp(now.0, now.0 + rate.whole_us());
    let after = full_at.0 + rate.token_us();
    match after.saturating_sub(now.0 + rate.whole_us()) {
        0 => {
            full_at.0 = after;
            Ok(())
        }
        short_us => Err(short_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 10, burst: 3 };

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + ms * 1000)
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let mut buckets = Buckets::default();
        let mut take = |ms| buckets.take(RATE, 7, at(ms));
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(100_000), "the next token comes a tenth of a second later");
        assert_eq!(take(40), Err(60_000), "a refused request costs nothing");
        assert_eq!((take(100), take(100)), (Ok(()), Err(100_000)));
        assert_eq!((take(300), take(300)), (Ok(()), Ok(())));
        assert_eq!(take(300), Err(100_000));
        // However long nobody asked, there are no more than a burst.
        assert_eq!([take(90_000), take(90_000), take(90_000)], [Ok(()); 3]);
        assert_eq!(take(90_000), Err(100_000));
    }

    #[test]
    fn one_user_does_not_use_up_what_is_anothers() {
        let mut buckets = Buckets::default();
        while buckets.take(RATE, 1, at(0)).is_ok() {}
        assert_eq!(buckets.take(RATE, 2, at(0)), Ok(()));
    }

    #[test]
    fn in_the_long_run_it_is_the_rate() {
        for rate in [RATE, Rate { per_s: 3, burst: 1 }, Rate { per_s: 500, burst: 50 }] {
            let mut buckets = Buckets::default();
            let taken = (0..20_000).filter(|ms| buckets.take(rate, 1, at(*ms)).is_ok()).count() as u64;
            let right = u64::from(rate.per_s) * 20 + u64::from(rate.burst);
            assert!(taken.abs_diff(right) <= 20, "{rate:?}: {taken} and not {right}");
        }
    }

    #[test]
    fn a_clock_or_a_rate_that_changes_locks_nobody_out() {
        let mut buckets = Buckets::default();
        let slow = Rate { per_s: 1, burst: 1000 };
        while buckets.take(slow, 1, at(0)).is_ok() {}
        assert_eq!(buckets.take(RATE, 1, at(0)), Err(100_000), "and not a thousand seconds");
        // The clock goes back by an hour.
        let mut buckets = Buckets::default();
        assert_eq!(buckets.take(RATE, 1, at(3_600_000)), Ok(()));
        assert_eq!(buckets.take(RATE, 1, at(0)), Err(100_000));
        assert_eq!(buckets.take(RATE, 1, at(100)), Ok(()));
    }

    #[test]
    fn users_beyond_the_limit_share_a_bucket_and_full_ones_are_forgotten() {
        let mut buckets = Buckets::default();
        for uid in 0..BUCKETS_MAX as u32 + 3 {
            assert_eq!(buckets.take(RATE, uid, at(0)), Ok(()));
        }
        assert_eq!(buckets.len(), BUCKETS_MAX);
        assert_eq!(
            buckets.take(RATE, BUCKETS_MAX as u32 + 9, at(0)),
            Err(100_000),
            "three others had theirs"
        );
        assert_eq!(buckets.take(RATE, 5, at(0)), Ok(()), "who has one keeps it");
        // A moment later all but one are full.
        assert_eq!(buckets.take(RATE, BUCKETS_MAX as u32 + 9, at(100)), Ok(()));
        assert_eq!(buckets.len(), 2);
    }
}
