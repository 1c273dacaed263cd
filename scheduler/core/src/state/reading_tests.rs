//! Journals and snapshots that are not what was written: damage is an error, or events that cannot be followed are
//! passed over; nothing panics.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::State;
use crate::event::Record;
use crate::gres::Gres;
use crate::input::Input;
use crate::spec::JobSpec;
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

/// A day on a small cluster: its records, and the state at its end.
fn day() -> &'static (Vec<Record>, State) {
    static DAY: OnceLock<(Vec<Record>, State)> = OnceLock::new();
    DAY.get_or_init(|| {
        let mut config = config(&[2, 2]);
        config.nodes[0].gres = vec![Gres { name: "gpu".to_owned(), kind: None, count: 2 }];
        config.nodes[1].features = ["old".to_owned()].into();
        let mut bench = Bench::new(config);
        let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
        bench.start(bench.key(gang));
        let mut gpu: JobSpec = job(BOB);
        gpu.request.gres_per_node = vec!["gpu:1".parse().unwrap()];
        let gpu = bench.submit(BOB, gpu).unwrap();
        bench.submit(ANN, job(ANN).array(5, Some(2))).unwrap();
        let held = bench.submit(ANN, job(ANN).after(&format!("afterok:{gpu}?after:{gang}+3"))).unwrap();
        bench.hold(ANN, held).unwrap();
        bench.submit(BOB, job(BOB).constraint("!old").begin(bench.now.plus_seconds(60))).unwrap();
        bench.exit(bench.key(gang), 3);
        let node = "n2".to_owned();
        bench.input(Input::NodeSilent { node, reason: "cut".to_owned() });
        bench.drain(ROOT, &["n2"], None).unwrap();
        bench.cancel(BOB, gpu).unwrap();
        bench.after_s(3600);
        (bench.records.clone(), bench.engine.state().clone())
    })
}

fn records() -> Vec<String> {
    day().0.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_damaged_record_is_an_error_or_does_no_harm(
        at in any::<prop::sample::Index>(),
        text in crate::mutated::mutated(records(), 3),
    ) {
        let Ok(damaged) = serde_json::from_str::<Record>(&text) else { return Ok(()) };
        let (records, _) = day();
        let mut state = State::new();
        let at = at.index(records.len() + 1);
        for record in records[..at].iter().chain([&damaged]).chain(&records[at..]) {
            state.evolve(&record.event, record.at);
        }
    }

    #[test]
    fn a_damaged_snapshot_is_an_error_or_a_state(
        text in crate::mutated::mutated(vec![serde_json::to_string(&day().1).unwrap()], 3),
    ) {
        if let Ok(state) = serde_json::from_str::<State>(&text) {
            let again: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            prop_assert_eq!(again, state);
        }
    }

    #[test]
    fn a_damaged_job_is_an_error_or_a_job(
        text in crate::mutated::mutated(vec![serde_json::to_string(&job(ANN).array(9, None)).unwrap()], 4),
    ) {
        if let Ok(spec) = serde_json::from_str::<JobSpec>(&text) {
            let again: JobSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
            prop_assert_eq!(&again, &spec);
            // Whatever a client says is taken or refused.
            let mut bench = Bench::new(config(&[2]));
            let _ = bench.submit(ANN, spec);
        }
    }
}
