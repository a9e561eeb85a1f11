//! What the gate does by the clock: what was counted is kept, what has run out is forgotten, reports are sent.

use std::time::Duration;

use nightmail_cluster::LeaseName;
use nightmail_trust::ReportMessage;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::services::SharedServices;
use crate::shutdown::Shutdown;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);
/// Rows of the greylist looked at in one round.
const GREYLIST_ROWS: usize = 10_000;

/// Runs until the server stops.
pub(crate) async fn upkeep(services: SharedServices, mut shutdown: Shutdown) {
    let mut failures = services.gate.reporting.failures();
    let mut round = tokio::time::interval(INTERVAL);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick comes at once.
    round.tick().await;
    loop {
        tokio::select! {
            biased;
            () = shutdown.draining() => break,
            Some(report) = next(&mut failures) => {
                let now = nightmail_commit::now();
                if let Err(reason) = services.send_report(&report, "failure", now).await {
                    warn!(to = %report.to, reason, "a DMARC failure report was not sent");
                }
            }
            _ = round.tick() => once(&services).await,
        }
    }
    services.gate.reporting.flush().await;
    shutdown.aborting().await;
}

async fn next(failures: &mut Option<mpsc::Receiver<ReportMessage>>) -> Option<ReportMessage> {
    match failures {
        Some(failures) => failures.recv().await,
        None => None,
    }
}

async fn once(services: &SharedServices) {
    services.gate.reporting.flush().await;
    // The rest is done by one node for all.
    let Some(_hold) = services.cluster.leases().hold(LeaseName::Maintenance) else {
        return;
    };
    let now = nightmail_commit::now();
    if let Some(greylist) = &services.gate.greylist {
        match greylist.sweep(now, GREYLIST_ROWS).await {
            Ok(swept) if swept.removed > 0 => debug!(rows = swept.removed, "greylist swept"),
            Ok(_) => {}
            Err(error) => warn!(%error, "the greylist could not be swept"),
        }
    }
    if let Err(error) = services.send_aggregate_reports(now).await {
        warn!(%error, "DMARC reports could not be sent");
    }
}
