//! Signals: the only test of its process, which it sends them to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, id};
use std::sync::Arc;
use std::time::Duration;

use nightmail_server::shutdown::{Signals, shutdown_pair};
use tokio::sync::Notify;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn send(signal: &str) {
    let status = Command::new("kill")
        .args([signal, &id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn hup_reloads_and_each_term_or_int_stops_one_step_further() {
    let (stopper, mut token) = shutdown_pair();
    let reloaded = Arc::new(Notify::new());
    let notify = Arc::clone(&reloaded);
    let mut signals = Signals::take_over().unwrap();
    send("-TERM");
    timeout(SOON, signals.told_to_stop()).await.unwrap();
    assert!(!token.is_leaving());
    let obeying = tokio::spawn(signals.obey(stopper, move || notify.notify_one()));
    send("-HUP");
    timeout(SOON, reloaded.notified()).await.unwrap();
    assert!(!token.is_leaving());
    send("-TERM");
    timeout(SOON, token.leaving()).await.unwrap();
    assert!(!token.is_draining());
    send("-TERM");
    timeout(SOON, token.draining()).await.unwrap();
    send("-INT");
    timeout(SOON, token.aborting()).await.unwrap();
    timeout(SOON, obeying).await.unwrap().unwrap();
}
