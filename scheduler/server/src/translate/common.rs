//! What all tasks of an array are told alike: encoded once, and not copied and encoded for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use muster_core::spec::JobSpec;
use muster_wire::{Told, v1};

/// Arrays that are remembered.
const ARRAYS_MAX: usize = 8;
/// Longest part that is remembered, in bytes: what starts seldom may be as long as it likes.
const BYTES_MAX: usize = 256 << 10;
/// A variable that differs from node to node for tasks of the batch service, and for whatever they submit.
pub(super) const WHOSE_NODE: &str = "AZ_BATCH_NODE_IS_DEDICATED";

/// The arrays that were told of last.
#[derive(Default)]
pub struct Arrays(Mutex<VecDeque<Known>>);

struct Known {
    /// Held, so that no other spec can be at its place in memory.
    spec: Arc<JobSpec>,
    is_primary: bool,
    encoded: Bytes,
}

impl Arrays {
    /// What its tasks are told alike, if it is an array of which that can be said: an encoded [`v1::Prepare`].
    pub(super) fn common(&self, spec: &Arc<JobSpec>, is_primary: bool) -> Option<Bytes> {
        spec.array.as_ref()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Known| Arc::ptr_eq(&known.spec, spec) && known.is_primary == is_primary;
        if let Some(found) = known.iter().find(|known| is_it(known)) {
            return Some(found.encoded.clone());
        }
        if spec.environment.contains_key(WHOSE_NODE) {
            return None;
        }
        let mut prepare = v1::Prepare { user: Some(user(spec)), ..v1::Prepare::default() };
        prepare.add_work(&work(spec, is_primary));
        let encoded = Told::common(&prepare);
        if encoded.len() > BYTES_MAX {
            return None;
        }
        known.truncate(ARRAYS_MAX - 1);
        known.push_front(Known { spec: Arc::clone(spec), is_primary, encoded: encoded.clone() });
        Some(encoded)
    }
}

/// Who runs it.
pub(super) fn user(spec: &JobSpec) -> v1::User {
    v1::User { name: spec.user.name.clone(), uid: spec.user.uid, gid: spec.user.gid }
}

/// What [`v1::Work`] holds of a spec as it is.
pub(super) fn work(spec: &JobSpec, is_primary: bool) -> v1::Work {
    let limit = |(name, soft): (&String, &u64)| v1::ResourceLimit { name: name.clone(), soft: *soft };
    v1::Work {
        job_name: spec.name.clone(),
        pool: spec.pool.clone().unwrap_or_default(),
        script: if is_primary { spec.script.as_bytes().to_vec() } else { Vec::new() },
        arguments: spec.arguments.clone(),
        environment: (*spec.environment).clone().into_iter().collect(),
        working_directory: spec.working_directory.clone(),
        append: spec.append,
        umask: spec.umask,
        limits: spec.limits.iter().map(limit).collect(),
        submit_host: spec.submit_host.clone(),
        account: spec.account.clone().unwrap_or_default(),
        qos: spec.qos.clone().unwrap_or_default(),
        ..v1::Work::default()
    }
}

#[cfg(test)]
mod tests {
    use muster_core::event::Allocation;
    use muster_core::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex};
    use muster_core::input::Effect;
    use muster_core::spec::{ArraySpec, IndexRange, User};
    use muster_core::state::State;

    use super::*;
    use crate::secrets::Secrets;
    use crate::translate::Translator;

    fn array(variable: &str) -> Arc<JobSpec> {
        let spec = serde_json::json!({
            "name": "sweep", "pool": "main", "user": User { name: "ada".into(), uid: 7, gid: 8 },
            "script": "#!/bin/sh\ntrue\n", "arguments": ["a"], "environment": {variable: "1"}, "working_directory": "/w",
            "stdin": null, "stdout": "%a.out", "stderr": null, "append": true, "umask": 18, "limits": {"nofile": 9},
            "submit_host": "head", "request": muster_core::spec::Request::default(), "time_limit_s": 60,
            "array": ArraySpec { indices: vec![IndexRange { first: 0, last: 9, step: 1 }], running_max: None },
            "requeue": true, "priority": 0,
        });
        Arc::new(serde_json::from_value(spec).unwrap())
    }

    /// What a node hears of a task of a spec.
    fn told(translator: &Translator, spec: &Arc<JobSpec>, task: u32, instance: u32) -> (bool, v1::Prepare) {
        let task = TaskId { job: JobId(1), index: TaskIndex(task) };
        let effect = Effect::Prepare {
            node: NodeId(0),
            key: AttemptKey { task, attempt: 1 },
            instance,
            allocation: Arc::new(Allocation { shares: Vec::new(), cores_per_rank: 1 }),
            spec: Arc::clone(spec),
            time_limit_s: Some(60),
            after: None,
        };
        let told = translator.message(&State::new(), &Secrets::new(&[1; 32]), None, &effect);
        match told.heard().unwrap().body {
            Some(v1::to_node::Body::Prepare(prepare)) => (matches!(told, Told::Prepare { .. }), prepare),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_hear_the_same_of_a_task_whether_a_part_was_encoded_before_or_not() {
        let translator = Translator::default();
        let (spec, other) = (array("PATH"), array(WHOSE_NODE));
        for (task, instance) in [(3, 0), (4, 0), (3, 1)] {
            let (in_parts, prepare) = told(&translator, &spec, task, instance);
            let (as_one, plain) = told(&translator, &other, task, instance);
            assert_eq!((in_parts, as_one), (true, false));
            let work = v1::Work {
                stdout_path: format!("/w/{task}.out"),
                time_limit_s: 60,
                ..work(&spec, instance == 0)
            };
            let heard = |prepare: &v1::Prepare| prepare.decode_work().unwrap().unwrap();
            assert_eq!((heard(&prepare), prepare.user.clone()), (work.clone(), Some(user(&spec))));
            assert_eq!((prepare.work.len(), plain.work.len()), (2, 1));
            assert_eq!(work.script.is_empty(), instance != 0);
            // The variable is the only difference between the two.
            let in_plain = heard(&plain);
            assert_eq!(in_plain, v1::Work { environment: in_plain.environment.clone(), ..work });
            assert_eq!(plain, v1::Prepare { work: plain.work.clone(), ..prepare });
        }
    }

    #[test]
    fn only_a_few_arrays_are_remembered_and_none_that_is_long() {
        let arrays = Arrays::default();
        let specs: Vec<_> = (0..=ARRAYS_MAX).map(|_| array("PATH")).collect();
        for spec in &specs {
            assert!(arrays.common(spec, true).is_some());
        }
        assert_eq!(arrays.0.lock().unwrap().len(), ARRAYS_MAX);
        assert_eq!((Arc::strong_count(&specs[0]), Arc::strong_count(&specs[ARRAYS_MAX])), (1, 2));
        let mut long = (*specs[0]).clone();
        long.arguments = vec!["a".repeat(BYTES_MAX)];
        assert!(arrays.common(&Arc::new(long), true).is_none());
        let no_array = JobSpec { array: None, ..(*specs[0]).clone() };
        assert!(arrays.common(&Arc::new(no_array), true).is_none());
    }
}
