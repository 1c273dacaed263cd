//! Attempts that ran, of which is told together.

use serde::{Deserialize, Deserializer, Serializer};

use super::{Event, Record, Usage, Verdict};
use crate::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use crate::rows::{Row, on_from, step};

/// Most attempts of which one record tells.
pub const RAN_TOGETHER_MAX: usize = 1024;

/// An attempt of an array's task that was started and came to an end: [`Event::AttemptRan`], but for what it has in common with
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// The task.
    pub index: TaskIndex,
    /// Which try, from 1.
    pub attempt: u32,
    /// When the script was started.
    pub started_at: Timestamp,
    /// What it used.
    pub usage: Usage,
}

impl Ran {
    pub(crate) fn of(key: AttemptKey, started_at: Timestamp, usage: Usage) -> Self {
        Self { index: key.task.index, attempt: key.attempt, started_at, usage }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self, job: JobId) -> AttemptKey {
        AttemptKey { task: TaskId { job, index: self.index }, attempt: self.attempt }
    }

    /// The event that tells of it alone.
    #[must_use]
    pub fn alone(&self, job: JobId, verdict: &Verdict) -> Event {
        let Self { started_at, usage, .. } = *self;
        Event::AttemptRan { key: self.key(job), started_at, usage, verdict: verdict.clone() }
    }

    /// The events that it stands for.
    pub(crate) fn parts(self, job: JobId, verdict: &Verdict) -> [Event; 5] {
        let key = self.key(job);
        [
            Event::AttemptGo { key },
            Event::AttemptRunning { key, started_at: self.started_at },
            Event::InstanceGone { key, instance: 0, usage: self.usage },
            Event::AttemptEnding { key, verdict: verdict.clone() },
            Event::AttemptEnded { key, verdict: verdict.clone(), again_not_before: None },
        ]
    }
}

impl Record {
    /// The same records, but that neighbours which tell of attempts of one job that ran and ended alike in one instant are one.
    #[must_use]
    pub fn gathered(records: Vec<Self>) -> Vec<Self> {
        let mut gathered: Vec<Self> = Vec::with_capacity(records.len());
        for record in records {
            if !gathered.last_mut().is_some_and(|last| last.take_in(&record)) {
                gathered.push(record);
            }
        }
        gathered
    }

    /// Tells of what `next` tells of as well, if that can be told together.
    fn take_in(&mut self, next: &Self) -> bool {
        let Event::AttemptRan { key, started_at, usage, verdict } = &next.event else { return false };
        if self.at != next.at {
            return false;
        }
        let ran = Ran::of(*key, *started_at, *usage);
        match &mut self.event {
            Event::AttemptsRan { job, verdict: theirs, ran: others }
                if *job == key.task.job && theirs == verdict && others.len() < RAN_TOGETHER_MAX =>
            {
                others.push(ran);
            }
            Event::AttemptRan { key: first, started_at, usage, verdict: theirs }
                if first.task.job == key.task.job && theirs == verdict =>
            {
                let ran = vec![Ran::of(*first, *started_at, *usage), ran];
                self.event = Event::AttemptsRan { job: key.task.job, verdict: verdict.clone(), ran };
            }
            _ => return false,
        }
        true
    }
}

/// A row for each: how many indices it is from the one before, which try before it was the last, how long after the one before it was
/// started, in microseconds, and what it used. The first comes after index 0 and 1970.
pub(super) fn serialize<S: Serializer>(ran: &[Ran], out: S) -> Result<S::Ok, S::Error> {
    let (mut index, mut started_at) = (0, 0);
    let row = |ran: &Ran| {
        let mut row = [0; 11];
        row[0] = step(index, ran.index.0.into());
        row[1] = i64::from(ran.attempt) - 1;
        row[2] = step(started_at, ran.started_at.0);
        row[3..].copy_from_slice(&ran.usage.numbers());
        (index, started_at) = (ran.index.0.into(), ran.started_at.0);
        Row(row)
    };
    out.collect_seq(ran.iter().map(row))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Ran>, D::Error> {
    let rows = Vec::<Row<11>>::deserialize(input)?;
    let (mut index, mut started_at) = (0, 0);
    let ran = |Row([to_index, tries, to_start, usage @ ..]): Row<11>| {
        (index, started_at) = (on_from(index, to_index), on_from(started_at, to_start));
        let attempt = tries.checked_add(1).and_then(|attempt| u32::try_from(attempt).ok());
        let index = u32::try_from(index).ok().zip(attempt);
        let (index, attempt) = index.ok_or_else(|| {
            serde::de::Error::custom("a row of numbers tells of an index or an attempt that cannot be")
        })?;
        let (index, started_at) = (TaskIndex(index), Timestamp(started_at));
        Ok(Ran { index, attempt, started_at, usage: Usage::of(usage) })
    };
    rows.into_iter().map(ran).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(job: u64, index: u32, verdict: Verdict) -> Event {
        let key =
            AttemptKey { task: TaskId { job: JobId(job), index: TaskIndex(index) }, attempt: 1 + index % 2 };
        let usage = Usage { cpu_time_us: u64::from(index), ran_us: 7, ..Usage::default() };
        Event::AttemptRan { key, started_at: Timestamp(1_000_000 - u64::from(index)), usage, verdict }
    }

    fn at(at: u64, event: Event) -> Record {
        Record { at: Timestamp(at), event }
    }

    fn parts(records: &[Record]) -> Vec<(Timestamp, Event)> {
        let parts = |record: &Record| -> Vec<_> {
            record.event.parts().map(|part| (record.at, part.into_owned())).collect()
        };
        records.iter().flat_map(parts).collect()
    }

    const DONE: Verdict = Verdict::Exited { code: 0 };

    #[test]
    fn what_ends_alike_at_once_is_one_record_that_stands_for_the_same() {
        let failed = Verdict::Exited { code: 1 };
        let records = vec![
            at(5, ran(1, 4, DONE)),
            at(5, ran(1, 9, DONE)),
            at(5, ran(1, 3, DONE)),
            at(5, ran(1, 10, failed.clone())),
            at(5, ran(2, 0, failed.clone())),
            at(6, ran(2, 1, failed.clone())),
            at(
                6,
                Event::AttemptGo {
                    key: AttemptKey { task: TaskId { job: JobId(2), index: TaskIndex(5) }, attempt: 1 },
                },
            ),
            at(6, ran(2, 2, failed.clone())),
            at(6, ran(2, 3, failed)),
        ];
        let gathered = Record::gathered(records.clone());
        let told = |record: &Record| match &record.event {
            Event::AttemptsRan { ran, .. } => ran.len(),
            _ => 1,
        };
        assert_eq!(gathered.iter().map(told).collect::<Vec<_>>(), [3, 1, 1, 1, 1, 2]);
        assert_eq!(parts(&gathered), parts(&records));
        let text = serde_json::to_string(&gathered[0]).unwrap();
        let rows = "[[4,0,999996,4,0,0,7],[5,1,-5,9,0,0,7],[-6,1,6,3,0,0,7]]";
        assert!(
            text.ends_with(&format!(r#""verdict":{{"how":"exited","code":0}},"ran":{rows}}}}}"#)),
            "{text}"
        );
        for record in gathered {
            let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
            assert_eq!(again, record);
        }
    }

    #[test]
    fn a_record_tells_of_so_many_and_no_more() {
        let many =
            |count: usize| -> Vec<Record> { (0..count).map(|i| at(1, ran(1, i as u32, DONE))).collect() };
        assert_eq!(Record::gathered(many(RAN_TOGETHER_MAX)).len(), 1);
        let gathered = Record::gathered(many(RAN_TOGETHER_MAX + 1));
        assert_eq!((gathered.len(), parts(&gathered)), (2, parts(&many(RAN_TOGETHER_MAX + 1))));
    }

    #[test]
    fn rows_that_cannot_be_are_an_error() {
        for rows in [
            "[[4294967296]]",
            "[[-1]]",
            "[[0,-2]]",
            "[[0,9223372036854775807]]",
            "[[0,0,0,0,0,0,0,0,0,0,0,1]]",
        ] {
            let text = format!(
                r#"{{"at":1,"event":{{"type":"attempts_ran","job":1,"verdict":{{"how":"exited","code":0}},"ran":{rows}}}}}"#
            );
            assert!(serde_json::from_str::<Record>(&text).is_err(), "{rows}");
        }
    }
}
