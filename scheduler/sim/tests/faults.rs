//! A few hundred stormy worlds; `muster-sim` runs as many more as one likes.

use muster_sim::faults::{WorldOptions, run};

#[test]
fn every_promise_is_kept_in_every_world() {
    let (mut started, mut faults, mut preempted, mut recurred, mut lined_up) = (0, 0, 0, 0, 0);
    for seed in 1..=150 {
        let options =
            WorldOptions { seed, nodes: 1 + (seed % 7) as u32, stormy_steps: 200, calm_steps_max: 20_000 };
        match run(options) {
            Ok(outcome) => {
                started += outcome.started;
                preempted += outcome.preempted;
                faults += outcome.faults;
                recurred += outcome.recurred;
                lined_up += outcome.lined_up;
            }
            Err(violation) => panic!("seed {seed}: {violation}: {:?}", std::error::Error::source(&violation)),
        }
    }
    assert!(
        started > 1000 && faults > 1000 && preempted > 200 && recurred > 80 && lined_up > 500,
        "the worlds must be worth it: {started} starts, {faults} faults, {preempted} preempted, {recurred} recurring, \
         {lined_up} lined up"
    );
}
