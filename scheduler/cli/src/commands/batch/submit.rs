//! `muster batch job submit` and `download`: what becomes of a job file, and its results.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use muster_batch_client::jobfile::{self, Options, Plan, RESULTS, Unsigned, container_of};
use muster_batch_client::{BatchClientError, Service, Store};
use serde_json::{Value, json};

use super::listing::at;
use super::wait::until_end;
use super::{Common, file, job, progress};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::table::{Cell, Side, Table};
use crate::text::tame;

/// For how long a service that is away is asked again while a job is submitted.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks that a dry run shows, unless all are asked for.
const SHOWN: u64 = 20;

/// Arguments of `muster batch job submit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch job submit film.toml --dry-run\n  \
    muster batch job submit film.yaml --wait\n  \
    muster batch job submit film.json --pool farm --download results\n\n\
    Exit code, with --wait or --download: 0 if all tasks succeeded, 10 if one failed or will never run.")]
pub(crate) struct SubmitArgs {
    /// The job file: TOML, YAML or JSON by the end of its name
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The job's id, instead of the file's
    #[arg(long)]
    id: Option<String>,
    /// The pool, instead of the file's
    #[arg(long)]
    pool: Option<String>,
    /// Show what would be submitted, and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Show all tasks, and not the first 20
    #[arg(long, requires = "dry_run")]
    all: bool,
    /// Wait until all tasks have ended
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Wait, and bring the results here
    #[arg(long, value_name = "FOLDER")]
    download: Option<PathBuf>,
}

/// Arguments of `muster batch job download`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster batch job download film results")]
pub(crate) struct DownloadArgs {
    /// The job
    #[arg(value_name = "JOB")]
    id: String,
    /// Where to
    #[arg(value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
}

pub(super) fn submit(args: &SubmitArgs, common: &Common) -> Result<ExitCode, CliError> {
    let options = Options { id: args.id.clone(), pool: args.pool.clone() };
    // A dry run asks nobody, unless the file names a container.
    let service = if args.dry_run { None } else { Some(patient(common)?) };
    let list = |container: &str, prefix: &str| {
        let own;
        let service = match &service {
            Some(service) => service,
            None => {
                own = patient(common).map_err(inner)?;
                &own
            }
        };
        Ok(Store::of(service).list(container, prefix)?.into_iter().map(|blob| blob.name).collect())
    };
    let plan = jobfile::load(&args.file, &options, &list)?;
    let Some(service) = &service else { return dry_run(&plan, args, common) };
    upload(&plan, service)?;
    service.post("/jobs", &plan.job())?;
    if let Err(error) = add(&plan, service) {
        let id = plan.id();
        tell(&format!(
            "muster batch: job {id} is there with some of its tasks: muster batch job delete {id}"
        ));
        return Err(error.into());
    }
    if args.wait || args.download.is_some() {
        return finish(&plan, service, args, common);
    }
    let (id, count) = (plan.id(), plan.count());
    common.done(&format!("job {id} is submitted: {count} tasks"), || service.get(&job::path(id)))
}

fn patient(common: &Common) -> Result<Service, CliError> {
    let mut service = common.connect()?;
    service.set_patience(PATIENCE);
    Ok(service)
}

/// What went wrong in the batch service's own words.
fn inner(error: CliError) -> BatchClientError {
    match error {
        CliError::Batch(error) => error,
        other => BatchClientError::Output(std::io::Error::other(other.to_string())),
    }
}

fn upload(plan: &Plan, service: &Service) -> Result<(), BatchClientError> {
    let store = Store::of(service);
    plan.containers().iter().try_for_each(|container| store.make_container(container))?;
    let bar = progress::of_bytes(plan.uploads().iter().map(|upload| upload.bytes).sum());
    for upload in plan.uploads() {
        bar.set_message(tame(&upload.blob));
        store.upload(&upload.from, &upload.container, &upload.blob, |bytes| bar.inc(bytes))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn add(plan: &Plan, service: &Service) -> Result<(), BatchClientError> {
    let addresses = (Store::of(service), plan.valid());
    let bar = progress::of_tasks();
    bar.set_length(plan.count());
    bar.set_message("added");
    let tasks = (0..plan.count()).map(|task| plan.task(task, &addresses)).chain(plan.merge(&addresses));
    service.add_tasks(plan.id(), tasks, |count| bar.set_position(count as u64))?;
    bar.finish_and_clear();
    service.patch(&job::path(plan.id()), &json!({ "onAllTasksComplete": "terminatejob" }))
}

fn finish(plan: &Plan, service: &Service, args: &SubmitArgs, common: &Common) -> Result<ExitCode, CliError> {
    let end = until_end(service, plan.id(), args.timeout.map(Duration::from_secs))?;
    let code = end.tell(common)?;
    if let Some(to) = &args.download
        && end.exit() != Exit::TimeOut
    {
        let count = file::below(service, plan.container(), RESULTS, to)?;
        tell(&format!("{count} files are in {}", to.display()));
    }
    Ok(code)
}

pub(super) fn download(
    args: &DownloadArgs,
    common: &Common,
    service: &Service,
) -> Result<ExitCode, CliError> {
    let count = file::below(service, &container_of(&args.id), RESULTS, &args.to)?;
    let sentence = format!("{count} files are in {}", args.to.display());
    common.done(&sentence, || Ok(json!({ "job": args.id, "files": count })))
}

fn dry_run(plan: &Plan, args: &SubmitArgs, common: &Common) -> Result<ExitCode, CliError> {
    let shown = if args.all || common.json { plan.count() } else { plan.count().min(SHOWN) };
    let tasks = (0..shown).map(|task| plan.task(task, &Unsigned)).chain(plan.merge(&Unsigned));
    if common.json {
        let all: Vec<Value> = tasks.collect();
        print_json(&json!({ "job": plan.job(), "tasks": all, "uploads": plan.uploads() }))?;
        return Ok(Exit::Ok.into());
    }
    let mut table = Table::new(vec![("TASK", Side::Left), ("COMMAND", Side::Left), ("OUTPUTS", Side::Left)]);
    for task in tasks {
        let outputs = task["outputFiles"].as_array().into_iter().flatten();
        let outputs: Vec<String> = outputs
            .map(|output| {
                format!("{} > {}", at(output, "filePattern"), at(output, "destination/container/path"))
            })
            .collect();
        table.push(vec![
            Cell::new(at(&task, "id")),
            Cell::new(at(&task, "commandLine")),
            Cell::new(outputs.join(", ")),
        ]);
    }
    let mut text = table.render();
    if shown < plan.count() {
        text.push_str(&format!("... {} tasks more; --all shows them\n", plan.count() - shown));
    }
    let bytes: u64 = plan.uploads().iter().map(|upload| upload.bytes).sum();
    text.push_str(&format!(
        "\njob {}: {} tasks, {} files with {bytes} bytes to bring; results in store:{}/{RESULTS}\n",
        plan.id(),
        plan.count() + u64::from(plan.merge(&Unsigned).is_some()),
        plan.uploads().len(),
        plan.container()
    ));
    print(&text)?;
    Ok(Exit::Ok.into())
}
