//! The log of events over the memory engine: what is found, what a crash leaves, how long it is kept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_commit::{CommitLimits, Committer};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Batch, Durability, Engine, KeyRange, MemoryEngine, Order, RowKey, Space};
use nightmail_heap::{Heap, HeapOptions};
use nightmail_journal::{Event, EventKind, Found, Journal, JournalOptions, Query, by_message};

const DAY: Duration = Duration::from_secs(86_400);

struct Site {
    engine: Arc<MemoryEngine>,
    heap: Heap,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            engine: Arc::new(MemoryEngine::new()),
            heap: Heap::open(dir.path(), HeapOptions::default()).unwrap(),
            _dir: dir,
        }
    }

    fn journal(&self, options: JournalOptions) -> Journal {
        let engine = Arc::clone(&self.engine) as Arc<dyn Engine>;
        let limits = CommitLimits::default();
        Journal::start(Committer::start(engine, self.heap.clone(), limits), options)
    }

    async fn rows(&self) -> usize {
        let all = self
            .engine
            .scan(Space::Journal, KeyRange::all(), Order::Ascending, 1 << 20);
        all.await.unwrap().len()
    }
}

/// Written only when a test says so.
fn options() -> JournalOptions {
    JournalOptions {
        retention: DAY,
        flush_every: DAY,
        ..JournalOptions::default()
    }
}

fn text(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

fn now() -> Timestamp {
    nightmail_commit::now()
}

fn sent(number: u64, recipient: &str) -> Event {
    Event {
        queue_id: Some(QueueId::new(number)),
        recipient: text(recipient),
        host: text("mx.far.test"),
        status: text("2.0.0"),
        text: text("250 2.0.0 Ok"),
        ..Event::new(now(), EventKind::Sent)
    }
}

fn query(text: &str) -> Query {
    Query {
        text: text.to_owned(),
        since: None,
        until: None,
        limit: 100,
    }
}

async fn find(journal: &Journal, text: &str) -> Vec<Event> {
    journal.find(&query(text)).await.unwrap().events
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

/// A message from ann to a mailbox here and to somebody elsewhere, and what became of it.
fn life(journal: &Journal) {
    let at = |secs: i64| now().plus_millis(-60_000 + secs * 1000);
    let accepted = Event {
        queue_id: Some(QueueId::new(0xabc)),
        message_id: text("<One@X.test>"),
        sender: text("Ann@x.test"),
        host: text("192.0.2.1"),
        ..Event::new(at(0), EventKind::Accepted)
    };
    journal.note(Event {
        queue_id: None,
        recipient: text("bob@x.test"),
        ..Event {
            kind: EventKind::Delivered,
            ..accepted.clone()
        }
    });
    journal.note(Event {
        recipient: text("far@far.test"),
        ..Event {
            kind: EventKind::Queued,
            ..accepted.clone()
        }
    });
    journal.note(accepted);
    let attempt = |secs: i64, kind| Event {
        at: at(secs),
        kind,
        ..sent(0xabc, "far@far.test")
    };
    journal.note(attempt(1, EventKind::Deferred));
    journal.note(attempt(30, EventKind::Sent));
    journal.note(sent(0xdef, "other@elsewhere.test"));
}

#[tokio::test]
async fn whatever_a_message_is_asked_by_its_whole_life_is_found() {
    let site = Site::new();
    let journal = site.journal(options());
    life(&journal);
    let whole = ["delivered", "queued", "accepted", "deferred", "sent"];
    for text in [
        "ann@x.test",
        "<BOB@x.test>",
        "far@far.test",
        "@far.test",
        "one@x.test",
        "<One@X.test>",
        "qabc",
    ] {
        let events = find(&journal, text).await;
        assert_eq!(kinds(&events), whole, "{text}");
        assert_eq!(by_message(events).len(), 1, "{text}");
    }
    for text in ["x.test", "nn@x.test", "qab", "@x", ""] {
        assert!(find(&journal, text).await.is_empty(), "{text}");
    }
}

#[tokio::test]
async fn messages_that_share_nothing_are_shown_apart() {
    let site = Site::new();
    let journal = site.journal(options());
    for number in [1, 2, 1] {
        journal.note(sent(number, "a@far.test"));
    }
    let refused = Event {
        recipient: text("a@far.test"),
        ..Event::new(now(), EventKind::Refused)
    };
    journal.note(refused.clone());
    journal.note(refused);
    let messages = by_message(find(&journal, "a@far.test").await);
    let sizes: Vec<usize> = messages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 1, 1, 1]);
}

#[tokio::test]
async fn only_what_happened_in_the_time_asked_for_starts_a_trace() {
    let site = Site::new();
    let journal = site.journal(options());
    let start = now().plus_millis(-100_000);
    for secs in 0..10 {
        journal.note(Event {
            at: start.plus_millis(secs * 1000),
            ..sent(secs as u64, "a@far.test")
        });
    }
    let between = Query {
        since: Some(start.plus_millis(2000)),
        until: Some(start.plus_millis(5000)),
        ..query("a@far.test")
    };
    let found = journal.find(&between).await.unwrap();
    let ids: Vec<u64> = found
        .events
        .iter()
        .map(|e| e.queue_id.unwrap().get())
        .collect();
    assert_eq!(ids, [2, 3, 4]);
    let newest = Query {
        limit: 3,
        ..query("a@far.test")
    };
    let found = journal.find(&newest).await.unwrap();
    let ids: Vec<u64> = found
        .events
        .iter()
        .map(|e| e.queue_id.unwrap().get())
        .collect();
    assert_eq!((ids, found.more), (vec![7, 8, 9], true));
}

#[tokio::test]
async fn what_is_noted_is_written_after_a_while_without_being_asked() {
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        flush_every: Duration::from_millis(1),
        ..options()
    });
    journal.note(sent(1, "a@far.test"));
    let until = Instant::now() + Duration::from_secs(60);
    while site.rows().await < 2 {
        assert!(Instant::now() < until, "nothing was written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_regular_end_writes_everything_and_a_crash_loses_only_what_was_not_flushed() {
    let site = Site::new();
    let journal = site.journal(options());
    journal.note(sent(1, "a@far.test"));
    journal.flush().await.unwrap();
    site.engine.sync().await.unwrap();
    journal.note(sent(2, "a@far.test"));
    let crashed = Site {
        engine: Arc::new(site.engine.after_power_loss(7)),
        heap: site.heap.clone(),
        _dir: tempfile::tempdir().unwrap(),
    };
    let after = crashed.journal(options());
    assert_eq!(find(&after, "a@far.test").await.len(), 1);
    drop(journal);
    let again = site.journal(options());
    let until = Instant::now() + Duration::from_secs(60);
    while find(&again, "a@far.test").await.len() < 2 {
        assert!(Instant::now() < until, "the last event was not written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_store_that_was_away_gets_what_was_noted_meanwhile() {
    let site = Site::new();
    let journal = site.journal(options());
    journal.note(sent(1, "a@far.test"));
    site.engine.set_full(true);
    assert!(journal.flush().await.is_err());
    journal.note(sent(2, "a@far.test"));
    site.engine.set_full(false);
    journal.flush().await.unwrap();
    assert_eq!(find(&journal, "a@far.test").await.len(), 2);
}

#[tokio::test]
async fn what_memory_does_not_hold_is_dropped_and_later_events_are_kept() {
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        memory_max: 1000,
        ..options()
    });
    site.engine.set_full(true);
    for number in 0..100 {
        journal.note(sent(number, "a@far.test"));
    }
    assert!(journal.flush().await.is_err());
    site.engine.set_full(false);
    journal.flush().await.unwrap();
    let kept = find(&journal, "a@far.test").await.len();
    assert!((5..30).contains(&kept), "{kept}");
    journal.note(sent(1000, "a@far.test"));
    assert_eq!(find(&journal, "q3e8").await.len(), 1);
}

#[tokio::test]
async fn two_nodes_write_beside_each_other() {
    let site = Site::new();
    let node = |name: &str| JournalOptions {
        node: name.to_owned(),
        block_events: 3,
        ..options()
    };
    let (one, two) = (site.journal(node("one")), site.journal(node("one")));
    for number in 0..100 {
        one.note(sent(number, "a@far.test"));
        two.note(sent(1000 + number, "a@far.test"));
    }
    two.flush().await.unwrap();
    let found = one
        .find(&Query {
            limit: 1000,
            ..query("@far.test")
        })
        .await
        .unwrap();
    assert_eq!(found.events.len(), 200);
    assert_eq!(site.rows().await, 2 * 2 * 34);
}

#[tokio::test]
async fn a_sweep_takes_what_is_too_old_and_nothing_else() {
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        block_events: 1,
        ..options()
    });
    for number in 0..300 {
        journal.note(sent(number, "a@far.test"));
    }
    journal.flush().await.unwrap();
    let day = DAY.as_millis() as i64;
    let then = now();
    assert_eq!(
        journal
            .sweep(then.plus_millis(day - 600_000))
            .await
            .unwrap(),
        0
    );
    assert_eq!(site.rows().await, 600);
    let later = then.plus_millis(day + 600_000);
    assert_eq!(journal.sweep(later).await.unwrap(), 300);
    assert_eq!(site.rows().await, 0);
}

#[tokio::test]
async fn small_blocks_are_joined_and_nothing_is_lost_or_doubled() {
    let site = Site::new();
    let small = || JournalOptions {
        block_events: 2,
        ..options()
    };
    let (one, two) = (site.journal(small()), site.journal(small()));
    for number in 0..200 {
        one.note(sent(number, "a@far.test"));
        two.note(sent(1000 + number, "a@far.test"));
    }
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    assert_eq!(site.rows().await, 400);
    let usual = site.journal(options());
    assert_eq!(usual.merge(now()).await.unwrap(), 0, "too early");
    let later = now().plus_millis(1_800_000);
    let (first, second) = tokio::join!(usual.merge(later), usual.merge(later));
    let gone = first.unwrap() + second.unwrap();
    // The window may have ended while the events were noted.
    assert!(gone >= 197, "{gone}");
    assert_eq!(site.rows().await as u64, 400 - 2 * gone);
    let all = Query {
        limit: 1000,
        ..query("@far.test")
    };
    let mut ids: Vec<u64> = Vec::new();
    for event in usual.find(&all).await.unwrap().events {
        ids.push(event.queue_id.unwrap().get());
    }
    ids.sort_unstable();
    let noted: Vec<u64> = (0..200).chain(1000..1200).collect();
    assert_eq!(ids, noted);
    assert_eq!(usual.merge(later).await.unwrap(), 0);
}

#[tokio::test]
async fn a_search_while_blocks_are_joined_finds_everything_once() {
    for pause in 0..40 {
        let site = Site::new();
        let journal = site.journal(JournalOptions {
            block_events: 1,
            ..options()
        });
        for number in 0..60 {
            journal.note(sent(number, "a@far.test"));
        }
        journal.flush().await.unwrap();
        let usual = site.journal(options());
        let merging = tokio::spawn(async move {
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            usual.merge(now().plus_millis(1_800_000)).await.unwrap()
        });
        assert_eq!(find(&journal, "@far.test").await.len(), 60);
        assert!(merging.await.unwrap() >= 58);
        assert_eq!(find(&journal, "@far.test").await.len(), 60);
    }
}

#[tokio::test]
async fn a_log_that_is_turned_off_takes_nothing_and_forgets_what_it_had() {
    let site = Site::new();
    let journal = site.journal(options());
    life(&journal);
    journal.flush().await.unwrap();
    let off = site.journal(JournalOptions::default());
    assert!(!off.is_on() && journal.is_on());
    off.note(sent(5, "new@far.test"));
    assert!(find(&off, "new@far.test").await.is_empty());
    off.sweep(now()).await.unwrap();
    assert_eq!(site.rows().await, 0);
    let nothing = Journal::off();
    nothing.note(sent(6, "new@far.test"));
    nothing.flush().await.unwrap();
    assert_eq!(
        nothing.find(&query("new@far.test")).await.unwrap(),
        Found::default()
    );
}

#[tokio::test]
async fn a_damaged_block_hides_no_other() {
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        block_events: 1,
        ..options()
    });
    for number in 0..3 {
        journal.note(sent(number, "a@far.test"));
    }
    journal.flush().await.unwrap();
    let rows = site
        .engine
        .scan(Space::Journal, KeyRange::prefix(b"b"), Order::Ascending, 1);
    let (key, _) = rows.await.unwrap().remove(0);
    let mut batch = Batch::new();
    batch.put(RowKey::new(Space::Journal, key), b"\x01\x20junk".to_vec());
    site.engine.commit(batch, Durability::Synced).await.unwrap();
    assert_eq!(find(&journal, "a@far.test").await.len(), 2);
}

/// Three events for each of so many messages, as a relay notes them.
fn relayed(journal: &Journal, messages: u64) {
    for number in 0..messages {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let accepted = Event {
            queue_id: Some(QueueId::new((1_795_364_520_000 << 20) + number * 200)),
            message_id: text(format!(
                "{mixed:016x}.{number}@host{}.example.org",
                mixed % 50
            )),
            sender: text(format!(
                "user{}@dept{}.example.org",
                mixed % 5000,
                mixed % 20
            )),
            host: text(format!("192.0.2.{}", mixed % 200)),
            text: text(format!("{} octets", 2000 + mixed % 20_000)),
            ..Event::new(now(), EventKind::Accepted)
        };
        let recipient = text(format!("r{}@site{}.test", mixed % 100_003, mixed % 10_000));
        let queued = Event {
            kind: EventKind::Queued,
            recipient: recipient.clone(),
            message_id: None,
            sender: None,
            host: None,
            text: None,
            ..accepted.clone()
        };
        let sent = Event {
            kind: EventKind::Sent,
            host: text(format!("mx{}.site{}.test", mixed % 3, mixed % 10_000)),
            status: text("2.0.0"),
            text: text(format!("250 2.0.0 Ok: queued as {:x}", mixed >> 24)),
            ..queued.clone()
        };
        journal.note(accepted);
        journal.note(queued);
        journal.note(sent);
    }
}

#[tokio::test]
async fn a_search_among_a_million_events_reads_few_blocks() {
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        memory_max: 1 << 30,
        ..options()
    });
    relayed(&journal, 340_000);
    let seldom = Event {
        sender: text("ann@seldom.test"),
        ..sent((1_795_364_520_000 << 20) + 170_000 * 200, "r@seldom.test")
    };
    journal.note(seldom);
    let found = journal.find(&query("ann@seldom.test")).await.unwrap();
    assert_eq!(kinds(&found.events), ["accepted", "queued", "sent", "sent"]);
    assert!(found.reads.filters >= 990 * 3, "{:?}", found.reads);
    assert!(found.reads.blocks <= 25, "{:?}", found.reads);
}

/// Prints what an event costs: `cargo test -p nightmail-journal --release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn figures() {
    const MESSAGES: u64 = 340_000;
    let site = Site::new();
    let journal = site.journal(JournalOptions {
        memory_max: 1 << 30,
        ..options()
    });
    let made = Instant::now();
    relayed(&Journal::off(), MESSAGES);
    let made = made.elapsed();
    let noted = Instant::now();
    relayed(&journal, MESSAGES);
    let noted = noted.elapsed().saturating_sub(made);
    let written = Instant::now();
    journal.flush().await.unwrap();
    let written = written.elapsed();
    let rows = site
        .engine
        .scan(Space::Journal, KeyRange::all(), Order::Ascending, 1 << 20);
    let stored: usize = rows
        .await
        .unwrap()
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum();
    let events = (MESSAGES * 3) as f64;
    let asked = Instant::now();
    let found = journal
        .find(&query("user17@dept17.example.org"))
        .await
        .unwrap();
    println!(
        "noting {:.0} ns, writing {:.0} ns, stored {:.1} octets an event; a search that finds {} reads {:?} in {:?}",
        noted.as_nanos() as f64 / events,
        written.as_nanos() as f64 / events,
        stored as f64 / events,
        found.events.len(),
        found.reads,
        asked.elapsed(),
    );
}
