//! `[priority]`: what the order `multifactor` adds up.

use muster_core::cluster::PriorityPolicy;

use crate::problem::ProblemKind;
use crate::section::{Reader, Section};

/// The largest weight: sums of six stay exact in floating point.
const WEIGHT_MAX: u64 = 1_000_000_000;
/// The shortest and the longest time to grow old or to be forgotten.
const TIME_S: (u64, u64) = (60, 366 * 86_400);

pub(crate) fn priority(reader: &mut Reader<'_>, section: Option<Section<'_, '_>>) -> PriorityPolicy {
    let mut policy = PriorityPolicy::default();
    let Some(mut section) = section else { return policy };
    let weights: [(&'static str, &mut u32); 6] = [
        ("age_weight", &mut policy.age_weight),
        ("size_weight", &mut policy.size_weight),
        ("fair_share_weight", &mut policy.fair_share_weight),
        ("pool_weight", &mut policy.pool_weight),
        ("job_weight", &mut policy.job_weight),
        ("qos_weight", &mut policy.qos_weight),
    ];
    for (key, weight) in weights {
        if let Some(at) = section.number(reader, key, (0, WEIGHT_MAX)) {
            *weight = at.value as u32;
        }
    }
    for (key, time_s) in [("age_max", &mut policy.age_max_s), ("half_life", &mut policy.half_life_s)] {
        let Some(at) = section.time(reader, key) else { continue };
        if (TIME_S.0..=TIME_S.1).contains(&at.value) {
            *time_s = at.value;
        } else {
            let expected = "a time from 1 minute to 366 days, such as \"7-0\"";
            let found = muster_core::notation::format_time_s(at.value);
            reader.problem(at.span, ProblemKind::BadText { key, expected, found });
        }
    }
    if let Some(at) = section.flag(reader, "small_first") {
        policy.small_first = at.value;
    }
    section.finish(reader);
    policy
}
