//! `[[qos]]`: the qualities of service.

use std::collections::{BTreeSet, HashMap};

use muster_core::cluster::{AccountConfig, Preempt, QosConfig};

use crate::pools::{check_name, choice};
use crate::problem::{ProblemKind, nearest};
use crate::section::{At, Reader, Section, Span};

/// Most qualities of service.
pub(crate) const QOS_MAX: usize = 1_000;
/// Priorities of qualities of service and pools.
pub(crate) const PRIORITY_LIMITS: (i32, i32) = (-1_000_000, 1_000_000);
/// Longest grace time, in seconds.
const GRACE_S_MAX: u64 = 86_400;
const USAGE_PERCENT_MAX: u64 = 10_000;

pub(crate) const PREEMPTS: [(&str, Preempt); 3] =
    [("off", Preempt::Off), ("requeue", Preempt::Requeue), ("cancel", Preempt::Cancel)];

/// A quality of service with the places that its errors are reported at.
struct Declared {
    config: QosConfig,
    span: Span,
    preempts: Vec<At<String>>,
}

pub(crate) fn qos(
    reader: &mut Reader<'_>,
    sections: Vec<Section<'_, '_>>,
    accounts: &[AccountConfig],
) -> Vec<QosConfig> {
    if let Some(first) = sections.get(QOS_MAX) {
        let (what, found) = ("qualities of service", sections.len());
        reader.problem(first.span.clone(), ProblemKind::TooMany { what, found, max: QOS_MAX });
        return Vec::new();
    }
    let known: BTreeSet<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
    let mut declared: Vec<Declared> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for section in sections {
        let Some(one) = read(reader, section, &known) else { continue };
        if let Some(first) = places.get(&one.config.name) {
            let (name, first_line) = (one.config.name, reader.line(&declared[*first].span));
            reader.problem(one.span, ProblemKind::Duplicate { what: "quality of service", name, first_line });
        } else {
            places.insert(one.config.name.clone(), declared.len());
            declared.push(one);
        }
    }
    let names: BTreeSet<&str> = declared.iter().map(|one| one.config.name.as_str()).collect();
    for one in &declared {
        check_names(reader, &one.config.name, "quality of service", &one.preempts, &names);
    }
    no_circles(reader, &declared, &places);
    declared.into_iter().map(|one| one.config).collect()
}

fn read(reader: &mut Reader<'_>, mut section: Section<'_, '_>, known: &BTreeSet<&str>) -> Option<Declared> {
    let span = section.span.clone();
    let name = section.text(reader, "name", "urgent");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"urgent\"");
    }
    let priority = section.signed(reader, "priority", PRIORITY_LIMITS).map_or(0, |at| at.value);
    let preempts = section.texts(reader, "preempts", "low").unwrap_or_default();
    let preempt = section.text(reader, "preempt", "requeue");
    let grace = section.time(reader, "grace");
    let accounts = section.texts(reader, "accounts", "physics").unwrap_or_default();
    let running_max = section.number(reader, "running_per_user_max", (1, u32::MAX.into()));
    let usage_percent = section.number(reader, "usage_percent", (0, USAGE_PERCENT_MAX));
    section.finish(reader);

    let preempt = choice(reader, "preempt", preempt, &PREEMPTS);
    let grace_s = grace.map_or(0, |grace| checked_grace(reader, grace));
    let name = name?;
    check_name(reader, &name);
    check_names(reader, &name.value, "account", &accounts, known);
    let config = QosConfig {
        name: name.value,
        priority,
        preempts: preempts.iter().map(|at| at.value.clone()).collect(),
        preempt,
        grace_s,
        accounts: accounts.into_iter().map(|at| at.value).collect(),
        running_per_user_max: running_max.map(|at| at.value as u32),
        usage_percent: usage_percent.map_or(100, |at| at.value as u32),
    };
    Some(Declared { config, span, preempts })
}

/// The time between SIGTERM and SIGKILL when a task is preempted, in seconds.
pub(crate) fn checked_grace(reader: &mut Reader<'_>, grace: At<u64>) -> u64 {
    if grace.value > GRACE_S_MAX {
        let found = muster_core::notation::format_time_s(grace.value);
        let expected = "a time of at most one day, such as \"0:30\"";
        reader.problem(grace.span, ProblemKind::BadText { key: "grace", expected, found });
    }
    grace.value.min(GRACE_S_MAX)
}

/// Names in a list of a quality of service: each must be declared, and stand there once.
fn check_names(
    reader: &mut Reader<'_>,
    qos: &str,
    what: &'static str,
    names: &[At<String>],
    known: &BTreeSet<&str>,
) {
    let mut seen = BTreeSet::new();
    for At { value: name, span } in names {
        let kind = if !known.contains(name.as_str()) {
            let nearest = nearest(name, known.iter().copied().filter(|known| *known != qos));
            let owner = format!("quality of service '{qos}'");
            ProblemKind::UnknownName { owner, what, name: name.clone(), nearest }
        } else if !seen.insert(name) {
            let key = if what == "account" { "accounts" } else { "preempts" };
            ProblemKind::Repeated { name: name.clone(), key }
        } else {
            continue;
        };
        reader.problem(span.clone(), kind);
    }
}

/// Two that may end each other's tasks would do so for ever.
fn no_circles(reader: &mut Reader<'_>, declared: &[Declared], places: &HashMap<String, usize>) {
    let mut is_done = vec![false; declared.len()];
    for start in 0..declared.len() {
        // The way down, each with how many of those that it preempts were looked at.
        let mut way = vec![(start, 0)];
        while let Some((at, next)) = way.last_mut() {
            let below = declared[*at].preempts.get(*next).filter(|_| !is_done[*at]);
            *next += 1;
            let Some(below) = below else {
                is_done[*at] = true;
                way.pop();
                continue;
            };
            let Some(&below) = places.get(&below.value) else { continue };
            if let Some(first) = way.iter().position(|(on_way, _)| *on_way == below) {
                let names = way[first..].iter().map(|(on_way, _)| declared[*on_way].config.name.as_str());
                let circle =
                    names.chain([declared[below].config.name.as_str()]).collect::<Vec<_>>().join(" > ");
                let (what, why) = ("qualities of service", "their tasks would end each other for ever");
                reader.problem(declared[below].span.clone(), ProblemKind::Circle { what, circle, why });
                return;
            }
            if !is_done[below] {
                way.push((below, 0));
            }
        }
    }
}
