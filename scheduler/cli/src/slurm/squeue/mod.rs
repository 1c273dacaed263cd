//! The face `squeue`: what is in the queue.

mod fields;
mod json;
mod options;
mod select;
mod steps;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use muster_client::api::{FINISHED_SHOWN_S, TaskList};
use muster_client::{Client, TaskFilter};

use self::fields::{Field, View};
use self::options::{Mode, Options};
use super::columns::Layout;
use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::people::People;
use super::time::Times;

/// What Slurm calls asking for jobs.
const DOING: &str = "slurm_load_jobs error";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let options = options::read(words)?;
    match options.mode {
        Mode::Help => return print(options::HELP).map(|()| ExitCode::SUCCESS),
        Mode::Usage => return print(options::USAGE).map(|()| ExitCode::SUCCESS),
        Mode::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
        Mode::Jobs | Mode::Steps | Mode::Json => {}
    }
    let mut client = connect(DOING)?;
    loop {
        let list = fetch(&mut client, &options)?;
        let mut text = String::new();
        if let Some(named) = &options.clusters {
            check_clusters("squeue", named, &list.cluster)?;
            if options.mode != Mode::Json {
                text.push_str(&format!("CLUSTER: {}\n", list.cluster));
            }
        }
        write(&list, &options, &mut client, &mut text)?;
        print(&text)?;
        let Some(seconds) = options.iterate_s else { return Ok(ExitCode::SUCCESS) };
        thread::sleep(Duration::from_secs(seconds));
        print("\n")?;
    }
}

/// One request for the whole listing.
fn fetch(client: &mut Client, options: &Options) -> Result<TaskList, Fault> {
    let filter = TaskFilter {
        jobs: options.jobs.clone().unwrap_or_default(),
        users: options.users.clone().unwrap_or_default(),
        finished_s: options.wants_finished().then_some(FINISHED_SHOWN_S),
        steps: options.mode == Mode::Steps,
        detail: matches!(options.mode, Mode::Json | Mode::Steps)
            || options.layout.columns.iter().any(|column| column.key.needs_detail()),
        starts: options.start || options.layout.columns.iter().any(|column| column.key == Field::StartTime),
        ..TaskFilter::default()
    };
    // Nobody has jobs whom the system does not know.
    if options.users.as_ref().is_some_and(Vec::is_empty) {
        let none = TaskFilter { jobs: Vec::new(), users: vec!["-".to_owned()], ..filter };
        return client.tasks(&none).map_err(Fault::client(DOING));
    }
    let mut list = client.tasks(&filter).map_err(Fault::client(DOING))?;
    if let Some([only]) = options.jobs.as_deref()
        && list.known.is_empty()
    {
        // A finished job that is remembered is no line of the default listing, and no error.
        let all =
            TaskFilter { finished_s: Some(FINISHED_SHOWN_S), users: Vec::new(), detail: false, ..filter };
        if client
            .tasks(&TaskFilter { jobs: vec![*only], ..all })
            .map_err(Fault::client(DOING))?
            .known
            .is_empty()
        {
            return Err(Fault::Said(format!("{DOING}: Invalid job id specified")));
        }
        list.lines.clear();
    }
    if list.cut {
        crate::out::tell("squeue: warning: there are more jobs than one list holds: name users or jobs");
    }
    Ok(list)
}

fn write(list: &TaskList, options: &Options, client: &mut Client, out: &mut String) -> Result<(), Fault> {
    let view = View::new(list, Times::new(list.now_us), People::default(), options);
    let mut rows = select::rows(list, options, client)?;
    match options.mode {
        Mode::Json => out.push_str(&json::text(&view, &rows)),
        Mode::Steps => steps::write(&view, &rows, options, out),
        _ => {
            if options.long && options.header {
                out.push_str(&format!("{}\n", view.times.headline()));
            }
            if options.header {
                options.layout.header(out);
            }
            select::sort(&mut rows, &view, &options.sort);
            for row in &rows {
                options.layout.line(out, |column, out| view.write(column.key, row, out));
            }
        }
    }
    Ok(())
}

/// The columns of the options, or those of a default.
fn layout_of(letters: &str) -> Layout<Field> {
    Layout::of_letters(letters, fields::of_letter).0
}
