//! The picture of the future against a plain one with a row for every second.

use proptest::prelude::*;

use super::*;

/// What holds at each instant, kept plainly: a row for every second.
const SECONDS: u64 = 40;

fn room(cores: u32, gib: u64) -> NodeRoom {
    NodeRoom { cores, memory_bytes: gib << 30, ..NodeRoom::default() }
}

fn second(at: u64) -> Timestamp {
    Timestamp(0).plus_seconds(at)
}

/// Steps that rise, as nodes get free.
fn profile(steps: &[(u64, Vec<(u32, u64)>)]) -> Profile {
    let slots = 3;
    let mut rows = vec![room(0, 0); slots];
    let mut profile = Profile { slots, steps: Vec::new(), rooms: Vec::new(), least: Vec::new() };
    let mut at = 0;
    for (after, more) in steps {
        for (row, (cores, gib)) in rows.iter_mut().zip(more) {
            row.put(room(*cores, *gib));
        }
        profile.push(second(at), &rows);
        at += after;
    }
    profile
}

fn at(profile: &Profile, second_of: u64) -> Vec<NodeRoom> {
    let i = profile.steps.partition_point(|step| step.from <= second(second_of)) - 1;
    profile.row(profile.steps[i]).to_vec()
}

/// One rank of these cores and this memory on each of so many slots.
fn ranks(need: NodeRoom) -> impl Fn(usize, NodeRoom) -> u32 {
    move |_, room| u32::from(room.holds(need))
}

fn choose(need: NodeRoom, nodes: u32) -> impl Fn(&[NodeRoom]) -> Option<Vec<Kept>> {
    move |room| {
        let fitting = room.iter().enumerate().filter(|(_, room)| room.holds(need));
        let kept = fitting.map(|(slot, _)| Kept { slot: slot as u32, ranks: 1, room: need });
        let kept: Vec<Kept> = kept.take(nodes as usize).collect();
        (kept.len() == nodes as usize).then_some(kept)
    }
}

/// Looks at every second, with nothing skipped.
fn plainly(
    profile: &Profile,
    need: NodeRoom,
    nodes: u32,
    limit_s: u64,
    own: Option<&Stay<'_>>,
) -> Option<u64> {
    let latest = own.map_or(SECONDS * 4, |own| own.from.seconds());
    (0..latest).find(|start| {
        let mut least = at(profile, *start);
        for second_of in *start..start + limit_s {
            let mut row = at(profile, second_of);
            for kept in own.filter(|own| own.covers(second(second_of))).map_or(&[][..], |own| own.kept) {
                row[kept.slot as usize].put(kept.room);
            }
            if second_of == *start {
                least.clone_from(&row);
            }
            least = least.iter().zip(&row).map(|(a, b)| a.at_most(*b)).collect();
        }
        choose(need, nodes)(&least).is_some()
    })
}

fn steps() -> impl Strategy<Value = Vec<(u64, Vec<(u32, u64)>)>> {
    prop::collection::vec((1..9u64, prop::collection::vec((0..4u32, 0..4u64), 3)), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_earliest_start_is_the_one_that_a_plain_look_at_every_second_finds(
        steps in steps(),
        tasks in prop::collection::vec((1..4u32, 0..4u64, 1..4u32, 1..12u64), 1..8),
    ) {
        let mut profile = profile(&steps);
        let mut kept: Vec<(u64, u64, NodeRoom, u32, Vec<Kept>)> = Vec::new();
        for (cores, gib, nodes, limit_s) in tasks {
            let need = room(cores, gib);
            let request = Request { nodes: Some(nodes), ranks: nodes, cores_per_rank: cores, ..Request::default() };
            let search = Search { request: &request, own: None };
            let spans = |start: Timestamp| (start.plus_seconds(limit_s), start.plus_seconds(limit_s));
            let found = profile.earliest(&search, spans, ranks(need), |_, _, _| {}, choose(need, nodes));
            let plain = plainly(&profile, need, nodes, limit_s, None);
            prop_assert_eq!(found.as_ref().map(|(start, ..)| start.seconds()), plain);
            let Some((start, _, room)) = found else { continue };
            let taken = profile.take(&Stay { from: start, to: start.plus_seconds(limit_s), kept: &room });
            prop_assert!(taken);
            kept.push((start.seconds(), limit_s, need, nodes, room));
        }
        // Each is lifted once, as if what it keeps were free.
        for (start, limit_s, need, nodes, room) in &kept {
            let own = Stay { from: second(*start), to: second(start + limit_s), kept: room };
            let request =
                Request { nodes: Some(*nodes), ranks: *nodes, cores_per_rank: need.cores, ..Request::default() };
            let search = Search { request: &request, own: Some(&own) };
            let spans = |start: Timestamp| (start.plus_seconds(*limit_s), start.plus_seconds(*limit_s));
            let found = profile.earliest(&search, spans, ranks(*need), |_, _, _| {}, choose(*need, *nodes));
            let plain = plainly(&profile, *need, *nodes, *limit_s, Some(&own));
            prop_assert_eq!(found.map(|(start, ..)| start.seconds()), plain);
            let within = profile.least_within(&own).to_vec();
            prop_assert!(choose(*need, *nodes)(&within).is_some(), "its own place holds it");
        }
    }

    #[test]
    fn what_is_taken_at_once_is_what_is_taken_one_after_the_other(
        steps in steps(),
        spans in prop::collection::vec((0..SECONDS, 1..20u64, 0..3u32, 0..3u32, 0..3u64), 0..8),
    ) {
        let base = profile(&steps);
        let kept: Vec<_> = spans
            .iter()
            .map(|(from, long, slot, cores, gib)| (*from, *long, [Kept { slot: *slot, ranks: 1, room: room(*cores, *gib) }]))
            .collect();
        let spans: Vec<Stay<'_>> = kept
            .iter()
            .map(|(from, long, kept)| Stay { from: second(*from), to: second(from + long), kept })
            .collect();
        let mut one_by_one = profile(&steps);
        let all_there = spans.iter().all(|span| one_by_one.take(span));
        match base.without(&spans) {
            None => prop_assert!(!all_there),
            Some(at_once) => {
                prop_assert!(all_there);
                for second_of in 0..SECONDS + 25 {
                    prop_assert_eq!(at(&at_once, second_of), at(&one_by_one, second_of));
                }
                for profile in [&at_once, &one_by_one] {
                    for step in &profile.steps {
                        let cores: u64 = profile.row(*step).iter().map(|room| u64::from(room.cores)).sum();
                        prop_assert_eq!(step.cores, cores);
                    }
                }
                for span in &spans {
                    one_by_one.give(span);
                }
                for second_of in 0..SECONDS + 25 {
                    prop_assert_eq!(at(&base, second_of), at(&one_by_one, second_of));
                }
            }
        }
    }
}
