//! Finished tasks, and how they are written down: many are alike.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::job::is_zero;
use crate::event::{Allocation, FinishedKind, Usage, Verdict, WaitingEnd};
use crate::ids::{TaskIndex, Timestamp};
use crate::rows::{Alike, Row, numbered, on_from, step};

/// A finished task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// How it finished.
    pub how: FinishedHow,
    /// When.
    pub at: Timestamp,
}

/// How a task finished.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FinishedHow {
    /// Cancelled while it waited.
    CancelledWaiting {
        /// Who asked.
        by_uid: u32,
        /// How many attempts there were before.
        #[serde(default, skip_serializing_if = "is_zero")]
        attempts: u32,
        /// How many of them were preempted.
        #[serde(default, skip_serializing_if = "is_zero")]
        preempted: u32,
    },
    /// Ended while it waited, because it could no longer start.
    EndedWaiting {
        /// Why.
        why: WaitingEnd,
        /// How many attempts there were before.
        #[serde(default, skip_serializing_if = "is_zero")]
        attempts: u32,
        /// How many of them were preempted.
        #[serde(default, skip_serializing_if = "is_zero")]
        preempted: u32,
    },
    /// After its last attempt.
    Ran {
        /// Number of attempts.
        attempts: u32,
        /// How many of them were preempted.
        #[serde(default, skip_serializing_if = "is_zero")]
        preempted: u32,
        /// How the last one ended.
        verdict: Verdict,
        /// What the last one held.
        allocation: Arc<Allocation>,
        /// When the last one was placed.
        #[serde(default, skip_serializing_if = "is_default")]
        placed_at: Timestamp,
        /// The last one's own time limit, in seconds, if that was less than its job's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_limit_s: Option<u64>,
        /// The node's clock at the script's exec, if it came to that.
        started_at: Option<Timestamp>,
        /// What the last one used, all instances together: CPU time is a sum, memory the largest of a node.
        #[serde(default, skip_serializing_if = "is_default")]
        usage: Usage,
    },
}

/// Whether it says nothing, as where many are written down in rows.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl FinishedHow {
    /// How many attempts there were, and how many of them were preempted.
    #[must_use]
    pub fn attempts(&self) -> (u32, u32) {
        match self {
            Self::CancelledWaiting { attempts, preempted, .. }
            | Self::EndedWaiting { attempts, preempted, .. }
            | Self::Ran { attempts, preempted, .. } => (*attempts, *preempted),
        }
    }

    /// Whether the task did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.kind() == FinishedKind::Completed
    }

    /// The kind of it.
    #[must_use]
    pub fn kind(&self) -> FinishedKind {
        match self {
            Self::CancelledWaiting { .. } | Self::EndedWaiting { why: WaitingEnd::Dependency, .. } => {
                FinishedKind::Cancelled
            }
            Self::EndedWaiting { why: WaitingEnd::Deadline, .. } => FinishedKind::Deadline,
            // No task is left with a verdict after which it waits again.
            Self::Ran { verdict, .. } => verdict.kind().unwrap_or(FinishedKind::Cancelled),
        }
    }

    /// The node's clock at the script's exec, if it came to that.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Ran { started_at, .. } => *started_at,
            Self::CancelledWaiting { .. } | Self::EndedWaiting { .. } => None,
        }
    }
}

/// A job's finished tasks, and what is told of all of them without looking at each: there may be a million.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinishedTasks {
    tasks: BTreeMap<TaskIndex, Finished>,
    /// None while nothing has finished. Boxed, because most jobs wait.
    totals: Option<Box<Totals>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Totals {
    /// How many there are of each kind, in the order of [`FinishedKind::ALL`].
    counts: [u32; FinishedKind::ALL.len()],
    first_start: Option<Timestamp>,
    /// The last one, by its index, that ran.
    last_ran: Option<TaskIndex>,
}

impl Totals {
    fn add(&mut self, index: TaskIndex, how: &FinishedHow) {
        self.counts[how.kind() as usize] += 1;
        self.first_start = [self.first_start, how.started_at()].into_iter().flatten().min();
        if matches!(how, FinishedHow::Ran { .. }) {
            self.last_ran = self.last_ran.max(Some(index));
        }
    }
}

impl FinishedTasks {
    /// Adds a task that has finished, which it does once.
    pub(super) fn insert(&mut self, index: TaskIndex, finished: Finished) {
        self.totals.get_or_insert_default().add(index, &finished.how);
        let before = self.tasks.insert(index, finished);
        debug_assert!(before.is_none(), "a task finishes once");
    }

    /// Whether what is told of all is what each says.
    pub(super) fn are_counted(&self) -> bool {
        let mut totals = Totals::default();
        self.tasks.iter().for_each(|(index, finished)| totals.add(*index, &finished.how));
        *self.totals.as_deref().unwrap_or(&Totals::default()) == totals
    }

    /// How many there are of each kind that there is, from the best to the worst.
    pub fn counts(&self) -> impl Iterator<Item = (FinishedKind, u32)> + '_ {
        let counts = self.totals.as_deref().map(|totals| FinishedKind::ALL.into_iter().zip(totals.counts));
        counts.into_iter().flatten().filter(|(_, count)| *count > 0)
    }

    /// Whether all of them did what they should.
    #[must_use]
    pub fn are_successes(&self) -> bool {
        self.counts().all(|(kind, _)| kind == FinishedKind::Completed)
    }

    /// When the first script of them started.
    #[must_use]
    pub fn first_start(&self) -> Option<Timestamp> {
        self.totals.as_deref()?.first_start
    }

    /// What the last task held, by its index, that ran.
    #[must_use]
    pub fn last_allocation(&self) -> Option<&Allocation> {
        match &self.tasks.get(&self.totals.as_deref()?.last_ran?)?.how {
            FinishedHow::Ran { allocation, .. } => Some(allocation),
            FinishedHow::CancelledWaiting { .. } | FinishedHow::EndedWaiting { .. } => None,
        }
    }
}

impl Deref for FinishedTasks {
    type Target = BTreeMap<TaskIndex, Finished>;

    fn deref(&self) -> &Self::Target {
        &self.tasks
    }
}

impl<'a> IntoIterator for &'a FinishedTasks {
    type Item = (&'a TaskIndex, &'a Finished);
    type IntoIter = btree_map::Iter<'a, TaskIndex, Finished>;

    fn into_iter(self) -> Self::IntoIter {
        self.tasks.iter()
    }
}

impl FromIterator<(TaskIndex, Finished)> for FinishedTasks {
    fn from_iter<I: IntoIterator<Item = (TaskIndex, Finished)>>(tasks: I) -> Self {
        let mut all = Self::default();
        tasks.into_iter().for_each(|(index, finished)| all.insert(index, finished));
        all
    }
}

/// What is a task's own: how many indices it is from the one before, the number of what it has in common with others, and how long after
/// the one before it finished, in microseconds; if it ran, how long before its end it was placed and started, and what it used. The
/// first comes after index 0 and 1970.
type Own = Row<13>;

/// Takes what is a task's own from how it finished: what is left, many have in common.
fn part(finished: &Finished) -> (FinishedHow, [i64; 10]) {
    let (mut how, mut own) = (finished.how.clone(), [0; 10]);
    if let FinishedHow::Ran { placed_at, started_at, usage, .. } = &mut how {
        own[0] = step(placed_at.0, finished.at.0);
        own[1] = started_at.map_or(0, |at| step(at.0, finished.at.0));
        own[2..].copy_from_slice(&usage.numbers());
        (*placed_at, *usage) = (Timestamp(0), Usage::default());
        *started_at = started_at.map(|_| Timestamp(0));
    }
    (how, own)
}

/// Gives a task that finished at `at` its own again.
fn join(common: &FinishedHow, at: Timestamp, [placed, started, used @ ..]: [i64; 10]) -> Finished {
    let mut how = common.clone();
    if let FinishedHow::Ran { placed_at, started_at, usage, .. } = &mut how {
        let before = |us: i64| Timestamp(at.0.wrapping_sub(us.cast_unsigned()));
        (*placed_at, *usage) = (before(placed), Usage::of(used));
        *started_at = started_at.map(|_| before(started));
    }
    Finished { how, at }
}

/// What tasks have in common, each once, and the tasks.
impl Serialize for FinishedTasks {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut alike = Alike::default();
        let (mut before, mut at_before) = (0, 0);
        let own = |(index, finished): (&TaskIndex, &Finished)| -> Own {
            let (common, own) = part(finished);
            let mut row = [0; 13];
            row[0] = step(before, index.0.into());
            row[1] = alike.number(common);
            row[2] = step(at_before, finished.at.0);
            row[3..].copy_from_slice(&own);
            (before, at_before) = (index.0.into(), finished.at.0);
            Row(row)
        };
        let rows: Vec<Own> = self.tasks.iter().map(own).collect();
        (alike.met(), rows).serialize(out)
    }
}

impl<'de> Deserialize<'de> for FinishedTasks {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Tasks)
    }
}

struct Tasks;

impl<'de> Visitor<'de> for Tasks {
    type Value = FinishedTasks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what finished tasks have in common and a row for each, or each by its index")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let missing = |length| A::Error::invalid_length(length, &self);
        let alike: Vec<FinishedHow> = parts.next_element()?.ok_or_else(|| missing(0))?;
        let rows: Vec<Own> = parts.next_element()?.ok_or_else(|| missing(1))?;
        let (mut before, mut at_before) = (None, 0);
        let task = |Row([to_index, number, to_end, own @ ..]): Own| {
            let index = on_from(before.unwrap_or(0), to_index);
            // They rise, so that none comes twice.
            let rises = before.is_none_or(|before| before < index);
            (before, at_before) = (Some(index), on_from(at_before, to_end));
            let task = u32::try_from(index).ok().filter(|_| rises).zip(numbered(&alike, number));
            let (index, alike) =
                task.ok_or_else(|| A::Error::custom("a row of numbers tells of a task that cannot be"))?;
            Ok((TaskIndex(index), join(alike, Timestamp(at_before), own)))
        };
        rows.into_iter().map(task).collect()
    }

    /// As it was before version 2 of snapshots.
    fn visit_map<A: MapAccess<'de>>(self, tasks: A) -> Result<Self::Value, A::Error> {
        let tasks = BTreeMap::<TaskIndex, Finished>::deserialize(MapAccessDeserializer::new(tasks))?;
        Ok(tasks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::CoreSet;
    use crate::event::Share;
    use crate::ids::NodeId;

    fn ran(core: u32, started_at: Option<Timestamp>) -> FinishedHow {
        let mut cores = CoreSet::new();
        cores.insert(core);
        let share = Share { node: NodeId(1), cores, memory_bytes: 1 << 30, ranks: 1, gres: Vec::new() };
        FinishedHow::Ran {
            attempts: 1,
            preempted: 0,
            verdict: Verdict::Exited { code: 0 },
            allocation: Arc::new(Allocation { shares: vec![share], cores_per_rank: 1 }),
            placed_at: Timestamp(900),
            time_limit_s: None,
            started_at,
            usage: Usage { cpu_time_us: 1500, memory_peak_bytes: 4096, ran_us: 80, ..Usage::default() },
        }
    }

    fn held() -> FinishedTasks {
        let tasks = [
            (3, 1000, ran(0, Some(Timestamp(910)))),
            (4, 1000, ran(1, Some(Timestamp(1000)))),
            (5, 990, ran(0, Some(Timestamp(0)))),
            (9, 2000, ran(0, None)),
            (10, u64::MAX, FinishedHow::CancelledWaiting { by_uid: 7, attempts: 2, preempted: 1 }),
            (u32::MAX, 0, FinishedHow::EndedWaiting { why: WaitingEnd::Deadline, attempts: 0, preempted: 0 }),
        ];
        let finished = |(index, at, how)| (TaskIndex(index), Finished { how, at: Timestamp(at) });
        tasks.into_iter().map(finished).collect()
    }

    #[test]
    fn what_tasks_have_in_common_is_written_once_and_each_is_found_again() {
        let held = held();
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(text.matches("allocation").count(), 3, "{text}");
        assert!(text.contains("[[3,0,1000,100,90,1500,4096,0,80],[1,1,0,100,0,1500,4096,0,80],"), "{text}");
        let again: FinishedTasks = serde_json::from_str(&text).unwrap();
        assert_eq!(again, held);
        let allocation = |index| match &again[&TaskIndex(index)].how {
            FinishedHow::Ran { allocation, .. } => allocation,
            how => panic!("{how:?}"),
        };
        assert!(Arc::ptr_eq(allocation(3), allocation(5)), "what they have in common is one again");
    }

    #[test]
    fn what_is_told_of_all_is_what_each_says() {
        let mut held = held();
        assert_eq!(held.first_start(), Some(Timestamp(0)));
        let mut how = ran(0, Some(Timestamp(5)));
        if let FinishedHow::Ran { verdict, .. } = &mut how {
            *verdict = Verdict::Exited { code: 7 };
        }
        held.insert(TaskIndex(20), Finished { how, at: Timestamp(6) });
        let counts: Vec<_> = held.counts().collect();
        use FinishedKind::{Cancelled, Completed, Deadline, Failed};
        assert_eq!(counts, [(Completed, 4), (Cancelled, 1), (Deadline, 1), (Failed, 1)]);
        for (place, kind) in FinishedKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            let each = held.values().filter(|finished| finished.how.kind() == kind).count();
            let of_all = counts.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
            assert_eq!(of_all as usize, each, "{kind:?}");
        }
        assert!(!held.are_successes());
        let core =
            |tasks: &FinishedTasks| tasks.last_allocation().map(|held| held.shares[0].cores.to_string());
        assert_eq!(core(&held), Some("0".to_owned()), "of the task 20");
        held.insert(TaskIndex(19), Finished { how: ran(3, None), at: Timestamp(7) });
        let by_uid = FinishedHow::CancelledWaiting { by_uid: 1, attempts: 0, preempted: 0 };
        held.insert(TaskIndex(30), Finished { how: by_uid.clone(), at: Timestamp(7) });
        assert_eq!(core(&held), Some("0".to_owned()), "it is still the last one that ran");
        held.insert(TaskIndex(21), Finished { how: ran(3, None), at: Timestamp(7) });
        assert_eq!(core(&held), Some("3".to_owned()));
        let none = FinishedTasks::from_iter([(TaskIndex(0), Finished { how: by_uid, at: Timestamp(1) })]);
        assert_eq!(core(&none), None);
        let good =
            FinishedTasks::from_iter([(TaskIndex(0), Finished { how: ran(0, None), at: Timestamp(1) })]);
        assert!(good.are_successes() && good.first_start().is_none());
        assert!(FinishedTasks::default().are_successes());
        assert_eq!(FinishedTasks::default().counts().count(), 0);
    }

    #[test]
    fn tasks_that_were_written_one_by_one_are_read_as_well() {
        let held = held();
        let one_by_one = serde_json::to_string(&*held).unwrap();
        assert!(one_by_one.starts_with(r#"{"3":{"how":{"kind":"ran","#), "{one_by_one}");
        assert_eq!(serde_json::from_str::<FinishedTasks>(&one_by_one).unwrap(), held);
    }

    #[test]
    fn rows_that_cannot_be_are_an_error() {
        let cancelled = r#"{"kind":"cancelled_waiting","by_uid":1}"#;
        for rows in [
            "[[0,1]]",
            "[[0,-1]]",
            "[[-1]]",
            "[[5],[0]]",
            "[[5],[-1]]",
            "[[4294967296]]",
            "[[0,0,0,0,0,0,0,0,0,0,0,0,0,1]]",
            "7",
        ] {
            assert!(
                serde_json::from_str::<FinishedTasks>(&format!("[[{cancelled}],{rows}]")).is_err(),
                "{rows}"
            );
        }
        assert!(serde_json::from_str::<FinishedTasks>(&format!("[[{cancelled}]]")).is_err(), "no rows");
        assert!(
            serde_json::from_str::<FinishedTasks>(&format!("[[{cancelled}],[[5]],[]]")).is_err(),
            "one part too many"
        );
    }
}
