//! What was used, read in pages from databases of both kinds.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::database::{Database, Databases};
use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex};
use muster_store::{
    After, AttemptRow, AwayRow, HistoryReader, HistoryRow, JobRow, TaskRow, TaskSpan, UsageQuery, UsedRow,
};

on_both!(
    pages_hold_each_attempt_once_whatever_their_size,
    nodes_are_away_for_as_long_as_that_touches_the_period,
);

fn job(job: u64, ended_us: u64, account: Option<&str>) -> HistoryRow {
    let account = account.map_or("null".to_owned(), |name| format!("\"{name}\""));
    HistoryRow::Job(Box::new(JobRow {
        job: JobId(job),
        name: "a".into(),
        user: "ann".into(),
        uid: 1000,
        pool: "main".into(),
        state: "completed".into(),
        tasks: 1,
        submitted_us: 5,
        started_us: Some(10),
        ended_us,
        detail: format!(r#"{{"account":{account}}}"#),
    }))
}

fn task(job: u64, index: u32, cores: u64, started_us: Option<u64>) -> HistoryRow {
    HistoryRow::Task(Box::new(TaskRow {
        job: JobId(job),
        span: TaskSpan::one(TaskIndex(index)),
        attempts: 2,
        name: "a".into(),
        user: "ann".into(),
        uid: 1000,
        pool: "main".into(),
        state: "completed".into(),
        exit_code: None,
        signal: None,
        reason: String::new(),
        nodes: "n1".into(),
        cores,
        submitted_us: 5,
        started_us,
        ended_us: 20,
        cpu_time_us: 0,
        memory_peak_bytes: 0,
        view: Some("{}".into()),
    }))
}

fn key(job: u64, index: u32, attempt: u32) -> AttemptKey {
    AttemptKey { task: TaskId { job: JobId(job), index: TaskIndex(index) }, attempt }
}

fn earlier(job: u64, attempt: u32, ended_us: u64) -> HistoryRow {
    HistoryRow::Attempt(Box::new(AttemptRow {
        attempt: key(job, 0, attempt),
        user: "ann".into(),
        account: None,
        pool: "main".into(),
        cores: 4,
        started_us: ended_us - 5,
        ended_us,
        view: r#"{"shares":[]}"#.into(),
    }))
}

/// All pages from `after` on.
fn all(database: &Database, mut after: After, query: &UsageQuery) -> Vec<UsedRow> {
    let reader = HistoryReader::open(database.place()).unwrap();
    let mut rows = Vec::new();
    loop {
        let page = reader.usage(after, query).unwrap();
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = next,
            None => return rows,
        }
    }
}

fn pages_hold_each_attempt_once_whatever_their_size(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    // Jobs that ended at the same instant, an array, a task that never ran, and one whose script never did.
    let mut rows = vec![job(1, 100, Some("lab")), job(2, 100, None), job(3, 90, None), job(4, 101, None)];
    rows.extend((0..5).map(|index| task(1, index, 2, Some(10))));
    rows.extend([task(2, 0, 8, Some(10)), task(3, 0, 1, Some(10)), task(4, 0, 1, None), task(4, 1, 0, None)]);
    rows.extend([earlier(9, 1, 100), earlier(9, 2, 100), earlier(7, 1, 120), earlier(8, 1, 50)]);
    store.append(&[], &rows).unwrap();
    store.append(&[], &rows).unwrap();

    for limit in [1, 2, 3, 100] {
        let query = UsageQuery { until_us: 1000, views: false, limit };
        let after = After::Task { job_ended_us: 95, job: JobId(0), task: None };
        let rows = all(&database, after, &query);
        let keys: Vec<AttemptKey> = rows.iter().map(|row| row.attempt).collect();
        let array = (0..5).map(|index| key(1, index, 2));
        assert_eq!(keys, array.chain([key(2, 0, 2), key(4, 0, 2)]).collect::<Vec<_>>(), "{limit}");
        assert_eq!((rows[0].account.as_deref(), rows[5].account.as_deref()), (Some("lab"), None));
        assert_eq!((rows[0].cores, rows[0].started_us, rows[0].ended_us), (2, Some(10), 20));
        // A view is there where it is needed, and where it was asked for.
        assert_eq!((&rows[0].view, &rows[6].view), (&None, &Some("{}".to_owned())));
        let rows = all(&database, after, &UsageQuery { views: true, ..query });
        assert!(rows.iter().all(|row| row.view.is_some()));
        assert_eq!(all(&database, after, &UsageQuery { until_us: 5, ..query }), []);

        let after = After::Attempt { ended_us: 100, attempt: None };
        let rows = all(&database, after, &query);
        let keys: Vec<AttemptKey> = rows.iter().map(|row| row.attempt).collect();
        assert_eq!(keys, [key(9, 0, 1), key(9, 0, 2), key(7, 0, 1)], "{limit}");
        assert_eq!(all(&database, after, &UsageQuery { until_us: 115, ..query }).len(), 2);
    }
    let mut lines = Vec::new();
    muster_store::export(database.place(), &mut lines).unwrap();
    let text = String::from_utf8(lines).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"type":"attempt","#)).count(), 4, "{text}");
}

fn nodes_are_away_for_as_long_as_that_touches_the_period(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let away = |node: &str, since_us| {
        let (node, reason) = (node.to_owned(), "broken".to_owned());
        HistoryRow::Away(Box::new(AwayRow { node, since_us, until_us: None, reason }))
    };
    let back = |node: &str, at_us| HistoryRow::Back { node: node.to_owned(), at_us };
    store.append(&[], &[away("n1", 100), away("n2", 150), back("n3", 160)]).unwrap();
    // Both in one batch, and an end that ends only what is open.
    store.append(&[], &[back("n1", 200), away("n3", 250), back("n3", 260)]).unwrap();
    store.append(&[], &[away("n1", 300), back("n1", 310)]).unwrap();
    let reader = HistoryReader::open(database.place()).unwrap();
    let times = |since_us, until_us| -> Vec<(String, u64, bool)> {
        let times = reader.away(since_us, until_us).unwrap();
        times.into_iter().map(|time| (time.node, time.away_us, time.is_open)).collect()
    };
    let of = |node: &str, away_us, is_open| (node.to_owned(), away_us, is_open);
    assert_eq!(times(0, 400), [of("n1", 110, false), of("n2", 250, true), of("n3", 10, false)]);
    assert_eq!(times(150, 305), [of("n1", 55, false), of("n2", 155, true), of("n3", 10, false)]);
    assert_eq!(times(0, 100), []);
    assert_eq!(times(200, 250), [of("n2", 50, true)]);
}
