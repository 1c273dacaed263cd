//! Why a task waits, in numbers and sentences.

use std::fmt;

use super::fit::Shortage;
use crate::ids::{JobId, Timestamp};
use crate::notation::{counted, format_instant, format_size, format_time_s};
use crate::state::PoolState;

/// Why the next task of a job did not start in this pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Not enough is free.
    Resources(Shortage),
    /// Enough is free, but kept for an older job.
    Behind {
        /// The job for which it is kept.
        job: JobId,
    },
    /// It takes the place of others, which are being ended.
    Preempting {
        /// The jobs whose tasks are ended.
        jobs: Vec<JobId>,
    },
    /// Nodes that it needs are down or held back.
    NodesAway(Shortage),
    /// As many elements of the array run as may run at once.
    Throttle {
        /// How many may run.
        running_max: u32,
    },
    /// As many tasks of its user run in its quality of service as may run at once.
    QosLimit {
        /// The quality of service.
        qos: String,
        /// The user's login name.
        user: String,
        /// How many may run.
        running_max: u32,
    },
    /// Licences that it asks for are held by other tasks, or kept for an older job.
    Licenses {
        /// The licence.
        license: String,
        /// How many it asks for.
        needed: u32,
        /// How many are free.
        free: u64,
        /// How many there are.
        total: u32,
    },
    /// It waits a while after a failed attempt.
    Delayed {
        /// Until then.
        until: Timestamp,
    },
    /// Somebody holds it back.
    Held {
        /// Whether an admin does.
        by_admin: bool,
    },
    /// It may not start before an instant that its submitter chose.
    BeginTime {
        /// The instant.
        until: Timestamp,
    },
    /// It waits for what other jobs do.
    Dependency {
        /// The terms that are open, such as `afterok:12`.
        on: String,
    },
    /// What it waits for can no longer come true.
    DependencyNever {
        /// The terms.
        on: String,
    },
    /// It could no longer end by its deadline.
    DeadlinePassed,
    /// It would fit now, were nodes not kept for an advance reservation.
    Reserved {
        /// The reservation.
        name: String,
        /// Start of its window, which may have begun.
        from: Timestamp,
        /// With a time limit of at most so many seconds it could start now; with none, if there is no number.
        limit_max_s: Option<u64>,
    },
    /// The window of its own advance reservation has not begun, or leaves too little time.
    ReservationStart {
        /// The reservation.
        name: String,
        /// When the next window starts.
        from: Timestamp,
    },
    /// Its advance reservation is over, was deleted, or is no longer for it.
    ReservationOver {
        /// The reservation.
        name: String,
    },
    /// Its pool starts nothing at present.
    PoolDown {
        /// The pool.
        pool: String,
        /// What it does.
        state: PoolState,
    },
    /// The configuration no longer has its pool.
    PoolGone {
        /// The pool.
        pool: String,
    },
    /// After a change of the configuration, it can never run.
    NeverFits {
        /// Why.
        why: String,
    },
}

/// A list of terms that does not fill the screen.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BYTES_MAX: usize = 120;
        // Terms are ASCII throughout.
        match self.0.get(..BYTES_MAX) {
            Some(begin) if self.0.len() > BYTES_MAX => write!(f, "{begin}..."),
            _ => f.write_str(self.0),
        }
    }
}

impl Reason {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Resources(_) => "resources",
            Self::Behind { .. } => "priority",
            Self::Preempting { .. } => "preempting",
            Self::NodesAway(_) => "nodes_away",
            Self::Throttle { .. } => "array_throttle",
            Self::QosLimit { .. } => "qos_limit",
            Self::Licenses { .. } => "licenses",
            Self::Delayed { .. } => "delayed",
            Self::Held { by_admin: false } => "held_by_user",
            Self::Held { by_admin: true } => "held_by_admin",
            Self::BeginTime { .. } => "begin_time",
            Self::Dependency { .. } => "dependency",
            Self::DependencyNever { .. } => "dependency_never_satisfied",
            Self::DeadlinePassed => "deadline",
            Self::Reserved { .. } => "reserved",
            Self::ReservationStart { .. } => "reservation",
            Self::ReservationOver { .. } => "reservation_over",
            Self::PoolDown { state: PoolState::Inactive, .. } => "pool_inactive",
            Self::PoolDown { .. } => "pool_down",
            Self::PoolGone { .. } => "pool_gone",
            Self::NeverFits { .. } => "never_fits",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resources(s) => {
                if s.nodes_needed > 1 {
                    write!(
                        f,
                        "it needs {} and {} at once; {} of {} usable nodes have room, {} cores are free",
                        counted(s.nodes_needed, "node"),
                        counted(s.cores_needed, "core"),
                        s.nodes_free,
                        s.nodes_usable,
                        s.cores_free
                    )?;
                } else {
                    write!(
                        f,
                        "it needs {} on one node or more; {} cores are free, {} of {} usable nodes have room for a part",
                        counted(s.cores_needed, "core"),
                        s.cores_free,
                        s.nodes_free,
                        s.nodes_usable
                    )?;
                }
                if let Some((usable, free)) = s.adjacent {
                    write!(
                        f,
                        "; they must follow each other, at most {usable} usable ones do, and {free} of those with \
                         room"
                    )?;
                }
                if let Some(memory) = s.memory.filter(|_| !s.fits_now) {
                    let (needed, free) = (format_size(memory.needed_bytes), format_size(memory.free_bytes));
                    write!(
                        f,
                        "; it needs {needed} of memory on a node, at most {free} are free on one with the cores"
                    )?;
                }
                s.gres.iter().try_for_each(|short| write!(f, "; {short}"))
            }
            Self::Behind { job } => write!(f, "what it needs is kept for job {job}, which comes first"),
            Self::Preempting { jobs } if jobs.is_empty() => {
                write!(f, "it starts when what is being ended in its place has left")
            }
            Self::Preempting { jobs } => {
                const JOBS_MAX: usize = 8;
                let named: Vec<String> = jobs.iter().take(JOBS_MAX).map(ToString::to_string).collect();
                let more = if jobs.len() > JOBS_MAX { ", ..." } else { "" };
                let word = if jobs.len() == 1 { "job" } else { "jobs" };
                write!(f, "it ends tasks of {word} {}{more} and starts when they have left", named.join(", "))
            }
            Self::NodesAway(Shortage { adjacent: Some((usable, _)), nodes_needed, nodes_usable, .. })
                if nodes_usable >= nodes_needed =>
            {
                write!(
                    f,
                    "it needs {nodes_needed} nodes that follow each other, but at most {usable} of those that are up \
                     and take work do"
                )
            }
            Self::NodesAway(s) => write!(
                f,
                "it needs {}, but only {} of the pool's {} are up and take work",
                counted(s.nodes_needed, "node"),
                s.nodes_usable,
                s.nodes_in_pool
            ),
            Self::Throttle { running_max } => {
                write!(f, "{running_max} of its tasks run, as many as it allows at once")
            }
            Self::QosLimit { qos, user, running_max } => write!(
                f,
                "as many tasks of {user} run in quality of service '{qos}' as it allows a user at once: {running_max}"
            ),
            Self::Licenses { license, needed, total, .. } if needed > total => write!(
                f,
                "it needs {} of '{license}', and the configuration has {total} of them now",
                counted(*needed, "licence")
            ),
            Self::Licenses { license, needed, free, total } if u64::from(*needed) <= *free => write!(
                f,
                "it needs {} of '{license}'; {free} of {total} are free, and kept for a job that comes first",
                counted(*needed, "licence")
            ),
            Self::Licenses { license, needed, free, total } => write!(
                f,
                "it needs {} of '{license}'; {free} of {total} are free",
                counted(*needed, "licence")
            ),
            Self::Delayed { .. } => {
                write!(f, "it was queued again and waits a moment before the next attempt")
            }
            Self::Held { by_admin: false } => write!(f, "it is held; muster release lets it go"),
            Self::Held { by_admin: true } => write!(f, "an admin holds it, and only an admin may let it go"),
            Self::BeginTime { .. } => write!(f, "the time at which it may begin has not come"),
            Self::Dependency { on } => write!(f, "it waits for {}", Shortened(on)),
            Self::DependencyNever { on } => {
                write!(
                    f,
                    "what it waits for can no longer come true ({}); muster cancel takes it out",
                    Shortened(on)
                )
            }
            Self::DeadlinePassed => write!(f, "it could no longer end by its deadline"),
            Self::Reserved { name, from, limit_max_s } => {
                write!(f, "nodes are kept for reservation {name} from {} on", format_instant(*from))?;
                match limit_max_s {
                    Some(limit) => {
                        write!(
                            f,
                            "; with a time limit of at most {} it could start now",
                            format_time_s(*limit)
                        )
                    }
                    None => Ok(()),
                }
            }
            Self::ReservationStart { name, from } => {
                write!(
                    f,
                    "it waits for its reservation {name}, whose window starts at {}",
                    format_instant(*from)
                )
            }
            Self::ReservationOver { name } => write!(
                f,
                "its reservation {name} is over; muster cancel takes the job out, and a new reservation of that name \
                 lets it run"
            ),
            Self::PoolDown { pool, state } => {
                write!(f, "its pool '{pool}' is {} and starts nothing until an admin opens it", state.word())
            }
            Self::PoolGone { pool } => write!(f, "the configuration no longer has its pool '{pool}'"),
            Self::NeverFits { why } => write!(f, "{why}"),
        }
    }
}
