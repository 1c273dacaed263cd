//! The start of the ranks.

use std::path::{Path, PathBuf};

use super::{NOT_STARTED, Serving, exit_status};
use crate::daemon::bindings::{Machine, slurm_line};
use crate::daemon::bound;
use crate::daemon::environment::{Variables, bind};
use crate::daemon::rank::{self, Failed, Rank, Surroundings};
use crate::daemon::{pmix, wireup};
use crate::error::errno_text;
use crate::frames::{CpuBind, FromDaemon, ShowBindings, Wireup};
use crate::lists::format_list;
use crate::pmi;

impl Serving {
    /// Starts the ranks of this node.
    ///
    /// # Errors
    ///
    /// A sentence for the user; nothing was started then that matters.
    pub(super) fn launch(&mut self) -> Result<(), String> {
        if let Some((file, sent)) = self.incoming.as_ref().zip(self.common.sent.as_ref()) {
            if !sent.run {
                self.ranks =
                    self.own.tasks.iter().map(|task| Rank::over(task.rank, exit_status(0))).collect();
                return Ok(());
            }
            if let Some(name) = self.common.programs.first_mut().and_then(|words| words.first_mut()) {
                *name = file.path().to_string_lossy().into_owned();
            }
        }
        let mut chosen = wireup::choose(&self.common)?;
        let bound = bind(&self.start, &self.common, &self.own).map_err(|error| error.to_string())?;
        if matches!(chosen, Wireup::Pmix | Wireup::Both) {
            match pmix::Server::start(&self.start, &self.common, &self.own) {
                Ok(server) => self.pmix = Some(server),
                // Where there is no libpmix, nothing can have been linked with an MPI that needs it.
                Err(_) if chosen == Wireup::Both => chosen = Wireup::Pmi,
                Err(problem) => return Err(self.no_pmix(&problem)),
            }
        }
        if self.common.dry_run {
            for (local, cpus) in bound.cpus.iter().enumerate() {
                self.show_binding(local, 0, cpus);
            }
            self.ranks = self.own.tasks.iter().map(|task| Rank::over(task.rank, exit_status(0))).collect();
            return Ok(());
        }
        let directory = self.directory();
        let variables = Variables::new(&self.start, &self.common, &self.own, &bound, chosen);
        let mut shown = Vec::new();
        for (local, task) in self.own.tasks.iter().enumerate() {
            let words = task.words.as_ref().or_else(|| self.common.programs.get(task.program as usize));
            let words = words.filter(|words| !words.is_empty());
            let words = words.ok_or_else(|| format!("rank {} has no program", task.rank))?;
            let program = wireup::find_program(&words[0], &self.common);
            let mut environment = variables.of(local, chosen);
            if let Some(server) = &self.pmix {
                environment.extend(server.variables_of(task.rank).map_err(|problem| self.no_pmix(&problem))?);
            }
            let around = Surroundings {
                common: &self.common,
                program: program.as_deref(),
                words,
                directory: &directory,
                environment,
                cpus: &bound.cpus[local],
                pmi: chosen.has_pmi(),
            };
            match rank::start(task, around) {
                Ok(rank) => {
                    let (found, meant) = (rank.bound_to.as_deref(), &bound.cpus[local]);
                    if let Some(found) = found.and_then(|found| bound::otherwise(found, meant)) {
                        let (number, host) = (task.rank, &self.start.host);
                        let (found, meant) = (format_list(found), format_list(meant));
                        let text = format!(
                            "{host}: task {number}: bound to CPUs {found}, not to {meant} as it was meant: something else \
                             limits the CPUs of this allocation"
                        );
                        self.link.send(&FromDaemon::Notice { text });
                    }
                    if self.common.show_bindings.is_some()
                        && let Some(found) = &rank.bound_to
                    {
                        shown.push((local, rank.pid, found.clone()));
                    }
                    self.ranks.push(rank);
                }
                Err(failed) => {
                    let text = match failed {
                        Failed::Exec(error) => format!("execve(): {}: {}", words[0], errno_text(&error)),
                        Failed::Stream(path, error) => {
                            format!("Could not open {path}: {}", errno_text(&error))
                        }
                    };
                    self.link.send(&FromDaemon::Notice { text: format!("slurmstepd: error: {text}") });
                    self.ranks.push(Rank::over(task.rank, exit_status(NOT_STARTED)));
                }
            }
        }
        for (local, pid, cpus) in shown {
            self.show_binding(local, pid, &cpus);
        }
        if chosen.has_pmi() {
            self.pmi = Some(pmi::Server::new(pmi::World {
                size: self.common.ntasks,
                name: format!("kvs_{}_{}", self.start.job, self.start.step),
                node_of_rank: self.common.node_of_rank.clone(),
                local: self.own.tasks.iter().map(|task| (task.rank, task.program)).collect(),
            }));
        }
        Ok(())
    }

    /// Tells where a rank is bound, if that is wished.
    fn show_binding(&mut self, local: usize, pid: i32, cpus: &[u32]) {
        let (host, rank) = (&self.start.host, self.own.tasks[local].rank);
        let text = match self.common.show_bindings {
            None => return,
            Some(ShowBindings::Slurm) => {
                let bound = self.common.bind != CpuBind::None;
                slurm_line(host, rank, local, pid, cpus, bound)
            }
            Some(ShowBindings::Drawn) => {
                let machine = self.machine.get_or_insert_with(Machine::read);
                format!("{host}: rank {rank}: {}", machine.draw(cpus))
            }
        };
        self.link.send(&FromDaemon::Binding { rank, text });
    }

    /// Why a program that needs PMIx cannot be started here.
    fn no_pmix(&self, problem: &str) -> String {
        let name = self.common.programs.first().and_then(|words| words.first());
        format!(
            "`{}` needs PMIx, which {} cannot serve ({problem}): install libpmix there, or start it with mpirun",
            name.map_or("the program", String::as_str),
            self.start.host
        )
    }

    /// The folder in which ranks start: another one where it is not there, as Slurm has it.
    fn directory(&mut self) -> PathBuf {
        let wanted = Path::new(&self.common.directory);
        match std::fs::read_dir(wanted).map(drop) {
            // A folder that may be passed but not listed will do.
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                let text = format!(
                    "slurmstepd: error: couldn't chdir to `{}': {}: going to /tmp instead",
                    wanted.display(),
                    errno_text(&error)
                );
                self.link.send(&FromDaemon::Notice { text });
                "/tmp".into()
            }
            _ => wanted.to_owned(),
        }
    }
}
