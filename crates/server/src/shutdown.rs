//! Stopping the server in three steps: *leaving* (all goes on as before, but those who watch the server are told
//! that it will be gone), *draining* (nothing new is accepted, sessions finish) and *aborting* (what has not
//! finished is dropped).
//!
//! **Invariant:** mail that was acknowledged is on disk already, so that aborting loses none; a session that is
//! dropped was not answered, and its client tries again.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// The moment that tasks have to end once aborting begins.
const ABORT_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Running,
    Leaving,
    Draining,
    Aborting,
}

/// Tells all holders of [`Shutdown`] to stop.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Phase>);

impl Stopper {
    /// Begins leaving; without effect when that or more has begun. Who supervises the server begins the draining
    /// after the delay that is configured for it.
    pub fn leave(&self) {
        self.raise(Phase::Leaving);
    }

    /// Begins draining; without effect when that or more has begun.
    pub fn drain(&self) {
        self.raise(Phase::Draining);
    }

    /// Begins aborting.
    pub fn abort(&self) {
        self.raise(Phase::Aborting);
    }

    /// A token that observes this stopper.
    pub fn token(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }

    fn raise(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let raised = *phase < to;
            *phase = to.max(*phase);
            raised
        });
    }
}

/// Observes whether the server is stopping. Cheap to clone; one for each session.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

impl Shutdown {
    /// Whether leaving has begun: whoever can choose should turn to another server.
    pub fn is_leaving(&self) -> bool {
        *self.0.borrow() >= Phase::Leaving
    }

    /// Waits until leaving begins.
    pub async fn leaving(&mut self) {
        self.reached(Phase::Leaving).await;
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits until draining begins; at once when it has begun.
    pub async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until aborting begins.
    pub async fn aborting(&mut self) {
        self.reached(Phase::Aborting).await;
    }

    /// A stopper that is gone has nothing more to tell: the wait never ends, and whoever waits is dropped with
    /// the runtime.
    async fn reached(&mut self, phase: Phase) {
        if self.0.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending().await
        }
    }
}

/// A running server's stopper and the first token.
pub fn shutdown_pair() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Stopper(sender), Shutdown(receiver))
}

/// The signals of the process, taken over: what comes while nobody listens is heard by who listens next.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Takes the signals over: they do not end the process by themselves any more.
    pub fn take_over() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT, for a server that has not begun to serve.
    pub async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
        info!("told to stop before it was ready");
    }

    /// Obeys the signals until aborting: SIGTERM or SIGINT begins leaving, another one draining if that has not begun by
    /// itself, and one more aborting; SIGHUP calls `reload`.
    pub async fn obey(mut self, stopper: Stopper, reload: impl Fn() + Send) {
        let mut token = stopper.token();
        loop {
            tokio::select! {
                () = token.aborting() => return,
                _ = self.hup.recv() => reload(),
                _ = self.term.recv() => step(&stopper),
                _ = self.int.recv() => step(&stopper),
            }
        }
    }
}

fn step(stopper: &Stopper) {
    let token = stopper.token();
    if token.is_draining() {
        warn!("told to stop once more: dropping what has not finished");
        stopper.abort();
    } else if token.is_leaving() {
        info!("told to stop once more: not waiting until clients are sent elsewhere");
        stopper.drain();
    } else {
        info!("told to stop");
        stopper.leave();
    }
}

/// How long the steps of stopping take, at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// From the beginning of leaving to that of draining.
    pub drain_delay: Duration,
    /// From the beginning of draining to that of aborting.
    pub grace: Duration,
}

/// How a supervised server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All tasks finished after draining began.
    Drained,
    /// The grace period or a second signal cut tasks off.
    Aborted,
    /// A task ended or panicked while the server should have been running.
    Failed,
}

/// The tasks of a running server.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Those that finish by themselves once draining begins: listeners with their sessions, deliveries.
    pub draining: JoinSet<()>,
    /// Those that run until aborting begins, because the others or the operator need them: metrics, reloading.
    pub background: JoinSet<()>,
}

impl Tasks {
    async fn ended(&mut self) -> Result<(), tokio::task::JoinError> {
        tokio::select! {
            Some(ended) = self.draining.join_next() => ended,
            Some(ended) = self.background.join_next() => ended,
            else => Ok(()),
        }
    }
}

/// Waits for tasks that are to run as long as the server: once one of them ends early the others are drained.
/// Begins draining when leaving has lasted for its time, and aborting when draining has.
pub async fn supervise(mut tasks: Tasks, stopper: &Stopper, pace: Pace) -> Ended {
    let mut token = stopper.token();
    let early = tokio::select! {
        biased;
        () = token.draining() => false,
        () = leave(stopper, pace.drain_delay) => false,
        ended = tasks.ended() => match stopper.token().is_draining() {
            // Those who are told of the draining first may end before this task is told.
            true => false,
            false => {
                report_early_end(ended);
                stopper.drain();
                true
            }
        },
    };
    info!("finishing sessions");
    let finished = tokio::select! {
        () = join_all(&mut tasks.draining) => true,
        () = token.aborting() => false,
        () = tokio::time::sleep(pace.grace) => false,
    };
    stopper.abort();
    let rest = async {
        join_all(&mut tasks.draining).await;
        join_all(&mut tasks.background).await;
    };
    // Whoever observes the stopper ends by itself now; what does not is dropped with its set.
    let _ = tokio::time::timeout(ABORT_GRACE, rest).await;
    match (early, finished) {
        (true, _) => Ended::Failed,
        (false, true) => Ended::Drained,
        (false, false) => Ended::Aborted,
    }
}

/// Waits until leaving begins and has lasted for `delay`, then begins draining.
async fn leave(stopper: &Stopper, delay: Duration) {
    stopper.token().leaving().await;
    if !delay.is_zero() {
        info!(?delay, "serving on until clients are sent elsewhere");
        tokio::time::sleep(delay).await;
    }
    stopper.drain();
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            error!(%error, "a task failed while stopping");
        }
    }
}

fn report_early_end(ended: Result<(), tokio::task::JoinError>) {
    match ended {
        Err(error) => error!(%error, "a part of the server failed: stopping"),
        Ok(()) => error!("a part of the server ended early: stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    /// Draining without delay, and aborting after `grace`.
    const fn at_once(grace: Duration) -> Pace {
        Pace {
            drain_delay: Duration::ZERO,
            grace,
        }
    }

    #[tokio::test]
    async fn draining_is_seen_by_tokens_taken_before_and_after() {
        let (stopper, mut before) = shutdown_pair();
        assert!(!before.is_draining());
        stopper.drain();
        before.draining().await;
        let mut after = stopper.token();
        after.draining().await;
        assert!(after.is_draining());
    }

    #[tokio::test]
    async fn draining_does_not_undo_aborting() {
        let (stopper, mut token) = shutdown_pair();
        stopper.abort();
        stopper.drain();
        tokio::time::timeout(SOON, token.aborting()).await.unwrap();
    }

    #[tokio::test]
    async fn tasks_that_finish_in_time_are_drained() {
        let (stopper, mut token) = shutdown_pair();
        let mut tasks = Tasks::default();
        let mut watching = token.clone();
        tasks.draining.spawn(async move { token.draining().await });
        tasks
            .background
            .spawn(async move { watching.aborting().await });
        stopper.drain();
        assert_eq!(
            supervise(tasks, &stopper, at_once(100 * SOON)).await,
            Ended::Drained
        );
    }

    #[tokio::test]
    async fn tasks_that_outlast_the_grace_period_are_aborted() {
        let (stopper, mut token) = shutdown_pair();
        let mut tasks = Tasks::default();
        tasks.draining.spawn(async move { token.aborting().await });
        stopper.drain();
        let grace = Duration::from_millis(20);
        assert_eq!(
            supervise(tasks, &stopper, at_once(grace)).await,
            Ended::Aborted
        );
    }

    #[tokio::test]
    async fn a_stop_while_draining_does_not_wait_for_the_grace_period() {
        let (stopper, mut token) = shutdown_pair();
        let mut tasks = Tasks::default();
        tasks.draining.spawn(async move { token.aborting().await });
        step(&stopper);
        step(&stopper);
        step(&stopper);
        let ended =
            tokio::time::timeout(SOON, supervise(tasks, &stopper, at_once(100 * SOON))).await;
        assert_eq!(ended.unwrap(), Ended::Aborted);
    }

    #[tokio::test]
    async fn a_task_that_ends_early_stops_the_others() {
        let (stopper, mut token) = shutdown_pair();
        let mut tasks = Tasks::default();
        tasks.draining.spawn(async {});
        tasks.draining.spawn(async move { token.draining().await });
        assert_eq!(
            supervise(tasks, &stopper, at_once(SOON)).await,
            Ended::Failed
        );
    }

    /// A task that ends when draining begins.
    fn draining_task(token: &Shutdown) -> Tasks {
        let mut tasks = Tasks::default();
        let mut token = token.clone();
        tasks.draining.spawn(async move { token.draining().await });
        tasks
    }

    #[tokio::test]
    async fn a_server_that_leaves_is_not_draining_yet() {
        let (stopper, token) = shutdown_pair();
        assert!(!token.is_leaving());
        step(&stopper);
        assert!(token.is_leaving() && !token.is_draining());
        stopper.drain();
        stopper.leave();
        assert!(token.is_leaving() && token.is_draining());
    }

    #[tokio::test]
    async fn without_a_delay_leaving_turns_into_draining_at_once() {
        let (stopper, token) = shutdown_pair();
        let tasks = draining_task(&token);
        stopper.leave();
        let ended = tokio::time::timeout(SOON, supervise(tasks, &stopper, at_once(SOON))).await;
        assert_eq!(ended.unwrap(), Ended::Drained);
    }

    #[tokio::test]
    async fn draining_begins_when_the_delay_is_over() {
        let (stopper, token) = shutdown_pair();
        let pace = Pace {
            drain_delay: Duration::from_millis(20),
            grace: 100 * SOON,
        };
        let tasks = draining_task(&token);
        stopper.leave();
        let ended = tokio::time::timeout(SOON, supervise(tasks, &stopper, pace)).await;
        assert_eq!(ended.unwrap(), Ended::Drained);
        assert!(token.is_draining());
    }

    #[tokio::test]
    async fn a_second_stop_cuts_the_delay_short() {
        let (stopper, token) = shutdown_pair();
        let pace = Pace {
            drain_delay: 100 * SOON,
            grace: 100 * SOON,
        };
        let tasks = draining_task(&token);
        step(&stopper);
        let supervised = supervise(tasks, &stopper, pace);
        tokio::pin!(supervised);
        // Polled once, it waits for the delay to pass.
        let early = std::future::poll_fn(|context| {
            std::task::Poll::Ready(supervised.as_mut().poll(context).is_ready())
        });
        assert!(!early.await && !token.is_draining());
        step(&stopper);
        let ended = tokio::time::timeout(SOON, supervised).await;
        assert_eq!(ended.unwrap(), Ended::Drained);
    }
}
