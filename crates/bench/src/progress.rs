//! How far a run is, on standard error: one line rewritten on a terminal, else a line every five seconds.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::run::Run;

const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// The task that shows progress, if it is wanted.
pub(crate) struct Progress(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Progress {
    pub(crate) fn show(run: Arc<Run>, quiet: bool) -> Self {
        if quiet {
            return Self(None);
        }
        let (stop, stopped) = oneshot::channel();
        Self(Some((stop, tokio::spawn(show(run, stopped)))))
    }

    /// Ends the line and the task.
    pub(crate) async fn stop(self) {
        if let Some((stop, task)) = self.0 {
            drop(stop);
            // A progress line that could not be written is no reason to fail.
            let _ = task.await;
        }
    }
}

async fn show(run: Arc<Run>, mut stopped: oneshot::Receiver<()>) {
    let terminal = stderr().is_terminal();
    let every = if terminal { ON_TERMINAL } else { ELSEWHERE };
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => break,
        }
        let text = line(&run, before, every);
        before = run.counts().0;
        let (start, end) = if terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        write(&format!("{start}{text}{end}"));
    }
    if terminal {
        write("\r\x1b[K");
    }
}

fn write(text: &str) {
    let mut err = stderr().lock();
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

fn line(run: &Run, before: u64, every: Duration) -> String {
    let (operations, _, bytes, failed) = run.counts();
    let seconds = run.started.elapsed().as_secs_f64();
    let now = (operations - before) as f64 / every.as_secs_f64();
    format!(
        "{} {seconds:.1} s  {operations} of {}  {now:.0}/s now, {:.0}/s in all  {:.1} MB  {failed} failed",
        run.workload,
        run.limit,
        operations as f64 / seconds,
        bytes as f64 / 1e6,
    )
}
