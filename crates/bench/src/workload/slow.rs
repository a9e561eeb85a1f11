//! Clients that only dawdle: they hold a connection and send an octet a second, as an attack does that wants to keep
//! a server busy with nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::error::BenchError;
use crate::wire::{Endpoint, Wire};

/// Connections being opened at once.
const OPENING_MAX: usize = 64;
const PACE: Duration = Duration::from_secs(1);

/// Connections that dawdle until dropped.
pub(crate) struct Dawdlers {
    _tasks: JoinSet<()>,
    lost: Arc<AtomicU64>,
}

impl Dawdlers {
    /// Opens the connections: a third says nothing, a third is at its first command, and a third in a message to
    /// `recipient`.
    pub(crate) async fn start(
        endpoint: &Arc<Endpoint>,
        count: u32,
        recipient: &str,
    ) -> Result<Self, BenchError> {
        let opening = Arc::new(Semaphore::new(OPENING_MAX));
        let mut openings = JoinSet::new();
        for index in 0..count {
            let (endpoint, opening) = (Arc::clone(endpoint), Arc::clone(&opening));
            let recipient = recipient.to_owned();
            openings.spawn(async move {
                let _turn = opening.acquire_owned().await;
                let kind = index % 3;
                let wire = open(&endpoint, kind, &recipient).await?;
                Ok::<_, BenchError>((wire, kind))
            });
        }
        let mut tasks = JoinSet::new();
        let lost = Arc::new(AtomicU64::new(0));
        while let Some(opened) = openings.join_next().await {
            let opened = opened.map_err(|error| BenchError::Unexpected(error.to_string()))?;
            let (wire, kind) = opened?;
            let lost = Arc::clone(&lost);
            tasks.spawn(async move {
                dawdle(wire, kind).await;
                lost.fetch_add(1, Ordering::Relaxed);
            });
        }
        Ok(Self {
            _tasks: tasks,
            lost,
        })
    }

    /// How many of them the server has closed.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Brings a connection to where it dawdles.
async fn open(endpoint: &Endpoint, kind: u32, recipient: &str) -> Result<Wire, BenchError> {
    let mut wire = endpoint.connect().await?;
    wire.line().await?;
    if kind == 2 {
        wire.send(b"HELO slow.test\r\n").await?;
        wire.line().await?;
        wire.send(b"MAIL FROM:<slow@sender.example.org>\r\n")
            .await?;
        wire.line().await?;
        wire.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes())
            .await?;
        wire.line().await?;
        wire.send(b"DATA\r\n").await?;
        wire.line().await?;
    }
    Ok(wire)
}

/// Sends an octet a second, or nothing at all, for as long as the server listens.
async fn dawdle(mut wire: Wire, kind: u32) {
    if kind == 0 {
        while wire.line().await.is_ok() {}
    }
    while wire.send(b"x").await.is_ok() {
        sleep(PACE).await;
    }
}
