//! Load shedding: new mail waits at its sender's while the store cannot keep up.

use std::time::Duration;

use nightmail_access::Stage;
use nightmail_commit::Committer;
use nightmail_smtp::{Reply, replies};
use tracing::warn;

use super::decision::Gated;
use crate::metrics;

/// Looks how far behind the store is.
pub(super) struct Shedder {
    committer: Committer,
    /// Zero never sheds.
    after: Duration,
}

impl Shedder {
    pub(super) const fn new(committer: Committer, after: Duration) -> Self {
        Self { committer, after }
    }

    /// Refuses new connections at twice the wait at which new messages are refused.
    pub(super) fn look(&self, stage: Stage) -> Gated<()> {
        match refusal(self.committer.oldest_wait(), self.after, stage) {
            None => Ok(()),
            Some(reply) => {
                ::metrics::counter!(metrics::LOAD_SHED, "stage" => stage.as_str()).increment(1);
                warn!(stage = stage.as_str(), "mail deferred: the store is behind");
                Err(reply)
            }
        }
    }
}

fn refusal(wait: Duration, after: Duration, stage: Stage) -> Option<Reply> {
    if after.is_zero() {
        return None;
    }
    match stage {
        Stage::Connect => (wait > after.saturating_mul(2)).then_some(replies::BUSY_CLOSING),
        _ => (wait > after).then_some(replies::BUSY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_refused_before_connections_are() {
        let secs = Duration::from_secs;
        let code = |wait, stage| refusal(secs(wait), secs(5), stage).map(|reply| reply.code());
        assert_eq!(code(5, Stage::Mail), None);
        assert_eq!(code(6, Stage::Mail), Some(451));
        assert_eq!(code(10, Stage::Connect), None);
        assert_eq!(code(11, Stage::Connect), Some(421));
        assert_eq!(refusal(secs(99), Duration::ZERO, Stage::Connect), None);
    }
}
