//! The ledger, the journal and the answers of the controller must tell one story.

use std::collections::{BTreeMap, BTreeSet};

use muster_client::Client;
use muster_client::api::TaskState;
use muster_core::event::Verdict;
use muster_core::ids::{AttemptKey, JobId, JobRef, TaskId, TaskIndex};
use muster_core::state::FIRST_ATTEMPT;

use super::journal::Journal;
use super::ledger::{self, Line, Trace, Traces};
use super::work::{Accepted, NODES, Yard};

/// Everything that does not hold.
pub struct Check<'a> {
    journal: &'a Journal,
    traces: BTreeMap<AttemptKey, Traces>,
    orders: BTreeMap<JobId, &'a Accepted>,
    wrong: Vec<String>,
}

impl<'a> Check<'a> {
    pub fn new(journal: &'a Journal, lines: &[Line], book: &'a [Accepted]) -> Self {
        let wrong = [journal.wrong.clone(), ledger::shared_cores(lines)].concat();
        let orders = book.iter().map(|accepted| (accepted.job, accepted)).collect();
        Self { journal, traces: ledger::by_attempt(lines), orders, wrong }
    }

    /// Compares everything and gives what does not hold.
    pub fn everything(mut self, yard: &Yard) -> Vec<String> {
        self.submits(&yard.doubtful.lock().unwrap());
        for key in self.journal.attempts.keys() {
            self.attempt(*key);
        }
        let strangers = self.traces.keys().filter(|key| !self.journal.attempts.contains_key(key));
        self.wrong.extend(strangers.map(|key| format!("{key} ran, and the controller does not know it")));
        let mut client = yard.site.client().unwrap();
        for accepted in self.orders.clone().into_values() {
            self.job(&mut client, accepted);
        }
        self.wrong
    }

    fn says(&mut self, wrong: String) {
        self.wrong.push(wrong);
    }

    /// What was acknowledged is there under its own name, and nothing is there that nobody submitted, or twice.
    fn submits(&mut self, doubtful: &[String]) {
        let mut names = BTreeSet::new();
        for (job, submitted) in &self.journal.jobs {
            let name = &submitted.spec.name;
            if !names.insert(name) {
                self.wrong.push(format!("{name} is there twice, as {job} and under an earlier id"));
            }
            match self.orders.get(job) {
                Some(accepted) if accepted.name == *name => {}
                Some(accepted) => {
                    self.wrong.push(format!("{} was told {job}, which is {name}", accepted.name));
                }
                None if doubtful.contains(name) => {}
                None => self.wrong.push(format!("nobody knows of job {job}, {name}")),
            }
        }
        let missing = self.orders.keys().filter(|job| !self.journal.jobs.contains_key(job));
        self.wrong.extend(missing.map(|job| format!("job {job} was acknowledged and is not there")));
    }

    /// An attempt ran where and when the controller says, at most once, and ended as the controller says.
    fn attempt(&mut self, key: AttemptKey) {
        let known = &self.journal.attempts[&key];
        if known.returned {
            if known.ended.is_some() || self.traces.contains_key(&key) {
                self.says(format!("{key} was given back, and ran or ended: {:?}", known.ended));
            }
            return;
        }
        let Some((verdict, again)) = known.ended.clone() else {
            return self.says(format!("{key} has not ended"));
        };
        if again
            && matches!(
                verdict,
                Verdict::Exited { .. } | Verdict::Signalled { .. } | Verdict::Cancelled { .. }
            )
        {
            self.says(format!("{key} ended with {verdict:?} and was tried again"));
        }
        for (instance, free) in known.free.iter().enumerate() {
            if free.is_none() {
                self.says(format!("the share of instance {instance} of {key} was never freed"));
            }
        }
        let Some(traces) = self.traces.get(&key) else {
            if matches!(verdict, Verdict::Exited { .. }) {
                self.says(format!("{key} ended with {verdict:?}, and never started"));
            }
            return;
        };
        let mut wrong = Vec::new();
        let ranks_twice = traces.ranks.iter().filter(|(_, (starts, _))| *starts > 1);
        wrong.extend(ranks_twice.map(|(rank, _)| format!("rank {rank} started twice")));
        if traces.starts > 1 {
            wrong.push(format!("started {} times", traces.starts));
        }
        if matches!(verdict, Verdict::PrepareFailed { .. } | Verdict::LaunchFailed { .. }) {
            wrong.push(format!("ran, and ended with {verdict:?}"));
        }
        if let Verdict::Exited { code } = verdict
            && traces.code != Some(code)
        {
            wrong
                .push(format!("exited with {code} for the controller, and with {:?} by itself", traces.code));
        }
        for (host, trace) in &traces.hosts {
            wrong.extend(self.place(key, host, trace));
        }
        self.wrong.extend(wrong.into_iter().map(|what| format!("{key} {what}")));
    }

    /// What an attempt did on a host is what the controller let it do there.
    fn place(&self, key: AttemptKey, host: &str, trace: &Trace) -> Vec<String> {
        let known = &self.journal.attempts[&key];
        let place = known.allocation.shares.iter().position(|share| NODES[share.node.0 as usize] == host);
        let Some(instance) = place else { return vec![format!("ran on {host}, which it was not given")] };
        let mut wrong = Vec::new();
        // Hydra gives ranks on all nodes the environment of the script.
        let is_hydra = self.orders.get(&key.task.job).is_some_and(|of| of.order.what == "gang-mpich");
        if instance != trace.instance as usize && !is_hydra {
            wrong.push(format!("is instance {} on {host} instead of {instance}", trace.instance));
        }
        let given: Vec<u32> = known.allocation.shares[instance].cores.iter().collect();
        if trace.cores.iter().any(|core| !given.contains(core)) {
            wrong.push(format!("could use cores {:?} of {host}, and was given {given:?}", trace.cores));
        }
        let word = known.at_once.or(known.go_at);
        if word.is_none_or(|word| word.0 > trace.first_us) {
            wrong.push(format!("ran on {host} at {} before the word to start at {word:?}", trace.first_us));
        }
        let gone = self.journal.gone_at(&key, instance);
        if gone.is_none_or(|gone| gone.0 < trace.last_us) {
            wrong.push(format!("still ran on {host} at {}, when it was gone at {gone:?}", trace.last_us));
        }
        wrong
    }

    /// Every task of an accepted job has exactly one end, which everybody agrees on.
    fn job(&mut self, client: &mut Client, accepted: &Accepted) {
        let job = accepted.job;
        let detail = match client.job(JobRef { job, task: None }) {
            Ok(detail) => detail,
            Err(error) => return self.says(format!("job {job} was acknowledged, and now: {error}")),
        };
        let tasks: u64 = detail.summary.tasks.values().sum();
        if tasks != accepted.order.tasks || detail.summary.tasks.keys().any(|state| !state.is_finished()) {
            self.says(format!("job {job} of {} tasks has {:?}", accepted.order.tasks, detail.summary.tasks));
        }
        let Some(submitted) = self.journal.jobs.get(&job) else { return };
        let waiting = submitted.ended_waiting.clone();
        for index in 0..u32::try_from(accepted.order.tasks).unwrap() {
            let index = TaskIndex(index);
            self.task(accepted, TaskId { job, index }, waiting.contains(&index));
        }
        for view in &detail.task_list {
            let task = TaskId { job, index: TaskIndex(view.index) };
            let Some((key, known)) = self.attempts_of(task).next_back() else { continue };
            let state = match &known.ended {
                _ if waiting.contains(&task.index) => TaskState::Cancelled,
                Some((verdict, _)) => verdict.into(),
                None => continue,
            };
            // People are told how many attempts there were, and one that was given back was none.
            let first = AttemptKey { task, attempt: FIRST_ATTEMPT };
            let returned = self.journal.attempts.get(&first).is_some_and(|attempt| attempt.returned);
            if view.attempt + u32::from(returned) != key.attempt || view.state != state {
                let told = format!("{:?} in attempt {}", view.state, view.attempt);
                self.says(format!("{task} is told to be {told}, and the journal says {state:?} in {key}"));
            }
        }
    }

    /// The attempts of a task, without those that were given back.
    fn attempts_of(
        &self,
        task: TaskId,
    ) -> impl DoubleEndedIterator<Item = (&AttemptKey, &super::journal::Attempt)> + use<'_> {
        let key = |attempt| AttemptKey { task, attempt };
        self.journal.attempts.range(key(0)..=key(u32::MAX)).filter(|(_, attempt)| !attempt.returned)
    }

    /// A task ended once, and was tried again only if that is allowed.
    fn task(&mut self, accepted: &Accepted, task: TaskId, ended_waiting: bool) {
        let mut wrong = Vec::new();
        let order = &accepted.order;
        let ends: Vec<(AttemptKey, Verdict)> = self
            .attempts_of(task)
            .filter_map(|(key, attempt)| attempt.ended.clone().map(|(verdict, again)| (*key, verdict, again)))
            .filter(|(_, _, again)| !again)
            .map(|(key, verdict, _)| (key, verdict))
            .collect();
        if ends.len() + usize::from(ended_waiting) != 1 {
            wrong.push(format!("ended {} times, waiting: {ended_waiting}", ends.len()));
        }
        let last = self.attempts_of(task).next_back().map(|(key, _)| *key);
        if ends.first().is_some_and(|(key, _)| Some(*key) != last) {
            wrong.push(format!("has attempts after its end: {ends:?}, {last:?}"));
        }
        let ran = |key: &AttemptKey| self.traces.contains_key(key);
        let tries = self.attempts_of(task).filter(|(key, _)| ran(key)).count();
        if tries > 1 && !order.requeue {
            wrong.push(format!("ran {tries} times, and its job is not to be tried again"));
        }
        for (key, attempt) in self.attempts_of(task) {
            let Some((verdict, _)) = &attempt.ended else { continue };
            let traces = self.traces.get(key);
            let through = traces.is_some_and(|traces| traces.code == Some(0));
            // A script that came through where nobody could hear it any more is tried again, if it may be.
            let unheard = matches!(verdict, Verdict::NodeFailed { .. } | Verdict::Broken { .. });
            if through && Some(*key) != last && !unheard {
                wrong.push(format!("came through in attempt {}, {verdict:?}, and ran again", key.attempt));
            }
            let cancelled = matches!(verdict, Verdict::Cancelled { .. });
            if cancelled && !accepted.cancelled {
                wrong.push("was cancelled by nobody".to_owned());
            }
            wrong.extend(told_right(order, verdict, traces));
        }
        self.wrong.extend(wrong.into_iter().map(|what| format!("{task} ({}) {what}", accepted.name)));
    }
}

/// Whether the verdict of an attempt is right for what was ordered.
fn told_right(order: &super::work::Order, verdict: &Verdict, traces: Option<&Traces>) -> Option<String> {
    let Verdict::Exited { code } = verdict else { return None };
    match order.ranks {
        // Nothing but its own exit ends the script of a task on one node with a code.
        None => (Some(*code) != order.code).then(|| format!("exited with {code}, not {:?}", order.code)),
        Some(ranks) if *code == 0 => {
            let through = traces?.ranks.values().filter(|(_, code)| *code == Some(0)).count();
            (through != ranks).then(|| format!("completed with {through} of {ranks} ranks"))
        }
        Some(_) => None,
    }
}
