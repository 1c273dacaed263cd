//! When waiting tasks are expected to start. A forecast runs the planner forward over a copy of the durable state; one
//! serves all who ask until it is old, and goes on where the last question left it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use muster_core::ids::{JobId, Timestamp};
use muster_core::plan::Forecast;

use crate::shared::Shared;

/// How old a forecast may be for a job to which nothing happened since.
const AGE_MAX: Duration = Duration::from_secs(10);
/// How old it may be for a list, in which something always happened to some job.
const LIST_AGE_MAX: Duration = Duration::from_secs(5);
/// How long one question may look ahead. The next question about the same forecast goes on from there.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// The forecast that is used at present.
#[derive(Default)]
pub struct Forecasts {
    /// Also lets one look ahead at a time: forecasts must not take the processors from the engine.
    known: Mutex<Option<Known>>,
}

struct Known {
    /// The last record that it knows of.
    seq: u64,
    made: Instant,
    forecast: Forecast,
}

impl Forecasts {
    /// When the next waiting task of each of these jobs is expected to start, as far as that can be told in a moment.
    pub fn starts(&self, shared: &Shared, jobs: &[JobId], now: Timestamp) -> BTreeMap<JobId, Timestamp> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let reading = shared.read();
            let serves = |known: &Known| {
                let age = known.made.elapsed();
                let unchanged = || jobs.iter().all(|job| reading.version(*job) <= known.seq);
                let is_list = jobs.len() > 1;
                known.seq == reading.seq()
                    || (age < AGE_MAX && unchanged())
                    || (age < LIST_AGE_MAX && is_list)
            };
            if !known.as_ref().is_some_and(serves) {
                let (seq, state) = (reading.seq(), reading.state().clone());
                drop(reading);
                *known = Some(Known { seq, made: Instant::now(), forecast: Forecast::new(state, now) });
            }
        }
        let Some(known) = &mut *known else { return BTreeMap::new() };
        let forecast = &mut known.forecast;
        let end = Instant::now() + LOOK_WITHIN;
        let mut starts = BTreeMap::new();
        for job in jobs {
            while forecast.start_of(*job).is_none() && forecast.may_tell(*job) && Instant::now() < end {
                forecast.step();
            }
            starts.extend(forecast.start_of(*job).map(|at| (*job, at.max(now))));
        }
        starts
    }
}
