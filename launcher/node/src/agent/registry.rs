//! The attempts that this node holds.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{self, AttemptKey, InstanceReport, StepReport, ToNode, to_node};
use tokio::sync::mpsc;

use super::Node;
use super::lines::{self, Lines};
use super::link::{Link, LinkEvent};
use super::places::{Place, Places};
use super::shared::Shared;
use super::status::{self, Question};
use super::supervisors::{self, Event, Idle};
use crate::attempt::{Assignment, AttemptDir, AttemptState};
use crate::devices;
use crate::error::{NodeError, Result};
use crate::folders::Records;
use crate::process::{ProcessId, now_us};
use crate::step_log::Reader;
use crate::supervisor;

/// The most attempts that a node holds, those that the controller has not yet told to forget included.
pub(super) const HELD_MAX: usize = 4096;

/// How many supervisors wait for an attempt at least.
const IDLE_SUPERVISORS: usize = 2;

/// How many wait at most: those that have held an attempt stay for the next one.
const IDLE_SUPERVISORS_MAX: usize = 256;

/// How long those stay that are more than [`IDLE_SUPERVISORS`].
const IDLE_FOR: Duration = Duration::from_secs(5);

/// Job, task, attempt.
pub(super) type Key = (u64, u32, u32);

/// One attempt.
#[derive(Debug)]
pub(super) struct Held {
    pub dir: AttemptDir,
    /// That folder, if others have it as well.
    pub shared: Option<Shared>,
    pub report: InstanceReport,
    /// Whether it is gone and has left no file of its own.
    pub leaves_nothing: bool,
    /// Whether the task may have a folder.
    pub may_have_folder: bool,
    /// What it tells of the attempt's steps.
    pub steps: Reader,
    /// `None` once nobody is there who could obey.
    pub supervisor: Option<mpsc::Sender<ToNode>>,
}

impl Held {
    pub fn is_gone(&self) -> bool {
        matches!(self.report.phase, Some(Phase::Gone(_)))
    }

    /// Whether it is gone, and no supervisor has to do with it any more: whoever waited for it may have its place.
    fn is_over(&self) -> bool {
        self.is_gone() && self.supervisor.is_none()
    }

    fn new_steps(&mut self) -> Vec<StepReport> {
        let mut reports = Vec::new();
        loop {
            let steps = self.steps.read();
            if steps.is_empty() {
                return reports;
            }
            reports.push(StepReport { key: self.report.key, steps });
        }
    }
}

/// All of them.
pub(super) struct Registry {
    pub node: Node,
    /// What the controller said about this node.
    pub welcome: Option<v1::Welcome>,
    /// This node's own address, once it is known.
    pub address: String,
    pub(super) held: BTreeMap<Key, Held>,
    /// Attempts that wait for the end of others.
    pub lines: Lines,
    idle: VecDeque<Idle>,
    pub(super) places: Places,
    pub(super) events: mpsc::Sender<Event>,
    /// Until the agent serves.
    start: Option<(Link, mpsc::Sender<LinkEvent>, mpsc::Sender<Question>)>,
}

impl Registry {
    pub fn new(
        node: Node,
        events: mpsc::Sender<Event>,
        links: mpsc::Sender<LinkEvent>,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self> {
        let link = Link::new(&node.dir, &node.config)?;
        let places = Places::new(node.dir.places(), node.dir.attempts(), node.containment.clone());
        Ok(Self {
            node,
            places,
            welcome: None,
            address: String::new(),
            held: BTreeMap::new(),
            lines: Lines::default(),
            idle: VecDeque::new(),
            events,
            start: Some((link, links, questions)),
        })
    }

    /// Finds the attempts of an earlier agent, and then, not before, speaks with the controller.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the agent's folder cannot be used, or no supervisor can be started.
    pub async fn begin(&mut self) -> Result<()> {
        self.find_attempts()?;
        self.refill()?;
        if let Some((link, links, questions)) = self.start.take() {
            status::serve(&self.node.dir, questions)?;
            tokio::spawn(link.keep(links));
        }
        Ok(())
    }

    pub(super) fn unknown_state(&self, key: AttemptKey, instance: u32, dir: &AttemptDir) -> AttemptState {
        AttemptState {
            boot_id: self.node.boot_id.clone(),
            supervisor: ProcessId { pid: 0, start_ticks: 0 },
            containment: self.node.containment.clone(),
            // Both have the name of the attempt for which they were made.
            run: self.node.config.run_dir.join("attempts").join(dir.path().file_name().unwrap_or_default()),
            at_once: false,
            report: InstanceReport {
                key: Some(key),
                instance,
                phase: Some(Phase::Preparing(v1::Preparing {})),
                steps_bytes: 0,
                leaves_nothing: false,
            },
        }
    }

    fn refill(&mut self) -> Result<()> {
        while self.idle.len() < IDLE_SUPERVISORS {
            self.idle.push_back(Idle::start(self.node.containment.shelter_entrance("supervisors"))?);
        }
        Ok(())
    }

    fn refill_or_complain(&mut self) {
        if let Err(error) = self.refill() {
            tracing::error!(error = error.sentence(), "no supervisor is ready for the next attempt");
        }
    }

    /// Lets those end that have waited for long and are more than needed.
    pub fn let_idle_go(&mut self) {
        self.idle.retain_mut(|idle| {
            let is_there = idle.is_there();
            if let Some(place) = idle.place.take_if(|_| !is_there) {
                tokio::spawn(place.clear(Some(idle.process)));
            }
            // Without work it soon removes what it has kept.
            let is_over = |place: &mut Place| idle.since.elapsed() > IDLE_FOR && !place.run.exists();
            if let Some(place) = idle.place.take_if(is_over) {
                place.forget();
            }
            is_there
        });
        while self.idle.len() > IDLE_SUPERVISORS
            && let Some(idle) = self.idle.pop_back_if(|idle| idle.since.elapsed() > IDLE_FOR)
        {
            // It ends with its line.
            if let Some(place) = idle.place {
                tokio::spawn(place.clear(Some(idle.process)));
            }
        }
    }

    /// Every attempt in its present phase.
    pub fn held(&self) -> Vec<InstanceReport> {
        self.held.values().map(|held| held.report.clone()).chain(self.lines.reports()).collect()
    }

    /// Prepares an attempt; a known one is only reported again.
    pub fn prepare(&mut self, mut prepare: v1::Prepare) -> Option<InstanceReport> {
        let key = prepare.key?;
        if let Some(held) = self.held.get(&order(&key)) {
            return Some(held.report.clone());
        }
        if self.lines.has(order(&key)) {
            return Some(lines::preparing(&prepare));
        }
        if let Some(after) = prepare.after.take() {
            match self.held.get(&order(&after)).map(Held::is_over) {
                Some(true) => {}
                None if !self.lines.has(order(&after)) => return Some(lines::returned(key)),
                _ if self.held.len() + self.lines.len() >= HELD_MAX => return Some(lines::returned(key)),
                _ => return (!self.lines.add(after, prepare)).then(|| lines::returned(key)),
            }
        }
        self.begin_attempt(key, prepare)
    }

    /// Begins with an attempt that is new here and waits for nobody.
    fn begin_attempt(&mut self, key: AttemptKey, mut prepare: v1::Prepare) -> Option<InstanceReport> {
        let dir = AttemptDir::own(&self.node.dir.attempts(), &key);
        let (at_once, may_have_folder) = (prepare.at_once, prepare.staging.is_some());
        let mut state = AttemptState { at_once, ..self.unknown_state(key, prepare.instance, &dir) };
        if let Err(error) = muster_wire::unpack_members(&mut prepare) {
            return Some(self.refuse(dir, state, &NodeError::Members(error)));
        }
        match self.hand_over(dir.clone(), &mut state, prepare) {
            Ok((dir, shared, supervisor)) => {
                let report = state.report;
                let steps = Reader::new(&dir);
                let held = Held {
                    dir,
                    shared,
                    report: report.clone(),
                    leaves_nothing: false,
                    may_have_folder,
                    steps,
                    supervisor: Some(supervisor),
                };
                self.held.insert(order(&key), held);
                // Of what starts at once there is more to tell in a moment.
                (!at_once).then_some(report)
            }
            Err(error) => Some(self.refuse(dir, state, &error)),
        }
    }

    /// Gives an attempt to a supervisor. The answer is its private folder, which is this one unless its place has one, and whoever
    /// obeys now.
    fn hand_over(
        &mut self,
        own: AttemptDir,
        state: &mut AttemptState,
        prepare: v1::Prepare,
    ) -> Result<(AttemptDir, Option<Shared>, mpsc::Sender<ToNode>)> {
        if self.held.len() >= HELD_MAX {
            return Err(NodeError::TooManyAttempts { limit: HELD_MAX });
        }
        if self.address.is_empty() {
            return Err(NodeError::NoAddress);
        }
        let map = self.node.core_map(self.welcome.as_ref())?;
        let member = prepare.members.get(prepare.instance as usize);
        let member = member.ok_or(NodeError::Incomplete { part: "own member" })?;
        let cores = map.cpus_by_core(&member.cores, prepare.threads_per_core).map_err(NodeError::Cores)?;
        let declared = self.welcome.as_ref().map_or(&[][..], |welcome| &welcome.declared_devices);
        let withheld = devices::withheld(declared, &self.node.topology, &member.devices)?;
        let mut idle = self.take_idle(&prepare)?;
        let place = self.place(&prepare, member, &idle, &state.run)?;
        if let Some(place) = &place {
            state.run.clone_from(&place.run);
        }
        let key = prepare.key.unwrap_or_default();
        let shared = place.as_ref().map(|place| place.private.clone()).filter(Shared::has_room);
        let dir = shared.as_ref().map_or(own, |shared| shared.dir(&key));
        let assignment = Assignment {
            node: self.node.config.node.clone(),
            address: self.address.clone(),
            private: dir.clone(),
            run: state.run.clone(),
            bin_dir: self.node.bin_dir.clone(),
            sshd: self.node.sshd.clone(),
            containment: self.node.containment.clone(),
            cores,
            cores_wrap: map.wraps(),
            withheld,
            agent: self.node.dir.path().to_owned(),
            work: self.node.dir.work(&self.node.config),
            records: self.node.dir.folders(),
            shared_roots: self.node.config.shared_roots.clone(),
            stage_files_max: self.node.config.stage_files_max,
            stage_bytes_max: self.node.config.stage_bytes_max,
        };
        let assignment = idle.word_for(assignment)?;
        // On the disk before the supervisor knows of it: an agent that starts now finds it.
        state.supervisor = idle.process;
        match &shared {
            Some(shared) => shared.add(key, state)?,
            None => dir.create(state)?,
        }
        let supervisor = idle.assign(assignment, prepare, place, self.events.clone());
        Ok((dir, shared, supervisor))
    }

    /// Where a supervisor is to hold an attempt, if it may leave that place to another one: where it held a task of the same job.
    fn place(
        &self,
        prepare: &v1::Prepare,
        member: &v1::Member,
        idle: &Idle,
        run: &Path,
    ) -> Result<Option<Place>> {
        let job = prepare.key.unwrap_or_default().job;
        if !supervisor::leaves_place(prepare) {
            return Ok(None);
        }
        let mut place = match idle.place.clone().filter(|place| place.job == job) {
            Some(place) => place,
            None => self.places.note(job, run)?,
        };
        place.cores.clone_from(&member.cores);
        Ok(Some(place))
    }

    /// A supervisor for an attempt: one that has held a task of the same job, if there is one, and best on the same cores.
    fn take_idle(&mut self, prepare: &v1::Prepare) -> Result<Idle> {
        let job = prepare.key.map(|key| key.job);
        let cores = prepare.members.get(prepare.instance as usize).map(|member| &member.cores);
        let place = |idle: &Idle, same_cores: bool| {
            let place = idle.place.as_ref().filter(|place| Some(place.job) == job);
            place.is_some_and(|place| !same_cores || Some(&place.cores) == cores)
        };
        let at = self.idle.iter().position(|idle| place(idle, true));
        let at = at.or_else(|| self.idle.iter().position(|idle| place(idle, false)));
        let mut next = self.idle.remove(at.unwrap_or(0));
        while let Some(idle) = next {
            // One that was killed while it waited shall not take an attempt with it.
            if idle.is_there() {
                return Ok(idle);
            }
            if let Some(place) = idle.place {
                tokio::spawn(place.clear(Some(idle.process)));
            }
            next = self.idle.pop_front();
        }
        Idle::start(self.node.containment.shelter_entrance("supervisors"))
    }

    /// An attempt that never began is kept like one that has ended.
    fn refuse(&mut self, dir: AttemptDir, mut state: AttemptState, error: &NodeError) -> InstanceReport {
        let failed = v1::PrepareFailed { reason: error.sentence(), node_at_fault: error.node_at_fault() };
        state.report.phase = Some(Phase::Gone(v1::Gone {
            how: Some(v1::gone::How::PrepareFailed(failed)),
            usage: None,
            started_at_us: 0,
            ended_at_us: now_us(),
        }));
        if let Err(error) = dir.create(&state) {
            tracing::error!(error = error.sentence(), "a refusal cannot be written down");
        }
        let key = order(&state.report.key.unwrap_or_default());
        let report = state.report.clone();
        let steps = Reader::new(&dir);
        let held = Held {
            dir,
            shared: None,
            report: state.report,
            leaves_nothing: false,
            may_have_folder: true,
            steps,
            supervisor: None,
        };
        self.held.insert(key, held);
        report
    }

    /// Lets a prepared attempt run.
    pub fn go(&mut self, go: v1::Go) -> Option<InstanceReport> {
        let key = go.key?;
        let Some(held) = self.held.get(&order(&key)) else {
            // Nothing of it is here; saying so is better than a gang that waits for this instance.
            let reason = "this node does not hold the attempt that it was told to start";
            let broken = v1::Broken { reason: reason.to_owned() };
            return Some(absent(key, v1::gone::How::Broken(broken)));
        };
        match held.report.phase {
            Some(Phase::Running(_) | Phase::Gone(_)) => Some(held.report.clone()),
            _ => {
                Self::pass_on(held, to_node::Body::Go(go));
                None
            }
        }
    }

    /// Ends an attempt.
    pub fn stop(&mut self, stop: v1::Stop) -> Option<InstanceReport> {
        let key = stop.key?;
        let Some(held) = self.held.get(&order(&key)) else {
            self.lines.take_out(order(&key));
            return Some(absent(key, v1::gone::How::Stopped(v1::Stopped {})));
        };
        if held.is_gone() {
            return Some(held.report.clone());
        }
        tracing::info!(attempt = %key, reason = stop.reason, "stop");
        Self::pass_on(held, to_node::Body::Stop(stop));
        None
    }

    /// Signals what runs of an attempt, which its supervisor knows; what has ended has nobody to hear it.
    pub fn signal(&self, signal: v1::Signal) {
        let held = signal.key.and_then(|key| self.held.get(&order(&key)));
        if let Some(held) = held.filter(|held| !held.is_gone()) {
            Self::pass_on(held, to_node::Body::Signal(signal));
        }
    }

    fn pass_on(held: &Held, body: to_node::Body) {
        // Without a supervisor the attempt is being cleared up; a supervisor that takes nothing is found dead by
        // its connection.
        if let Some(supervisor) = &held.supervisor
            && supervisor.try_send(ToNode { body: Some(body) }).is_err()
        {
            tracing::warn!(report = ?held.report.key, "a supervisor does not take its messages");
        }
    }

    /// Drops the record of an attempt that is gone.
    pub fn forget(&mut self, key: &AttemptKey) {
        let order = order(key);
        match self.held.get(&order) {
            Some(held) if held.is_gone() => {
                let removed = match &held.shared {
                    Some(shared) => shared.forget(key, held.leaves_nothing),
                    None => held.dir.remove(),
                };
                if let Err(error) = removed {
                    tracing::warn!(attempt = %key, %error, "an attempt's folder cannot be removed");
                }
                self.held.remove(&order);
            }
            Some(_) => tracing::warn!(attempt = %key, "told to forget an attempt that is not gone"),
            None => {}
        }
    }

    /// All that is known of the steps of all attempts, for a new session.
    pub fn all_steps(&mut self) -> Vec<StepReport> {
        let all = self.held.values_mut().flat_map(|held| {
            held.steps.rewind();
            held.new_steps()
        });
        all.collect()
    }

    /// What is new of the steps of an attempt that its supervisor has just reported.
    pub fn steps(&mut self, event: &Event) -> Vec<StepReport> {
        let Event::Report(InstanceReport { key: Some(key), phase, steps_bytes, leaves_nothing, .. }) = event
        else {
            return Vec::new();
        };
        let Some(held) = self.held.get_mut(&order(key)).filter(|held| !held.is_gone()) else {
            return Vec::new();
        };
        // A supervisor that was killed has not said how much it had written.
        let may_be_more = matches!(phase, Some(Phase::Gone(_))) && !leaves_nothing;
        if *steps_bytes > 0 || may_be_more { held.new_steps() } else { Vec::new() }
    }

    /// What a supervisor said; the answer is for the controller. Whoever waited for what is over now begins.
    pub fn on_supervisor(&mut self, event: Event) -> Vec<InstanceReport> {
        let about = match &event {
            Event::Report(report) => report.key.unwrap_or_default(),
            Event::Free(key, _) | Event::Closed(key) => *key,
        };
        let mut reports: Vec<InstanceReport> = self.hear(event).into_iter().collect();
        let mut over = order(&about);
        while self.held.get(&over).is_some_and(Held::is_over)
            && let Some(prepare) = self.lines.next(over)
        {
            let key = prepare.key.unwrap_or_default();
            reports.extend(self.begin_attempt(key, prepare));
            over = order(&key);
        }
        reports
    }

    fn hear(&mut self, event: Event) -> Option<InstanceReport> {
        match event {
            Event::Report(report) => {
                let leaves_nothing = report.leaves_nothing;
                let report = told(report);
                let key = order(&report.key?);
                let may_have_folder = self.held.get(&key).is_none_or(|held| held.may_have_folder);
                if may_have_folder && matches!(report.phase, Some(Phase::Gone(_))) {
                    // A supervisor that was killed could not. The task's next attempt, which may come as soon as the
                    // controller hears of this end, needs the folder.
                    Records::at(self.node.dir.folders()).note_end(key, now_us() / 1_000_000);
                }
                let held = self.held.get_mut(&key)?;
                // Nothing comes after gone, and a report that says nothing new needs no message.
                if held.is_gone() || held.report == report {
                    return None;
                }
                held.leaves_nothing = leaves_nothing;
                held.report = report.clone();
                // Not while a task waits for its start, which the start of another process would delay.
                if matches!(report.phase, Some(Phase::Running(_) | Phase::Gone(_))) {
                    self.refill_or_complain();
                }
                Some(report)
            }
            Event::Free(key, idle) => {
                if let Some(held) = self.held.get_mut(&order(&key)) {
                    held.supervisor = None;
                }
                // The one that was busy last goes first, so that those that are not needed are found at the back.
                if self.idle.len() < IDLE_SUPERVISORS_MAX {
                    self.idle.push_front(*idle);
                }
                None
            }
            Event::Closed(key) => {
                let held = self.held.get_mut(&order(&key))?;
                held.supervisor = None;
                if !held.is_gone() {
                    let (dir, instance) = (held.dir.clone(), held.report.instance);
                    let state = dir.load().unwrap_or_else(|_| self.unknown_state(key, instance, &dir));
                    let boot_id = self.node.boot_id.clone();
                    tokio::spawn(supervisors::clear_up(dir, state, boot_id, self.events.clone()));
                }
                None
            }
        }
    }
}

pub(super) fn order(key: &AttemptKey) -> Key {
    (key.job, key.task, key.attempt)
}

/// A report as the controller is told it.
pub(super) fn told(report: InstanceReport) -> InstanceReport {
    InstanceReport { steps_bytes: 0, leaves_nothing: false, ..report }
}

/// The report about an attempt that this node does not hold.
pub(super) fn absent(key: AttemptKey, how: v1::gone::How) -> InstanceReport {
    let gone = v1::Gone { how: Some(how), usage: None, started_at_us: 0, ended_at_us: now_us() };
    InstanceReport { key: Some(key), phase: Some(Phase::Gone(gone)), ..InstanceReport::default() }
}
