//! Questions and expectations.

use muster_core::ids::{JobRef, TaskIndex, Timestamp};
use muster_core::notation::{counted, format_hosts, format_time_s};
use muster_core::plan::{Holder, Reason, expected_start, holders, plan};
use muster_core::priority::factors;
use muster_core::state::{FinishedHow, Job};

use super::narrate;
use super::parse::{Line, ScenarioError};
use super::sharing;
use super::world::World;

impl World {
    /// Answers a question, or checks an expectation.
    pub fn ask(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        match line.verb {
            "why" => {
                line.only(1, &[])?;
                let target = self.job_ref(line, line.subject("a job")?)?;
                let text = self.why(target).unwrap_or_else(|| "none of its tasks waits".to_owned());
                let name = narrate::name(&self.names, target.job);
                self.say(&format!("{name}: {text}"));
                if let Some(text) = self.holders(target) {
                    self.say(&format!("{name}: {text}"));
                }
                Ok(())
            }
            "queue" => {
                line.only(0, &[])?;
                let jobs: Vec<_> =
                    self.engine.state().queue().map(|job| (job.id, job.waiting.len())).collect();
                if jobs.is_empty() {
                    self.say("nobody waits");
                }
                for (job, waiting) in jobs {
                    let name = narrate::name(&self.names, job);
                    let tasks = if waiting > 1 { format!(" ({waiting} tasks)") } else { String::new() };
                    let why = self.why(JobRef { job, task: None }).unwrap_or_default();
                    self.say(&format!("{name}{tasks}: {why}"));
                }
                Ok(())
            }
            "shares" => {
                line.only(0, &[])?;
                for text in sharing::shares(self.engine.state(), self.now) {
                    self.say(&text);
                }
                Ok(())
            }
            "show" => {
                line.only(0, &[])?;
                for text in self.nodes() {
                    self.say(&text);
                }
                Ok(())
            }
            _ => self.expect(line),
        }
    }

    /// Why a job's next task waits and when it starts, if one waits.
    fn why(&self, target: JobRef) -> Option<String> {
        let state = self.engine.state();
        let waiting = plan(state, self.now).waiting.remove(&target.job)?;
        let start = waiting.expected_start.or_else(|| expected_start(state, target.job, self.now));
        let start = start.map_or("nobody knows when it starts".to_owned(), |at| {
            format!("expected to start at {}", format_time_s(at.seconds()))
        });
        let sum = state.jobs.get(&target.job).and_then(|job| factors(state, job, self.now));
        let sum = sum.map(|sum| format!("; its priority is {sum}")).unwrap_or_default();
        Some(format!("{}: {}{sum}; {start}", waiting.reason.code(), waiting.reason))
    }

    /// Who holds what a job lacks that waits for room.
    fn holders(&self, target: JobRef) -> Option<String> {
        let state = self.engine.state();
        let waiting = plan(state, self.now).waiting.remove(&target.job)?;
        let held = match waiting.reason {
            Reason::Resources(_) => waiting.holders.or_else(|| holders(state, &state.jobs[&target.job]))?,
            _ => return None,
        };
        let one = |holder: &Holder| {
            let name = narrate::name(&self.names, holder.task.job);
            let until = holder.until.map_or("ever".to_owned(), |at| format_time_s(at.seconds()));
            let (cores, nodes) = (counted(holder.cores, "core"), counted(holder.nodes, "node"));
            format!("{name} ({cores} on {nodes} until {until})")
        };
        let named = held.named.iter().map(one).collect::<Vec<_>>().join(", ");
        let others = if held.others > 0 { format!(" and {} more", held.others) } else { String::new() };
        let begin =
            if held.counted_on { "its start counts on the end of" } else { "what it lacks is held by" };
        Some(format!("{begin} {named}{others}"))
    }

    fn nodes(&self) -> Vec<String> {
        let state = self.engine.state();
        let line = |node: &muster_core::state::Node| {
            let mut tasks: Vec<String> =
                node.attempts.iter().map(|key| narrate::task(state, &self.names, key.task)).collect();
            tasks.sort();
            let tasks = if tasks.is_empty() { String::new() } else { format!(", holds {}", tasks.join(" ")) };
            let away = node.why_no_work().map(|why| format!(", takes no work: {why}")).unwrap_or_default();
            let gres = |gres: &muster_core::gres::NodeGres| {
                format!(", {} of {} {}", gres.free.len(), gres.count, gres.kind_text())
            };
            let devices: String = node.gres.iter().map(gres).collect();
            format!("{}: {} of {} cores{devices} free{tasks}{away}", node.name, node.free.len(), node.cores)
        };
        state.nodes.iter().map(line).collect()
    }

    fn expect(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        let words = &line.words;
        let unmet = |found: String| {
            let counts = ["running", "waiting", "finished"];
            let settings = counts.iter().filter_map(|key| Some(format!("{key}={}", line.text(key)?)));
            let expected = words.iter().map(|word| (*word).to_owned()).chain(settings);
            let expected = expected.collect::<Vec<_>>().join(" ");
            ScenarioError::Unmet { line: line.number, expected, found }
        };
        if words.as_slice() == ["refused"] {
            return match &self.refusal {
                Some(_) => Ok(()),
                None => Err(unmet("the last command was accepted".to_owned())),
            };
        }
        let target = self.job_ref(line, line.subject("a job, or 'refused'")?)?;
        let state = self.engine.state();
        let Some(job) = state.jobs.get(&target.job) else { return Err(unmet("it is forgotten".to_owned())) };
        match words[1..] {
            [] => {
                line.only(1, &["running", "waiting", "finished"])?;
                let found =
                    [job.live.len() as u64, job.waiting.len(), job.finished.len() as u64];
                for (key, found) in ["running", "waiting", "finished"].iter().zip(found) {
                    if line.number::<u64>(key)?.is_some_and(|expected| expected != found) {
                        return Err(unmet(format!("{key} is {found}")));
                    }
                }
                Ok(())
            }
            ["runs"] | ["runs", "on", _] => {
                let index = target.task.or_else(|| job.live.keys().next().copied());
                let live = index.and_then(|index| job.live.get(&index));
                let Some(live) = live else { return Err(unmet(self.how(target, job))) };
                let mut found = state.node_names(&live.allocation);
                found.sort_unstable();
                let expected = words.get(3).map(|hosts| line.to_hosts(hosts)).transpose()?;
                match expected {
                    Some(mut expected) => {
                        expected.sort_unstable();
                        if expected == found { Ok(()) } else { Err(unmet(format!("it runs on {}", format_hosts(&found)))) }
                    }
                    None => Ok(()),
                }
            }
            ["waits"] | ["waits", _] => {
                let waits = target.task.map_or(!job.waiting.is_empty(), |TaskIndex(i)| job.waiting.contains(i));
                let found = self.why(target).filter(|_| waits).unwrap_or_else(|| self.how(target, job));
                let as_expected = words.get(2).is_none_or(|code| found.starts_with(&format!("{code}:")));
                if waits && as_expected { Ok(()) } else { Err(unmet(found)) }
            }
            ["starts", "at", at] => {
                let at = Timestamp(0).plus_seconds(line.to_seconds(at)?);
                match expected_start(state, target.job, self.now) {
                    Some(found) if found == at => Ok(()),
                    Some(found) => Err(unmet(format!("it is expected to start at {}", format_time_s(found.seconds())))),
                    None => Err(unmet(self.how(target, job))),
                }
            }
            [end @ ("completed" | "failed" | "cancelled" | "preempted")] => {
                let found = self.how(target, job);
                if found == end { Ok(()) } else { Err(unmet(found)) }
            }
            _ => Err(line.wrong(
                "expect NAME runs [on NODES], waits [REASON], starts at TIME, completed, failed, cancelled, preempted, running=N \
                 waiting=N finished=N, or expect refused",
            )),
        }
    }

    /// What a task is at present, in a word or two.
    fn how(&self, target: JobRef, job: &Job) -> String {
        let index =
            target.task.unwrap_or_else(|| job.finished.keys().next().copied().unwrap_or(TaskIndex(0)));
        if job.waiting.contains(index.0) {
            return "it waits".to_owned();
        }
        if job.live.contains_key(&index) {
            return "it runs".to_owned();
        }
        match job.finished.get(&index).map(|finished| &finished.how) {
            Some(FinishedHow::CancelledWaiting { .. }) => "cancelled".to_owned(),
            Some(FinishedHow::EndedWaiting { .. }) => "could no longer start".to_owned(),
            Some(how @ FinishedHow::Ran { verdict, .. }) => match verdict {
                _ if how.is_success() => "completed".to_owned(),
                muster_core::event::Verdict::Cancelled { .. } => "cancelled".to_owned(),
                muster_core::event::Verdict::Preempted { .. } => "preempted".to_owned(),
                _ => "failed".to_owned(),
            },
            None => "there is no such task".to_owned(),
        }
    }
}
