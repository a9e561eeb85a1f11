//! What is done with mailboxes by the clock: people are warned before they are full, old messages leave the folders that
//! want that, what was deleted long ago is removed for good, and who was answered automatically is forgotten.
//!
//! Accounts are walked through in pages by one node for all, which begins anew when its time has come. Every step is
//! bounded, and may be done again after a crash.

mod fullness;
mod retention;
mod sign;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nightmail_cluster::LeaseName;
use nightmail_core::AccountId;
use nightmail_engine::RowKey;
use tracing::{debug, warn};

use crate::services::SharedServices;
use crate::shutdown::Shutdown;
pub(crate) use sign::sign_replies;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two walks through all accounts, from beginning to beginning.
const WALK_INTERVAL: Duration = Duration::from_secs(3600);
/// Accounts looked at in one round.
const ACCOUNTS_PER_ROUND: usize = 2000;
/// Messages purged at once, and how often in one round.
const PURGED_AT_ONCE: usize = 5000;
const PURGES_PER_ROUND: usize = 20;
/// Remembered answers looked at in one round.
const REPLIES_PER_ROUND: usize = 5000;

/// Where the jobs are.
#[derive(Default)]
struct Progress {
    /// The account that the walk goes on behind; a walk is under way.
    walk: Option<Option<String>>,
    walk_began: Option<Instant>,
    replies: Option<RowKey>,
}

/// Runs until the server stops.
pub(crate) async fn upkeep(services: SharedServices, mut shutdown: Shutdown) {
    let mut progress = Progress::default();
    let mut round = tokio::time::interval(INTERVAL);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let grown = services.switch.grown().clone();
    loop {
        tokio::select! {
            biased;
            () = shutdown.draining() => break,
            accounts = grown.take() => warn_all(&services, accounts).await,
            _ = round.tick() => Box::pin(once(&services, &mut progress)).await,
        }
    }
    shutdown.aborting().await;
}

async fn warn_all(services: &SharedServices, accounts: HashSet<AccountId>) {
    for account in accounts {
        if let Err(error) = fullness::look(services, account).await {
            warn!(%account, %error, "whether an account is nearly full could not be found out");
        }
    }
}

async fn once(services: &SharedServices, progress: &mut Progress) {
    // One node does it for all.
    let Some(_hold) = services.cluster.leases().hold(LeaseName::Maintenance) else {
        *progress = Progress::default();
        return;
    };
    purge(services).await;
    let now = nightmail_commit::now();
    let after = progress.replies.take();
    match services
        .directory
        .forget_replies(now, after, REPLIES_PER_ROUND)
        .await
    {
        Ok(next) => progress.replies = next,
        Err(error) => warn!(%error, "who was answered could not be forgotten"),
    }
    walk(services, progress).await;
}

/// Removes for good what can no longer be brought back.
async fn purge(services: &SharedServices) {
    let window = services.config.mailboxes.undelete_window;
    for _ in 0..PURGES_PER_ROUND {
        let now = nightmail_commit::now();
        match services
            .store
            .purge_expunged(now, window, PURGED_AT_ONCE)
            .await
        {
            Ok(purged) => {
                if purged > 0 {
                    debug!(messages = purged, "deleted messages purged");
                }
                if purged < PURGED_AT_ONCE {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "deleted messages could not be purged");
                return;
            }
        }
    }
}

/// Looks at the next accounts, where a walk is under way or due.
async fn walk(services: &SharedServices, progress: &mut Progress) {
    if progress.walk.is_none() {
        let is_due = progress
            .walk_began
            .is_none_or(|began| began.elapsed() >= WALK_INTERVAL);
        if !is_due {
            return;
        }
        progress.walk_began = Some(Instant::now());
        progress.walk = Some(None);
    }
    let after = progress.walk.clone().flatten();
    let directory = &services.directory;
    let page = directory.list_accounts(None, after.as_deref(), ACCOUNTS_PER_ROUND);
    let page = match page.await {
        Ok(page) => page,
        Err(error) => {
            warn!(%error, "accounts could not be listed");
            return;
        }
    };
    let settings = match retention::Settings::load(services).await {
        Ok(settings) => settings,
        Err(error) => {
            warn!(%error, "the settings of folders could not be read");
            return;
        }
    };
    for account in page.items {
        if account.quota != nightmail_directory::Quota::UNLIMITED {
            warn_all(services, HashSet::from([account.id])).await;
        }
        if settings.are_none() {
            continue;
        }
        let now = nightmail_commit::now();
        match retention::expire(&services.store, account.id, &settings, now).await {
            Ok(removed) if removed > 0 => {
                debug!(account = %account.id, messages = removed, "old messages removed");
            }
            Ok(_) => {}
            Err(error) => warn!(account = %account.id, %error, "old messages could not be removed"),
        }
    }
    progress.walk = page.next.map(Some);
}
