//! The log of events: as the configuration wants it, and its upkeep.

use nightmail_commit::Committer;
use nightmail_journal::{Journal, JournalOptions};
use tracing::{debug, warn};

use crate::config::Config;

/// The log of events of the store behind `committer`, as this node writes it.
pub(crate) fn open(config: &Config, committer: Committer) -> Journal {
    let settings = &config.journal;
    let options = JournalOptions {
        retention: settings.keep,
        flush_every: settings.flush_interval,
        memory_max: usize::try_from(settings.memory.get()).unwrap_or(usize::MAX),
        node: config.node_name().to_owned(),
        ..JournalOptions::default()
    };
    Journal::start(committer, options)
}

/// Removes what has been kept for long enough, and joins small blocks.
pub(crate) async fn sweep(journal: &Journal) {
    let now = nightmail_commit::now();
    match journal.sweep(now).await {
        Ok(0) => {}
        Ok(blocks) => debug!(blocks, "old events removed"),
        Err(error) => warn!(%error, "old events could not be removed"),
    }
    match journal.merge(now).await {
        Ok(0) => {}
        Ok(blocks) => debug!(blocks, "blocks of events joined"),
        Err(error) => warn!(%error, "blocks of events could not be joined"),
    }
}
