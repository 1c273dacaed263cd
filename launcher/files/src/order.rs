//! A whole order: everything to bring, or everything to take away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_wire::v1::stage_input::Source as From;
use muster_wire::v1::stage_output::Destination;
use muster_wire::v1::{StageDone, StageInput, StageOrders, StageOutput, StagingFailed};
use reqwest::Url;
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::download::{CONNECT_WITHIN, SILENT_MAX, Source};
use crate::error::{FilesError, Result};
use crate::local::{self, Roots};
use crate::pattern::Pattern;
use crate::store::Container;

/// How many files are under way at once.
const AT_ONCE: usize = 4;
/// The mode of a file that was brought, where nothing else is said.
const MODE: u32 = 0o770;

/// What was moved, against what may be.
#[derive(Debug)]
pub struct Tally {
    files: AtomicU64,
    bytes: AtomicU64,
    files_max: u64,
    bytes_max: u64,
}

impl Tally {
    fn new(files_max: u64, bytes_max: u64) -> Self {
        Self { files: AtomicU64::new(0), bytes: AtomicU64::new(0), files_max, bytes_max }
    }

    /// One more file.
    ///
    /// # Errors
    ///
    /// [`FilesError::TooMuch`] if it is too many.
    pub fn add_file(&self) -> Result<()> {
        let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        if files > self.files_max {
            return Err(FilesError::TooMuch { what: "files", limit: self.files_max });
        }
        Ok(())
    }

    /// So many more bytes.
    ///
    /// # Errors
    ///
    /// [`FilesError::TooMuch`] if it is too many.
    pub fn add_bytes(&self, more: u64) -> Result<()> {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if bytes > self.bytes_max {
            return Err(FilesError::TooMuch { what: "bytes", limit: self.bytes_max });
        }
        Ok(())
    }

    /// Bytes that are moved once more.
    pub fn take_back_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Everything that carrying out an order needs.
struct Mover {
    client: reqwest::Client,
    environment: BTreeMap<String, String>,
    roots: Roots,
    tally: Arc<Tally>,
    cache: Option<Cache>,
    task_directory: PathBuf,
    working_directory: PathBuf,
}

/// Carries out an order. `environment` is the task's, which has the credentials for stores that need them.
pub async fn carry_out(orders: StageOrders, environment: BTreeMap<String, String>) -> StageDone {
    let tally = Arc::new(Tally::new(orders.files_max, orders.bytes_max));
    let failure = carry_out_with(orders, environment, &tally).await.err();
    StageDone {
        failure,
        files: tally.files.load(Ordering::Relaxed),
        bytes: tally.bytes.load(Ordering::Relaxed),
    }
}

async fn carry_out_with(
    orders: StageOrders,
    environment: BTreeMap<String, String>,
    tally: &Arc<Tally>,
) -> Result<(), StagingFailed> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENT_MAX)
        .user_agent(concat!("muster-stage/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            FilesError::Order { problem: format!("no connection can be made: {error}") }.while_bringing()
        })?;
    let mover = Mover {
        client,
        environment,
        roots: Roots::new(&orders.shared_roots, &orders.task_directory),
        tally: Arc::clone(tally),
        cache: Cache::at(&orders.cache_directory),
        task_directory: orders.task_directory.into(),
        working_directory: orders.working_directory.into(),
    };
    let common = mover.bring_all(&orders.common_inputs, &mover.task_directory, mover.cache.as_ref()).await;
    common.map_err(|error| error.while_bringing())?;
    let own = mover.bring_all(&orders.inputs, &mover.working_directory, None).await;
    own.map_err(|error| error.while_bringing())?;
    if orders.outputs.is_empty() {
        return Ok(());
    }
    let mut report = Report::default();
    let taken = mover.take_all(&orders.outputs, &mut report).await;
    report.write(&mover.task_directory, taken.as_ref().err());
    taken.map_err(|error| error.while_taking_away())
}

/// One file to bring.
enum Job {
    Fetch { source: Source, place: PathBuf, mode: u32 },
    Copy { copied: local::Copied, mode: Option<u32> },
}

impl Mover {
    /// Brings everything; the first failure ends all of it.
    async fn bring_all(&self, inputs: &[StageInput], folder: &Path, cache: Option<&Cache>) -> Result<()> {
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        for input in inputs {
            for job in self.plan(input, folder).await? {
                if running.len() >= AT_ONCE
                    && let Some(done) = running.join_next().await
                {
                    settle(done)?;
                }
                let (tally, cache) = (Arc::clone(&self.tally), cache.cloned());
                running.spawn(async move { job.carry_out(&tally, cache.as_ref()).await });
            }
        }
        while let Some(done) = running.join_next().await {
            settle(done)?;
        }
        Ok(())
    }

    /// The files that an input means.
    async fn plan(&self, input: &StageInput, folder: &Path) -> Result<Vec<Job>> {
        let mode = input.mode.unwrap_or(MODE);
        let missing =
            || FilesError::Order { problem: "an input does not say where it comes from".to_owned() };
        match input.source.as_ref().ok_or_else(missing)? {
            From::Url(address) => {
                let (source, name) = self.single(address)?;
                let to = if input.to.is_empty() { name } else { input.to.clone() };
                self.tally.add_file()?;
                Ok(vec![Job::Fetch { source, place: below(folder, &to)?, mode }])
            }
            From::Container(container) => {
                let opened = Container::open(&container.url, &self.client, &self.environment)?;
                let entries = opened.list(&container.prefix, &self.tally).await?;
                let folder = if input.to.is_empty() { folder.to_owned() } else { below(folder, &input.to)? };
                let jobs = entries.into_iter().map(|entry| {
                    let place = below(&folder, &entry.name)?;
                    Ok(Job::Fetch { source: entry.source, place, mode })
                });
                jobs.collect()
            }
            From::Path(path) => {
                let from = Path::new(path);
                let own_name = || from.file_name().map(|name| name.to_string_lossy().into_owned());
                let to = if input.to.is_empty() { own_name().unwrap_or_default() } else { input.to.clone() };
                let place = below(folder, &to)?;
                let (roots, files_max) = (self.roots.clone(), self.tally.files_max);
                let (from, mode) = (from.to_owned(), input.mode);
                let plan = blocking(move || local::plan_copy(&from, &place, &roots, files_max)).await?;
                let jobs = plan.into_iter().map(|copied| {
                    self.tally.add_file()?;
                    self.tally.add_bytes(copied.bytes)?;
                    Ok(Job::Copy { copied, mode })
                });
                jobs.collect()
            }
        }
    }

    /// One file by its address, and the name that it has there.
    fn single(&self, address: &str) -> Result<(Source, String)> {
        let shown = address.split('?').next().unwrap_or_default();
        let url = Url::parse(address)
            .map_err(|error| FilesError::Order { problem: format!("{shown} is no address: {error}") })?;
        let name = shown.rsplit('/').next().unwrap_or_default().to_owned();
        if url.scheme() != "s3" {
            return Ok((Source::Http { client: self.client.clone(), url }, name));
        }
        let (bucket, key) =
            shown.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(|| {
                FilesError::Order { problem: format!("{shown} names no file: write s3://BUCKET/KEY") }
            })?;
        let container = Container::open(&format!("s3://{bucket}"), &self.client, &self.environment)?;
        Ok((container.entry(key)?.source, name))
    }

    /// Takes everything away; what can be taken is taken even if something else cannot.
    async fn take_all(&self, outputs: &[StageOutput], report: &mut Report) -> Result<()> {
        let mut first = Ok(());
        for output in outputs {
            if let Err(error) = self.take(output, report).await {
                report.problem(&format!("{}: {}", output.pattern, error.sentence()));
                if first.is_ok() {
                    first = Err(error);
                }
            }
        }
        first
    }

    async fn take(&self, output: &StageOutput, report: &mut Report) -> Result<()> {
        let pattern = Pattern::parse(&output.pattern, &self.working_directory)?;
        let files_max = self.tally.files_max;
        let searched = pattern.clone();
        let found = blocking(move || searched.find(files_max)).await?;
        if found.is_empty() {
            report.problem(&format!("{}: there is no such file", output.pattern));
            return Ok(());
        }
        let missing = || FilesError::Order { problem: "an output does not say where it goes".to_owned() };
        let destination = match output.destination.as_ref().ok_or_else(missing)? {
            Destination::ContainerUrl(address) => {
                To::Container(Container::open(address, &self.client, &self.environment)?)
            }
            Destination::Folder(folder) => To::Folder(folder.into()),
        };
        let headers: BTreeMap<String, String> = output.headers.clone().into_iter().collect();
        for file in found {
            let path = self.roots.inside(&file.path)?;
            let name = match (output.path.trim_matches('/'), pattern.is_wild()) {
                ("", _) => file.below,
                (folder, true) => format!("{folder}/{}", file.below),
                (name, false) => name.to_owned(),
            };
            self.tally.add_file()?;
            let bytes = match &destination {
                To::Container(container) => container.send(&path, &name, &headers, &self.tally).await?,
                To::Folder(folder) => self.put(path, folder, &name).await?,
            };
            report.sent(&file.path, &name, bytes);
        }
        Ok(())
    }

    /// Copies a file into a folder of the node.
    async fn put(&self, from: PathBuf, folder: &Path, name: &str) -> Result<u64> {
        let place = below(folder, name)?;
        let (roots, tally) = (self.roots.clone(), Arc::clone(&self.tally));
        blocking(move || {
            roots.make_folder(place.parent().unwrap_or(Path::new("/")))?;
            let bytes = std::fs::metadata(&from).map_err(FilesError::local("look at", &from))?.len();
            tally.add_bytes(bytes)?;
            local::copy(&local::Copied { from, to: place, bytes }, None)?;
            Ok(bytes)
        })
        .await
    }
}

enum To {
    Container(Container),
    Folder(PathBuf),
}

impl Job {
    async fn carry_out(self, tally: &Tally, cache: Option<&Cache>) -> Result<()> {
        match self {
            Self::Fetch { source, place, mode } => source.bring(&place, mode, tally, cache).await.map(drop),
            Self::Copy { copied, mode } => blocking(move || local::copy(&copied, mode)).await,
        }
    }
}

/// A path below a folder, which it can never leave: names of stores are not names of files.
fn below(folder: &Path, name: &str) -> Result<PathBuf> {
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if name.split('/').any(is_bad) {
        let problem = format!("{name:?} is no name below the task's folder: it would lead elsewhere");
        return Err(FilesError::Order { problem });
    }
    Ok(folder.join(name))
}

/// Does something that waits for a disk.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(error) => Err(FilesError::Order { problem: format!("a transfer broke off: {error}") }),
    }
}

fn settle(done: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    done.unwrap_or_else(|error| Err(FilesError::Order { problem: format!("a transfer broke off: {error}") }))
}

/// What the user reads of the outputs, beside the task's own output.
#[derive(Debug, Default)]
struct Report {
    sent: String,
    problems: String,
}

impl Report {
    fn sent(&mut self, from: &Path, name: &str, bytes: u64) {
        let _ = writeln!(self.sent, "{} -> {name} ({bytes} bytes)", from.display());
    }

    fn problem(&mut self, text: &str) {
        let _ = writeln!(self.problems, "{text}");
    }

    /// That it cannot be written is no reason to fail: the outputs are where they should be.
    fn write(&self, folder: &Path, error: Option<&FilesError>) {
        let _ = std::fs::write(folder.join("fileuploadout.txt"), &self.sent);
        let mut problems = self.problems.clone();
        if let Some(error) = error
            && !problems.contains(&error.sentence())
        {
            let _ = writeln!(problems, "{}", error.sentence());
        }
        let _ = std::fs::write(folder.join("fileuploaderr.txt"), problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_store_leads_out_of_the_folder() {
        assert_eq!(below(Path::new("/t"), "a/b").unwrap(), Path::new("/t/a/b"));
        for wrong in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a\0"] {
            assert!(below(Path::new("/t"), wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_moved_is_counted_against_the_limits() {
        let tally = Tally::new(1, 10);
        tally.add_bytes(6).unwrap();
        tally.take_back_bytes(6);
        tally.add_bytes(10).unwrap();
        assert!(tally.add_bytes(1).is_err());
        tally.add_file().unwrap();
        assert!(tally.add_file().is_err());
    }
}
