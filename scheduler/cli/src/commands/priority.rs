//! `muster priority`.

use std::process::ExitCode;

use muster_client::api::{FactorView, PriorityList};

use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};

/// Arguments of `muster priority`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster priority            every job that waits in a pool with the order multifactor\n  \
    muster priority 12 14      these jobs\n  muster priority -u ann     the jobs of one user\n  \
    muster priority --json     for programs\n\n\
    Each cell is weight x factor, with the factor in brackets; the sum decides who comes first."
)]
pub struct PriorityArgs {
    /// Jobs; all without
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Only jobs of this user
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &PriorityArgs) -> Result<ExitCode, CliError> {
    let jobs = job_refs(&args.jobs)?;
    let list = connect()?.priority(&jobs, args.user.as_deref())?;
    if args.json {
        print_json(&list)?;
    } else {
        print(&table(&list).render())?;
    }
    Ok(Exit::Ok.into())
}

fn table(list: &PriorityList) -> Table {
    let mut table = Table::new(vec![
        ("JOB", Side::Right),
        ("USER", Side::Left),
        ("ACCOUNT", Side::Left),
        ("QOS", Side::Left),
        ("POOL", Side::Left),
        ("SUM", Side::Right),
        ("AGE", Side::Right),
        ("SIZE", Side::Right),
        ("FAIR SHARE", Side::Right),
        ("BY POOL", Side::Right),
        ("BY JOB", Side::Right),
        ("BY QOS", Side::Right),
    ]);
    if let Some(first) = list.jobs.first() {
        let mut row: Vec<Cell> = ["weight", "", "", "", "", ""].map(Cell::new).into();
        row.extend(first.factors.all().map(|factor| Cell::new(factor.weight.to_string())));
        table.push(row);
    }
    for job in &list.jobs {
        let or_dash = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or("-"));
        let mut row = vec![
            Cell::new(job.job.to_string()),
            Cell::new(&job.user),
            or_dash(&job.account),
            or_dash(&job.qos),
            Cell::new(&job.pool),
            Cell::new(format!("{:.1}", job.sum)),
        ];
        let part = |factor: FactorView| Cell::new(format!("{:.1} ({:.3})", factor.part, factor.value));
        row.extend(job.factors.all().map(part));
        table.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use muster_client::api::{FactorsView, JobPriority, SCHEMA};

    use super::*;

    #[test]
    fn each_factor_is_shown_with_its_part_of_the_sum() {
        let factor = |value: f64, weight: u32| FactorView { value, weight, part: value * f64::from(weight) };
        let factors = FactorsView {
            age: factor(0.5, 1000),
            fair_share: factor(0.75, 10_000),
            job: factor(0.5, 100),
            ..FactorsView::default()
        };
        let job = JobPriority {
            job: 12,
            name: "x".to_owned(),
            user: "ann".to_owned(),
            account: Some("physics".to_owned()),
            qos: None,
            pool: "main".to_owned(),
            sum: 8050.0,
            factors,
        };
        let text = table(&PriorityList { schema: SCHEMA, jobs: vec![job], cut: false }).render();
        let text = anstream::adapter::strip_str(&text).to_string();
        let expected = "   \
   JOB  USER  ACCOUNT  QOS  POOL     SUM            AGE         SIZE      FAIR SHARE      BY POOL        BY JOB       BY QOS
weight                                             1000            0           10000            0           100            0
    12  ann   physics  -    main  8050.0  500.0 (0.500)  0.0 (0.000)  7500.0 (0.750)  0.0 (0.000)  50.0 (0.500)  0.0 (0.000)
";
        assert_eq!(text, expected);
    }
}
