//! What becomes of tasks whose files cannot be moved.

use std::sync::Arc;

use crate::event::{Endpoint, Verdict};
use crate::input::{Effect, GoneHow, InstancePhase, Refusal};
use crate::spec::JobSpec;
use crate::staging::{FailureCode, InputFile, InputSource, Staging, StagingFailure};
use crate::state::FinishedHow;
use crate::testing::{ANN, Bench, config, job};

fn with_input(path: &str) -> JobSpec {
    let source = InputSource::Path { path: path.to_owned() };
    let inputs = vec![InputFile { source, path: None, mode: None }];
    JobSpec { staging: Some(Arc::new(Staging { inputs, ..Staging::default() })), ..job(ANN) }
}

fn verdict(bench: &Bench, job: crate::ids::JobId) -> Verdict {
    match &bench.finished(job).expect("the job finished").how {
        FinishedHow::Ran { verdict, .. } => verdict.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_cannot_be_brought_end_the_whole_gang_for_good() {
    let mut bench = Bench::new(config(&[2, 2]));
    let id = bench.submit(ANN, with_input("/a").gang(2, 1)).unwrap();
    let key = bench.key(id);
    bench.report(key, 0, InstancePhase::Ready(Endpoint::default()));
    let failure = StagingFailure { code: FailureCode::BlobNotFound, message: "/a is not there".to_owned() };
    bench.effects.clear();
    bench.gone(key, 1, GoneHow::StageInFailed(failure.clone()));
    assert!(
        bench.effects.iter().any(|effect| matches!(effect, Effect::Stop { .. })),
        "the other instance is stopped"
    );
    bench.gone(key, 0, GoneHow::Stopped);
    match verdict(&bench, id) {
        Verdict::StageInFailed { failure: told, .. } => assert_eq!(told, failure),
        other => panic!("{other:?}"),
    }
    assert!(bench.engine.state().nodes.iter().all(|node| node.held.is_none()), "no node is at fault");
}

#[test]
fn a_success_whose_files_cannot_be_taken_away_is_none() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, with_input("/a")).unwrap();
    let key = bench.key(id);
    bench.start(key);
    let failure = StagingFailure { code: FailureCode::FileUploadAccessDenied, message: "no".to_owned() };
    bench.gone(key, 0, GoneHow::StageOutFailed(failure.clone()));
    let verdict = verdict(&bench, id);
    assert_eq!(verdict, Verdict::StageOutFailed { failure });
    assert!(!verdict.is_success() && verdict.came_by_itself());
}

#[test]
fn files_have_their_own_time_before_the_start() {
    let mut bench = Bench::new(config(&[2, 2]));
    let prepare_s = bench.engine.state().config.policy.prepare_timeout_s;
    let plain = bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    let staged = bench.submit(ANN, with_input("/a").ranks(2)).unwrap();
    let attempts = |bench: &Bench| [plain, staged].map(|job| bench.key(job).attempt);
    assert_eq!(attempts(&bench), [1, 1]);
    bench.after_s(prepare_s + 1);
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { key, .. } if key.task.job == plain))
    );
    assert!(
        !bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { key, .. } if key.task.job == staged))
    );
    bench.after_s(crate::staging::PREPARE_DEFAULT_S);
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Stop { key, .. } if key.task.job == staged))
    );
}

#[test]
fn what_no_node_could_bring_is_refused() {
    let mut bench = Bench::new(config(&[2]));
    match bench.submit(ANN, with_input("relative")) {
        Err(Refusal::BadField { field: "staging", problem }) => {
            assert!(problem.contains("absolute"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
}
