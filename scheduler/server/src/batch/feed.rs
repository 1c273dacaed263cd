//! What happened of late in the batch service, for those who watch: a window of events that everybody reads at their own pace.
//!
//! Events come as records become durable, and are numbered by them, so that the numbers go on after a restart. Readers pull:
//! one that is slow keeps nothing but its own place, and is told when the window has moved on beyond that.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_batch::wire::{Before, Told, iso, told_of};
use muster_core::batch::FoldedId;
use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use serde_json::json;
use tokio::sync::watch;

/// Most events that are kept.
const EVENTS_MAX: usize = 16_384;
/// Most bytes of them.
const BYTES_MAX: usize = 16 << 20;

/// The place of an event: the record that it follows from, and the how-manieth of that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    record: u64,
    part: u32,
}

impl EventId {
    /// Before all others.
    pub const FIRST: Self = Self { record: 0, part: 0 };

    /// After all that a record tells.
    fn after(record: u64) -> Self {
        Self { record, part: u32::MAX }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.record, self.part)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (record, part) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { record: record.parse().map_err(|_| ())?, part: part.parse().map_err(|_| ())? })
    }
}

/// An event, as it is sent.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub id: EventId,
    /// What it is called.
    pub name: &'static str,
    account: Arc<str>,
    job: Option<FoldedId>,
    /// All of it, in JSON, on one line.
    pub text: String,
}

/// Whose events somebody reads.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Those of this account.
    pub account: Arc<str>,
    /// Only those of this job.
    pub job: Option<FoldedId>,
}

impl Wish {
    fn wants(&self, entry: &Entry) -> bool {
        entry.account == self.account && self.job.as_ref().is_none_or(|job| entry.job.as_ref() == Some(job))
    }
}

/// What a reader finds.
#[derive(Debug)]
pub struct Found {
    /// Events that were wished for, in their order.
    pub events: Vec<Arc<Entry>>,
    /// Where to go on.
    pub next: EventId,
    /// Set if events after the reader's place are gone, or may never have been here: those up to this place.
    pub lost: Option<EventId>,
    /// Whether there is more to be read at once.
    pub more: bool,
}

struct Window {
    events: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// What came after this is here.
    floor: EventId,
    /// The last record that was looked at.
    last: EventId,
}

/// The window.
pub struct Feed {
    window: Mutex<Window>,
    changed: watch::Sender<u64>,
    limits: (usize, usize),
}

impl Feed {
    /// An empty one, as of the record with this number.
    pub fn new(record: u64) -> Self {
        Self::with_limits(record, EVENTS_MAX, BYTES_MAX)
    }

    fn with_limits(record: u64, events_max: usize, bytes_max: usize) -> Self {
        let at = EventId::after(record);
        let window = Window { events: VecDeque::new(), bytes: 0, floor: at, last: at };
        Self {
            window: Mutex::new(window),
            changed: watch::channel(record).0,
            limits: (events_max, bytes_max),
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Nothing in it is ever half done.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever there are new events.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The place after all that has happened.
    pub fn end(&self) -> EventId {
        self.window().last
    }

    /// Events after a place, of at most `most`.
    pub fn after(&self, place: EventId, wish: &Wish, most: usize) -> Found {
        let window = self.window();
        let (floor, last) = (window.floor, window.last);
        // Who knows of more than has happened comes from another journal.
        let is_lost = place < floor || place > last;
        let from = if is_lost { floor } else { place };
        let first = window.events.partition_point(|entry| entry.id <= from);
        let mut events = Vec::new();
        for entry in window.events.range(first..).filter(|entry| wish.wants(entry)) {
            if events.len() == most {
                let next = events.last().map_or(from, |last: &Arc<Entry>| last.id);
                return Found { events, next, lost: is_lost.then_some(floor), more: true };
            }
            events.push(Arc::clone(entry));
        }
        Found { events, next: last, lost: is_lost.then_some(floor), more: false }
    }

    #[cfg(test)]
    fn add(&self, record: u64, entries: Vec<Entry>) {
        self.window().add(record, entries.into_iter(), self.limits);
    }
}

impl Window {
    /// Takes in what a record and those before it tell, and lets go of what is too much.
    fn add(&mut self, record: u64, entries: impl Iterator<Item = Entry>, limits: (usize, usize)) {
        self.last = EventId::after(record);
        for entry in entries {
            self.bytes += entry.text.len();
            self.events.push_back(Arc::new(entry));
            while self.events.len() > limits.0 || self.bytes > limits.1 {
                let Some(oldest) = self.events.pop_front() else { break };
                self.bytes -= oldest.text.len();
                self.floor = oldest.id;
            }
        }
    }
}

/// Follows records as they happen.
pub struct Following<'a> {
    feed: &'a Feed,
    told: Vec<(EventId, Timestamp, Told)>,
}

impl<'a> Following<'a> {
    /// Begins to.
    pub fn new(feed: &'a Feed) -> Self {
        Self { feed, told: Vec::new() }
    }

    /// Notes what a record tells that has just happened, as the record with this number.
    pub fn happened(&mut self, state: &State, before: &Before, record: &Record, number: u64) {
        let told = (0..).zip(told_of(state, before, record));
        self.told.extend(told.map(|(part, told)| (EventId { record: number, part }, record.at, told)));
    }

    /// Lets nobody read before all of it is there, up to the record with this number: whoever sees the new state finds the
    /// events of it as well.
    pub fn hold(self, last: u64) -> Held<'a> {
        Held { feed: self.feed, window: self.feed.window(), told: self.told, last }
    }
}

/// What has happened, and is about to be seen.
pub struct Held<'a> {
    feed: &'a Feed,
    window: MutexGuard<'a, Window>,
    told: Vec<(EventId, Timestamp, Told)>,
    last: u64,
}

impl Held<'_> {
    /// Lets readers see it. No state needs to be held any more, which spares its readers the time that it takes.
    pub fn show(mut self) {
        let is_new = !self.told.is_empty();
        let entries = self.told.into_iter().map(|(id, at, told)| {
            let shown = json!({
                "id": id.to_string(), "time": iso(at), "operationName": told.name, "properties": told.properties,
            });
            Entry { id, name: told.name, account: told.account, job: told.job, text: shown.to_string() }
        });
        self.window.add(self.last, entries, self.feed.limits);
        drop(self.window);
        if is_new {
            self.feed.changed.send_replace(self.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(job: Option<&str>) -> Wish {
        Wish { account: "lab".into(), job: job.map(FoldedId::of) }
    }

    fn entry(record: u64, part: u32, job: &str) -> Entry {
        let id = EventId { record, part };
        Entry {
            id,
            name: "TaskStartEvent",
            account: "lab".into(),
            job: Some(FoldedId::of(job)),
            text: "12345".to_owned(),
        }
    }

    fn ids(found: &Found) -> Vec<String> {
        found.events.iter().map(|entry| entry.id.to_string()).collect()
    }

    #[test]
    fn who_reads_on_misses_nothing_and_who_is_too_late_is_told_so() {
        let feed = Feed::with_limits(7, 3, 1000);
        let start = feed.end();
        feed.add(8, vec![entry(8, 0, "a"), entry(8, 1, "b")]);
        let found = feed.after(start, &wish(None), 1);
        assert_eq!((ids(&found), found.more, found.lost), (vec!["8.0".to_owned()], true, None));
        let found = feed.after(found.next, &wish(None), 10);
        assert_eq!((ids(&found), found.more, found.lost), (vec!["8.1".to_owned()], false, None));
        assert_eq!(ids(&feed.after(start, &wish(Some("B")), 10)), ["8.1"]);
        assert!(feed.after(start, &Wish { account: "other".into(), job: None }, 10).events.is_empty());
        // The window holds three: the two oldest of five are gone.
        feed.add(9, vec![entry(9, 0, "a")]);
        feed.add(10, vec![entry(10, 0, "a"), entry(10, 1, "a")]);
        let late = feed.after(start, &wish(None), 10);
        assert_eq!(
            (ids(&late), late.lost.map(|id| id.to_string())),
            (["9.0", "10.0", "10.1"].map(str::to_owned).to_vec(), Some("8.1".to_owned()))
        );
        let in_time = feed.after("8.1".parse().unwrap(), &wish(None), 10);
        assert_eq!((in_time.events.len(), in_time.lost), (3, None));
        assert!(feed.after("99.0".parse().unwrap(), &wish(None), 10).lost.is_some(), "of another journal");
    }

    #[test]
    fn bytes_are_limited_as_well_and_records_without_events_move_the_end() {
        let feed = Feed::with_limits(0, 1000, 12);
        feed.add(1, (0..5).map(|part| entry(1, part, "a")).collect());
        assert_eq!(ids(&feed.after(EventId::FIRST, &wish(None), 10)), ["1.3", "1.4"]);
        feed.add(4, Vec::new());
        assert_eq!(feed.end(), EventId::after(4));
        assert!("x".parse::<EventId>().is_err() && "1.x".parse::<EventId>().is_err());
        assert_eq!("12".parse::<EventId>(), Ok(EventId { record: 12, part: 0 }));
    }
}
