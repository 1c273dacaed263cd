//! Who leads: a lease in the database that the leader renews, and that a standby takes over when it has run out.
//!
//! The lease is on the database's clock. The leader judges by its own clock, the one that goes on while the process or
//! the machine is frozen, and from the instant at which it asked for the renewal: by its own judgement the lease ends
//! before it does in the database. Once it has found the lease over, it is over for good.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::schema;
use super::server::Server;
use super::session::{Purpose, Session, failed};
use crate::error::StoreError;
use crate::schema::signed;

/// How long a lease lasts.
const LEASE: Duration = Duration::from_millis(4500);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The pause before a broken connection is made again, and the longest one. Each failure doubles it.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long giving a lease back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// The clock that goes on while the process, or the whole machine, is frozen.
#[must_use]
pub fn boot_clock() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The controller that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// How often the lead was taken over.
    pub term: u64,
    /// What it calls itself; empty if none has led yet.
    pub holder: String,
    /// Where node agents reach it.
    pub address: String,
}

/// What became of a try to lead.
#[derive(Debug)]
pub enum Candidacy {
    /// This controller leads.
    Leads(Lease),
    /// Another one does.
    Follows(Leader),
}

/// A controller that stands by.
#[derive(Debug)]
pub struct Candidate {
    server: Server,
    holder: String,
    address: String,
    session: Option<Session>,
}

impl Candidate {
    /// Stands by under the name `holder`; agents reach it at `address` when it leads.
    #[must_use]
    pub fn new(server: &Server, holder: String, address: String) -> Self {
        Self { server: server.clone(), holder, address, session: None }
    }

    /// Takes the lead if nobody holds it, and says who does if somebody does. Makes the tables in a new database.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the server cannot be asked, [`StoreError::NewerSchema`] and others if its database
    /// cannot be used.
    pub fn stand(&mut self) -> Result<Candidacy, StoreError> {
        let failed = failed(&self.server, "ask who leads");
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let mut session = Session::open(&self.server, Purpose::Standby).map_err(&failed)?;
                schema::ensure(&mut session, &self.server)?;
                session
            }
        };
        let stood = self.stand_in(&mut session).map_err(&failed);
        if stood.is_ok() {
            self.session = Some(session);
        }
        stood
    }

    fn stand_in(&self, session: &mut Session) -> Result<Candidacy, postgres::Error> {
        let look =
            session.statement("SELECT term, holder, address, expires_at > clock_timestamp() FROM leader")?;
        let row = session.client().query_one(&look, &[])?;
        let term: i64 = row.get(0);
        let leader = Leader { term: term.unsigned_abs(), holder: row.get(1), address: row.get(2) };
        if row.get(3) {
            return Ok(Candidacy::Follows(leader));
        }
        // What the one before has not brought to its end holds the row locked, and must not: it may be frozen.
        let end = session.statement(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND usename = current_user AND application_name = $1",
        )?;
        session.client().query(&end, &[&Purpose::Lead(leader.term).name()])?;
        let take = session.statement(
            "UPDATE leader SET term = term + 1, holder = $2, address = $3, \
             expires_at = clock_timestamp() + $4 * interval '1 millisecond' \
             WHERE term = $1 AND expires_at <= clock_timestamp()",
        )?;
        let asked = boot_clock();
        let lease_ms = LEASE.as_millis() as f64;
        let taken = session.client().execute(&take, &[&term, &self.holder, &self.address, &lease_ms])?;
        if taken == 0 {
            return Ok(Candidacy::Follows(leader));
        }
        Ok(Candidacy::Leads(Lease::taken(&self.server, leader.term + 1, asked)))
    }
}

/// The lead, for as long as the lease lasts. It is renewed by a thread of its own until it is released or lost, or
/// nobody holds it any more.
#[derive(Debug, Clone)]
pub struct Lease {
    held: Arc<Held>,
    /// Makes the thread that renews the lease give it back, which it does as well when the last clone is gone.
    release: Arc<Mutex<SyncSender<SyncSender<()>>>>,
}

#[derive(Debug)]
struct Held {
    server: Server,
    term: u64,
    /// By [`boot_clock`], in microseconds.
    valid_until_us: AtomicU64,
    is_over: AtomicBool,
}

impl Held {
    fn renewed(&self, asked: Duration) {
        let until = asked + LEASE;
        self.valid_until_us.store(until.as_micros() as u64, Ordering::SeqCst);
    }

    fn remaining(&self) -> Duration {
        if self.is_over.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let until = Duration::from_micros(self.valid_until_us.load(Ordering::SeqCst));
        let remaining = until.saturating_sub(boot_clock());
        if remaining.is_zero() {
            self.is_over.store(true, Ordering::SeqCst);
        }
        remaining
    }
}

impl Lease {
    fn taken(server: &Server, term: u64, asked: Duration) -> Self {
        let held = Held {
            server: server.clone(),
            term,
            valid_until_us: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        held.renewed(asked);
        let held = Arc::new(held);
        let (release, released) = sync_channel(1);
        let keeper = {
            let held = Arc::clone(&held);
            std::thread::Builder::new().name("lease".to_owned()).spawn(move || keep(&held, &released))
        };
        if let Err(error) = keeper {
            // It runs out then.
            tracing::error!(%error, "cannot start the thread that renews the lease");
        }
        Self { held, release: Arc::new(Mutex::new(release)) }
    }

    /// The term, which every take-over raises.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.held.term
    }

    /// How long this controller may be sure to lead; zero once it may not, and for ever then.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.held.remaining()
    }

    /// Whether this controller leads.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Gives the lead back, so that another controller need not wait for the end of the lease. Everything that is to be
    /// stored must have been.
    pub fn release(&self) {
        self.held.is_over.store(true, Ordering::SeqCst);
        let (done, is_done) = sync_channel(1);
        let release = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        if release.send(done).is_ok() {
            let _ = is_done.recv_timeout(RELEASE_WITHIN);
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.held.server
    }

    pub(crate) fn deposed(&self) -> StoreError {
        self.held.is_over.store(true, Ordering::SeqCst);
        StoreError::Deposed { term: self.term() }
    }

    /// Says what was being done when the server refused; if the lease is over by now, that is why.
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(postgres::Error) -> StoreError {
        move |error| if self.is_valid() { failed(self.server(), doing)(error) } else { self.deposed() }
    }

    /// A connection for writing.
    pub(crate) fn connect(&self) -> Result<Session, postgres::Error> {
        Session::open(self.server(), Purpose::Lead(self.term()))
    }

    /// A connection for writing; tries again for as long as the lease lasts.
    pub(crate) fn connect_again(&self) -> Result<Session, StoreError> {
        let mut pause = AGAIN_AFTER.0;
        loop {
            if !self.is_valid() {
                return Err(self.deposed());
            }
            match self.connect() {
                Ok(session) => return Ok(session),
                Err(error) => tracing::warn!(%error, "cannot connect to the database"),
            }
            std::thread::sleep(pause.min(self.remaining()));
            pause = (pause * 2).min(AGAIN_AFTER.1);
        }
    }
}

/// Renews the lease until it is over.
fn keep(held: &Held, released: &Receiver<SyncSender<()>>) {
    let (mut session, mut pause, mut failing) = (None, RENEW_EVERY, AGAIN_AFTER.0);
    loop {
        match released.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            released => {
                if let Err(error) = give_back(held, session) {
                    tracing::warn!(%error, "cannot give the lead back; it ends with the lease");
                }
                if let Ok(done) = released {
                    let _ = done.send(());
                }
                return;
            }
        }
        if held.remaining().is_zero() {
            return;
        }
        match renew(held, &mut session) {
            Ok(true) => (pause, failing) = (RENEW_EVERY, AGAIN_AFTER.0),
            Ok(false) => {
                held.is_over.store(true, Ordering::SeqCst);
                return;
            }
            Err(error) => {
                let left_ms = held.remaining().as_millis();
                tracing::warn!(%error, left_ms, "the lease cannot be renewed at present");
                session = None;
                pause = failing;
                failing = (failing * 2).min(AGAIN_AFTER.1);
            }
        }
    }
}

/// Says whether this is still the leader.
fn renew(held: &Held, session: &mut Option<Session>) -> Result<bool, postgres::Error> {
    let session = match session {
        Some(session) => session,
        None => session.insert(Session::open(&held.server, Purpose::Lead(held.term))?),
    };
    let sql =
        "UPDATE leader SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' WHERE term = $1";
    let statement = session.statement(sql)?;
    let asked = boot_clock();
    let lease_ms = LEASE.as_millis() as f64;
    let is_leader = session.client().execute(&statement, &[&signed(held.term), &lease_ms])? > 0;
    // An instant at which the lease had run out stays one: somebody may have seen that.
    if is_leader && !held.remaining().is_zero() {
        held.renewed(asked);
    }
    Ok(is_leader)
}

fn give_back(held: &Held, session: Option<Session>) -> Result<(), postgres::Error> {
    let give = |mut session: Session| {
        let sql = "UPDATE leader SET expires_at = clock_timestamp() WHERE term = $1";
        session.client().execute(sql, &[&signed(held.term)]).map(|_| ())
    };
    // The connection may have broken since the last renewal.
    match session.map(give) {
        Some(Ok(())) => Ok(()),
        _ => give(Session::open(&held.server, Purpose::Lead(held.term))?),
    }
}
