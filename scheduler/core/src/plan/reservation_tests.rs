//! Passes around advance reservations, against looking at every hour and every node.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Reason, expected_start, plan};
use crate::cluster::Backfill;
use crate::ids::{AttemptKey, JobId, Timestamp};
use crate::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport, Refusal};
use crate::reservation::{AdvanceReservation, Repeat, ReservationSpec};
use crate::spec::JobSpec;
use crate::testing::{ANN, BOB, Bench, config, job, maintenance, reservation};

const HOUR_S: u64 = 3600;
/// Beyond what repeats each week and everything that happens once before.
const HOURS: u64 = 4 * 7 * 24;

#[derive(Debug, Clone)]
struct Kept {
    nodes: BTreeSet<usize>,
    start_h: u64,
    hours: u64,
    repeat: Option<Repeat>,
    ann: bool,
}

impl Kept {
    fn spec(&self, i: usize, from: Timestamp) -> ReservationSpec {
        let names: Vec<String> = self.nodes.iter().map(|node| format!("n{}", node + 1)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let start = from.plus_seconds(self.start_h * HOUR_S);
        let made = match self.ann {
            true => reservation(&format!("r{i}"), &names, start, self.hours * HOUR_S, ANN),
            false => maintenance(&format!("r{i}"), &names, start, self.hours * HOUR_S),
        };
        let spec = ReservationSpec { ignore_running: true, ..made };
        match self.repeat {
            Some(repeat) => spec.repeated(repeat),
            None => spec,
        }
    }
}

fn kept(nodes: usize) -> impl Strategy<Value = Kept> {
    let repeat = prop_oneof![Just(None), Just(Some(Repeat::Daily)), Just(Some(Repeat::Weekly))];
    let parts = (prop::collection::btree_set(0..nodes, 1..=nodes), 0u64..60, 1u64..20, repeat, any::<bool>());
    parts.prop_map(|(nodes, start_h, hours, repeat, ann)| Kept { nodes, start_h, hours, repeat, ann })
}

/// Hours of the node's foreign windows, and of the job's own, from `from` on.
fn is_open(
    made: &[AdvanceReservation],
    own: Option<&str>,
    node: u32,
    start: Timestamp,
    end: Timestamp,
) -> bool {
    let windows = |r: &AdvanceReservation| {
        let windows = r.windows;
        std::iter::successors(Some(windows.first_open(Timestamp(0))?), move |w| windows.after(*w))
            .take(40)
            .find(|w| w.start < end && start < w.end)
    };
    made.iter().all(|r| {
        let keeps = r.nodes.iter().any(|kept| kept.0 == node);
        let hit = windows(r);
        if own == Some(r.name.as_str()) {
            keeps && hit.is_some_and(|w| w.start <= start && end <= w.end)
        } else {
            !keeps || hit.is_none()
        }
    })
}

/// The first hour from which on enough nodes are open and free for the whole limit, by looking at all.
fn first_hour(
    bench: &Bench,
    busy_until: &[Timestamp],
    wanted: usize,
    hours: u64,
    own: Option<&str>,
) -> Option<Timestamp> {
    let made: Vec<AdvanceReservation> =
        bench.engine.state().reservations().map(|r| (*r.reservation).clone()).collect();
    (0..HOURS).map(|hour| bench.now.plus_seconds(hour * HOUR_S)).find(|start| {
        let end = start.plus_seconds(hours * HOUR_S);
        let open =
            |node: &usize| busy_until[*node] <= *start && is_open(&made, own, *node as u32, *start, end);
        (0..busy_until.len()).filter(open).count() >= wanted
    })
}

/// Starts whatever was placed.
fn obey(bench: &mut Bench) {
    let effects = std::mem::take(&mut bench.effects);
    for effect in effects {
        let Effect::Prepare { node, key, instance, .. } = effect else { continue };
        let node = bench.engine.state().node(node).name.clone();
        bench.report_from(&node, key, instance, InstancePhase::Ready(Default::default()));
    }
}

/// Lets time pass to an instant: whatever has used its whole time limit exits just then.
fn pass_to(bench: &mut Bench, at: Timestamp) {
    bench.now = at;
    let over = |(key, job, live): (AttemptKey, &crate::state::Job, &crate::state::Live)| {
        let is_over = live.deadline(job.spec.time_limit_s).is_some_and(|end| end <= at);
        is_over.then(|| (key, bench.nodes_of(key)))
    };
    let over: Vec<_> = bench.engine.state().live().filter_map(over).collect();
    for (key, nodes) in over {
        for (instance, node) in (0..).zip(nodes) {
            let how = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };
            let phase = InstancePhase::Gone { how, usage: Default::default(), started_at: None };
            let report = InstanceReport { key, instance, phase };
            bench.engine.apply(&Input::NodeReport { node, report }, at);
        }
    }
    bench.input(Input::Tick);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// With either backfill, the first that waits is promised the first hour at which it really fits, starts then, and
    /// is refused if there is none.
    #[test]
    fn the_first_that_waits_gets_the_first_hour_at_which_it_fits(
        busy in prop::collection::vec(0u64..30, 4),
        reservations in prop::collection::vec(kept(4), 0..5),
        wanted in 1usize..5,
        hours in 1u64..40,
        use_own in any::<bool>(),
        conservative in any::<bool>(),
    ) {
        let mut config = config(&[1; 4]);
        if conservative {
            config.pools[0].backfill = Backfill::Conservative;
        }
        let mut bench = Bench::new(config);
        let mut busy_until = vec![bench.now; 4];
        for (node, hours) in busy.iter().enumerate().filter(|(_, hours)| **hours > 0) {
            let name = format!("n{}", node + 1);
            let id = bench.submit(BOB, job(BOB).gang(1, 1).nodelist(&[&name]).limit_s(hours * HOUR_S)).unwrap();
            bench.start(bench.key(id));
            busy_until[node] = bench.now.plus_seconds(hours * HOUR_S);
        }
        let mut own = None;
        for (i, kept) in reservations.iter().enumerate() {
            // Overlaps are refused.
            if bench.reserve(kept.spec(i, bench.now)).is_ok() && kept.ann && use_own {
                own = Some(format!("r{i}"));
            }
        }
        let wish = job(ANN).gang(wanted as u32, 1).limit_s(hours * HOUR_S);
        let wish = JobSpec { reservation: own.clone(), ..wish };
        let expected = first_hour(&bench, &busy_until, wanted, hours, own.as_deref());
        let ever = first_hour(&bench, &[bench.now; 4], wanted, hours, own.as_deref());
        let id = match bench.submit(ANN, wish) {
            Err(Refusal::NeverFits { .. }) => {
                prop_assert_eq!(ever, None);
                return Ok(());
            }
            other => other.unwrap(),
        };
        prop_assert!(ever.is_some(), "it was accepted");
        if expected == Some(bench.now) {
            prop_assert!(bench.is_live(id));
            return Ok(());
        }
        prop_assert!(!bench.is_live(id));
        let waiting = plan(bench.engine.state(), bench.now).waiting.remove(&id).unwrap();
        let parked = matches!(waiting.reason, Reason::ReservationStart { .. } | Reason::ReservationOver { .. });
        if !parked {
            prop_assert_eq!(waiting.expected_start, expected, "{}", waiting.reason);
        }
        prop_assert_eq!(expected_start(bench.engine.state(), id, bench.now), expected);
        if let Reason::Reserved { limit_max_s: Some(most), .. } = waiting.reason {
            let limit = |limit_s: u64| first_hour_s(&bench, &busy_until, wanted, limit_s, own.as_deref());
            prop_assert!(limit(most) && !limit(most + 1), "{most} s");
        }
        // Time passes, with the wake-ups that the engine asks for.
        while !bench.is_live(id) {
            let Some(at) = bench.engine.next_wake().filter(|at| expected.is_some_and(|due| *at <= due)) else {
                break;
            };
            let at = at.max(bench.now);
            pass_to(&mut bench, at);
        }
        prop_assert_eq!(bench.is_live(id).then_some(bench.now), expected);
    }

    /// Whatever happens, nothing that started after a reservation was made is on its nodes in a window that is not its
    /// own, and what uses one is nowhere else and at no other time.
    #[test]
    fn nobody_is_where_nodes_are_kept_for_others(
        steps in prop::collection::vec((0u8..8, kept(3), 1u64..12, 1u32..4, any::<bool>()), 10..40),
        conservative in any::<bool>(),
    ) {
        let mut config = config(&[2; 3]);
        if conservative {
            config.pools[0].backfill = Backfill::Conservative;
        }
        let mut bench = Bench::new(config);
        // For each reservation what was live when it was made.
        let mut made: BTreeMap<String, (AdvanceReservation, BTreeSet<AttemptKey>)> = BTreeMap::new();
        for (i, (what, kept, hours, nodes, flag)) in steps.into_iter().enumerate() {
            match what {
                0 | 1 => {
                    let spec = kept.spec(i, bench.now);
                    let name = spec.name.clone();
                    if bench.reserve(spec).is_ok() {
                        let live = bench.engine.state().live().map(|(key, ..)| key).collect();
                        let reserved = bench.engine.state().reservation(&name).unwrap();
                        made.insert(name, ((*reserved.reservation).clone(), live));
                    }
                }
                2 => {
                    let name = made.keys().next().cloned();
                    if let Some(name) = name.filter(|_| flag) {
                        bench.unreserve(&name).ok();
                        made.remove(&name);
                    }
                }
                3..6 => {
                    let own = made.iter().find(|(_, (r, _))| r.lets("user1000", None)).map(|(name, _)| name);
                    let own = own.cloned().filter(|_| flag);
                    let wish = job(ANN).gang(nodes, 1 + u32::from(flag)).limit_s(hours * HOUR_S);
                    bench.submit(ANN, JobSpec { reservation: own, ..wish }).ok();
                }
                _ => {
                    let until = bench.now.plus_seconds(hours * HOUR_S);
                    while let Some(at) = bench.engine.next_wake().filter(|at| *at <= until) {
                        let at = at.max(bench.now);
                        pass_to(&mut bench, at);
                        obey(&mut bench);
                    }
                    pass_to(&mut bench, until);
                }
            }
            obey(&mut bench);
            let now = bench.now;
            let gone = |name: &String| bench.engine.state().reservation(name).is_none();
            made.retain(|name, _| !gone(name));
            for (key, job, live) in bench.engine.state().live() {
                for (reservation, before) in made.values().filter(|(_, before)| !before.contains(&key)) {
                    let uses = job.spec.reservation.as_ref() == Some(&reservation.name);
                    let open = reservation.windows.first_open(now).is_some_and(|w| w.start <= now);
                    for share in &live.allocation.shares {
                        let keeps = reservation.keeps(share.node);
                        prop_assert!(if uses { keeps && open } else { !(keeps && open) }, "{key} {before:?}");
                    }
                }
            }
        }
    }

    /// A gang whose limit fits between two windows runs some day, however many small jobs are submitted all the time.
    #[test]
    fn what_fits_between_two_windows_runs_some_day(
        start_h in 0u64..24, window_h in 1u64..20, short_h in 1u64..5, conservative in any::<bool>(),
    ) {
        let mut config = config(&[1; 2]);
        if conservative {
            config.pools[0].backfill = Backfill::Conservative;
        }
        let mut bench = Bench::new(config);
        let start = bench.now.plus_seconds(start_h * HOUR_S);
        let night = maintenance("night", &["n1", "n2"], start, window_h * HOUR_S).repeated(Repeat::Daily);
        bench.reserve(night).unwrap();
        let small = || job(BOB).limit_s(short_h.min(24 - window_h) * HOUR_S);
        bench.submit(BOB, small()).unwrap();
        let gang: JobId = bench.submit(ANN, job(ANN).gang(2, 1).limit_s((24 - window_h) * HOUR_S)).unwrap();
        let end = bench.now.plus_seconds(4 * 24 * HOUR_S);
        while bench.now < end && !bench.is_live(gang) {
            bench.submit(BOB, small()).unwrap();
            obey(&mut bench);
            let next = bench.now.plus_seconds(HOUR_S / 2);
            let wake = bench.engine.next_wake().unwrap_or(next);
            let at = wake.max(bench.now).min(next);
            pass_to(&mut bench, at);
        }
        prop_assert!(bench.is_live(gang));
    }
}

/// Whether enough nodes are open and free from now on for so many seconds.
fn first_hour_s(
    bench: &Bench,
    busy_until: &[Timestamp],
    wanted: usize,
    limit_s: u64,
    own: Option<&str>,
) -> bool {
    let made: Vec<AdvanceReservation> =
        bench.engine.state().reservations().map(|r| (*r.reservation).clone()).collect();
    let end = bench.now.plus_seconds(limit_s);
    let open =
        |node: &usize| busy_until[*node] <= bench.now && is_open(&made, own, *node as u32, bench.now, end);
    (0..busy_until.len()).filter(open).count() >= wanted
}
