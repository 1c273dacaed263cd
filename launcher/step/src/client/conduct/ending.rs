//! How a step ends: the statuses of its ranks, what the user is told, and when the rest is killed.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::report::{self, Ends, Failures};
use super::super::signals::Received;
use super::super::{KILL_WAIT, Plan};
use crate::frames::{Common, RankUsage};
use crate::status::{exit_status, signal_of};
use crate::words::{EndCause, StepEnd, StepUsage};

/// For so long ends are gathered into one message, after the first of them.
const GATHER: Duration = Duration::from_millis(20);

/// Within which time a second Ctrl-C counts.
const SECOND_INTERRUPT_WITHIN: Duration = Duration::from_secs(1);

/// The status of a rank that was killed.
const KILLED: u8 = 137;

/// What a signal to the starter leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Forward(Signal),
    Kill,
    Resize,
}

/// What is known of the end of a step.
pub(super) struct Ending {
    name: &'static str,
    id: String,
    hosts: Vec<String>,
    quiet: bool,
    kill_on_bad_exit: bool,
    quit_on_interrupt: bool,
    wait: Duration,
    error_status: u8,
    relayed: bool,
    ended: Vec<bool>,
    ends: Ends,
    failures: Failures,
    tell_at: Option<Instant>,
    kill_at: Option<Instant>,
    /// After which the step has had its time.
    time_out_at: Option<Instant>,
    interrupted_at: Option<Instant>,
    interrupts: u32,
    /// The rest is being killed, so that a rank that dies of SIGKILL says nothing of itself.
    killing: bool,
    /// The highest status of a rank that ended by itself.
    highest: u8,
    /// The status that the step has at least, for failures of its own.
    own_failure: u8,
    killed_by_us: bool,
    killed_by_signal: bool,
    started_told: bool,
    cause: EndCause,
    usage: StepUsage,
}

impl Ending {
    pub fn new(plan: &Plan, job: u64, step: u32, common: &Common) -> Self {
        Self {
            name: plan.name,
            id: format!("{job}.{step}"),
            hosts: common.hosts.clone(),
            quiet: plan.quiet,
            kill_on_bad_exit: plan.kill_on_bad_exit,
            quit_on_interrupt: plan.quit_on_interrupt,
            wait: plan.wait,
            error_status: plan.error_status,
            relayed: plan.relayed,
            ended: vec![false; common.ntasks as usize],
            ends: Ends::default(),
            failures: Failures::default(),
            tell_at: None,
            kill_at: None,
            time_out_at: plan.time_limit.map(|limit| Instant::now() + limit),
            interrupted_at: None,
            interrupts: 0,
            killing: false,
            highest: 0,
            own_failure: 0,
            killed_by_us: false,
            killed_by_signal: false,
            started_told: false,
            cause: EndCause::Ranks,
            usage: StepUsage::default(),
        }
    }

    pub fn has_ended(&self, rank: u32) -> bool {
        self.ended.get(rank as usize).copied().unwrap_or(true)
    }

    /// What those ranks have used that have ended.
    pub fn usage(&self) -> StepUsage {
        self.usage
    }

    /// A node has started its ranks. Says whether that is worth a word.
    pub fn started(&mut self) -> bool {
        !std::mem::replace(&mut self.started_told, true)
    }

    /// A line for the user, whatever it says.
    pub fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    fn error(&self, text: &str) {
        eprintln!("{}: error: {text}", self.name);
    }

    /// From here on the rest is killed. Says whether it was not before.
    fn begin_kill(&mut self) -> bool {
        !std::mem::replace(&mut self.killing, true)
    }

    /// A step that is killed is said so once, as Slurm says it.
    fn abort_step(&mut self, host: u32) -> bool {
        if !self.begin_kill() {
            return false;
        }
        self.tell_ends();
        if !self.quiet && !self.relayed {
            let wait = KILL_WAIT.as_secs() + 2;
            eprintln!(
                "{}: Job step aborted: Waiting up to {wait} seconds for job step to finish.",
                self.name
            );
            let host = self.hosts.get(host as usize).map_or("?", String::as_str);
            eprintln!(
                "slurmstepd: error: *** STEP {} ON {host} CANCELLED AT {} ***",
                self.id,
                report::now_text()
            );
        }
        true
    }

    /// A node has started nothing. Says whether the others must be killed.
    pub fn refused(&mut self, node: u32, problem: &str) -> bool {
        self.failures.refused(node, problem);
        self.failed()
    }

    /// The way to a node was lost, and with it those that hang below, which follow. Says whether the others must be
    /// killed.
    pub fn lost(&mut self, node: u32, below: u32, problem: &str) -> bool {
        self.failures.lost(node, problem);
        if !self.killing {
            self.cause = EndCause::NodeLost;
        }
        let host = self.hosts.get(node as usize).map_or("?", String::as_str);
        for cut_off in node + 1..=node + below {
            self.failures.lost(cut_off, &format!("cut off, because the way there led over {host}"));
        }
        self.failed()
    }

    fn failed(&mut self) -> bool {
        self.own_failure = self.own_failure.max(self.error_status);
        self.tell_at.get_or_insert(Instant::now() + GATHER);
        self.begin_kill()
    }

    /// A rank asks for the end of the step, or was lost. Says whether the others must be killed.
    pub fn aborted(&mut self, node: u32, rank: u32, code: i32, message: &str) -> bool {
        if self.killing {
            return false;
        }
        let host = self.hosts.get(node as usize).map_or("?", String::as_str);
        let message = message.trim();
        let text = if message.is_empty() { "aborted" } else { message };
        self.error(&format!("{host}: task {rank}: {text}"));
        self.own_failure = self.own_failure.max(u8::try_from(code.max(1)).unwrap_or(u8::MAX));
        self.abort_step(node)
    }

    /// A rank has ended. Says whether the others must be killed.
    pub fn exited(&mut self, node: u32, rank: u32, status: i32, usage: &RankUsage) -> bool {
        self.usage.add(rank, usage);
        if let Some(ended) = self.ended.get_mut(rank as usize) {
            *ended = true;
        }
        let code = exit_status(status);
        let Some(ending) = report::ending(status) else {
            self.wait_for_the_rest();
            return false;
        };
        if !self.relayed {
            self.ends.add(node, ending, rank);
            self.tell_at.get_or_insert(Instant::now() + GATHER);
        }
        if self.killing && code == KILLED {
            // It did not end by itself, and how the step ended is known.
            self.killed_by_us = true;
            return false;
        }
        self.killed_by_signal |= code == KILLED;
        self.highest = self.highest.max(code);
        self.wait_for_the_rest();
        self.kill_on_bad_exit && self.abort_step(node)
    }

    /// The first end may set a time for the rest.
    fn wait_for_the_rest(&mut self) {
        if !self.wait.is_zero() && self.ended.iter().any(|ended| !ended) {
            self.kill_at.get_or_insert(Instant::now() + self.wait);
        }
    }

    /// The output cannot be written, so there is no use in more of it.
    pub fn output_failed(&mut self) {
        self.begin_kill();
        self.own_failure = self.own_failure.max(self.error_status);
    }

    /// A signal to the starter. What the supervisor of the attempt sends has reached the ranks as well, unless it was
    /// queued.
    pub fn signalled(&mut self, received: Received, supervisor: i32, running: &str) -> Act {
        match received.signal {
            Signal::SIGWINCH => Act::Resize,
            // What runs there knows what a signal means.
            other if self.relayed || received.is_queued => Act::Forward(other),
            _ if received.sender == supervisor && supervisor != 0 => Act::Nothing,
            Signal::SIGINT => self.interrupted(running),
            Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT => {
                if self.kill_at.is_some() && self.interrupts > 0 {
                    return if self.abort_step(0) { Act::Kill } else { Act::Nothing };
                }
                self.ask_to_end(received.signal)
            }
            other => Act::Forward(other),
        }
    }

    /// The ranks are asked to end, and get a while for it.
    fn ask_to_end(&mut self, signal: Signal) -> Act {
        self.cause = EndCause::Cancelled;
        self.interrupts += 1;
        self.kill_at = Some(Instant::now() + KILL_WAIT);
        Act::Forward(signal)
    }

    /// Somebody ends the step from outside of it. Doing it twice does not shorten the while that ranks get.
    pub fn cancelled(&mut self) -> Act {
        if self.killing || self.cause == EndCause::Cancelled {
            return Act::Nothing;
        }
        self.killed_by_signal = true;
        let host = self.hosts.first().map_or("?", String::as_str);
        let at = report::now_text();
        eprintln!("slurmstepd: error: *** STEP {} ON {host} CANCELLED AT {at} ***", self.id);
        self.ask_to_end(Signal::SIGTERM)
    }

    /// Ctrl-C once asks, twice within a second is passed on, and once more kills (srun(1), "SIGNALS").
    fn interrupted(&mut self, running: &str) -> Act {
        let now = Instant::now();
        let again =
            self.interrupted_at.replace(now).is_some_and(|before| now - before < SECOND_INTERRUPT_WITHIN);
        if self.interrupts > 0 {
            return if self.abort_step(0) { Act::Kill } else { Act::Nothing };
        }
        if !again && !self.quit_on_interrupt {
            eprintln!("{}: interrupt (one more within 1 sec to abort)", self.name);
            eprintln!("{}: StepId={} {running}", self.name, self.id);
            return Act::Nothing;
        }
        eprintln!("{}: sending Ctrl-C to StepId={}", self.name, self.id);
        self.ask_to_end(Signal::SIGINT)
    }

    pub fn deadline(&self) -> Option<Instant> {
        let of_step =
            if self.killing { None } else { self.kill_at.into_iter().chain(self.time_out_at).min() };
        self.tell_at.into_iter().chain(of_step).min()
    }

    /// Says what is due. Says whether the rest must be killed.
    pub fn keep_time(&mut self, now: Instant) -> bool {
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell_ends();
        }
        if self.killing {
            return false;
        }
        if self.time_out_at.is_some_and(|at| at <= now) {
            self.own_failure = self.own_failure.max(self.error_status);
            self.cause = EndCause::TimeLimit;
            let host = self.hosts.first().map_or("?", String::as_str);
            let text = report::now_text();
            eprintln!(
                "slurmstepd: error: *** STEP {} ON {host} CANCELLED AT {text} DUE TO TIME LIMIT ***",
                self.id
            );
            return self.begin_kill();
        }
        self.kill_at.is_some_and(|at| at <= now) && self.abort_step(0)
    }

    fn tell_ends(&mut self) {
        self.tell_at = None;
        let failures = self.failures.text(self.name, &self.hosts);
        let ends = self.ends.lines(self.name, &self.hosts);
        for line in failures.into_iter().chain(ends) {
            eprintln!("{line}");
        }
    }

    /// Says what is left to say, and how the step ended: its exit status, and for its record.
    pub fn finish(mut self) -> (u8, StepEnd) {
        self.tell_ends();
        if self.killed_by_signal && !self.quiet && !self.relayed {
            eprintln!("{}: Force Terminated StepId={}", self.name, self.id);
        }
        let known = self.highest.max(self.own_failure);
        let status = if known == 0 && self.killed_by_us { KILLED } else { known };
        let signal = signal_of(status);
        let code = if signal == 0 { status } else { 0 };
        (status, StepEnd { cause: self.cause, code, signal, usage: self.usage })
    }
}
