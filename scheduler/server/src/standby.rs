//! A controller that stands by: it tells clients who leads, opens nothing to nodes, and takes over when nobody leads.

use std::sync::Arc;
use std::time::Duration;

use muster_config::{Config, ControllerConfig};
use muster_store::{Candidacy, Candidate, Leader, Lease, Place, StoreError};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::api;
use crate::engine_loop::chain;
use crate::error::ServerError;
use crate::server::{blocking, holder, host_name, place};

/// How often the database is asked who leads.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// The longest pause while the database does not answer.
const ASK_EVERY_MAX: Duration = Duration::from_secs(2);
/// How long clients may take to let go.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// A controller that stands by.
pub struct Standby {
    lead: oneshot::Receiver<Result<Lease, ServerError>>,
    asking: AbortHandle,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Standby {
    /// Begins to stand by; none if the configuration names no database that others share, so that this controller is
    /// always the only one.
    ///
    /// # Errors
    /// [`ServerError`] if the database is named wrongly, or the socket cannot be made.
    pub fn start(config: &Config) -> Result<Option<Self>, ServerError> {
        let Place::Postgres(server) = place(&config.controller).map_err(ServerError::Store)? else {
            return Ok(None);
        };
        let listener = api::listen(&config.controller.socket)?;
        let (stop, stopping) = watch::channel(false);
        let (known, leader) = watch::channel(None);
        let serving = tokio::spawn(api::serve_standby(listener, leader, stopping));
        let candidate = Candidate::new(&server, holder(), address(&config.controller));
        let (tell, lead) = oneshot::channel();
        let asking = tokio::spawn(async move {
            let _ = tell.send(ask(candidate, &Arc::new(known)).await);
        });
        Ok(Some(Self { lead, asking: asking.abort_handle(), stop, serving }))
    }

    /// Waits until this controller leads.
    ///
    /// # Errors
    /// [`ServerError::Store`] if the database cannot be used as it is.
    pub async fn lead(&mut self) -> Result<Lease, ServerError> {
        (&mut self.lead).await.unwrap_or(Err(ServerError::EngineEnded))
    }

    /// Tells clients nothing more, so that the controller that leads can, on the same socket.
    pub async fn stop(self) {
        self.asking.abort();
        self.stop.send_replace(true);
        let mut serving = self.serving;
        if tokio::time::timeout(STOP_WITHIN, &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

/// Where agents reach this controller, for those who ask who leads.
fn address(controller: &ControllerConfig) -> String {
    if controller.listen.ip().is_unspecified() {
        return format!("{}:{}", host_name(), controller.listen.port());
    }
    controller.listen.to_string()
}

/// Stands until it leads.
async fn ask(mut candidate: Candidate, known: &watch::Sender<Option<Leader>>) -> Result<Lease, ServerError> {
    let mut pause = ASK_EVERY;
    // A database that is away for an hour is worth one line, and one when it is back.
    let mut trouble = None;
    loop {
        let stood;
        (candidate, stood) = blocking(move || {
            let stood = candidate.stand();
            Ok((candidate, stood))
        })
        .await?;
        match stood {
            Ok(Candidacy::Leads(lease)) => return Ok(lease),
            Ok(Candidacy::Follows(leader)) => {
                pause = ASK_EVERY;
                if trouble.take().is_some() {
                    tracing::info!("the database answers again");
                }
                let is_new = known.borrow().as_ref() != Some(&leader);
                if is_new {
                    tracing::info!(leader = leader.holder, term = leader.term, "standing by");
                    known.send_replace(Some(leader));
                }
            }
            Err(error @ (StoreError::Database { .. } | StoreError::Full { .. })) => {
                let error = chain(&error);
                if trouble.as_ref() != Some(&error) {
                    tracing::warn!(%error, "cannot ask the database who leads; asking again until it answers");
                    trouble = Some(error);
                }
                pause = (pause * 2).min(ASK_EVERY_MAX);
            }
            Err(error) => return Err(ServerError::Store(error)),
        }
        tokio::time::sleep(pause).await;
    }
}
