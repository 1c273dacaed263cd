//! The parts of the measurement, one after another at one controller.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use muster_client::api::{JobDetail, SubmitRequest, TaskState};
use muster_cluster_tests::agents::{Conduct, Counted, Figures, STAYS, array, gang};
use muster_core::ids::JobRef;

use super::report::{Deaf, Failure, Gang, Rest, Restart, Swarm, kib, mib, say_swarm};
use super::{Bench, LIMIT, Part, submit, swarm};

/// Jobs that the waiting tasks belong to.
const WAITING_JOBS: u32 = 100;
/// How often the list of all nodes is asked for: there is nothing that tells when one of them changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Single tasks whose time is taken, one after another.
const SINGLES: usize = 100;

impl Bench<'_> {
    pub(super) fn measure(&mut self) -> Result<()> {
        self.fill_queue()?;
        if self.wants(Part::Rest) {
            self.rest();
        }
        if self.wants(Part::Gang) {
            self.gang()?;
        }
        if self.wants(Part::Swarm) {
            let cores = self.options.cores;
            let swarm = swarm(&self.agents, &self.controller, &mut self.client, self.options.tasks, cores)?;
            let many = Swarm { agents: self.options.agents, slots: self.options.agents, ..swarm };
            say_swarm("small tasks", &many);
            self.swarm = Some(many);
        }
        if self.wants(Part::Deaf) {
            self.deaf()?;
        }
        if self.wants(Part::Failure) {
            self.failure()?;
        }
        if self.wants(Part::Restart) {
            self.restart()?;
        }
        Ok(())
    }

    fn submit(&mut self, request: &SubmitRequest) -> Result<JobRef> {
        submit(&mut self.client, request)
    }

    fn cpu_since(&self, before: Figures) -> f64 {
        self.controller.figures().cpu_s - before.cpu_s
    }

    /// Tasks that wait for a node that is full.
    fn fill_queue(&mut self) -> Result<()> {
        let in_full = |request: SubmitRequest| SubmitRequest { pool: Some("full".to_owned()), ..request };
        let cores = self.options.cores;
        self.submit(&in_full(array(1, cores, STAYS)))?;
        let each = self.options.waiting / WAITING_JOBS;
        if each > 0 {
            for _ in 0..WAITING_JOBS {
                self.submit(&in_full(array(each, cores, "0")))?;
            }
        }
        self.agents.wait("the task that fills a node", LIMIT, |counted| counted.prepared > 0)?;
        Ok(())
    }

    fn rest(&mut self) {
        let before = self.controller.figures();
        let begun = Instant::now();
        // Nothing is awaited: this is the time in which nothing is to happen.
        std::thread::sleep(Duration::from_secs(self.options.rest_s));
        let seconds = begun.elapsed().as_secs_f64();
        let rest = Rest {
            seconds,
            heartbeats_per_s: f64::from(self.options.agents) * 1e3 / f64::from(self.options.heartbeat_ms),
            cpu_percent: self.cpu_since(before) * 100.0 / seconds,
            memory_mib: mib(self.controller.figures().memory_bytes),
        };
        println!(
            "{:36} {:.1} % of a core for {:.0} heartbeats a second, {:.0} MiB",
            "at rest", rest.cpu_percent, rest.heartbeats_per_s, rest.memory_mib
        );
        self.report.rest = Some(rest);
    }

    fn gang(&mut self) -> Result<()> {
        let nodes = self.options.gang;
        let request = gang(nodes, self.options.cores, STAYS);
        let (at_first, before) = (self.agents.counted(), self.controller.figures());
        let begun = Instant::now();
        let id = self.submit(&request)?;
        let all = u64::from(nodes);
        self.agents.wait("the order to prepare the gang", LIMIT, |counted| {
            counted.prepared >= at_first.prepared + all
        })?;
        let prepared_s = begun.elapsed().as_secs_f64();
        self.agents.wait("the word to start the gang", LIMIT, |counted| {
            counted.told_to_go >= at_first.told_to_go + all
        })?;
        let told_to_go_s = begun.elapsed().as_secs_f64();
        self.until_running(id)?;
        let (running_s, launch_cpu_s) = (begun.elapsed().as_secs_f64(), self.cpu_since(before));
        let cancelled = Instant::now();
        self.client.cancel(id)?;
        self.agents
            .wait("the end of the gang", LIMIT, |counted| counted.forgotten >= at_first.forgotten + all)?;
        let ended_s = cancelled.elapsed().as_secs_f64();
        let cpu_s = self.cpu_since(before);
        println!(
            "{:36} told to prepare {prepared_s:.2} s, to go {told_to_go_s:.2} s, runs {running_s:.2} s ({launch_cpu_s:.2} s of CPU time); \
             ended in {ended_s:.2} s; {cpu_s:.2} s of CPU time in all",
            format!("a gang of {nodes} nodes")
        );
        self.report.gang =
            Some(Gang { nodes, prepared_s, told_to_go_s, running_s, launch_cpu_s, ended_s, cpu_s });
        Ok(())
    }

    fn until_running(&mut self, job: JobRef) -> Result<JobDetail> {
        let end = Instant::now() + LIMIT;
        let mut seen = None;
        loop {
            let detail = self.client.wait_change(job, seen, LIMIT)?;
            if detail.summary.state == TaskState::Running {
                return Ok(detail);
            }
            ensure!(Instant::now() < end, "job {} is {:?}", detail.summary.job, detail.summary.state);
            seen = Some(detail.version);
        }
    }

    /// Single tasks, one after another: the median and the 99th percentile from a submit until its end is durable, in milliseconds.
    fn singles(&mut self) -> Result<(f64, f64)> {
        let mut times = Vec::with_capacity(SINGLES);
        for _ in 0..SINGLES {
            let begun = Instant::now();
            let id = self.submit(&array(1, self.options.cores, "0"))?;
            let ended = self.client.wait_finished(id, Some(LIMIT))?;
            ensure!(ended.is_some(), "a single task does not end");
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
    }

    /// The places of the last tenth of the agents in the main pool.
    fn last_tenth(&self) -> Range<usize> {
        let count = self.options.agents as usize;
        count - count / 10..count
    }

    /// Some agents read nothing, and the controller has much to tell them.
    fn deaf(&mut self) -> Result<()> {
        let which = self.last_tenth();
        let deaf = which.len() as u64;
        let (median_ms_before, p99_ms_before) = self.singles()?;
        let memory = self.controller.figures().memory_bytes;
        self.agents.behave(which.clone(), Conduct::Deaf);
        let at_first = self.agents.counted();
        // One for each node, so that each deaf agent has one, and one more when the others are through with theirs.
        let all = u64::from(self.options.agents);
        let id = self.submit(&array(self.options.agents, self.options.cores, "0"))?;
        self.agents.wait("the end of the others' tasks", LIMIT, |counted| {
            counted.forgotten >= at_first.forgotten + all - deaf
        })?;
        let (median_ms, p99_ms) = self.singles()?;
        let grown = self.controller.figures().memory_bytes.saturating_sub(memory);
        self.agents.behave(which, Conduct::Present);
        self.agents.wait("the end of the tasks of those that were deaf", LIMIT, |counted| {
            counted.forgotten >= at_first.forgotten + all + SINGLES as u64
        })?;
        let ended = self.client.wait_finished(id, Some(LIMIT))?;
        ensure!(ended.is_some(), "the tasks of those that were deaf do not end");
        let memory_kib_per_deaf_agent = kib(grown) / deaf as f64;
        println!(
            "{:36} a task in {median_ms:.1} ms, 99 % {p99_ms:.1} ms (before: {median_ms_before:.1}, {p99_ms_before:.1}); {memory_kib_per_deaf_agent:.0} KiB each",
            format!("{deaf} agents read nothing")
        );
        self.report.deaf = Some(Deaf {
            agents: deaf as u32,
            median_ms_before,
            p99_ms_before,
            median_ms,
            p99_ms,
            memory_kib_per_deaf_agent,
        });
        Ok(())
    }

    /// A task on nine tenths of the nodes that stays.
    fn occupy(&mut self) -> Result<(JobRef, u64)> {
        let before = self.agents.counted().prepared;
        let tasks = self.options.agents - self.options.agents / 10;
        let id = self.submit(&array(tasks, self.options.cores, STAYS))?;
        let all = u64::from(tasks);
        self.agents.wait("a task on each node", LIMIT, |counted| counted.prepared >= before + all)?;
        Ok((id, all))
    }

    fn end(&mut self, job: JobRef) -> Result<()> {
        self.client.cancel(job)?;
        let ended = self.client.wait_finished(job, Some(LIMIT))?;
        ensure!(ended.is_some(), "job {} does not end", job.job);
        Ok(())
    }

    /// The first tenth of the agents vanish: one half is killed, the other cut off.
    fn failure(&mut self) -> Result<()> {
        let (id, _) = self.occupy()?;
        let count = self.options.agents as usize / 10;
        let (killed, cut) = (0..count / 2, count / 2..count);
        let before = self.controller.figures();
        let begun = Instant::now();
        self.agents.behave(killed.clone(), Conduct::Killed);
        self.agents.behave(cut.clone(), Conduct::Cut);
        let (median_ms, p99_ms) = self.singles()?;
        let (mut killed_down_s, mut cut_down_s) = (None, None);
        let (killed_down_s, cut_down_s) = loop {
            if let Some(both) = killed_down_s.zip(cut_down_s) {
                break both;
            }
            std::thread::sleep(LOOK_EVERY);
            let nodes = self.client.nodes()?.nodes;
            let seconds = begun.elapsed().as_secs_f64();
            ensure!(seconds < LIMIT.as_secs_f64(), "the nodes whose agents vanished are not down");
            let down = |which: &Range<usize>| nodes[which.clone()].iter().all(|n| n.state == "down");
            if down(&killed) {
                killed_down_s.get_or_insert(seconds);
            }
            if down(&cut) {
                cut_down_s.get_or_insert(seconds);
            }
            let hurt = nodes[count..].iter().find(|node| node.state == "down");
            ensure!(hurt.is_none(), "{hurt:?} is down as well");
        };
        let cpu_s = self.cpu_since(before);
        let back = Instant::now();
        self.agents.behave(0..count, Conduct::Present);
        self.until_all_up()?;
        let back_s = back.elapsed().as_secs_f64();
        self.end(id)?;
        let failure = Failure {
            killed: killed.len() as u32,
            cut: cut.len() as u32,
            node_timeout_s: self.options.node_timeout_s,
            killed_down_s,
            cut_down_s,
            median_ms,
            p99_ms,
            cpu_s,
            back_s,
        };
        println!(
            "{:36} down after {:.1} s, and {:.1} s where the cable was cut (of {} s); a task meanwhile {median_ms:.1} ms, 99 % {p99_ms:.1} ms; {cpu_s:.2} s of CPU time; back in {back_s:.1} s",
            format!("{count} agents vanish"),
            failure.killed_down_s,
            failure.cut_down_s,
            failure.node_timeout_s
        );
        self.report.failure = Some(failure);
        Ok(())
    }

    fn until_all_up(&mut self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let all = u64::from(self.options.agents) + 1;
        self.agents.wait("a session of each agent", LIMIT, |counted| counted.sessions >= all)?;
        loop {
            let nodes = self.client.nodes()?.nodes;
            let away = |state: &str| matches!(state, "down" | "unknown");
            let Some(node) = nodes.iter().find(|node| away(&node.state)) else { return Ok(()) };
            ensure!(Instant::now() < end, "node {} is {}: {}", node.name, node.state, node.reason);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The controller is killed and started again, with a task on nearly each node.
    fn restart(&mut self) -> Result<()> {
        let (id, tasks) = self.occupy()?;
        let running = self.running_tasks(id)?;
        ensure!(running == tasks, "{running} tasks of {tasks} run");
        let welcomed = self.agents.counted().welcomed;
        let begun = Instant::now();
        self.controller.kill()?;
        self.controller.start()?;
        let listens_s = begun.elapsed().as_secs_f64();
        let all = u64::from(self.options.agents) + 1;
        self.agents.wait("a new session of each agent", LIMIT, |counted: &Counted| {
            counted.welcomed >= welcomed + all && counted.sessions >= all
        })?;
        let back_s = begun.elapsed().as_secs_f64();
        let cpu_s = self.controller.figures().cpu_s;
        self.client = self.controller.client()?;
        self.until_all_up()?;
        let running_tasks = self.running_tasks(id)?;
        ensure!(running_tasks == running, "{running_tasks} tasks run, {running} did before");
        self.end(id)?;
        println!(
            "{:36} listens after {listens_s:.2} s, all back after {back_s:.2} s with {running_tasks} tasks that run; {cpu_s:.2} s of CPU time",
            "the controller is killed"
        );
        self.report.restart = Some(Restart { running_tasks, listens_s, back_s, cpu_s });
        Ok(())
    }

    /// How many tasks run, once none of them is about to.
    fn running_tasks(&mut self, job: JobRef) -> Result<u64> {
        let end = Instant::now() + LIMIT;
        let mut seen = None;
        loop {
            let detail = self.client.wait_change(job, seen, LIMIT)?;
            let tasks = &detail.summary.tasks;
            let of = |state: TaskState| tasks.get(&state).copied().unwrap_or(0);
            if of(TaskState::Running) == tasks.values().sum::<u64>() || Instant::now() > end {
                return Ok(of(TaskState::Running));
            }
            seen = Some(detail.version);
        }
    }
}
