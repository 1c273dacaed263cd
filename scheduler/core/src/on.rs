//! What a dependency waits for: a job, one task of it, or several.

use std::fmt;
use std::str::FromStr;

use crate::ids::{BadJobRef, JobId, JobRef, TaskIndex};
use crate::notation::parse_ranges;
use crate::spec::{ARRAY_INDEX_MAX, IndexRange};

/// A job or tasks of it on which another job depends. Written `12`, `12_3` or `12_[1-5,8]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct On {
    /// The job.
    pub job: JobId,
    /// Which of its tasks.
    pub tasks: Tasks,
}

/// Which tasks of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tasks {
    /// All of them.
    All,
    /// This one.
    One(TaskIndex),
    /// These: at least two, in rising ranges that do not reach into each other.
    Ranges(Vec<IndexRange>),
}

impl On {
    /// Whether it names this task of its job.
    #[must_use]
    pub fn holds(&self, index: TaskIndex) -> bool {
        match &self.tasks {
            Tasks::All => true,
            Tasks::One(one) => *one == index,
            Tasks::Ranges(ranges) => range_holds(ranges, index.0),
        }
    }
}

/// Whether one of these rising, disjoint ranges holds an index.
pub(crate) fn range_holds(ranges: &[IndexRange], index: u32) -> bool {
    let at = ranges.partition_point(|range| range.last < index);
    ranges
        .get(at)
        .is_some_and(|range| range.first <= index && (index - range.first).is_multiple_of(range.step))
}

/// The first index of `few` that none of `all` holds; both are rising and disjoint ranges.
pub(crate) fn first_missing(few: &[IndexRange], all: &[IndexRange]) -> Option<u32> {
    few.iter().find_map(|range| {
        let around = all.get(all.partition_point(|other| other.last < range.first));
        let is_within = around.is_some_and(|around| {
            around.first <= range.first
                && range.last <= around.last
                && (range.first - around.first).is_multiple_of(around.step)
                && range.step.is_multiple_of(around.step)
        });
        if is_within {
            return None;
        }
        range.indices().find(|index| !range_holds(all, *index))
    })
}

impl From<JobRef> for On {
    fn from(on: JobRef) -> Self {
        Self { job: on.job, tasks: on.task.map_or(Tasks::All, Tasks::One) }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tasks {
            Tasks::All => write!(f, "{}", self.job),
            Tasks::One(index) => write!(f, "{}_{index}", self.job),
            Tasks::Ranges(ranges) => {
                write!(f, "{}_[", self.job)?;
                for (i, range) in ranges.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    match (range.first == range.last, range.step) {
                        (true, _) => write!(f, "{comma}{}", range.first)?,
                        (false, 1) => write!(f, "{comma}{}-{}", range.first, range.last)?,
                        (false, step) => write!(f, "{comma}{}-{}:{step}", range.first, range.last)?,
                    }
                }
                f.write_str("]")
            }
        }
    }
}

/// A text that names no job and no tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOn {
    /// It has no brackets.
    #[error(transparent)]
    Job(#[from] BadJobRef),
    /// It has brackets.
    #[error("'{text}' does not name tasks of a job: write ranges that do not overlap, such as 12_[1-5,8]")]
    Tasks {
        /// What was written.
        text: String,
    },
}

impl FromStr for On {
    type Err = BadOn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((job, rest)) = text.split_once("_[") else {
            return Ok(text.parse::<JobRef>()?.into());
        };
        let bad = || BadOn::Tasks { text: text.to_owned() };
        let JobRef { job, task: None } = job.parse()? else { return Err(bad()) };
        let list = rest.strip_suffix(']').ok_or_else(bad)?;
        let ranges = parse_ranges(list, ARRAY_INDEX_MAX).map_err(|_| bad())?;
        let mut ranges: Vec<IndexRange> = ranges.into_iter().map(IndexRange::from).collect();
        ranges.sort_unstable_by_key(|range| range.first);
        if ranges.windows(2).any(|pair| pair[0].last >= pair[1].first) {
            return Err(bad());
        }
        let tasks = match ranges.as_slice() {
            [] => return Err(bad()),
            [only] if only.first == only.last => Tasks::One(TaskIndex(only.first)),
            _ => Tasks::Ranges(ranges),
        };
        Ok(Self { job, tasks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read_back_as_written() {
        for (text, written) in [
            ("12", "12"),
            ("12_3", "12_3"),
            ("12_[3]", "12_3"),
            ("12_[1-5,8]", "12_[1-5,8]"),
            ("12_[8,1-5]", "12_[1-5,8]"),
            ("12_[0-10:5,11]", "12_[0-10:5,11]"),
            ("12_[0-11:5,12-12]", "12_[0-10:5,12]"),
        ] {
            let on: On = text.parse().unwrap();
            assert_eq!(on.to_string(), written, "{text}");
            assert_eq!(written.parse::<On>().unwrap(), on, "{text}");
        }
        for text in
            ["12_[]", "12_[1-5", "12_[1-5,3]", "12_[5-1]", "12_3_[1-2]", "0_[1-2]", "12_[0-9:0]", "12_[1]2"]
        {
            assert!(text.parse::<On>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn it_is_known_which_tasks_are_named() {
        let on: On = "12_[1-5:2,8]".parse().unwrap();
        let named: Vec<u32> = (0..12).filter(|index| on.holds(TaskIndex(*index))).collect();
        assert_eq!(named, [1, 3, 5, 8]);
        let ranges = |text: &str| match text.parse::<On>().unwrap().tasks {
            Tasks::Ranges(ranges) => ranges,
            other => panic!("{other:?}"),
        };
        for (few, all, missing) in [
            ("1_[2-8]", "1_[0-9]", None),
            ("1_[2-8]", "1_[0-4,5-9]", None),
            ("1_[2-8:2]", "1_[0-10:2]", None),
            ("1_[2-8:4]", "1_[0-10:2]", None),
            ("1_[2-8:3]", "1_[0-10:2]", Some(5)),
            ("1_[3-4]", "1_[0-10:2]", Some(3)),
            ("1_[2-8]", "1_[0-5,7-9]", Some(6)),
            ("1_[2-8]", "1_[0-5]", Some(6)),
        ] {
            assert_eq!(first_missing(&ranges(few), &ranges(all)), missing, "{few} of {all}");
        }
    }
}
