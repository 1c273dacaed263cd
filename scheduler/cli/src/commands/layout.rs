//! `muster layout`: which rank runs, or ran, on which node and core, drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use muster_client::api::{JobDetail, NodeView, SCHEMA, TaskView};
use muster_core::notation::parse_ranges;

use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::text::{state_words, tame};

/// Most cores in one row of a box.
const CORES_PER_ROW: usize = 16;

/// Arguments of `muster layout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster layout 12       a box for each node, a cell for each core\n  \
    muster layout 12 13    two jobs side by side: A0 is rank 0 of the first\n  muster layout 12_3     one task of array 12")]
pub struct LayoutArgs {
    /// Jobs (12) and tasks of arrays (12_3)
    #[arg(value_name = "JOB[_TASK]", required = true)]
    jobs: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The ranks of one task on one node.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Seat {
    task: String,
    node: String,
    core: u32,
    /// None for a core that the task holds and no rank uses.
    rank: Option<u32>,
}

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    seats: Vec<Seat>,
}

pub(crate) fn run(args: &LayoutArgs) -> Result<ExitCode, CliError> {
    let mut client = connect()?;
    let mut names = Vec::new();
    let mut seats = Vec::new();
    for job in job_refs(&args.jobs)? {
        let detail = client.job(job)?;
        let before = names.len();
        for task in drawn(&detail, job.task.is_some()) {
            let name =
                if detail.summary.array { format!("{}_{}", job.job, task.index) } else { job.to_string() };
            seats.extend(task_seats(&name, &detail, task));
            names.push((name, detail.summary.name.clone()));
        }
        if names.len() == before {
            let state = detail.task_list.first().map_or(detail.summary.state, |task| task.state);
            return Err(CliError::NothingToDraw { job: job.to_string(), state: state_words(state) });
        }
    }
    if args.json {
        print_json(&Report { schema: SCHEMA, seats })?;
    } else {
        print(&draw(&names, &seats, &client.nodes()?.nodes))?;
    }
    Ok(Exit::Ok.into())
}

/// The tasks that hold cores; of a finished job, or a finished task that was named, those that it held last.
fn drawn(detail: &JobDetail, named: bool) -> impl Iterator<Item = &TaskView> {
    let live = detail.task_list.iter().any(|task| !task.state.is_finished());
    // What the tasks of a finished array held, one after another, makes no picture.
    let past = !live && (named || !detail.summary.array);
    detail.task_list.iter().filter(move |task| !task.shares.is_empty() && (past || !task.state.is_finished()))
}

/// Ranks in block order: they fill share after share, each with its own cores in rising order.
fn task_seats(name: &str, detail: &JobDetail, task: &TaskView) -> Vec<Seat> {
    let per_rank = detail.request.cores_per_rank.max(1);
    let mut seats = Vec::new();
    let mut first_rank = 0;
    for share in &task.shares {
        let cores = parse_ranges(&share.cores, u32::MAX).unwrap_or_default();
        let cores = cores.iter().flat_map(|range| (range.first..=range.last).step_by(range.step as usize));
        for (at, core) in (0u32..).zip(cores) {
            let rank = (at / per_rank < share.ranks).then(|| first_rank + at / per_rank);
            seats.push(Seat { task: name.to_owned(), node: share.node.clone(), core, rank });
        }
        first_rank += share.ranks;
    }
    seats
}

/// The letter of the `at`th task: A to Z, then A1 and so on.
fn letter(at: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(at % 26).expect("a remainder of 26 fits"));
    if at < 26 { letter.to_string() } else { format!("{letter}{}.", at / 26) }
}

fn draw(names: &[(String, String)], seats: &[Seat], nodes: &[NodeView]) -> String {
    let mut out = String::new();
    let letters: BTreeMap<&str, String> = if names.len() > 1 {
        names.iter().enumerate().map(|(at, (task, _))| (task.as_str(), letter(at))).collect()
    } else {
        BTreeMap::new()
    };
    for (task, name) in names {
        let mark = letters.get(task.as_str()).map(|letter| format!("{letter} = ")).unwrap_or_default();
        let _ = writeln!(out, "{mark}job {task} ({})", tame(name));
    }
    for node in order(seats, nodes) {
        let here: Vec<&Seat> = seats.iter().filter(|seat| seat.node == node).collect();
        let declared = nodes.iter().find(|view| view.name == node).map_or(0, |view| view.cores);
        let count = declared.max(here.iter().map(|seat| seat.core + 1).max().unwrap_or(0));
        let mut cells = vec!["·".to_owned(); count as usize];
        for seat in here {
            let letter = letters.get(seat.task.as_str()).map_or("", String::as_str);
            cells[seat.core as usize] =
                format!("{letter}{}", seat.rank.map_or("-".to_owned(), |rank| rank.to_string()));
        }
        draw_node(&mut out, &tame(&node), &cells);
    }
    out.push_str(
        "\nA cell is a core, its number above it and its rank inside; - is held without a rank, · is not of these jobs\n",
    );
    out
}

/// The nodes with seats, in the order of the configuration, then those that it no longer has.
fn order(seats: &[Seat], nodes: &[NodeView]) -> Vec<String> {
    let mut names: Vec<String> = nodes
        .iter()
        .map(|node| node.name.clone())
        .filter(|name| seats.iter().any(|seat| seat.node == *name))
        .collect();
    for seat in seats {
        if !names.contains(&seat.node) {
            names.push(seat.node.clone());
        }
    }
    names
}

fn draw_node(out: &mut String, name: &str, cells: &[String]) {
    let last = cells.len().saturating_sub(1).to_string().len();
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(1).max(last);
    let _ = writeln!(out, "\n{name}");
    for (row, chunk) in cells.chunks(CORES_PER_ROW).enumerate() {
        let line = |left: char, middle: char, right: char| {
            let bars: Vec<String> = chunk.iter().map(|_| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}\n", bars.join(&middle.to_string()))
        };
        let numbers: Vec<String> =
            (0..chunk.len()).map(|at| format!(" {:>width$} ", row * CORES_PER_ROW + at)).collect();
        let _ = writeln!(out, " {}", numbers.join(" ").trim_end());
        out.push_str(&line('┌', '┬', '┐'));
        let texts: Vec<String> = chunk.iter().map(|cell| format!(" {cell:>width$} ")).collect();
        let _ = writeln!(out, "│{}│", texts.join("│"));
        out.push_str(&line('└', '┴', '┘'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(task: &str, node: &str, core: u32, rank: Option<u32>) -> Seat {
        Seat { task: task.into(), node: node.into(), core, rank }
    }

    fn node(name: &str, cores: u32) -> NodeView {
        NodeView {
            kept_for: Vec::new(),
            name: name.into(),
            state: "mixed".into(),
            reason: String::new(),
            since_us: None,
            until_us: None,
            by_uid: None,
            pools: vec![],
            cores,
            cores_free: 0,
            memory_bytes: 0,
            memory_free_bytes: 0,
            cores_real: cores,
            packages: 1,
            threads_per_core: 1,
            gres: Vec::new(),
            gres_held: Vec::new(),
            up_since_us: None,
            connected: true,
            drained: false,
            reason_given: String::new(),
            tasks: vec![],
            address: String::new(),
            agent_version: String::new(),
            containment: String::new(),
            load_hundredths: None,
            memory_idle_bytes: None,
            features: Vec::new(),
        }
    }

    #[test]
    fn one_job_is_drawn_with_plain_ranks() {
        let seats = [seat("7", "n2", 2, Some(1)), seat("7", "n1", 0, Some(0)), seat("7", "n1", 1, None)];
        let text = draw(&[("7".into(), "a".into())], &seats, &[node("n1", 4), node("n2", 3)]);
        let expected = "\
job 7 (a)

n1
  0   1   2   3
┌───┬───┬───┬───┐
│ 0 │ - │ · │ · │
└───┴───┴───┴───┘

n2
  0   1   2
┌───┬───┬───┐
│ · │ · │ 1 │
└───┴───┴───┘
";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn several_jobs_are_told_apart_by_letters_and_rows_wrap() {
        let seats = [seat("7", "n1", 0, Some(0)), seat("8", "n1", 17, Some(10))];
        let text = draw(&[("7".into(), "a".into()), ("8".into(), "b".into())], &seats, &[node("n1", 18)]);
        assert!(text.starts_with("A = job 7 (a)\nB = job 8 (b)\n"), "{text}");
        assert!(text.contains("│  A0 │") && text.contains("│   · │ B10 │"), "{text}");
        assert!(text.contains("   16    17\n"), "{text}");
        assert_eq!(letter(27), "B1.");
    }
}
