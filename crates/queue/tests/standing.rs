//! Standing rules over the memory engine: which decides, and when nodes hear of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{QueueId, ReversePath, Timestamp};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_queue::{
    BodyType, Content, NewQueueMessage, NewRecipient, Queue, QueueError, QueueMessage,
    RULES_AGE_MAX, Rank, RelayName, RuleBook, RuleError, Selection, Source, StandingAction, tx,
};

struct World {
    committer: Committer,
    heap: Heap,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        Self {
            committer: Committer::start(engine, heap.clone(), CommitLimits::default()),
            heap,
            _dir: dir,
        }
    }

    fn book(&self) -> RuleBook {
        RuleBook::new(self.committer.clone())
    }

    /// A message in the queue to one recipient.
    async fn message(&self, to: &str) -> (QueueId, QueueMessage) {
        let queue = Queue::new(self.committer.clone());
        let id = queue.next_id().await.unwrap();
        let new = NewQueueMessage {
            reverse_path: ReversePath::Null,
            prefix: Bytes::new(),
            blob_size: 4,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: vec![NewRecipient::plain(to.parse().unwrap())],
            demands: Default::default(),
            unrouted: None,
            band: Rank::NORMAL,
            handicap_millis: 0,
        };
        let mut blob = BlobBuilder::new(&self.heap);
        blob.push(b"text").unwrap();
        let intent =
            Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &new));
        let intent = intent.with_blob(NewBlob {
            blob: blob.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        });
        self.committer.submit(intent).await.unwrap();
        (id, queue.show(id).await.unwrap().unwrap())
    }
}

fn parse(text: &str) -> Selection {
    Selection::parse(text).unwrap()
}

#[tokio::test]
async fn the_oldest_rule_that_fits_decides_and_what_is_done_is_done() {
    let world = World::new();
    let book = world.book();
    let hub = RelayName::new("hub");
    let reroute = StandingAction::Reroute(hub.clone());
    book.add("z-first", parse("domain = far.test"), reroute)
        .await
        .unwrap();
    // The clock of rows counts milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    book.add("a-second", parse("all"), StandingAction::Drop)
        .await
        .unwrap();
    let rules = book.current().await.unwrap();
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["z-first", "a-second"]);
    let (id, mut message) = world.message("a@far.test").await;
    let decide = |message: &QueueMessage| {
        let decided = rules.decide(id, message, &message.recipients[0], Timestamp::default());
        decided.map(|rule| rule.name.clone())
    };
    assert_eq!(decide(&message).as_deref(), Some("z-first"));
    message.recipients[0].relay = hub;
    assert_eq!(decide(&message), None);
    let (_, other) = world.message("a@near.test").await;
    assert_eq!(decide(&other).as_deref(), Some("a-second"));
}

#[tokio::test(start_paused = true)]
async fn other_nodes_hear_of_a_rule_when_theirs_are_old() {
    let world = World::new();
    let (here, there) = (world.book(), world.book());
    assert!(there.current().await.unwrap().is_empty());
    here.add("rule", parse("all"), StandingAction::Drop)
        .await
        .unwrap();
    assert!(!here.current().await.unwrap().is_empty());
    assert!(there.current().await.unwrap().is_empty());
    tokio::time::advance(RULES_AGE_MAX).await;
    assert!(!there.current().await.unwrap().is_empty());
    here.remove("rule").await.unwrap();
    assert!(here.current().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_is_given_once_and_rules_that_go_round_are_refused() {
    let book = World::new().book();
    let drop = || StandingAction::Drop;
    book.add("one", parse("all"), drop()).await.unwrap();
    let again = book.add("one", parse("held"), drop()).await;
    assert!(matches!(again, Err(RuleError::Exists(_))), "{again:?}");
    let round = book
        .add(
            "round",
            parse("not relay = x"),
            StandingAction::Reroute(None),
        )
        .await;
    assert!(matches!(round, Err(RuleError::Circular)), "{round:?}");
    let unknown = book.remove("two").await;
    assert!(
        matches!(unknown, Err(RuleError::NoSuchRule(_))),
        "{unknown:?}"
    );
}
