//! The queue of several nodes over one engine in memory: who hands out what, and what a takeover leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../../cluster/tests/support/mod.rs"]
mod nodes;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_cluster::{LeaseGuard, LeaseName, Shard};
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{QueueId, ReversePath, Timestamp};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{BlobBuilder, Heap, HeapKey, MemoryPacks, PackOptions};
use nightmail_queue::{
    Attempt, BodyType, Content, Destination, NewQueueMessage, NewRecipient, Queue, QueueError,
    RecipientOutcome, Source, Ticket, Verdict, Waiting, tx,
};
use nodes::{Gate, Node, eventually, share_all};

/// What the nodes share.
struct Site {
    engine: Arc<MemoryEngine>,
    heap: Heap,
    _dir: tempfile::TempDir,
}

/// A node and its queue.
struct Sender {
    node: Node,
    queue: Queue,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // In memory, so that no thread of its own works while the clock stands still.
        let packs = Arc::new(MemoryPacks::new());
        let options = PackOptions::new(dir.path());
        Self {
            engine: Arc::new(MemoryEngine::new()),
            heap: Heap::open_packs(packs, HeapKey::new([1; 32]), options).unwrap(),
            _dir: dir,
        }
    }

    async fn sender(&self, name: &str) -> Sender {
        let node = Node::start(&self.engine, name).await;
        let limits = CommitLimits::default();
        let committer = Committer::start(node.cluster.engine(), self.heap.clone(), limits);
        let queue = Queue::in_cluster(committer, node.cluster.leases().clone());
        Sender { node, queue }
    }

    async fn two(&self) -> (Sender, Sender) {
        let (a, b) = (self.sender("a").await, self.sender("b").await);
        both_work(&a, &b).await;
        (a, b)
    }

    fn blob(&self) -> NewBlob {
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(b"Subject: x\r\n\r\nhi\r\n").unwrap();
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        }
    }

    /// Queues a message at `sender`.
    async fn enqueue(&self, sender: &Sender) -> QueueId {
        let id = sender.queue.next_id().await.unwrap();
        let message = NewQueueMessage {
            reverse_path: ReversePath::Null,
            prefix: Bytes::new(),
            blob_size: 18,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: vec![NewRecipient::plain("r@far.test".parse().unwrap())],
            demands: Default::default(),
            unrouted: None,
            band: nightmail_queue::Rank::NORMAL,
            handicap_millis: 0,
        };
        let intent =
            Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &message));
        let intent = intent.with_blob(self.blob());
        sender.queue.committer().submit(intent).await.unwrap();
        id
    }

    /// Queues messages at `at` until one is for `by` to send.
    async fn enqueue_for(&self, at: &Sender, by: &Sender) -> QueueId {
        loop {
            let id = self.enqueue(at).await;
            if by.node.holds(lease_of(id)) {
                return id;
            }
        }
    }
}

impl Sender {
    async fn claim(&self) -> Vec<Ticket> {
        self.work(nightmail_commit::now()).await.0
    }

    /// Looks at `now` and takes what is ready; also, when to look again.
    async fn work(&self, now: Timestamp) -> (Vec<Ticket>, Option<Timestamp>) {
        let look = self.queue.look(now).await.unwrap();
        let far = Destination::Domain("far.test".parse().unwrap());
        let taken = self.queue.take(&far, now, 1000, true, true).await;
        (taken.unwrap(), look.look_again)
    }

    async fn claim_one(&self, id: QueueId) -> Ticket {
        let claims = self.claim().await;
        claims.into_iter().find(|claim| claim.id() == id).unwrap()
    }
}

async fn both_work(a: &Sender, b: &Sender) {
    eventually("both hold leases", || {
        let (a, b) = (&a.node, &b.node);
        share_all(&[a, b]) && !a.held().is_empty() && !b.held().is_empty()
    })
    .await;
}

fn lease_of(id: QueueId) -> LeaseName {
    LeaseName::Queue(Shard::of(id.get()))
}

fn ids(claims: &[Ticket]) -> BTreeSet<QueueId> {
    claims.iter().map(Ticket::id).collect()
}

fn delivered() -> Vec<RecipientOutcome> {
    let at = nightmail_commit::now();
    vec![RecipientOutcome {
        index: 0,
        verdict: Verdict::Delivered,
        attempt: Some(Attempt::new(at, None, "2.0.0", Some("250 ok"), "")),
    }]
}

#[tokio::test(start_paused = true)]
async fn each_node_hands_out_its_own_shards_and_together_they_hand_out_everything() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let mut queued = BTreeSet::new();
    for _ in 0..40 {
        queued.insert(site.enqueue(&a).await);
    }
    let (by_a, by_b) = (a.claim().await, b.claim().await);
    assert!(!by_a.is_empty() && !by_b.is_empty());
    assert!(ids(&by_a).is_disjoint(&ids(&by_b)));
    assert_eq!(&ids(&by_a) | &ids(&by_b), queued);
    for (sender, claims) in [(&a, by_a), (&b, by_b)] {
        for claim in claims {
            let guard = claim.hold().guard();
            let recorded = sender.queue.record_attempt(claim.id(), guard, delivered());
            assert_eq!(recorded.await.unwrap().due, None);
        }
    }
    assert!(a.queue.list(None, 100).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_takeover_goes_on_with_the_queue_of_a_dead_node() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let mut queued = BTreeSet::new();
    for _ in 0..40 {
        queued.insert(site.enqueue(&b).await);
    }
    let mut by_a = a.claim().await;
    let by_b = b.claim().await;
    assert!(!by_b.is_empty() && a.claim().await.is_empty());
    drop(b);
    eventually("a holds everything", || share_all(&[&a.node])).await;
    let taken_over = a.claim().await;
    assert_eq!(ids(&taken_over), ids(&by_b));
    by_a.extend(taken_over);
    assert_eq!(ids(&by_a), queued);
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_in_mid_attempt_records_nothing_and_the_other_node_delivers() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let id = site.enqueue_for(&a, &b).await;
    let attempt = b.claim_one(id).await;
    b.node.way.set(Gate::Held);
    eventually("a holds everything", || share_all(&[&a.node])).await;
    assert!(!attempt.hold().is_current());
    let next = a.claim_one(id).await;
    b.node.way.set(Gate::Open);
    eventually("b is back", || !b.node.held().is_empty()).await;
    let guard = attempt.hold().guard();
    let recorded = b.queue.record_attempt(id, guard, delivered()).await;
    assert!(
        matches!(recorded, Err(QueueError::LeaseLost)),
        "{recorded:?}"
    );
    let message = a.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.recipients[0].attempts, 0);
    let guard = next.hold().guard();
    let recorded = a.queue.record_attempt(id, guard, delivered()).await;
    assert_eq!(recorded.unwrap().due, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_submitted_before_a_pause_is_not_recorded_after_the_takeover() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let id = site.enqueue_for(&a, &b).await;
    let attempt = b.claim_one(id).await;
    let Sender { node, queue } = b;
    node.way.set(Gate::Held);
    let late = tokio::spawn(async move {
        let guard = attempt.hold().guard();
        queue.record_attempt(id, guard, delivered()).await
    });
    eventually("a holds everything", || share_all(&[&a.node])).await;
    let next = a.claim_one(id).await;
    assert!(!late.is_finished());
    node.way.set(Gate::Open);
    let recorded = late.await.unwrap();
    let lost = matches!(recorded, Err(QueueError::LeaseLost | QueueError::Failed(_)));
    assert!(lost, "{recorded:?}");
    let message = a.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.recipients[0].attempts, 0);
    let guard = next.hold().guard();
    let recorded = a.queue.record_attempt(id, guard, delivered()).await;
    assert_eq!(recorded.unwrap().due, None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_gained_anew_brings_back_what_was_being_worked_on_under_the_old() {
    let site = Site::new();
    let only = site.sender("a").await;
    eventually("a holds everything", || share_all(&[&only.node])).await;
    let id = site.enqueue(&only).await;
    let attempt = only.claim_one(id).await;
    only.node.way.set(Gate::Held);
    eventually("the leases lapse", || only.node.held().is_empty()).await;
    only.node.way.set(Gate::Open);
    eventually("they are back", || share_all(&[&only.node])).await;
    assert!(only.claim().await.is_empty(), "it is still being worked on");
    let guard = attempt.hold().guard();
    let recorded = only.queue.record_attempt(id, guard, delivered()).await;
    assert!(matches!(recorded, Err(QueueError::LeaseLost)));
    drop(attempt);
    let again = only.claim_one(id).await;
    assert!(again.hold().is_current());
}

#[tokio::test(start_paused = true)]
async fn a_message_queued_at_another_node_is_found_soon_without_having_been_told() {
    let site = Site::new();
    let (a, b) = site.two().await;
    // Something in the far future keeps the floor of b up.
    let far = site.enqueue_for(&a, &b).await;
    let deferred = vec![RecipientOutcome {
        index: 0,
        verdict: Verdict::Deferred {
            next_attempt: nightmail_commit::now().plus_millis(3_600_000),
            delay_reported: false,
            waiting: Waiting::Retry,
        },
        attempt: None,
    }];
    let mut claim = b.claim_one(far).await;
    let guard = claim.hold().guard();
    let recorded = b.queue.record_attempt(far, guard, deferred).await;
    claim.set_due(recorded.unwrap().due);
    drop(claim);
    let looked = nightmail_commit::now().plus_millis(10_000);
    let (_, look_again) = b.work(looked).await;
    let id = site.enqueue_for(&a, &b).await;
    let (at_once, _) = b.work(looked.plus_millis(1)).await;
    assert!(!ids(&at_once).contains(&id), "below the floor");
    let look_again = look_again.unwrap();
    assert!(look_again <= looked.plus_millis(5_000));
    let (found, look_again) = b.work(look_again).await;
    assert!(ids(&found).contains(&id));
    assert!(look_again.is_some(), "there is always a next look");
}

#[tokio::test(start_paused = true)]
async fn a_node_told_of_a_message_finds_it_at_once() {
    let site = Site::new();
    let (a, b) = site.two().await;
    assert!(b.claim().await.is_empty());
    let id = site.enqueue_for(&a, &b).await;
    b.queue.note_change(nightmail_commit::now());
    assert!(ids(&b.claim().await).contains(&id));
}

#[tokio::test(start_paused = true)]
async fn an_operator_works_on_every_message_from_every_node() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let (kept, removed) = (
        site.enqueue_for(&a, &b).await,
        site.enqueue_for(&a, &b).await,
    );
    a.queue.retry(kept).await.unwrap();
    a.queue.remove(removed).await.unwrap();
    assert!(a.queue.show(kept).await.unwrap().is_some());
    assert!(
        !ids(&a.claim().await).contains(&kept),
        "it is not a's to send"
    );
    let none = LeaseGuard::none();
    let bounced = a.queue.record_attempt(kept, &none, delivered()).await;
    assert_eq!(bounced.unwrap().due, None);
    assert!(b.queue.show(kept).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_emptied_hands_out_nothing_more() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let id = site.enqueue_for(&a, &b).await;
    let claim = b.claim_one(id).await;
    nightmail_cluster::request_drain(site.engine.as_ref(), &b.node.name)
        .await
        .unwrap();
    b.node.cluster.drain_requested().await;
    eventually("b hands out nothing", || b.node.held().is_empty()).await;
    assert!(!share_all(&[&a.node]), "the claim keeps its lease");
    let guard = claim.hold().guard();
    let recorded = b.queue.record_attempt(id, guard, delivered()).await;
    assert_eq!(recorded.unwrap().due, None);
    drop(claim);
    eventually("a holds everything", || share_all(&[&a.node])).await;
}
