//! `sreport job SizesByAccount`.

use std::collections::{BTreeMap, BTreeSet};

use muster_client::api::UsageLine;

use super::accounts::ROOT;
use super::options::Grouping;
use super::{Field, Sheet};
use crate::slurm::fault::Fault;
use crate::slurm::listing::Style;

const ACCOUNT: Field = ("account", crate::slurm::listing::Head { header: "Account", width: 9 });
const CLUSTER: Field = ("cluster", crate::slurm::listing::Head { header: "Cluster", width: 9 });
const SIZE_WIDTH: i32 = 13;
const SIZE_WIDTH_BOTH: i32 = 20;
const PART: &str = "% of cluster";

/// Sizes from a number of cores up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    from: u64,
    /// None without an end.
    to: Option<u64>,
}

impl Sizes {
    fn holds(self, cores: u64) -> bool {
        cores >= self.from && self.to.is_none_or(|to| cores <= to)
    }

    fn header(self) -> String {
        match self.to {
            Some(to) if to == self.from && to > 0 => format!("{to} CPUs"),
            Some(to) => format!("{}-{to} CPUs", self.from),
            None => format!(">= {} CPUs", self.from),
        }
    }
}

/// What jobs of one size used, and how many there were.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    core_s: f64,
    jobs: u64,
}

/// The groups of sizes.
fn groups(grouping: &Grouping, lines: &[&UsageLine]) -> Vec<Sizes> {
    match grouping {
        Grouping::Individual => {
            let cores: BTreeSet<u64> = lines.iter().map(|line| line.cores).collect();
            cores.into_iter().map(|cores| Sizes { from: cores, to: Some(cores) }).collect()
        }
        Grouping::From(numbers) => {
            let mut from = 0;
            let mut groups = Vec::new();
            for number in numbers {
                groups.push(Sizes { from, to: Some(number - 1) });
                from = *number;
            }
            groups.push(Sizes { from, to: None });
            groups
        }
    }
}

/// The account in whose row a job of `account` counts, if it is in one.
fn row_of<'a>(sheet: &'a Sheet, account: &'a str) -> Option<&'a str> {
    let (wanted, tree) = (&sheet.wanted, &sheet.tree);
    let is_named = |name: &str| wanted.accounts.iter().any(|named| named == name);
    if wanted.flat {
        return Some(account).filter(|name| wanted.accounts.is_empty() || is_named(name));
    }
    let path: Vec<&str> = tree.upward(account).collect();
    let place = if wanted.accounts.is_empty() {
        path.len() - 1
    } else {
        path.iter().position(|name| is_named(name))?
    };
    // Below the account that is named, or that account for what it has used itself.
    Some(path[if wanted.as_parent { place.saturating_sub(1) } else { place }])
}

pub(super) fn write(sheet: &Sheet) -> Result<String, Fault> {
    let wanted = &sheet.wanted;
    let takes = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let lines: Vec<&UsageLine> = sheet
        .usage
        .lines
        .iter()
        .filter(|line| takes(&wanted.users, &line.user) && takes(&wanted.partitions, &line.pool))
        .collect();
    let mut rows: BTreeMap<String, Vec<&UsageLine>> = BTreeMap::new();
    for line in &lines {
        if let Some(account) = row_of(sheet, line.account.as_deref().unwrap_or(ROOT)) {
            rows.entry(account.to_owned()).or_default().push(line);
        }
    }
    let shown: Vec<&UsageLine> = rows.values().flatten().copied().collect();
    let groups = groups(&wanted.grouping, &shown);
    let total: f64 = shown.iter().map(|line| line.used.core_s).sum();

    let heads = sheet.fields(&[ACCOUNT, CLUSTER], "cluster,account")?;
    let size_width = if wanted.times.has_both() { SIZE_WIDTH_BOTH } else { SIZE_WIDTH };
    let mut columns: Vec<(String, i32)> =
        heads.iter().map(|head| (head.header.to_owned(), head.width)).collect();
    columns.extend(groups.iter().map(|sizes| (sizes.header(), size_width)));
    columns.push((PART.to_owned(), PART.len() as i32));

    let mut out = String::new();
    let unit = if wanted.count_jobs {
        "Units are in number of jobs ran".to_owned()
    } else {
        wanted.times.time_unit()
    };
    sheet.title(&mut out, "Job Sizes", true, &unit);
    if wanted.header {
        wanted.style.named_header(&mut out, &columns);
    }
    for (account, lines) in &rows {
        let sum = |sizes: &Sizes| {
            let held = lines.iter().filter(|line| sizes.holds(line.cores));
            held.fold(Sum::default(), |sum, line| Sum {
                core_s: sum.core_s + line.used.core_s,
                jobs: sum.jobs + line.attempts,
            })
        };
        let sums: Vec<Sum> = groups.iter().map(sum).collect();
        let whole: f64 = sums.iter().map(|sum| sum.core_s).sum();
        let mut values: Vec<String> = heads
            .iter()
            .map(|head| if head.header == "Cluster" { sheet.cluster.clone() } else { account.clone() })
            .collect();
        values.extend(sums.iter().map(|sum| match wanted.count_jobs {
            true => sum.jobs.to_string(),
            false => wanted.times.text(sum.core_s, whole),
        }));
        values.push(format!("{:.2}%", if total > 0.0 { whole / total * 100.0 } else { 0.0 }));
        wanted.style.named_row(&mut out, &columns, &values);
    }
    Ok(out)
}

impl Style {
    /// A header whose names are not known beforehand.
    fn named_header(&self, out: &mut String, columns: &[(String, i32)]) {
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        self.named_row(out, columns, &names);
        if *self == Self::Columns {
            for (_, width) in columns {
                out.push_str(&"-".repeat(width.unsigned_abs() as usize));
                out.push(' ');
            }
            out.push('\n');
        }
    }

    fn named_row(&self, out: &mut String, columns: &[(String, i32)], values: &[String]) {
        self.cells(out, columns.iter().map(|(_, width)| *width).zip(values));
    }
}
