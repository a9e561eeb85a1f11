//! This process as one of several nodes: whether it reaches the store, and when it is to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nightmail_cluster::NodeName;
use tracing::{error, info, warn};

use crate::backend::Backend;
use crate::services::SharedServices;
use crate::shutdown::{Shutdown, Stopper, Tasks};

/// How long the store may take to answer before the node counts as cut from it.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Whether the shared store answers, and takes what this node writes.
#[derive(Clone)]
pub(crate) struct Reach(Arc<AtomicBool>);

impl Reach {
    /// Fails while the store does not answer, or the node has been shut out and has not joined again.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.0.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the database does not answer, or has shut this node out".to_owned()),
        }
    }
}

/// Watches over the node's place among the others; `None` where there are no others.
pub(crate) fn start_membership(
    services: &SharedServices,
    backend: &Backend,
    stopper: &Stopper,
    shutdown: &Shutdown,
    tasks: &mut Tasks,
) -> Option<Reach> {
    if !backend.is_shared() {
        return None;
    }
    let reach = Reach(Arc::new(AtomicBool::new(true)));
    let interval = services.config.node.heartbeat;
    let looking = look(reach.clone(), backend.clone(), interval);
    let mut aborting = shutdown.clone();
    tasks.background.spawn(async move {
        tokio::select! {
            () = looking => {}
            () = aborting.aborting() => {}
        }
    });
    let name = services.config.node_name().to_owned();
    let going = go(name, backend.clone(), stopper.clone(), shutdown.clone());
    tasks.background.spawn(going);
    Some(reach)
}

/// Asks the store again and again whether it is there and knows this node.
async fn look(reach: Reach, backend: Backend, interval: Duration) {
    loop {
        let answered = tokio::time::timeout(ANSWER_MAX, backend.cluster.is_current()).await;
        let now = matches!(answered, Ok(Ok(true)));
        let before = reach.0.swap(now, Ordering::Relaxed);
        match (before, now) {
            (true, false) => warn!(
                "the database does not answer or has shut this node out: clients are told to try again"
            ),
            (false, true) => info!("the database takes this node's work again"),
            _ => {}
        }
        tokio::time::sleep(interval).await;
    }
}

/// Drains the server when an operator wants it, or when another process has taken its name; and lets the other nodes
/// take over what they can as soon as it drains.
async fn go(name: String, backend: Backend, stopper: Stopper, mut shutdown: Shutdown) {
    let cluster = &backend.cluster;
    tokio::select! {
        () = cluster.drain_requested() => {
            info!("an operator wants this node emptied");
            stopper.leave();
        }
        () = cluster.replaced() => {
            error!(node = name, "another process has joined under the name of this node: stopping");
            stopper.drain();
        }
        () = shutdown.leaving() => {
            if let Ok(name) = name.parse::<NodeName>()
                && let Err(error) = nightmail_cluster::request_drain(backend.engine.as_ref(), &name).await
            {
                warn!(%error, "the leases of this node are kept until it ends");
            }
        }
    }
    shutdown.aborting().await;
}
