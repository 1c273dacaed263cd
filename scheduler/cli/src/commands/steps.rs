//! `muster steps`.

use std::process::ExitCode;

use muster_client::TaskFilter;
use muster_client::api::{SCHEMA, StepView};
use muster_core::ids::JobRef;
use muster_core::notation::{format_size, format_time_s};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::look::{self, Live, StepAndLive};
use crate::out::{print, print_json, tell};
use crate::table::{Cell, Side, Table};
use crate::text::{elapsed_s, now_us, state_style, state_words};

/// Arguments of `muster steps`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster steps 12          what was launched in job 12 by muster run or srun\n  \
    muster steps 14_3        in task 3 of array 14\n  muster cancel 12.0       end step 0 of job 12\n\n\
    A step that has run for a second is listed while it runs; a shorter one when it has ended.\n\
    With --live each step that runs is asked what it uses: it calls this host, which its node must reach."
)]
pub struct StepsArgs {
    /// Job (12) or task of an array (12_3)
    #[arg(value_name = "JOB[_TASK]")]
    job: String,
    /// Ask the steps that run what they use now
    #[arg(long)]
    live: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    schema: u32,
    steps: Vec<StepAndLive<'a>>,
    cut: bool,
}

pub(crate) fn run(args: &StepsArgs) -> Result<ExitCode, CliError> {
    let job: JobRef = args.job.parse()?;
    let mut client = connect()?;
    let filter = TaskFilter { jobs: vec![job], since_us: Some(0), steps: true, ..TaskFilter::default() };
    let mut list = client.tasks(&filter)?;
    if list.known.is_empty() {
        // The same refusal as that of every other command.
        client.job(job)?;
    }
    let (mut live, mut missing) = (Vec::new(), Vec::new());
    if args.live {
        (live, missing) = look::ask_all(&mut client, &mut list.steps.iter_mut().collect::<Vec<_>>());
    }
    if args.json {
        let with_live = |(place, step)| {
            let live = live.get(place).and_then(Option::as_ref).map(Live::figures);
            StepAndLive { step, live }
        };
        let steps = list.steps.iter().enumerate().map(with_live).collect();
        print_json(&Report { schema: SCHEMA, steps, cut: list.cut })?;
    } else {
        print(&table(&list.steps, now_us()).render())?;
        if list.cut {
            tell("muster steps: there are more steps than are listed");
        }
    }
    for error in missing {
        tell(&format!("muster steps: {error}"));
    }
    Ok(Exit::Ok.into())
}

/// The number of a step: its job's, its task's where that is not the only one, and its own.
fn id(step: &StepView, is_array: bool) -> String {
    match is_array {
        true => format!("{}_{}.{}", step.job, step.task, step.step),
        false => format!("{}.{}", step.job, step.step),
    }
}

fn table(steps: &[StepView], now_us: u64) -> Table {
    let mut table = Table::new(vec![
        ("STEP", Side::Left),
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("EXIT", Side::Right),
        ("TIME", Side::Right),
        ("RANKS", Side::Right),
        ("CORES", Side::Right),
        ("CPU", Side::Right),
        ("PEAK", Side::Right),
        ("NODES", Side::Left),
    ]);
    let is_array = steps.iter().any(|step| step.task > 0);
    for step in steps {
        let used = step.usage.as_ref();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let exit = match step.signal {
            Some(signal) => Some(format!("signal {signal}")),
            None => step.exit_code.map(|code| code.to_string()),
        };
        table.push(vec![
            Cell::new(id(step, is_array)),
            Cell::new(&step.name),
            Cell::styled(state_words(step.state), state_style(step.state)),
            Cell::new(or_dash(exit)),
            Cell::new(format_time_s(elapsed_s(Some(step.started_at_us), step.finished_at_us, now_us))),
            Cell::new(step.ranks.to_string()),
            Cell::new(step.cores.to_string()),
            Cell::new(or_dash(used.map(|used| efficiency(step, used.user_us + used.system_us, now_us)))),
            Cell::new(or_dash(used.map(|used| format_size(used.memory_peak_bytes)))),
            Cell::new(&step.node_list),
        ]);
    }
    table
}

/// Which part of its cores' time a step has used.
fn efficiency(step: &StepView, cpu_us: u64, now_us: u64) -> String {
    let wall_us = step.finished_at_us.unwrap_or(now_us).saturating_sub(step.started_at_us);
    let held_us = wall_us.saturating_mul(step.cores).max(1);
    format!("{} %", cpu_us.saturating_mul(100) / held_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_by_their_task_where_there_are_several() {
        let text = r#"{"job":12,"task":0,"attempt":1,"step":3,"name":"a","state":"running","node_list":"n1",
            "nodes":1,"ranks":2,"cores":4,"started_at_us":1000000}"#;
        let step: StepView = serde_json::from_str(text).unwrap();
        assert_eq!((id(&step, false), id(&step, true)), ("12.3".to_owned(), "12_0.3".to_owned()));
        let ended = StepView { finished_at_us: Some(3_000_000), ..step };
        assert_eq!(efficiency(&ended, 4_000_000, 0), "50 %");
        assert_eq!(efficiency(&StepView { finished_at_us: None, ..ended }, 4_000_000, 5_000_000), "25 %");
    }
}
