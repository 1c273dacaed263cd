//! What has become of a job's dependency: resolved as the jobs that it names start and end, so that nothing has to
//! be looked up once they are forgotten.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::job_mut;
use super::{Finished, IndexSet, Job, Live, LivePhase, State, tally};
use crate::eligibility::{Dependency, Term};
use crate::ids::{JobId, TaskIndex, Timestamp};
use crate::on::{On, Tasks};

/// What is known of one term of a dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "known", rename_all = "snake_case")]
pub enum Known {
    /// It has not come to it yet.
    Open,
    /// It is fulfilled from this instant on, which may lie ahead.
    Fulfilled {
        /// The instant.
        from: Timestamp,
    },
    /// It can no longer be fulfilled.
    Never,
    /// `singleton`: these earlier jobs have not ended.
    Earlier {
        /// At least one.
        jobs: BTreeSet<JobId>,
    },
    /// Several tasks of one job that are to end.
    Ending {
        /// How many have not.
        left: u64,
        /// Whether one of those that have did so without success.
        failed: bool,
    },
    /// `after` several tasks of one job.
    Beginning {
        /// Those that have not begun.
        left: IndexSet,
        /// When the last of the others did.
        last: Timestamp,
    },
    /// `aftercorr`: each task has its own.
    Corresponding {
        /// Tasks whose partner ended with success.
        ok: BTreeSet<u32>,
        /// Waiting tasks whose partner ended without.
        never: BTreeSet<u32>,
        /// Whether every partner has ended.
        done: bool,
    },
}

/// What a job's dependency says of all of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds back none.
    Fulfilled,
    /// It will be fulfilled at this instant.
    From(Timestamp),
    /// It is open for all or, with `aftercorr`, for some of them.
    Open,
    /// It can no longer be fulfilled.
    Never,
}

impl Known {
    fn standing(&self, now: Timestamp) -> Standing {
        match self {
            Self::Open
            | Self::Earlier { .. }
            | Self::Corresponding { .. }
            | Self::Ending { .. }
            | Self::Beginning { .. } => Standing::Open,
            Self::Fulfilled { from } if *from <= now => Standing::Fulfilled,
            Self::Fulfilled { from } => Standing::From(*from),
            Self::Never => Standing::Never,
        }
    }

    /// The job on whose starts and ends it waits.
    fn targets(&self, term: &Term) -> BTreeSet<JobId> {
        match self {
            Self::Earlier { jobs } => jobs.clone(),
            Self::Open
            | Self::Corresponding { done: false, .. }
            | Self::Ending { .. }
            | Self::Beginning { .. } => term.on().map(|on| on.job).into_iter().collect(),
            _ => BTreeSet::new(),
        }
    }
}

impl Job {
    fn terms(&self) -> impl Iterator<Item = (&Term, &Known)> {
        let terms = self.spec.eligibility.dependency.as_ref().map_or(&[][..], |all| &all.terms);
        terms.iter().zip(&self.depends)
    }

    fn any_is_enough(&self) -> bool {
        self.spec.eligibility.dependency.as_ref().is_some_and(|dependency| dependency.any)
    }

    /// What the dependency says of the job as a whole at `now`.
    #[must_use]
    pub fn dependency_standing(&self, now: Timestamp) -> Standing {
        let mut all = self.terms().map(|(_, known)| known.standing(now));
        let rank = |standing: &Standing| match standing {
            Standing::Fulfilled => (0, Timestamp(0)),
            Standing::From(at) => (1, *at),
            Standing::Open => (2, Timestamp(0)),
            Standing::Never => (3, Timestamp(0)),
        };
        // Of several that must all hold, the worst counts; of choices, the best.
        let any = self.any_is_enough();
        let first = all.next();
        let chosen = all.fold(first, |kept, next| match kept {
            Some(kept) if (rank(&next) < rank(&kept)) == any => Some(next),
            kept => kept,
        });
        chosen.unwrap_or(Standing::Fulfilled)
    }

    /// Whether an `aftercorr` is among the terms, so that some tasks may start before others.
    #[must_use]
    pub fn depends_task_by_task(&self) -> bool {
        self.depends.iter().any(|known| matches!(known, Known::Corresponding { .. }))
    }

    /// Waiting tasks that the dependency lets start at `now`, rising, if it decides task by task. Its other terms
    /// must all hold as well.
    pub fn tasks_let_by_partners(&self, now: Timestamp) -> impl Iterator<Item = u32> + '_ {
        let oks = || {
            self.depends.iter().filter_map(|known| match known {
                Known::Corresponding { ok, .. } => Some(ok),
                _ => None,
            })
        };
        let others_hold = self.depends.iter().all(|known| match known {
            Known::Corresponding { .. } => true,
            other => other.standing(now) == Standing::Fulfilled,
        });
        let first = oks().next().filter(|_| others_hold);
        let all_ok = move |index: &u32| oks().all(|ok| ok.contains(index)) && self.waiting.contains(*index);
        first.into_iter().flatten().copied().filter(all_ok)
    }

    /// The instant at which the passing of time alone lets tasks start whose partners have let them, if they must
    /// wait for it.
    #[must_use]
    pub fn partners_wait_until(&self, now: Timestamp) -> Option<Timestamp> {
        let from = self.depends.iter().filter_map(|known| match known {
            Known::Fulfilled { from } => Some(*from),
            _ => None,
        });
        from.max().filter(|at| *at > now && self.tasks_let_by_partners(*at).next().is_some())
    }

    /// Whether a task's own partner failed it.
    #[must_use]
    pub fn partner_failed(&self, index: TaskIndex) -> bool {
        self.depends.iter().any(|known| match known {
            Known::Corresponding { never, .. } => never.contains(&index.0),
            _ => false,
        })
    }

    /// Waiting tasks that can never start because of the dependency: all, some, or none.
    #[must_use]
    pub fn unfulfillable(&self) -> Unfulfillable {
        if self.waiting.is_empty() {
            return Unfulfillable::None;
        }
        if self.dependency_standing(Timestamp(u64::MAX)) == Standing::Never {
            return Unfulfillable::All;
        }
        let mut some = BTreeSet::new();
        for known in &self.depends {
            if let Known::Corresponding { never, .. } = known {
                some.extend(never.iter().copied());
            }
        }
        if some.is_empty() { Unfulfillable::None } else { Unfulfillable::Some(some) }
    }

    /// The terms that are still open, or that can never be fulfilled.
    #[must_use]
    pub fn terms_short(&self, now: Timestamp) -> Dependency {
        let short = self.terms().filter(|(_, known)| known.standing(now) != Standing::Fulfilled);
        Dependency { any: self.any_is_enough(), terms: short.map(|(term, _)| term.clone()).collect() }
    }

    /// The jobs on whose starts and ends the dependency waits.
    pub(super) fn dependency_targets(&self) -> BTreeSet<JobId> {
        if self.finished_at.is_some() {
            return BTreeSet::new();
        }
        self.terms().flat_map(|(term, known)| known.targets(term)).collect()
    }

    /// The instants at which the passing of time alone may let tasks start.
    pub(super) fn eligible_instants(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let begin = self.spec.eligibility.begin;
        let from = self.depends.iter().filter_map(|known| match known {
            Known::Fulfilled { from } => Some(*from),
            _ => None,
        });
        begin
            .into_iter()
            .chain(from)
            .chain(self.switches_wished_until())
            .filter(|_| self.finished_at.is_none())
    }
}

/// Which waiting tasks of a job can never start because of its dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfulfillable {
    /// None.
    None,
    /// These.
    Some(BTreeSet<u32>),
    /// All.
    All,
}

/// What happened to a job on which others depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A task of it began.
    Began { index: TaskIndex },
    /// A task of it finished.
    Finished { index: TaskIndex, success: bool },
}

/// Looks up what is known of a new job's dependency, and enters the job into the indices.
pub(super) fn enter(state: &mut State, id: JobId, at: Timestamp) {
    let Some(job) = state.jobs.get(&id) else { return };
    if let Some(dependency) = &job.spec.eligibility.dependency {
        let depends: Vec<Known> =
            dependency.terms.iter().map(|term| first_look(state, job, term, at)).collect();
        if let Some(job) = job_mut(&mut state.jobs, id) {
            job.depends = depends;
        }
    }
    index(state, id);
}

/// Enters a job again that has left the indices because its spec changed. What is known of other jobs is kept unless it
/// depends on others now.
pub(super) fn enter_again(state: &mut State, id: JobId, depends_on_others: bool, at: Timestamp) {
    let Some(job) = job_mut(&mut state.jobs, id) else { return };
    if depends_on_others {
        job.depends.clear();
    }
    if !job.is_indexed() {
        return;
    }
    if depends_on_others { enter(state, id, at) } else { index(state, id) }
}

fn index(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.get(&id) else { return };
    for target in job.dependency_targets() {
        state.dependents.entry(target).or_default().insert(id);
    }
    state.eligible_at.extend(state.jobs[&id].eligible_instants().map(|instant| (instant, id)));
    follow_waiting(state, id);
}

fn first_look(state: &State, job: &Job, term: &Term, at: Timestamp) -> Known {
    if *term == Term::Singleton {
        let same =
            |other: &&Arc<Job>| other.spec.user.uid == job.spec.user.uid && other.spec.name == job.spec.name;
        let jobs: BTreeSet<JobId> = state.unfinished(..job.id).filter(same).map(|other| other.id).collect();
        return if jobs.is_empty() { Known::Fulfilled { from: at } } else { Known::Earlier { jobs } };
    }
    let Some((on, target)) = term.on().and_then(|on| Some((on, state.jobs.get(&on.job)?))) else {
        return Known::Never;
    };
    if let Tasks::Ranges(ranges) = &on.tasks {
        return tally::first_look(term, target, ranges, at);
    }
    if let Term::AfterCorr(_) = term {
        let waiting = |index: &TaskIndex| job.waiting.contains(index.0);
        let (ok, never): (Vec<_>, Vec<_>) = target
            .finished
            .iter()
            .filter(|(index, _)| waiting(index))
            .partition(|(_, finished)| finished.how.is_success());
        let indices = |list: Vec<(&TaskIndex, _)>| list.into_iter().map(|(index, _)| index.0).collect();
        return Known::Corresponding {
            ok: indices(ok),
            never: indices(never),
            done: target.finished_at.is_some(),
        };
    }
    let failed = |how: bool| if how { Known::Open } else { Known::Never };
    // A failure that has already happened decides an afterok.
    let lost = matches!(term, Term::AfterOk(_)) && any_failed(target, on);
    if lost { failed(false) } else { resolve(target, term, on, at).unwrap_or(Known::Open) }
}

/// The one task that a term names; none if it names the whole job. Several are counted instead.
fn one_task(on: &On) -> Option<TaskIndex> {
    match on.tasks {
        Tasks::One(index) => Some(index),
        Tasks::All | Tasks::Ranges(_) => None,
    }
}

fn any_failed(target: &Job, on: &On) -> bool {
    match one_task(on) {
        Some(index) => target.finished.get(&index).is_some_and(|finished| !finished.how.is_success()),
        None => !target.finished.are_successes(),
    }
}

fn has_ended(target: &Job, on: &On) -> bool {
    match one_task(on) {
        Some(index) => target.finished.contains_key(&index),
        None => target.is_finished(),
    }
}

/// When an attempt began, if it has.
pub(super) fn began(live: &Live) -> Option<Timestamp> {
    match &live.phase {
        LivePhase::Preparing => None,
        LivePhase::Running { go_at, .. } => Some(*go_at),
        LivePhase::Ending { started_at, .. } => *started_at,
    }
}

/// When a finished task began; when it finished, if it never did.
pub(super) fn ran(finished: &Finished) -> Timestamp {
    finished.how.started_at().unwrap_or(finished.at)
}

/// When the last of it began, or finished without; none while something of it has yet to begin.
fn begun_at(target: &Job, on: &On) -> Option<Timestamp> {
    if let Some(index) = one_task(on) {
        return target
            .live
            .get(&index)
            .and_then(|live| began(live))
            .or_else(|| target.finished.get(&index).map(ran));
    }
    if !target.waiting.is_empty() || target.live.values().any(|live| began(live).is_none()) {
        return None;
    }
    target.live.values().filter_map(|live| began(live)).chain(target.finished.values().map(ran)).max()
}

/// What a term comes to, if the target's present state decides it.
fn resolve(target: &Job, term: &Term, on: &On, at: Timestamp) -> Option<Known> {
    let fulfilled = |is: bool| if is { Known::Fulfilled { from: at } } else { Known::Never };
    match term {
        Term::After { minutes, .. } => begun_at(target, on)
            .map(|begun| Known::Fulfilled { from: begun.plus_seconds(u64::from(*minutes) * 60) }),
        Term::AfterAny(_) => has_ended(target, on).then(|| fulfilled(true)),
        Term::AfterOk(_) => has_ended(target, on).then(|| fulfilled(!any_failed(target, on))),
        Term::AfterNotOk(_) => has_ended(target, on).then(|| fulfilled(any_failed(target, on))),
        Term::AfterCorr(_) | Term::Singleton => None,
    }
}

/// Lets the jobs that depend on `target` know what happened to it.
pub(super) fn tell(state: &mut State, target: JobId, news: News, at: Timestamp) {
    let Some(dependents) = state.dependents.get(&target) else { return };
    for id in dependents.clone() {
        // The record is taken out while the target's is looked at.
        let Some(mut job) = state.jobs.remove(&id) else { continue };
        if let Some(known_target) = state.jobs.get(&target) {
            learn(Arc::make_mut(&mut job), known_target, news, at);
        }
        if !job.dependency_targets().contains(&target) {
            forget_target(state, target, id);
        }
        state.eligible_at.extend(job.eligible_instants().map(|instant| (instant, id)));
        state.jobs.insert(id, job);
        follow_waiting(state, id);
    }
}

fn learn(job: &mut Job, target: &Job, news: News, at: Timestamp) {
    let Some(dependency) = job.spec.eligibility.dependency.clone() else { return };
    for (term, known) in dependency.terms.iter().zip(&mut job.depends) {
        match (known, news) {
            (Known::Earlier { jobs }, _) if target.finished_at.is_some() => {
                jobs.remove(&target.id);
            }
            (Known::Corresponding { ok, never, done }, News::Finished { index, success })
                if term.on().is_some_and(|on| on.job == target.id) =>
            {
                *done = target.finished_at.is_some();
                let mut outcome = |index: u32, success: bool| {
                    if job.waiting.contains(index) {
                        if success {
                            ok.insert(index)
                        } else {
                            never.insert(index)
                        };
                    }
                };
                if *done {
                    // Several tasks may have finished at once, and nothing more is heard of the target.
                    for (index, finished) in &target.finished {
                        outcome(index.0, finished.how.is_success());
                    }
                } else {
                    outcome(index.0, success);
                }
            }
            (known @ Known::Open, news) => {
                let Some(on) = term.on().filter(|on| on.job == target.id) else { continue };
                *known = learn_open(term, on, target, news, at);
            }
            (known @ (Known::Ending { .. } | Known::Beginning { .. }), news) => {
                let Some(on) = term.on().filter(|on| on.job == target.id) else { continue };
                *known = tally::learn(term, on, std::mem::replace(known, Known::Open), news, at);
            }
            _ => {}
        }
    }
    for known in &mut job.depends {
        if matches!(known, Known::Earlier { jobs } if jobs.is_empty()) {
            *known = Known::Fulfilled { from: at };
        }
    }
}

fn learn_open(term: &Term, on: &On, target: &Job, news: News, at: Timestamp) -> Known {
    if let News::Finished { index, success } = news {
        let about = on.holds(index);
        if about && !success && matches!(term, Term::AfterOk(_)) {
            return Known::Never;
        }
        // Only the last of many tasks decides the rest: nothing is counted before.
        let decides = one_task(on).is_some() || target.is_finished() || matches!(term, Term::After { .. });
        if !about || !decides {
            return Known::Open;
        }
    } else if !matches!(term, Term::After { .. }) {
        return Known::Open;
    }
    resolve(target, term, on, at).unwrap_or(Known::Open)
}

fn forget_target(state: &mut State, target: JobId, dependent: JobId) {
    if let Entry::Occupied(mut entry) = state.dependents.entry(target) {
        entry.get_mut().remove(&dependent);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

/// Keeps the indices in step with whether tasks of the job wait.
pub(super) fn follow_waiting(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.get(&id) else { return };
    let eligibility = &job.spec.eligibility;
    if !job.is_indexed() {
        return;
    }
    if let Some(expires) = job.expires_at() {
        if job.waiting.is_empty() {
            state.expiring.remove(&(expires, id));
        } else {
            state.expiring.insert((expires, id));
        }
    }
    if eligibility.cancel_unfulfillable {
        if job.unfulfillable() == Unfulfillable::None {
            state.unfulfillable.remove(&id);
        } else {
            state.unfulfillable.insert(id);
        }
    }
}

/// A waiting task was ended: its partner's outcome matters no more.
pub(super) fn forget_partner(job: &mut Job, index: TaskIndex) {
    for known in &mut job.depends {
        if let Known::Corresponding { ok, never, .. } = known {
            ok.remove(&index.0);
            never.remove(&index.0);
        }
    }
}

/// Takes a job that is about to finish out of the indices.
pub(super) fn leave(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.get(&id) else { return };
    if !job.is_indexed() {
        return;
    }
    let (targets, instants): (BTreeSet<JobId>, Vec<Timestamp>) =
        (job.dependency_targets(), job.eligible_instants().collect());
    for target in targets {
        forget_target(state, target, id);
    }
    for instant in instants {
        state.eligible_at.remove(&(instant, id));
    }
    if let Some(expires) = state.jobs.get(&id).and_then(|job| job.expires_at()) {
        state.expiring.remove(&(expires, id));
    }
    state.unfulfillable.remove(&id);
}
