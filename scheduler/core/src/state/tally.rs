//! Dependencies on several tasks of one job: what is left of them is counted, so that nothing is looked through when
//! one of them begins or ends.

use super::depends::{Known, News, began, ran};
use super::{IndexSet, Job};
use crate::eligibility::Term;
use crate::ids::{TaskIndex, Timestamp};
use crate::on::On;
use crate::spec::IndexRange;

/// What is known of a term about these tasks of `target` when a job that depends on them is submitted.
pub(super) fn first_look(term: &Term, target: &Job, ranges: &[IndexRange], at: Timestamp) -> Known {
    let named = |index: TaskIndex| crate::on::range_holds(ranges, index.0);
    let (first, last) = (ranges.first().map_or(0, |r| r.first), ranges.last().map_or(0, |r| r.last));
    let span = TaskIndex(first)..=TaskIndex(last);
    let finished = target.finished.range(span.clone()).filter(|(index, _)| named(**index));
    if !matches!(term, Term::After { .. }) {
        let all: u64 = ranges.iter().map(IndexRange::len).sum();
        let (mut left, mut failed) = (all, false);
        for (_, finished) in finished {
            left = left.saturating_sub(1);
            failed |= !finished.how.is_success();
        }
        return settle(term, Known::Ending { left, failed }, at);
    }
    let live = target.live.range(span).filter(|(index, _)| named(**index));
    let begun = live.filter_map(|(index, live)| Some((*index, began(live)?)));
    let begun = begun.chain(finished.map(|(index, finished)| (*index, ran(finished))));
    let (mut left, mut last) = (IndexSet::from_ranges(ranges), Timestamp(0));
    for (index, at) in begun {
        left.remove(index.0);
        last = last.max(at);
    }
    settle(term, Known::Beginning { left, last }, at)
}

/// What is known after news of a task of the job that the term names.
pub(super) fn learn(term: &Term, on: &On, known: Known, news: News, at: Timestamp) -> Known {
    let known = match (known, news) {
        (Known::Ending { left, failed }, News::Finished { index, success }) if on.holds(index) => {
            Known::Ending { left: left.saturating_sub(1), failed: failed || !success }
        }
        (Known::Beginning { mut left, last }, News::Began { index } | News::Finished { index, .. }) => {
            // It may have begun before, and been tried again.
            let last = if left.remove(index.0) { last.max(at) } else { last };
            Known::Beginning { left, last }
        }
        (known, _) => known,
    };
    settle(term, known, at)
}

/// What the counts come to, if they decide the term.
fn settle(term: &Term, known: Known, at: Timestamp) -> Known {
    match (term, known) {
        (Term::AfterOk(_), Known::Ending { failed: true, .. })
        | (Term::AfterNotOk(_), Known::Ending { left: 0, failed: false }) => Known::Never,
        (_, Known::Ending { left: 0, .. }) => Known::Fulfilled { from: at },
        (Term::After { minutes, .. }, Known::Beginning { left, last }) if left.is_empty() => {
            Known::Fulfilled { from: last.plus_seconds(u64::from(*minutes) * 60) }
        }
        (_, known) => known,
    }
}
