//! Lines of short tasks.

use std::sync::Arc;

use super::lines::LINE_MAX;
use crate::event::{Event, Hardware, HardwareCore, Usage, Verdict};
use crate::ids::{AttemptKey, JobId, JobRef, TaskId, TaskIndex, Timestamp};
use crate::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport, Refusal};
use crate::spec::{JobSpec, SignalTo};
use crate::state::LivePhase;
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

const EXITED: GoneHow = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };

/// A node says hello whose agent takes lines.
fn hello(bench: &mut Bench, node: &str, cores: u32, held: Vec<InstanceReport>) {
    let core = HardwareCore { package: 0, numa: 0, l3: 0, threads: 1 };
    let hardware = Hardware {
        cores: vec![core; cores as usize],
        memory_bytes: 64 * crate::testing::GIB,
        takes_lines: true,
        ..Hardware::default()
    };
    let (node, boot_id) = (node.to_owned(), "boot".to_owned());
    bench.input(Input::NodeHello { node, boot_id, hardware: Arc::new(hardware), held });
}

/// A cluster of one node that takes lines.
fn cluster(cores: u32) -> Bench {
    let mut bench = Bench::new(config(&[cores]));
    hello(&mut bench, "n1", cores, Vec::new());
    bench
}

fn key(job: JobId, index: u32) -> AttemptKey {
    AttemptKey { task: TaskId { job, index: TaskIndex(index) }, attempt: 1 }
}

fn gone(how: GoneHow, started_at: Option<Timestamp>) -> InstancePhase {
    InstancePhase::Gone { how, usage: Usage::default(), started_at }
}

/// It ran from a millisecond ago until now.
fn ran(bench: &mut Bench, key: AttemptKey) {
    ran_for(bench, key, 1);
}

fn ran_for(bench: &mut Bench, key: AttemptKey, time_ms: u64) {
    bench.now = Timestamp(bench.now.0 + time_ms * 1_000);
    let started_at = Timestamp(bench.now.0 - time_ms * 1_000);
    bench.report(key, 0, gone(EXITED, Some(started_at)));
}

/// So many tasks of the array have run, and the next one of each core stands at the head of a line.
fn with_lines(bench: &mut Bench, spec: JobSpec) -> JobId {
    let id = bench.submit(ANN, spec).unwrap();
    for index in 0..10 {
        ran(bench, key(id, index));
    }
    id
}

/// The tasks in a line, from its head on.
fn line(bench: &Bench, head: AttemptKey) -> Vec<u32> {
    let state = bench.engine.state();
    std::iter::successors(Some(head), |key| state.behind(*key)).map(|key| key.task.index.0).collect()
}

fn head(bench: &Bench, job: JobId) -> AttemptKey {
    bench
        .engine
        .state()
        .live()
        .find(|(key, _, live)| key.task.job == job && live.holds_allocation())
        .unwrap()
        .0
}

#[test]
fn what_ran_is_the_same_as_its_parts_one_after_another() {
    let mut bench = cluster(2);
    let id = with_lines(&mut bench, job(ANN).array(200, None).limit_s(60));
    // One from within a line, one that fails, and one that others wait for.
    let head = head(&bench, id);
    let within = line(&bench, head)[2];
    ran(&mut bench, key(id, within));
    bench.now = bench.now.plus_seconds(1);
    let started = Some(bench.now);
    let failed = GoneHow::Exited { code: 3, signal: 0, out_of_memory: false };
    bench.report(head, 0, gone(failed, started));
    let waits = bench.submit(BOB, job(BOB).after(&format!("afterany:{id}"))).unwrap();
    let next_of = |bench: &Bench| {
        let mut live = bench.engine.state().live();
        live.find_map(|(key, ..)| (key.task.job == id).then_some(key))
    };
    while let Some(next) = next_of(&bench) {
        ran(&mut bench, next);
    }
    let next = bench.key(waits);
    ran(&mut bench, next);
    let (mut whole, mut by_parts) = (crate::state::State::new(), crate::state::State::new());
    let mut together = 0;
    for record in &bench.records {
        together += u32::from(matches!(record.event, Event::AttemptRan { .. }));
        whole.evolve(&record.event, record.at);
        record.event.parts().for_each(|part| by_parts.evolve(&part, record.at));
        assert_eq!(whole, by_parts, "after {record:?}");
    }
    assert_eq!(together, 201);
    let mut gathered = crate::state::State::new();
    let at_once = |record: &crate::event::Record| crate::event::Record { at: bench.now, ..record.clone() };
    let records = crate::event::Record::gathered(bench.records.iter().map(at_once).collect());
    let mut one_by_one = crate::state::State::new();
    records.iter().for_each(|record| gathered.evolve(&record.event, record.at));
    bench.records.iter().for_each(|record| one_by_one.evolve(&record.event, bench.now));
    assert_eq!(gathered, one_by_one);
}

#[test]
fn short_tasks_are_lined_up_and_follow_one_another() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let before = line(&bench, head);
    assert!(before.len() > LINE_MAX / 2 && before.len() <= LINE_MAX + 1, "{before:?}");
    let prepared = |bench: &Bench, key: AttemptKey| {
        bench.effects.iter().rev().find_map(|effect| match effect {
            Effect::Prepare { key: prepared, after, .. } if *prepared == key => Some(*after),
            _ => None,
        })
    };
    let next = key(id, before[1]);
    assert_eq!(prepared(&bench, next), Some(Some(head)));
    assert_eq!(bench.engine.state().nodes[0].free.len(), 0);
    assert_eq!(bench.engine.state().nodes[0].attempts.len(), before.len());
    // The whole line, and what was added to it meanwhile, runs on the one core.
    let records = bench.records.len();
    for _ in 0..100 {
        let head = self::head(&bench, id);
        ran(&mut bench, head);
    }
    assert_eq!(bench.engine.state().jobs[&id].finished.len(), 110);
    let events = bench.records[records..].iter().map(|record| &record.event);
    let (mut placed, mut lines) = (0, 0);
    events.for_each(|event| match event {
        Event::AttemptPlaced { .. } => placed += 1,
        Event::LineMade { .. } => lines += 1,
        _ => {}
    });
    assert_eq!(placed, 0, "each goes on with what the one before it had");
    assert!(lines <= 100 / (LINE_MAX / 2) + 1, "{lines}");
}

#[test]
fn a_line_is_as_long_as_its_tasks_are_short() {
    for (time_ms, waiting) in [(1, LINE_MAX), (5, 50), (25, 10), (50, 5), (51, 0)] {
        let mut bench = cluster(1);
        let id = bench.submit(ANN, job(ANN).array(1000, None)).unwrap();
        for index in 0..10 {
            ran_for(&mut bench, key(id, index), time_ms);
        }
        let before = line(&bench, head(&bench, id)).len() - 1;
        // It has become shorter by those that ran since it was made.
        assert!(before <= waiting && before >= waiting.saturating_sub(2), "{time_ms} ms: {before}");
    }
}

#[test]
fn how_long_tasks_took_is_what_their_node_says_and_not_when_it_told() {
    for (ran_ms, told_after_ms, waiting) in [(5, 90, 50), (25, 0, 10), (50, 0, 5), (51, 0, 0)] {
        let mut bench = cluster(1);
        let id = bench.submit(ANN, job(ANN).array(1000, None)).unwrap();
        for index in 0..10 {
            let started_at = bench.now;
            bench.now = Timestamp(started_at.0 + told_after_ms * 1_000);
            let usage = Usage { ran_us: ran_ms * 1_000, ..Usage::default() };
            let phase = InstancePhase::Gone { how: EXITED, usage, started_at: Some(started_at) };
            bench.report(key(id, index), 0, phase);
        }
        let before = line(&bench, head(&bench, id)).len() - 1;
        assert!(before <= waiting && before >= waiting.saturating_sub(2), "{ran_ms} ms: {before}");
    }
}

#[test]
fn a_node_has_no_more_in_its_lines_than_its_agent_has_room_for() {
    let mut bench = cluster(64);
    let id = bench.submit(ANN, job(ANN).array(100_000, None)).unwrap();
    for index in 0..10 {
        ran(&mut bench, key(id, index));
    }
    for _ in 0..60 {
        let head = head(&bench, id);
        ran(&mut bench, head);
    }
    let waiting = bench.engine.state().nodes[0].attempts.len() - 64;
    assert!((1760..=3520).contains(&waiting), "{waiting}");
}

#[test]
fn a_signal_passes_over_those_that_stand_behind_others() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(200, None));
    let head = head(&bench, id);
    let (behind, signal) = (line(&bench, head)[1], 10);
    let to =
        |task| Input::Signal { caller: ANN, target: JobRef { job: id, task }, signal, to: SignalTo::All };
    let refused = bench.input(to(Some(TaskIndex(behind)))).reply;
    assert!(matches!(refused, Err(Refusal::Waits { .. })), "{refused:?}");
    let node = bench.engine.state().live_attempt(head.task).unwrap().allocation.shares[0].node;
    let told = Effect::Signal { node, key: head, signal, to: SignalTo::All };
    assert_eq!(bench.input(to(None)).effects, [told]);
}

/// All attempts that hold an allocation, with how many wait behind each.
fn lines(bench: &Bench) -> Vec<(AttemptKey, usize)> {
    let heads = bench.engine.state().live().filter(|(.., live)| live.holds_allocation());
    heads.map(|(key, ..)| (key, line(bench, key).len() - 1)).collect()
}

#[test]
fn towards_the_end_a_line_takes_half_of_its_part_and_what_is_little() {
    let (cores, time_ms, little) = (4, 5, 2);
    let mut bench = cluster(cores);
    let id = bench.submit(ANN, job(ANN).array(400, None)).unwrap();
    let mut grown = Vec::new();
    while bench.engine.state().jobs[&id].finished_at.is_none() {
        for (head, before) in lines(&bench) {
            let others = lines(&bench);
            ran_for(&mut bench, head, time_ms);
            let lines = lines(&bench);
            let behind: usize = lines.iter().map(|(_, behind)| behind).sum();
            let left = usize::try_from(bench.engine.state().jobs[&id].waiting.len()).unwrap() + behind;
            let part = left.div_ceil(lines.len().max(1));
            let next = lines.iter().find(|(key, _)| others.iter().all(|(other, _)| key != other));
            let Some((_, now)) = next.filter(|(_, now)| *now >= before.max(1)) else { continue };
            let longest = part.min(little).max(part / 2);
            assert!(*now <= longest, "{before} became {now} with {left} left, of which {part} are its part");
            grown.push((*now, part));
        }
    }
    assert!(grown.iter().any(|(now, part)| *now > little && *now == part / 2), "{grown:?}");
    assert!(grown.iter().any(|(now, part)| *now == little && *part <= little), "{grown:?}");
}

#[test]
fn what_is_little_is_handed_out_at_once() {
    let mut bench = cluster(4);
    // They take 1 ms each: those of a core make less than 10 ms.
    let id = with_lines(&mut bench, job(ANN).array(40, None));
    while bench.engine.state().jobs[&id].finished_at.is_none() {
        lines(&bench).into_iter().for_each(|(head, _)| ran(&mut bench, head));
    }
    let lines = bench.records.iter().filter_map(|record| match &record.event {
        Event::LineMade { indices, .. } => Some(indices.iter().map(|range| range.indices().count()).sum()),
        _ => None,
    });
    let lines: Vec<usize> = lines.collect();
    assert_eq!(lines, [7, 7, 7, 4]);
}

#[test]
fn a_whole_array_comes_to_its_end() {
    let mut bench = cluster(3);
    let id = with_lines(&mut bench, job(ANN).array(200, None));
    while bench.engine.state().jobs[&id].finished_at.is_none() {
        let head = head(&bench, id);
        ran(&mut bench, head);
    }
    assert_eq!(bench.engine.state().nodes[0].free.len(), 3);
    // Towards the end nobody waits behind another while a core is idle.
    assert_eq!(bench.engine.state().live_count(), 0);
}

#[test]
fn what_a_node_gives_back_waits_as_before() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let waiting = bench.engine.state().waiting_count();
    let tasks = line(&bench, head);
    bench.report(head, 0, InstancePhase::Running { started_at: bench.now });
    for index in &tasks[1..] {
        bench.report(key(id, *index), 0, gone(GoneHow::Returned, None));
    }
    let state = bench.engine.state();
    assert_eq!(state.waiting_count(), waiting + tasks.len() as u64 - 1);
    assert!(state.jobs[&id].tried.is_empty());
    assert_eq!(line(&bench, head), [tasks[0]]);
    let forgotten = |key: AttemptKey| {
        bench.effects.iter().any(|effect| matches!(effect, Effect::Forget { key: told, .. } if *told == key))
    };
    assert!(tasks[1..].iter().all(|index| forgotten(key(id, *index))));
    // It is placed by itself next, in an attempt of another number that is its first; one that is returned twice changes nothing.
    bench.report_from("n1", key(id, tasks[1]), 0, gone(GoneHow::Returned, None));
    ran(&mut bench, head);
    let again = AttemptKey { attempt: 2, ..key(id, tasks[1]) };
    assert_eq!(self::head(&bench, id), again);
    ran(&mut bench, again);
    let finished = &bench.engine.state().jobs[&id].finished[&again.task.index];
    assert_eq!(finished.how.attempts(), (1, 0));
    assert!(!bench.engine.state().jobs[&id].returned.contains(tasks[1]));
}

#[test]
fn what_stands_in_a_line_is_not_held_with_its_job_unless_it_is_given_back() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let tasks = line(&bench, head);
    bench.input(Input::HoldJob { caller: ANN, target: JobRef { job: id, task: None } }).reply.unwrap();
    ran(&mut bench, head);
    assert_eq!(self::head(&bench, id), key(id, tasks[1]));
    assert_eq!(line(&bench, key(id, tasks[1])), tasks[1..], "and nobody is lined up any more");
    for index in &tasks[2..] {
        bench.report(key(id, *index), 0, gone(GoneHow::Returned, None));
    }
    ran(&mut bench, key(id, tasks[1]));
    assert_eq!(bench.engine.state().live_count(), 0);
}

#[test]
fn one_that_leaves_its_line_closes_the_gap() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let tasks = line(&bench, head);
    let target = crate::ids::JobRef { job: id, task: Some(TaskIndex(tasks[2])) };
    bench.input(Input::Cancel { caller: ANN, target });
    assert!(
        matches!(&bench.effects[..], [.., Effect::Stop { key: stopped, .. }] if *stopped == key(id, tasks[2]))
    );
    // Also while its end is awaited, it holds nothing.
    bench.report(key(id, tasks[2]), 0, gone(GoneHow::Stopped, None));
    assert_eq!(line(&bench, head)[..3], [tasks[0], tasks[1], tasks[3]]);
    // The head is cancelled: the next one goes on with its core.
    bench.input(Input::Cancel {
        caller: ANN,
        target: crate::ids::JobRef { job: id, task: Some(head.task.index) },
    });
    bench.report(head, 0, gone(GoneHow::Stopped, None));
    assert_eq!(self::head(&bench, id), key(id, tasks[1]));
    // And the whole job.
    bench.cancel(ANN, id).unwrap();
    let live: Vec<AttemptKey> = bench.engine.state().live().map(|(key, ..)| key).collect();
    for key in live.into_iter().rev() {
        bench.report(key, 0, gone(GoneHow::Stopped, None));
    }
    assert_eq!(bench.engine.state().nodes[0].free.len(), 1);
    assert!(bench.engine.state().jobs[&id].finished_at.is_some());
}

#[test]
fn its_time_counts_from_the_end_of_the_one_before() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None).limit_s(60));
    let head = head(&bench, id);
    let next = key(id, line(&bench, head)[1]);
    bench.report(head, 0, InstancePhase::Running { started_at: bench.now });
    // It waits for longer than it could prepare or run.
    bench.after_s(50);
    assert_eq!(bench.engine.state().live_attempt(next.task).unwrap().phase, LivePhase::Preparing);
    bench.report(head, 0, gone(EXITED, None));
    bench.report(next, 0, InstancePhase::Running { started_at: bench.now });
    bench.after_s(59);
    assert!(matches!(bench.engine.state().live_attempt(next.task).unwrap().phase, LivePhase::Running { .. }));
    bench.after_s(2);
    let phase = &bench.engine.state().live_attempt(next.task).unwrap().phase;
    assert!(matches!(phase, LivePhase::Ending { verdict: Verdict::TimedOut, .. }), "{phase:?}");
}

#[test]
fn with_a_node_its_lines_are_lost_and_tried_again() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let tasks = line(&bench, head);
    bench.input(Input::NodeSilent { node: "n1".to_owned(), reason: "no heartbeat".to_owned() });
    let state = bench.engine.state();
    assert_eq!((state.live_count(), state.nodes[0].free.len()), (0, 1));
    assert!(tasks.iter().all(|index| state.jobs[&id].tried.contains_key(&TaskIndex(*index))));
}

#[test]
fn a_node_that_comes_back_is_told_of_its_line_again() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let tasks = line(&bench, head);
    bench.effects.clear();
    // The head has gone and the next one runs; what comes after it was lost on the way.
    let next = key(id, tasks[1]);
    let held = |key, phase| InstanceReport { key, instance: 0, phase };
    let present = held(next, InstancePhase::Running { started_at: bench.now });
    let over = held(head, gone(EXITED, Some(bench.now)));
    hello(&mut bench, "n1", 1, vec![present, over]);
    assert_eq!(self::head(&bench, id), next);
    let told: Vec<(AttemptKey, Option<AttemptKey>)> = (bench.effects.iter())
        .filter_map(|effect| match effect {
            Effect::Prepare { key, after, .. } => Some((*key, *after)),
            _ => None,
        })
        .collect();
    assert_eq!(told[0], (key(id, tasks[2]), Some(next)));
    assert!(told.len() >= tasks.len() - 2, "{told:?}");
}

#[test]
fn an_agent_that_knows_of_no_lines_is_told_of_none() {
    let mut bench = cluster(1);
    let id = with_lines(&mut bench, job(ANN).array(1000, None));
    let head = head(&bench, id);
    let tasks = line(&bench, head);
    bench.effects.clear();
    // An older one in its place: it holds the head, and would start the others beside it.
    let running = InstancePhase::Running { started_at: bench.now };
    bench.hello("n1", 1, vec![InstanceReport { key: head, instance: 0, phase: running }]);
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. })));
    assert_eq!(line(&bench, head), [tasks[0]]);
    assert!(tasks[1..].iter().all(|index| bench.engine.state().jobs[&id].waiting.contains(*index)));
}

#[test]
fn nobody_is_lined_up_where_others_have_a_say() {
    let long = |bench: &mut Bench| {
        let id = bench.submit(ANN, job(ANN).array(1000, None)).unwrap();
        for index in 0..10 {
            bench.now = Timestamp(bench.now.0 + 200_000);
            bench.report(key(id, index), 0, gone(EXITED, Some(Timestamp(bench.now.0 - 200_000))));
        }
        id
    };
    let none_in_line = |bench: &Bench| bench.engine.state().live().all(|(.., live)| live.holds_allocation());
    // Its tasks take too long.
    let mut bench = cluster(1);
    long(&mut bench);
    assert!(none_in_line(&bench));
    // The node's agent does not know of lines.
    let mut bench = Bench::new(config(&[1]));
    with_lines(&mut bench, job(ANN).array(1000, None));
    assert!(none_in_line(&bench));
    // What may have run must not run again, only so many may run, or others come first.
    for spec in [
        JobSpec { requeue: false, ..job(ANN).array(1000, None) },
        job(ANN).array(1000, Some(1)),
        job(ANN).array(1000, None).deadline(Timestamp(1 << 50)),
    ] {
        let mut bench = cluster(1);
        with_lines(&mut bench, spec);
        assert!(none_in_line(&bench));
    }
    let mut bench = cluster(2);
    let id = bench.submit(ANN, job(ANN).array(1000, None)).unwrap();
    let first = JobSpec { priority: 10, ..job(BOB).gang(1, 2) };
    bench.submit(ROOT, first).unwrap();
    for index in 0..10 {
        if bench.engine.state().live_attempt(key(id, index).task).is_some() {
            ran(&mut bench, key(id, index));
        }
    }
    assert!(none_in_line(&bench));
}
