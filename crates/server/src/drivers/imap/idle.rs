//! IDLE (RFC 2177): waiting for news of the selected mailbox.

use std::time::Instant;

use ::metrics::Gauge;
use nightmail_imap::Input;
use tracing::warn;

use super::ImapSession;
use super::failure::Failure;
use crate::metrics;

/// A session in IDLE, counted as long as this lives.
pub(super) struct Idling(Gauge);

impl Idling {
    fn begin() -> Self {
        let gauge = metrics::plain_gauge(metrics::IMAP_IDLE);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Idling {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl ImapSession {
    /// IDLE begins or ends. What can be read again is not kept while the client waits.
    pub(super) fn set_idling(&mut self, begins: bool) {
        self.idling = begins.then(Idling::begin);
        if begins {
            self.service.commands.increment(1);
            self.keywords = None;
            self.sources = Vec::new();
        }
    }

    /// Tells the machine what has happened while the session waited.
    pub(super) async fn tell_news(&mut self) {
        match self.refresh().await {
            Ok(()) | Err(Failure::Connection(_) | Failure::Refused(_)) => {}
            Err(Failure::Gone(farewell)) => {
                self.selected = None;
                self.machine
                    .handle(Instant::now(), Input::Shutdown(farewell));
            }
            // It is tried again soon.
            Err(Failure::Store(error, _)) => {
                warn!(session = %self.id, %error, "news of a mailbox could not be read");
            }
        }
    }
}
