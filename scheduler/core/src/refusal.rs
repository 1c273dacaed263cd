//! Why commands are refused.

use crate::batch::BatchRefusal;
use crate::ids::{JobId, JobRef};
use crate::notation::counted;
use crate::on::On;

/// Why a command was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such pool.
    #[error("there is no pool '{pool}'; the pools are: {known}")]
    UnknownPool {
        /// What was asked for.
        pool: String,
        /// The pools that exist.
        known: String,
    },
    /// The pool takes no jobs at present.
    #[error(
        "pool '{pool}' is {state} and takes no jobs at present: name another pool, or wait until an admin opens it"
    )]
    PoolClosed {
        /// The pool.
        pool: String,
        /// What it does.
        state: &'static str,
    },
    /// No such node.
    #[error("there is no node '{node}' in this cluster")]
    UnknownNode {
        /// What was asked for.
        node: String,
    },
    /// Several nodes that are not there.
    #[error("there are no nodes {nodes} in this cluster")]
    UnknownNodes {
        /// What was asked for and is not there, as a host list.
        nodes: String,
    },
    /// No such job.
    #[error("there is no job {target}")]
    UnknownJob {
        /// What was asked for.
        target: JobRef,
    },
    /// The job has ended.
    #[error("job {target} has already ended")]
    AlreadyEnded {
        /// What was asked for.
        target: JobRef,
    },
    /// The job belongs to somebody else.
    #[error("job {target} belongs to user {owner}: only its owner or an admin may do this")]
    NotOwner {
        /// What was asked for.
        target: JobRef,
        /// Login name of the owner.
        owner: String,
    },
    /// Nothing of it runs.
    #[error("job {target} waits, and nothing of it runs")]
    Waits {
        /// What was asked for.
        target: JobRef,
    },
    /// Its submitter does not want it to be queued again.
    #[error("job {target} was submitted with --no-requeue, and is not queued again")]
    NoRequeue {
        /// What was asked for.
        target: JobRef,
    },
    /// What has started cannot be changed like this.
    #[error("job {job} has started, and its {what} can be changed only before that")]
    HasStarted {
        /// The job.
        job: JobId,
        /// What was to change.
        what: &'static str,
    },
    /// None of the job's tasks waits.
    #[error("no task of job {job} waits, and what runs cannot be held; muster cancel {job} would end it")]
    NothingWaits {
        /// The job.
        job: JobId,
    },
    /// An admin holds the job.
    #[error("an admin holds job {job}, and only an admin may release it")]
    HeldByAdmin {
        /// The job.
        job: JobId,
    },
    /// Too many tasks of an array are held or let go one by one.
    #[error(
        "{limit} tasks of job {job} are held or let go one by one, and no more can be; hold or release job {job} as a whole"
    )]
    TooManyTaskHolds {
        /// The job.
        job: JobId,
        /// How many may be.
        limit: u64,
    },
    /// The job is to depend on one whose outcome is not known.
    #[error("the job cannot depend on {target}: {why}")]
    Dependency {
        /// The job or tasks that it names.
        target: On,
        /// Why not, and what would be right.
        why: String,
    },
    /// No such advance reservation.
    #[error("there is no reservation '{name}'; the reservations are: {known}")]
    UnknownReservation {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The name is taken.
    #[error("there is a reservation '{name}' already: choose another name, or delete that one first")]
    ReservationExists {
        /// The name.
        name: String,
    },
    /// Another reservation has the same nodes at the same time.
    #[error(
        "reservation '{other}' has {nodes} at the same time; only maintenance may overlap with other reservations"
    )]
    ReservationOverlap {
        /// The other's name.
        other: String,
        /// The nodes that both would have.
        nodes: String,
    },
    /// What runs now may run into it.
    #[error(
        "these may still run when it starts, at {start}: {running}; start it later, choose other nodes, or make it all \
         the same with ignore_running"
    )]
    ReservationBusy {
        /// When it starts.
        start: String,
        /// What runs, where and until when.
        running: String,
    },
    /// The caller may not use the advance reservation.
    #[error("the job may not use reservation '{name}': {why}")]
    ReservationNotYours {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// There are as many advance reservations as there may be.
    #[error("there are {limit} reservations, and more cannot be: delete some that are no longer needed")]
    TooManyReservations {
        /// How many.
        limit: usize,
    },
    /// The job recurs, and cancelling it alone would bring the next one at once.
    #[error(
        "job {target} recurs by a crontab: `scancel --cron {target}` or `muster cancel --cron {target}` ends it for good"
    )]
    Recurring {
        /// What was asked for.
        target: JobRef,
    },
    /// The job does not recur.
    #[error("job {target} is of no crontab: cancel it without --cron")]
    NotRecurring {
        /// What was asked for.
        target: JobRef,
    },
    /// An entry of a crontab is not in order.
    #[error("line {line} of the crontab: {problem}")]
    CrontabLine {
        /// The line with its time, from 1.
        line: u32,
        /// What is wrong with its job.
        #[source]
        problem: Box<Refusal>,
    },
    /// There is more of crontabs than there may be.
    #[error("a crontab is too much: at most {limit} {what} are allowed")]
    CrontabTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The command is for admins.
    #[error("only an admin may {what}")]
    NotAdmin {
        /// What the command does.
        what: &'static str,
    },
    /// Root may not submit.
    #[error(
        "root may not submit jobs: submit as an ordinary user, or set root_may_submit = true under [policy] in the configuration"
    )]
    RootMayNotSubmit,
    /// No such account.
    #[error("there is no account '{account}'; the accounts of user {user} are: {yours}")]
    UnknownAccount {
        /// What was asked for.
        account: String,
        /// Login name.
        user: String,
        /// The accounts that list the user.
        yours: String,
    },
    /// The user may not charge the account.
    #[error("user {user} is not listed in account '{account}'; the accounts of user {user} are: {yours}")]
    NotInAccount {
        /// What was asked for.
        account: String,
        /// Login name.
        user: String,
        /// The accounts that list the user.
        yours: String,
    },
    /// No account lists the user.
    #[error("no account lists user {user}: ask an admin to add the name to 'users' of an [[account]]")]
    NoAccount {
        /// Login name.
        user: String,
    },
    /// No such quality of service.
    #[error("there is no quality of service '{qos}'; there are: {known}")]
    UnknownQos {
        /// What was asked for.
        qos: String,
        /// The qualities of service that exist.
        known: String,
    },
    /// The account may not use the quality of service.
    #[error("account '{account}' may not use quality of service '{qos}', which is for: {allowed}")]
    QosNotForAccount {
        /// What was asked for.
        qos: String,
        /// The account that would be charged.
        account: String,
        /// The accounts that may use it, with all below them.
        allowed: String,
    },
    /// More nodes than the pool has.
    #[error("the job asks for {}, but pool '{pool}' has {present}", counted(*asked, "node"))]
    TooManyNodes {
        /// Nodes asked for.
        asked: u32,
        /// The pool.
        pool: String,
        /// Nodes of the pool.
        present: u32,
    },
    /// No node, or not enough nodes, could ever hold it.
    #[error("the job can never run in pool '{pool}': {why}")]
    NeverFits {
        /// The pool.
        pool: String,
        /// Which part does not fit, with numbers.
        why: String,
    },
    /// A time limit beyond the pool's.
    #[error("the job asks for {asked}, but pool '{pool}' allows at most {limit}")]
    TimeLimit {
        /// Asked for, as text.
        asked: String,
        /// The pool.
        pool: String,
        /// The pool's limit, as text.
        limit: String,
    },
    /// What was asked of the batch service.
    #[error(transparent)]
    Batch(#[from] BatchRefusal),
    /// A field of the spec is not in order.
    #[error("{field}: {problem}")]
    BadField {
        /// Which field.
        field: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A limit of this controller is reached.
    #[error(
        "{what}: at most {limit} are allowed; wait until some have ended, or ask an admin to raise {key} under [policy]"
    )]
    LimitReached {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The configuration's key.
        key: &'static str,
    },
}
