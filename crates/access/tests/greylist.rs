//! Greylisting over an engine that is shared, with the time given in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nightmail_access::{Greylist, GreylistOptions, GreylistState, Swept, Verdict};
use nightmail_core::{ForwardPath, ReversePath, Timestamp};
use nightmail_engine::{Engine, MemoryEngine};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const DELAY: Duration = Duration::from_secs(300);

fn options() -> GreylistOptions {
    GreylistOptions {
        delay: DELAY,
        auto_allow: 3,
        ..GreylistOptions::default()
    }
}

fn over(engine: &Arc<MemoryEngine>) -> Greylist {
    Greylist::new(Arc::clone(engine) as Arc<dyn Engine>, options())
}

fn from(text: &str) -> ReversePath {
    match text {
        "" => ReversePath::Null,
        text => ReversePath::Address(text.parse().unwrap()),
    }
}

fn to(text: &str) -> ForwardPath {
    ForwardPath::Address(text.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Asks about a message from `sender` at `client` to one mailbox, at a time in milliseconds.
async fn ask(greylist: &Greylist, client: &str, sender: &str, at: i64) -> Verdict {
    let (sender, recipient) = (from(sender), to("bob@here.test"));
    let now = Timestamp::from_millis(at);
    let asked = greylist.look(ip(client), &sender, &recipient, now);
    asked.await.unwrap()
}

const fn is_new(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::New { .. })
}

#[tokio::test]
async fn a_client_that_comes_back_after_the_delay_passes_and_is_known_then() {
    let greylist = over(&Arc::default());
    let ask = |at| ask(&greylist, "192.0.2.1", "ann@x.test", at);
    assert_eq!(ask(0).await, Verdict::New { wait: DELAY });
    let wait = Duration::from_secs(60);
    assert_eq!(ask(4 * MINUTE).await, Verdict::TooEarly { wait });
    assert_eq!(ask(5 * MINUTE).await, Verdict::Pass);
    assert_eq!(ask(5 * MINUTE).await, Verdict::Known);
    assert_eq!(ask(30 * DAY).await, Verdict::Known);
    assert_eq!(ask(60 * DAY).await, Verdict::Known);
    assert!(
        is_new(&ask(100 * DAY).await),
        "forgotten after its lifetime"
    );
}

#[tokio::test]
async fn whoever_comes_back_after_the_window_begins_anew() {
    let greylist = over(&Arc::default());
    let ask = |at| ask(&greylist, "192.0.2.1", "ann@x.test", at);
    assert!(is_new(&ask(0).await));
    assert!(is_new(&ask(2 * DAY + 1).await));
    assert!(matches!(ask(2 * DAY + 2).await, Verdict::TooEarly { .. }));
    assert_eq!(ask(2 * DAY + 5 * MINUTE + 1).await, Verdict::Pass);
}

#[tokio::test]
async fn sender_recipient_and_network_each_make_a_difference_and_nothing_else_does() {
    let greylist = over(&Arc::default());
    assert!(is_new(
        &ask(&greylist, "192.0.2.1", "list-1@x.test", 0).await
    ));
    let later = 5 * MINUTE;
    assert!(is_new(
        &ask(&greylist, "192.0.2.1", "ann@x.test", later).await
    ));
    assert!(is_new(&ask(&greylist, "192.0.2.1", "", later).await));
    assert!(is_new(
        &ask(&greylist, "192.0.3.1", "list-1@x.test", later).await
    ));
    let (sender, other) = (from("list-1@x.test"), to("eve@here.test"));
    let now = Timestamp::from_millis(later);
    let other = greylist.look(ip("192.0.2.1"), &sender, &other, now).await;
    assert!(is_new(&other.unwrap()));
    // Another machine of the same site, and the next number of the same list.
    let again = ask(&greylist, "192.0.2.77", "list-2@x.test", later).await;
    assert_eq!(again, Verdict::Pass);
}

#[tokio::test]
async fn a_network_that_has_come_back_often_is_not_asked_any_more() {
    let greylist = over(&Arc::default());
    for sender in ["a@x.test", "b@x.test", "c@x.test"] {
        assert!(is_new(&ask(&greylist, "2001:db8::1", sender, 0).await));
        let back = ask(&greylist, "2001:db8::2", sender, 5 * MINUTE).await;
        assert_eq!(back, Verdict::Pass);
    }
    let fresh = ask(&greylist, "2001:db8::3", "new@x.test", DAY).await;
    assert_eq!(fresh, Verdict::Known);
    let fresh = ask(&greylist, "2001:db8::3", "newer@x.test", 34 * DAY).await;
    assert_eq!(fresh, Verdict::Known, "seen a day ago at the latest");
    let late = ask(&greylist, "2001:db8::3", "newest@x.test", 70 * DAY).await;
    assert!(is_new(&late));
    let elsewhere = ask(&greylist, "2001:db8:0:1::1", "new@x.test", DAY).await;
    assert!(is_new(&elsewhere));
}

#[tokio::test]
async fn nodes_share_what_they_know_and_a_restart_keeps_it() {
    let engine = Arc::default();
    let (one, two) = (over(&engine), over(&engine));
    assert!(is_new(&ask(&one, "192.0.2.1", "ann@x.test", 0).await));
    drop(one);
    assert_eq!(
        ask(&two, "192.0.2.1", "ann@x.test", 5 * MINUTE).await,
        Verdict::Pass
    );
    let again = over(&engine);
    assert_eq!(
        ask(&again, "192.0.2.1", "ann@x.test", 5 * MINUTE).await,
        Verdict::Known
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_come_back_at_once_each_is_counted_once() {
    let engine = Arc::default();
    let nodes = [Arc::new(over(&engine)), Arc::new(over(&engine))];
    let asked = |at: i64| {
        let nodes = nodes.clone();
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..40usize {
                let node = Arc::clone(&nodes[number % 2]);
                let sender = ["a@x.test", "b@x.test"][number / 2 % 2];
                tasks.spawn(async move { ask(&node, "192.0.2.1", sender, at).await });
            }
            tasks.join_all().await
        }
    };
    let first = asked(0).await;
    assert_eq!(first.iter().filter(|verdict| is_new(verdict)).count(), 2);
    let back = asked(5 * MINUTE).await;
    let passed = back.iter().filter(|verdict| **verdict == Verdict::Pass);
    assert_eq!(passed.count(), 2);
    let network = nodes[0].list(None, 100).await.unwrap().into_iter();
    let counted = network.filter_map(|entry| match entry.state {
        GreylistState::Network { passed, .. } => Some(passed),
        _ => None,
    });
    assert_eq!(counted.collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_clock_of_another_node_that_is_ahead_only_costs_the_delay() {
    let greylist = over(&Arc::default());
    assert!(is_new(
        &ask(&greylist, "192.0.2.1", "ann@x.test", HOUR).await
    ));
    let early = ask(&greylist, "192.0.2.1", "ann@x.test", 0).await;
    assert_eq!(early, Verdict::TooEarly { wait: DELAY });
}

#[tokio::test]
async fn a_sweep_goes_round_and_takes_what_is_over() {
    let engine = Arc::default();
    let greylist = over(&engine);
    for number in 0..50 {
        ask(&greylist, &format!("192.0.{number}.1"), "ann@x.test", 0).await;
    }
    for number in 0..5 {
        let client = format!("192.0.{number}.1");
        ask(&greylist, &client, "ann@x.test", 5 * MINUTE).await;
    }
    let sweep = async |at: i64| {
        let mut sum = Swept::default();
        for _ in 0..12 {
            let swept = greylist.sweep(Timestamp::from_millis(at), 7).await.unwrap();
            assert!(swept.looked_at <= 7);
            sum.removed += swept.removed;
        }
        sum.removed
    };
    assert_eq!(sweep(DAY).await, 0);
    assert_eq!(sweep(3 * DAY).await, 45, "those that did not come back");
    assert_eq!(greylist.list(None, 100).await.unwrap().len(), 10);
    assert_eq!(sweep(40 * DAY).await, 10, "what passed, and its networks");
    assert!(greylist.list(None, 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_operator_lists_allows_and_removes() {
    let greylist = over(&Arc::default());
    ask(&greylist, "192.0.2.1", "Ann+x@x.test", 7).await;
    let entries = greylist.list(None, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].client, "192.0.2.0/24");
    assert_eq!(
        entries[0].state,
        GreylistState::Waiting {
            sender: "ann@x.test".into(),
            recipient: "bob@here.test".into(),
            since: Timestamp::from_millis(7),
        }
    );
    let after = greylist.list(Some(&entries[0].key), 10).await.unwrap();
    assert!(after.is_empty());
    assert!(greylist.remove(&entries[0].key).await.unwrap());
    assert!(!greylist.remove(&entries[0].key).await.unwrap());
    let now = Timestamp::from_millis(0);
    greylist.allow(ip("192.0.2.9"), now).await.unwrap();
    assert_eq!(
        ask(&greylist, "192.0.2.1", "eve@x.test", 1).await,
        Verdict::Known
    );
    assert_eq!(greylist.remove_client(ip("192.0.2.200")).await.unwrap(), 1);
    assert!(is_new(&ask(&greylist, "192.0.2.1", "eve@x.test", 2).await));
}
