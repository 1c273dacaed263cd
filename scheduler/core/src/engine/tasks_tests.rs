//! Dependencies on several tasks of one job.

use crate::ids::{JobId, TaskId, TaskIndex};
use crate::input::{GoneHow, Input};
use crate::state::{Known, State};
use crate::testing::{ANN, Bench, config, job};

/// A bench with room for everything, and an array of ten tasks that run.
fn with_an_array() -> (Bench, JobId) {
    let mut bench = Bench::new(config(&[16]));
    let array = bench.submit(ANN, job(ANN).array(10, None)).unwrap();
    for index in 0..10 {
        bench.start(bench.key_of(array, index));
    }
    (bench, array)
}

fn end(bench: &mut Bench, array: JobId, index: u32, code: u32) {
    let key = bench.key_of(array, index);
    bench.gone(key, 0, GoneHow::Exited { code, signal: 0, out_of_memory: false });
}

fn depends_on(bench: &mut Bench, text: &str) -> JobId {
    bench.submit(ANN, job(ANN).after(text)).unwrap()
}

#[test]
fn a_job_waits_for_exactly_the_tasks_that_it_names() {
    let (mut bench, array) = with_an_array();
    end(&mut bench, array, 1, 0);
    let ok = depends_on(&mut bench, &format!("afterok:{array}_[1-3,8]"));
    let any = depends_on(&mut bench, &format!("afterany:{array}_[2,4]"));
    let not_ok = depends_on(&mut bench, &format!("afternotok:{array}_[3-4]"));
    end(&mut bench, array, 0, 5);
    end(&mut bench, array, 2, 0);
    end(&mut bench, array, 8, 0);
    assert!(!bench.is_live(ok) && !bench.is_live(any) && !bench.is_live(not_ok));
    end(&mut bench, array, 3, 0);
    assert!(bench.is_live(ok), "task 0 failed, and is not named");
    assert!(!bench.is_live(not_ok));
    end(&mut bench, array, 4, 1);
    assert!(bench.is_live(any) && bench.is_live(not_ok));
}

#[test]
fn a_named_task_that_fails_decides_at_once() {
    let (mut bench, array) = with_an_array();
    let never = depends_on(&mut bench, &format!("afterok:{array}_[1-3]"));
    let mut cancelled = job(ANN).after(&format!("afternotok:{array}_[6-7]"));
    cancelled.eligibility.cancel_unfulfillable = true;
    let cancelled = bench.submit(ANN, cancelled).unwrap();
    end(&mut bench, array, 2, 1);
    let state = bench.engine.state();
    assert_eq!(state.jobs[&never].depends, [Known::Never]);
    assert_eq!(state.dependents(array).collect::<Vec<_>>(), [cancelled]);
    let late = depends_on(&mut bench, &format!("afterok:{array}_[2-3]"));
    assert_eq!(bench.engine.state().jobs[&late].depends, [Known::Never], "it had failed before");
    end(&mut bench, array, 6, 0);
    assert!(bench.finished(cancelled).is_none());
    end(&mut bench, array, 7, 0);
    bench.after_s(0);
    assert!(bench.finished(cancelled).is_some(), "both ended with success");
}

#[test]
fn tasks_that_are_cancelled_together_are_counted_one_by_one() {
    let mut bench = Bench::new(config(&[2]));
    let array = bench.submit(ANN, job(ANN).array(1000, None)).unwrap();
    let any = depends_on(&mut bench, &format!("afterany:{array}_[2-998:2]"));
    let all_but = depends_on(&mut bench, &format!("afterany:{array}_[1-999]"));
    bench.cancel(ANN, array).unwrap();
    assert!(!bench.is_live(any) && !bench.is_live(all_but), "no core is free, and task 1 is ending");
    let known = &bench.engine.state().jobs[&all_but].depends;
    assert_eq!(*known, [Known::Ending { left: 1, failed: true }]);
    for index in [0, 1] {
        bench.gone(bench.key_of(array, index), 0, GoneHow::Stopped);
    }
    assert!(bench.is_live(any) && bench.is_live(all_but));
}

#[test]
fn after_waits_until_all_named_tasks_have_begun() {
    let mut bench = Bench::new(config(&[8]));
    let array = bench.submit(ANN, job(ANN).array(4, Some(3))).unwrap();
    bench.start(bench.key_of(array, 0));
    let after = depends_on(&mut bench, &format!("after:{array}_[0,2-3]"));
    let later = depends_on(&mut bench, &format!("after:{array}_[0-2]+1"));
    bench.after_s(10);
    bench.start(bench.key_of(array, 2));
    // What is tried again has begun before.
    bench.gone(bench.key_of(array, 0), 0, GoneHow::Broken { reason: "lost".to_owned() });
    bench.start(bench.key_of(array, 3));
    assert!(bench.is_live(after));
    bench.start(bench.key(after));
    bench.start(bench.key_of(array, 1));
    bench.after_s(59);
    assert!(!bench.is_live(later));
    bench.after_s(1);
    assert!(bench.is_live(later));
}

#[test]
fn a_list_of_tasks_that_are_not_there_is_refused() {
    let (mut bench, array) = with_an_array();
    let plain = bench.submit(ANN, job(ANN)).unwrap();
    for (text, told) in [
        (
            format!("afterok:{array}_[8-12]"),
            format!("cannot depend on {array}_[8-12]: the job has no task 10"),
        ),
        (format!("afterok:{plain}_[0-1]"), "has no task 1".to_owned()),
        (format!("afterok:{plain}_3"), "has no task 3".to_owned()),
        (format!("aftercorr:{array}_[0-1]"), "aftercorr joins the tasks of two arrays".to_owned()),
    ] {
        let refusal = bench.submit(ANN, job(ANN).array(2, None).after(&text)).unwrap_err().to_string();
        assert!(refusal.contains(&told), "{text}: {refusal}");
    }
    let stored = depends_on(&mut bench, &format!("afterok:{array}_[0-9]"));
    let text = serde_json::to_string(bench.engine.state()).unwrap();
    assert!(text.contains(&format!("afterok:{array}_[0-9]")), "kept as it was said");
    let read: State = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *bench.engine.state());
    let target = crate::ids::JobRef { job: stored, task: None };
    bench.input(Input::Cancel { caller: ANN, target });
    assert_eq!(bench.engine.state().dependents(array).count(), 0);
    let task = TaskId { job: array, index: TaskIndex(0) };
    assert!(bench.engine.state().live_attempt(task).is_some());
}
