//! Brings packages from the controller, over the same mutual TLS as the agent's session.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use muster_wire::v1::node_controller_client::NodeControllerClient;
use muster_wire::v1::{Package, PackageRequest};
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::wrong;
use crate::agent::link::Link;
use crate::config::{AgentConfig, AgentDir};
use crate::error::{NodeError, Result};

/// How often all controllers are tried, and the pause in between: another one may be about to lead.
const TRIES: u32 = 15;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Where packages come from.
#[derive(Debug, Clone)]
pub struct Source(Arc<Link>);

impl Source {
    /// The controllers of an agent.
    ///
    /// # Errors
    ///
    /// As [`Link::new`].
    pub fn new(dir: &AgentDir, config: &AgentConfig) -> Result<Self> {
        Ok(Self(Arc::new(Link::new(dir, config)?)))
    }

    /// Brings a package into a file, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] if the controller has none or it arrives damaged; others if there is no controller to be had.
    pub async fn fetch(&self, package: &Package, file: &mut File) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut last = None;
            for address in self.0.addresses() {
                match self.fetch_from(address, package, file).await {
                    Err(
                        error @ (NodeError::Transport(_) | NodeError::Session(_) | NodeError::System { .. }),
                    ) => {
                        last = Some(error);
                    }
                    done => return done,
                }
            }
            if tries >= TRIES {
                return last.map_or(Ok(()), Err);
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn fetch_from(&self, address: &str, package: &Package, file: &mut File) -> Result<()> {
        let channel = self.0.connect(address).await?;
        let mut client = NodeControllerClient::new(channel);
        let request = PackageRequest { digest: package.digest.clone() };
        let session = |status: tonic::Status| match status.code() {
            Code::NotFound => wrong(format!("package {}: {}", package.name, status.message())),
            _ => NodeError::Session(Box::new(status)),
        };
        let mut parts = client.package(request).await.map_err(session)?.into_inner();
        let local = |error: std::io::Error| {
            let code =
                if error.kind() == std::io::ErrorKind::StorageFull { "DiskFull" } else { super::ERROR };
            let message = format!("package {} cannot be kept: {error}", package.name);
            NodeError::Staged(muster_wire::v1::StagingFailed { code: code.to_owned(), message })
        };
        // An earlier try may have left something.
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(local)?;
        let (mut digest, mut received) = (Sha256::new(), 0_u64);
        while let Some(part) = parts.next().await {
            let data = part.map_err(session)?.data;
            received += data.len() as u64;
            if received > package.bytes {
                break;
            }
            digest.update(&data);
            file.write_all(&data).map_err(local)?;
        }
        if received != package.bytes || format!("{:x}", digest.finalize()) != package.digest {
            return Err(wrong(format!("package {} arrived damaged", package.name)));
        }
        Ok(())
    }
}
