//! Telling a client how far a long command has come (RFC 9585).

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use nightmail_imap::Input;

use super::super::ImapSession;
use crate::net::Transport;

/// From one word about the progress to the next.
const EVERY: Duration = Duration::from_secs(10);

/// How far a command has come.
pub(in crate::drivers::imap) struct Progress {
    told: Instant,
    done: u32,
    goal: u32,
}

impl Progress {
    /// Of so many messages to look at.
    pub(in crate::drivers::imap) fn of(goal: usize) -> Self {
        Self {
            told: Instant::now(),
            done: 0,
            goal: u32::try_from(goal).unwrap_or(u32::MAX),
        }
    }

    /// So many more are done.
    pub(in crate::drivers::imap) fn add(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.done = self.done.saturating_add(count).min(self.goal);
    }
}

impl ImapSession {
    /// Tells how far the command has come, where it is time to.
    pub(in crate::drivers::imap) async fn tell_progress(
        &mut self,
        progress: &mut Progress,
        transport: &mut Transport,
    ) -> io::Result<()> {
        if progress.told.elapsed() < EVERY {
            return Ok(());
        }
        progress.told = Instant::now();
        let (done, goal) = (Some(progress.done), Some(progress.goal));
        Box::pin(self.say_progress(done, goal, transport)).await
    }

    /// Waits for what cannot say how far it has come.
    pub(in crate::drivers::imap) async fn watched<T>(
        &mut self,
        work: impl Future<Output = T>,
        transport: &mut Transport,
    ) -> io::Result<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(EVERY, &mut work).await {
                return Ok(done);
            }
            Box::pin(self.say_progress(None, None, transport)).await?;
        }
    }

    async fn say_progress(
        &mut self,
        done: Option<u32>,
        goal: Option<u32>,
        transport: &mut Transport,
    ) -> io::Result<()> {
        let progress = Input::Progress { done, goal };
        self.machine.handle(Instant::now(), progress);
        self.drain(transport).await?;
        transport.flush().await
    }
}
