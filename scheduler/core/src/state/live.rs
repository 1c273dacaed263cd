//! How live tasks are written down: those of an array are alike.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Live, LivePhase};
use crate::ids::{TaskIndex, Timestamp};
use crate::rows::{Alike, Row, numbered, on_from, step};

/// What is a task's own: how many indices it is from the one before, the number of what it has in common with others, how long after the
/// one before it was placed, in microseconds; how many indices it is from the one that it follows in its line, and to the one that follows
/// it, 0 without; and how long after its place it was told to start, and after that its script did. The first comes after index 0 and
/// 1970.
type Own = Row<7>;

/// The way from a task to another one in its line, 0 if there is none.
fn way(index: TaskIndex, other: Option<TaskIndex>) -> i64 {
    other.map_or(0, |other| step(index.0.into(), other.0.into()))
}

/// What is a task's own, but for its place in the row, and what is left, which many have in common.
fn part(index: TaskIndex, live: &Live) -> (Live, [i64; 4]) {
    let mut common = live.clone();
    let mut own = [way(index, live.follows), way(index, live.followed_by), 0, 0];
    (common.placed_at, common.follows, common.followed_by) = (Timestamp(0), None, None);
    if let LivePhase::Running { go_at, started_at } = &mut common.phase {
        own[2] = step(live.placed_at.0, go_at.0);
        own[3] = started_at.map_or(0, |at| step(go_at.0, at.0));
        (*go_at, *started_at) = (Timestamp(0), started_at.map(|_| Timestamp(0)));
    }
    (common, own)
}

/// Gives a task that was placed at `placed_at` its own again.
fn join(common: &Live, index: u32, placed_at: Timestamp, own: [i64; 4]) -> Option<Live> {
    let other = |way: i64| match way {
        0 => Some(None),
        way => u32::try_from(on_from(index.into(), way)).ok().map(|other| Some(TaskIndex(other))),
    };
    let mut live = Live { placed_at, follows: other(own[0])?, followed_by: other(own[1])?, ..common.clone() };
    if let LivePhase::Running { go_at, started_at } = &mut live.phase {
        *go_at = Timestamp(on_from(placed_at.0, own[2]));
        *started_at = started_at.map(|_| Timestamp(on_from(go_at.0, own[3])));
    }
    Some(live)
}

/// What tasks have in common, each once, and the tasks.
pub(super) fn serialize<S: Serializer>(
    tasks: &BTreeMap<TaskIndex, Box<Live>>,
    out: S,
) -> Result<S::Ok, S::Error> {
    let mut alike = Alike::default();
    let (mut before, mut placed_before) = (0, 0);
    let rows = tasks.iter().map(|(index, live)| {
        let (common, own) = part(*index, live);
        let mut row = [0; 7];
        row[0] = step(before, index.0.into());
        row[1] = alike.number(common);
        row[2] = step(placed_before, live.placed_at.0);
        row[3..].copy_from_slice(&own);
        (before, placed_before) = (index.0.into(), live.placed_at.0);
        Row(row)
    });
    let rows: Vec<Own> = rows.collect();
    (alike.met(), rows).serialize(out)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<BTreeMap<TaskIndex, Box<Live>>, D::Error> {
    input.deserialize_any(Tasks)
}

struct Tasks;

impl<'de> Visitor<'de> for Tasks {
    type Value = BTreeMap<TaskIndex, Box<Live>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what live tasks have in common and a row for each, or each by its index")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let missing = |length| A::Error::invalid_length(length, &self);
        let alike: Vec<Live> = parts.next_element()?.ok_or_else(|| missing(0))?;
        let rows: Vec<Own> = parts.next_element()?.ok_or_else(|| missing(1))?;
        let (mut before, mut placed_before) = (0, 0);
        let task = |Row([to_index, number, to_place, own @ ..]): Own| {
            (before, placed_before) = (on_from(before, to_index), on_from(placed_before, to_place));
            let index = u32::try_from(before).ok()?;
            let live = join(numbered(&alike, number)?, index, Timestamp(placed_before), own)?;
            Some((TaskIndex(index), Box::new(live)))
        };
        let tasks: Option<Self::Value> = rows.into_iter().map(task).collect();
        tasks.ok_or_else(|| A::Error::custom("a row of numbers tells of a task that cannot be"))
    }

    /// As it was before version 3 of snapshots.
    fn visit_map<A: MapAccess<'de>>(self, tasks: A) -> Result<Self::Value, A::Error> {
        Self::Value::deserialize(MapAccessDeserializer::new(tasks))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cores::CoreSet;
    use crate::event::{Allocation, Endpoint, Share, Verdict};
    use crate::ids::NodeId;
    use crate::state::InstanceState;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held(#[serde(with = "super")] BTreeMap<TaskIndex, Box<Live>>);

    fn live(core: u32, placed_at: u64) -> Live {
        let mut cores = CoreSet::new();
        cores.insert(core);
        let share = Share { node: NodeId(1), cores, memory_bytes: 1 << 30, ranks: 1, gres: Vec::new() };
        let allocation = Arc::new(Allocation { shares: vec![share], cores_per_rank: 1 });
        Live::placed(1, &allocation, Timestamp(placed_at))
    }

    fn line(live: Live, follows: Option<u32>, followed_by: Option<u32>) -> Live {
        Live { follows: follows.map(TaskIndex), followed_by: followed_by.map(TaskIndex), ..live }
    }

    fn held() -> Held {
        let running = |go_at, started_at: Option<u64>| LivePhase::Running {
            go_at: Timestamp(go_at),
            started_at: started_at.map(Timestamp),
        };
        let ending = LivePhase::Ending {
            since: Timestamp(9),
            verdict: Verdict::Cancelled { by_uid: 7 },
            started_at: Some(Timestamp(8)),
            taken: None,
        };
        let mut ready = live(3, 5);
        ready.instances[0].state =
            InstanceState::Ready(Endpoint { host: "n1".to_owned(), ..Endpoint::default() });
        let tasks = [
            (3, line(live(0, 1000), None, Some(4))),
            (4, line(live(0, 1001), Some(3), Some(6))),
            (5, Live { phase: running(1010, Some(1012)), ..live(1, 1001) }),
            (6, line(live(0, 1001), Some(4), Some(u32::MAX))),
            (7, Live { phase: running(0, None), ..live(1, u64::MAX) }),
            (8, Live { phase: running(990, Some(980)), ..live(1, 1000) }),
            (9, Live { phase: ending, ends_by: Some(Timestamp(50)), ..live(2, 7) }),
            (10, ready),
            (u32::MAX, line(Live { attempt: 2, ..live(0, 0) }, Some(6), None)),
        ];
        Held(tasks.into_iter().map(|(index, live)| (TaskIndex(index), Box::new(live))).collect())
    }

    #[test]
    fn what_tasks_have_in_common_is_written_once_and_each_is_found_again() {
        let held = held();
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(text.matches("allocation").count(), 6, "{text}");
        assert!(
            text.contains("[[3,0,1000,0,1],[1,0,1,-1,2],[1,1,0,0,0,9,2],[1,0,0,-2,4294967289],"),
            "{text}"
        );
        let again: Held = serde_json::from_str(&text).unwrap();
        assert_eq!(again, held);
        let allocation = |index| &again.0[&TaskIndex(index)].allocation;
        assert!(Arc::ptr_eq(allocation(3), allocation(6)), "what they have in common is one again");
    }

    #[test]
    fn tasks_that_were_written_one_by_one_are_read_as_well() {
        let held = held();
        let one_by_one = serde_json::to_string(&held.0).unwrap();
        assert!(one_by_one.starts_with(r#"{"3":{"attempt":1,"#), "{one_by_one}");
        assert_eq!(serde_json::from_str::<Held>(&one_by_one).unwrap(), held);
    }

    #[test]
    fn rows_that_cannot_be_are_an_error() {
        let one = serde_json::to_string(&live(0, 0)).unwrap();
        for rows in
            ["[[0,1]]", "[[0,-1]]", "[[-1]]", "[[4294967296]]", "[[0,0,0,-1]]", "[[0,0,0,0,0,0,0,1]]", "7"]
        {
            assert!(serde_json::from_str::<Held>(&format!("[[{one}],{rows}]")).is_err(), "{rows}");
        }
        assert!(serde_json::from_str::<Held>(&format!("[[{one}]]")).is_err(), "no rows");
        assert!(serde_json::from_str::<Held>(&format!("[[{one}],[[5]],[]]")).is_err(), "one part too many");
    }
}
