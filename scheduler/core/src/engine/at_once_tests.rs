//! Attempts that start with the word to prepare.

use std::sync::Arc;

use crate::event::{Event, Hardware, HardwareCore, Usage, Verdict};
use crate::ids::Timestamp;
use crate::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport};
use crate::state::{FinishedHow, LivePhase};
use crate::testing::{ANN, Bench, config, job};

fn events(bench: &Bench, from: usize) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::AttemptPlaced { .. } => "placed",
        Event::InstanceReady { .. } => "ready",
        Event::AttemptGo { .. } => "go",
        Event::AttemptRunning { .. } => "running",
        Event::InstanceGone { .. } => "gone",
        Event::InstanceLost { .. } => "lost",
        Event::AttemptEnding { .. } => "ending",
        Event::AttemptEnded { .. } => "ended",
        Event::AttemptRan { .. } => "ran",
        _ => "other",
    };
    bench.records[from..].iter().map(|record| name(&record.event)).collect()
}

/// The node comes back after a new start, and holds nothing.
fn reboot(bench: &mut Bench, node: &str) {
    let core = HardwareCore { package: 0, numa: 0, l3: 0, threads: 1 };
    let hardware =
        Hardware { cores: vec![core; 2], memory_bytes: 64 * crate::testing::GIB, ..Hardware::default() };
    bench.input(Input::NodeHello {
        node: node.to_owned(),
        boot_id: "another boot".to_owned(),
        hardware: Arc::new(hardware),
        held: Vec::new(),
    });
}

#[test]
fn its_start_is_told_without_a_word_to_start() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let (key, placed_at) = (bench.key(id), bench.now);
    bench.now = bench.now.plus_seconds(2);
    let from = bench.records.len();
    let started_at = placed_at.plus_seconds(1);
    bench.report(key, 0, InstancePhase::Running { started_at });
    assert_eq!(events(&bench, from), ["go", "running"]);
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Go { .. })));
    let live = bench.engine.state().live_attempt(key.task).unwrap();
    assert_eq!(live.phase, LivePhase::Running { go_at: placed_at, started_at: Some(started_at) });
    // The same once more, and its end.
    bench.report(key, 0, InstancePhase::Running { started_at });
    bench.exit(key, 0);
    assert_eq!(events(&bench, from), ["go", "running", "gone", "ending", "ended"]);
}

#[test]
fn an_end_that_is_told_with_its_start_is_whole() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let (key, placed_at) = (bench.key(id), bench.now);
    let from = bench.records.len();
    bench.now = bench.now.plus_seconds(1);
    let how = GoneHow::Exited { code: 3, signal: 0, out_of_memory: false };
    let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: Some(placed_at) };
    bench.effects.clear();
    bench.report(key, 0, phase);
    assert_eq!(events(&bench, from), ["ran"]);
    assert!(matches!(&bench.effects[..], [Effect::Forget { key: forgotten, .. }] if *forgotten == key));
    let FinishedHow::Ran { verdict, started_at, .. } = &bench.finished(id).unwrap().how else { panic!() };
    assert_eq!((verdict, *started_at), (&Verdict::Exited { code: 3 }, Some(placed_at)));
}

#[test]
fn an_end_that_is_told_with_its_start_means_what_both_mean() {
    for (code, signal, out_of_memory) in [(0, 0, false), (7, 0, false), (0, 9, false), (0, 9, true)] {
        let told = |with_the_start: bool| {
            let mut bench = Bench::new(config(&[1, 2]));
            let first = bench.submit(ANN, job(ANN)).unwrap();
            // One waits for its end, and one for its place.
            bench.submit(ANN, job(ANN).after(&format!("afterany:{first}"))).unwrap();
            bench.submit(ANN, job(ANN).ranks(2)).unwrap();
            bench.submit(ANN, job(ANN)).unwrap();
            let key = bench.key(first);
            bench.effects.clear();
            bench.now = bench.now.plus_seconds(1);
            let usage = Usage { cpu_time_us: 5, memory_peak_bytes: 6, ..Usage::default() };
            let how = GoneHow::Exited { code, signal, out_of_memory };
            let started_at = bench.now;
            if with_the_start {
                bench.report(key, 0, InstancePhase::Gone { how, usage, started_at: Some(started_at) });
                assert!(events(&bench, 0).contains(&"ran"));
            } else {
                bench.report(key, 0, InstancePhase::Running { started_at });
                bench.report(key, 0, InstancePhase::Gone { how, usage, started_at: None });
            }
            assert!(bench.engine.is_consistent());
            let parts = |record: &crate::event::Record| -> Vec<Event> {
                record.event.parts().map(std::borrow::Cow::into_owned).collect()
            };
            let events: Vec<Event> = bench.records.iter().flat_map(parts).collect();
            (events, bench.engine.state().clone(), bench.effects)
        };
        assert_eq!(told(true), told(false));
    }
}

#[test]
fn a_gang_never_starts_by_itself() {
    let mut bench = Bench::new(config(&[2, 2]));
    let id = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    let key = bench.key(id);
    let from = bench.records.len();
    bench.report(key, 0, InstancePhase::Running { started_at: bench.now });
    assert!(events(&bench, from).is_empty());
}

#[test]
fn a_node_that_was_started_anew_may_have_run_what_it_does_not_know() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    // In the same boot nothing can have been forgotten: the word was lost on the way.
    bench.effects.clear();
    bench.hello("n1", 2, Vec::new());
    assert!(matches!(&bench.effects[..], [Effect::Prepare { .. }]));
    let from = bench.records.len();
    reboot(&mut bench, "n1");
    assert_eq!(events(&bench, from), ["other", "lost", "ending", "ended"]);
    assert_eq!(bench.engine.state().jobs[&id].tried.len(), 1, "it waits for its next attempt");
    let once = bench.submit(ANN, crate::spec::JobSpec { requeue: false, ..job(ANN) }).unwrap();
    reboot(&mut bench, "n1");
    bench.input(Input::NodeHello {
        node: "n1".to_owned(),
        boot_id: "a third one".to_owned(),
        hardware: Arc::new(Hardware {
            cores: vec![HardwareCore { package: 0, numa: 0, l3: 0, threads: 1 }; 2],
            ..Hardware::default()
        }),
        held: Vec::new(),
    });
    let FinishedHow::Ran { verdict, .. } = &bench.finished(once).unwrap().how else { panic!() };
    assert!(matches!(verdict, Verdict::NodeFailed { .. }), "it never runs twice: {verdict:?}");
}

#[test]
fn one_whose_node_comes_back_with_it_goes_on() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let key = bench.key(id);
    for phase in [InstancePhase::Preparing, InstancePhase::Running { started_at: Timestamp(0) }] {
        bench.effects.clear();
        bench.hello("n1", 2, vec![InstanceReport { key, instance: 0, phase }]);
        assert!(bench.effects.is_empty(), "{:?}", bench.effects);
    }
    let live = bench.engine.state().live_attempt(key.task).unwrap();
    assert!(matches!(live.phase, LivePhase::Running { started_at: Some(_), .. }));
}
