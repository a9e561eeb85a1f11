//! The queue over the memory engine: what is durable, what is due, and that nothing is retired twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;

use bytes::Bytes;
use nightmail_cluster::LeaseGuard;
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob, Owner};
use nightmail_core::{Address, QueueId, ReversePath, Timestamp};
use nightmail_engine::{Engine, KeyRange, MemoryEngine, Order, RowKey, Space};
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_queue::{
    Attempt, BodyType, Claim, Content, Demands, HurryTarget, NewQueueMessage, NewRecipient, Notify,
    Queue, QueueError, RecipientOutcome, RecipientState, Source, Unrouted, Verdict, tx,
};

struct Site {
    engine: Arc<MemoryEngine>,
    heap: Heap,
    queue: Queue,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let queue = queue_over(&engine, &heap);
        Self {
            engine,
            heap,
            queue,
            _dir: dir,
        }
    }

    /// The site after a power loss: what was not synced may be gone.
    fn after_power_loss(self, seed: u64) -> Self {
        let engine = Arc::new(self.engine.after_power_loss(seed));
        let queue = queue_over(&engine, &self.heap);
        Self {
            engine,
            queue,
            ..self
        }
    }

    async fn enqueue(&self, recipients: &[&str]) -> QueueId {
        let id = self.queue.next_id().await.unwrap();
        self.enqueue_as(id, recipients).await.unwrap();
        id
    }

    async fn enqueue_as(&self, id: QueueId, recipients: &[&str]) -> Result<(), QueueError> {
        self.enqueue_message(id, message(recipients)).await
    }

    async fn enqueue_with(&self, demands: Demands) -> QueueId {
        let id = self.queue.next_id().await.unwrap();
        let message = NewQueueMessage {
            demands,
            unrouted: demands.hold_until.map(|_| Unrouted {
                sealed_octets: 10,
                missing_line_ends: 0,
            }),
            ..message(&["a@far.test"])
        };
        self.enqueue_message(id, message).await.unwrap();
        id
    }

    async fn enqueue_message(
        &self,
        id: QueueId,
        message: NewQueueMessage,
    ) -> Result<(), QueueError> {
        let intent =
            Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &message));
        Ok(self
            .queue
            .committer()
            .submit(intent.with_blob(self.blob(b"Subject: x\r\n\r\nhi\r\n")))
            .await?)
    }

    fn blob(&self, bytes: &[u8]) -> NewBlob {
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(bytes).unwrap();
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        }
    }

    async fn rows(&self, space: Space) -> usize {
        self.engine
            .scan(space, KeyRange::all(), Order::Ascending, 100_000)
            .await
            .unwrap()
            .len()
    }

    async fn has_link(&self, id: QueueId) -> bool {
        let blob = self.blob(b"Subject: x\r\n\r\nhi\r\n").blob.id();
        let key: RowKey = Owner::Queue(id).link_key(blob);
        self.engine.get_many(&[key]).await.unwrap()[0].is_some()
    }
}

fn queue_over(engine: &Arc<MemoryEngine>, heap: &Heap) -> Queue {
    let engine: Arc<dyn Engine> = Arc::clone(engine) as Arc<dyn Engine>;
    Queue::new(Committer::start(
        engine,
        heap.clone(),
        CommitLimits::default(),
    ))
}

fn message(recipients: &[&str]) -> NewQueueMessage {
    let recipient = |text: &&str| NewRecipient {
        notify: Notify::On {
            success: false,
            failure: true,
            delay: true,
        },
        ..NewRecipient::plain(text.parse().unwrap())
    };
    NewQueueMessage {
        reverse_path: ReversePath::Address("s@near.test".parse::<Address>().unwrap()),
        prefix: Bytes::from_static(b"Received: by near.test\r\n"),
        blob_size: 18,
        body: BodyType::EightBitMime,
        smtputf8: false,
        ret: None,
        envid: None,
        source: Source::Relay,
        recipients: recipients.iter().map(recipient).collect(),
        demands: Default::default(),
        unrouted: None,
    }
}

fn outcome(index: usize, verdict: Verdict) -> RecipientOutcome {
    let attempt = Attempt::new(
        nightmail_commit::now(),
        Some("mx.far.test"),
        "4.2.0",
        Some("450 later"),
        "",
    );
    RecipientOutcome {
        index,
        verdict,
        attempt: Some(attempt),
    }
}

fn deferred(millis: i64) -> Verdict {
    Verdict::Deferred {
        next_attempt: nightmail_commit::now().plus_millis(millis),
        delay_reported: false,
    }
}

#[tokio::test]
async fn a_message_is_due_at_once_and_claimed_once() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test"]).await;
    let now = nightmail_commit::now();
    let work = site.queue.claim_due(now, 10).await.unwrap();
    assert_eq!(
        work.claims
            .iter()
            .map(|claim| claim.id())
            .collect::<Vec<_>>(),
        [id]
    );
    assert!(
        site.queue
            .claim_due(now, 10)
            .await
            .unwrap()
            .claims
            .is_empty()
    );
    assert!(site.queue.claim(id).is_none());
    drop(work);
    assert_eq!(site.queue.claim_due(now, 10).await.unwrap().claims.len(), 1);
}

#[tokio::test]
async fn the_limit_of_a_claim_leaves_the_rest_to_the_next() {
    let site = Site::new();
    for _ in 0..7 {
        site.enqueue(&["a@far.test"]).await;
    }
    let now = nightmail_commit::now();
    let first = site.queue.claim_due(now, 3).await.unwrap();
    assert!(first.more && first.claims.len() == 3);
    let second = site.queue.claim_due(now, 3).await.unwrap();
    assert!(second.more && second.claims.len() == 3);
    let third = site.queue.claim_due(now, 3).await.unwrap();
    assert!(!third.more && third.claims.len() == 1);
}

#[tokio::test]
async fn a_deferred_message_is_due_at_its_earliest_recipient() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@far.test"]).await;
    let outcomes = vec![outcome(0, deferred(60_000)), outcome(1, deferred(30_000))];
    let due = site
        .queue
        .record_attempt(id, &LeaseGuard::none(), outcomes)
        .await
        .unwrap()
        .due
        .unwrap();
    let now = nightmail_commit::now();
    let work = site.queue.claim_due(now, 10).await.unwrap();
    assert!(work.claims.is_empty());
    assert_eq!(work.look_again, Some(due));
    assert!(due > now.plus_millis(25_000) && due < now.plus_millis(31_000));
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.recipients[1].attempts, 1);
    assert_eq!(
        message.recipients[1]
            .last
            .as_ref()
            .unwrap()
            .reply
            .as_deref(),
        Some("450 later")
    );
    assert_eq!(site.rows(Space::Due).await, 1);
    assert_eq!(site.queue.claim_due(due, 10).await.unwrap().claims.len(), 1);
}

#[tokio::test]
async fn the_last_recipient_takes_the_message_and_its_link_along() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@other.test"]).await;
    assert!(site.has_link(id).await);
    let recorded = site
        .queue
        .record_attempt(id, &LeaseGuard::none(), vec![outcome(1, Verdict::Failed)])
        .await
        .unwrap();
    assert!(recorded.due.is_some());
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.recipients[1].state, RecipientState::Failed);
    assert_eq!(
        message
            .pending()
            .map(|(index, _)| index)
            .collect::<Vec<_>>(),
        [0]
    );
    let recorded = site
        .queue
        .record_attempt(
            id,
            &LeaseGuard::none(),
            vec![outcome(0, Verdict::Delivered)],
        )
        .await
        .unwrap();
    assert_eq!(recorded.due, None);
    assert!(site.queue.show(id).await.unwrap().is_none());
    assert!(!site.has_link(id).await);
    assert_eq!(
        (site.rows(Space::Queue).await, site.rows(Space::Due).await),
        (0, 0)
    );
    assert_eq!(site.rows(Space::Condemned).await, 1);
}

#[tokio::test]
async fn a_recipient_is_retired_once() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@far.test"]).await;
    site.queue
        .record_attempt(
            id,
            &LeaseGuard::none(),
            vec![outcome(0, Verdict::Delivered)],
        )
        .await
        .unwrap();
    let again = site
        .queue
        .record_attempt(
            id,
            &LeaseGuard::none(),
            vec![outcome(1, Verdict::Failed), outcome(0, Verdict::Failed)],
        )
        .await;
    assert!(matches!(again, Err(QueueError::AlreadyRetired)));
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert!(
        message.recipients[1].next_attempt().is_some(),
        "a refused record leaves everything as it was"
    );
    let odd = site
        .queue
        .record_attempt(id, &LeaseGuard::none(), vec![outcome(2, Verdict::Failed)])
        .await;
    assert!(matches!(odd, Err(QueueError::NoSuchRecipient)));
    site.queue.remove(id).await.unwrap();
    let gone = site
        .queue
        .record_attempt(id, &LeaseGuard::none(), vec![outcome(1, Verdict::Failed)])
        .await;
    assert!(matches!(gone, Err(QueueError::NoSuchMessage)));
    assert!(!site.has_link(id).await);
}

#[tokio::test]
async fn what_cannot_be_queued_is_refused_and_leaves_nothing() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test"]).await;
    assert!(matches!(
        site.enqueue_as(id, &["b@far.test"]).await,
        Err(QueueError::IdInUse)
    ));
    let free = site.queue.next_id().await.unwrap();
    assert!(matches!(
        site.enqueue_as(free, &[]).await,
        Err(QueueError::NoSuchRecipient)
    ));
    assert_eq!(site.rows(Space::Queue).await, 1);
}

#[tokio::test]
async fn a_stored_blob_is_queued_by_reference() {
    let site = Site::new();
    let first = site.enqueue(&["a@far.test"]).await;
    let blob = site.queue.show(first).await.unwrap().unwrap().blob;
    let second = site.queue.next_id().await.unwrap();
    let new = message(&["b@far.test"]);
    let intent = Intent::synced(move |tx| {
        tx::enqueue::<QueueError>(tx, second, Content::Stored(blob), &new)
    });
    site.queue.committer().submit(intent).await.unwrap();
    assert_eq!(site.rows(Space::Blob).await, 1);
    assert_eq!(site.rows(Space::Link).await, 2);
}

#[tokio::test]
async fn retry_makes_deferred_messages_due_now() {
    let site = Site::new();
    let ids = [
        site.enqueue(&["a@far.test"]).await,
        site.enqueue(&["b@far.test"]).await,
    ];
    for id in ids {
        site.queue
            .record_attempt(
                id,
                &LeaseGuard::none(),
                vec![outcome(0, deferred(3_600_000))],
            )
            .await
            .unwrap();
    }
    assert!(
        site.queue
            .claim_due(nightmail_commit::now(), 10)
            .await
            .unwrap()
            .claims
            .is_empty()
    );
    site.queue.retry(ids[0]).await.unwrap();
    let now = nightmail_commit::now();
    assert_eq!(
        site.queue.claim_due(now, 10).await.unwrap().claims[0].id(),
        ids[0]
    );
    assert_eq!(site.queue.retry_all().await.unwrap(), 1);
    let now = nightmail_commit::now();
    assert_eq!(site.queue.claim_due(now, 10).await.unwrap().claims.len(), 2);
    assert!(matches!(
        site.queue.retry(QueueId::new(1)).await,
        Err(QueueError::NoSuchMessage)
    ));
}

#[tokio::test]
async fn work_that_was_given_back_below_the_floor_is_found_again() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test"]).await;
    let much_later = nightmail_commit::now().plus_millis(3_600_000);
    let work = site.queue.claim_due(much_later, 10).await.unwrap();
    assert!(
        site.queue
            .claim_due(much_later, 10)
            .await
            .unwrap()
            .claims
            .is_empty()
    );
    drop(work);
    assert_eq!(
        site.queue.claim_due(much_later, 10).await.unwrap().claims[0].id(),
        id
    );
}

#[tokio::test]
async fn what_appears_late_is_found_by_the_full_look_after_a_change() {
    let site = Site::new();
    let now = nightmail_commit::now();
    let later = now.plus_millis(3_600_000);
    site.enqueue(&["a@far.test"]).await;
    let mut work = site.queue.claim_due(later, 10).await.unwrap();
    work.claims[0].set_due(None);
    drop(work);
    // The row is still there, below the floor, as if another node's clock were an hour behind.
    site.queue.note_change(later);
    let work = site.queue.claim_due(later, 10).await.unwrap();
    assert!(work.claims.is_empty());
    let look_again: Timestamp = work.look_again.unwrap();
    let work = site.queue.claim_due(look_again, 10).await.unwrap();
    assert_eq!(work.claims.len(), 1);
    assert_eq!(work.look_again, None);
}

#[tokio::test]
async fn a_change_wakes_whoever_waits() {
    let site = Site::new();
    let mut changes = site.queue.subscribe();
    assert!(!changes.has_changed());
    let id = site.enqueue(&["a@far.test"]).await;
    changes.changed().await;
    changes.mark_seen();
    site.queue.retry(id).await.unwrap();
    assert!(changes.has_changed());
}

#[tokio::test]
async fn listing_pages_in_the_order_of_acceptance() {
    let site = Site::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(site.enqueue(&["a@far.test"]).await);
    }
    assert!(ids.is_sorted());
    let first = site.queue.list(None, 3).await.unwrap();
    let rest = site.queue.list(Some(first[2].0), 3).await.unwrap();
    let listed: Vec<QueueId> = first.iter().chain(&rest).map(|(id, _)| *id).collect();
    assert_eq!(listed, ids);
    let now = nightmail_commit::now();
    let stats = site.queue.stats(now).await.unwrap();
    assert_eq!((stats.messages, stats.due), (5, 5));
    assert_eq!(site.queue.next_due(now, 2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_accepted_survives_a_power_loss_and_ids_are_not_used_again() {
    for seed in 0..20 {
        let site = Site::new();
        let mut used = Vec::new();
        for _ in 0..5 {
            used.push(site.enqueue(&["a@far.test"]).await);
        }
        site.queue
            .record_attempt(
                used[0],
                &LeaseGuard::none(),
                vec![outcome(0, Verdict::Delivered)],
            )
            .await
            .unwrap();
        site.queue
            .record_attempt(
                used[1],
                &LeaseGuard::none(),
                vec![outcome(0, deferred(3_600_000))],
            )
            .await
            .unwrap();
        let site = site.after_power_loss(seed);
        let left: Vec<QueueId> = site
            .queue
            .list(None, 10)
            .await
            .unwrap()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(left, used[1..]);
        assert_eq!(site.rows(Space::Due).await, 4);
        for _ in 0..5 {
            let id = site.queue.next_id().await.unwrap();
            assert!(!used.contains(&id), "id {id} was handed out twice");
            assert!(used.iter().all(|earlier| *earlier < id));
        }
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_whole_or_absent() {
    let site = Site::new();
    let id = site.queue.next_id().await.unwrap();
    site.engine.fail_commit_after_applying(1);
    assert!(matches!(
        site.enqueue_as(id, &["a@far.test"]).await,
        Err(QueueError::Failed(_))
    ));
    assert!(site.has_link(id).await && site.queue.show(id).await.unwrap().is_some());
    let id = site.queue.next_id().await.unwrap();
    site.engine.fail_commit(1);
    assert!(matches!(
        site.enqueue_as(id, &["a@far.test"]).await,
        Err(QueueError::Failed(_))
    ));
    assert!(!site.has_link(id).await && site.queue.show(id).await.unwrap().is_none());
    assert_eq!(site.rows(Space::Due).await, 1);
}

#[tokio::test]
async fn nodes_on_one_store_never_hand_out_the_same_id() {
    let site = Site::new();
    let committer = site.queue.committer().clone();
    let nodes = [Queue::new(committer.clone()), Queue::new(committer)];
    let mut ids = std::collections::HashSet::new();
    for _ in 0..1000 {
        for node in &nodes {
            assert!(ids.insert(node.next_id().await.unwrap()));
        }
    }
}

#[tokio::test]
async fn the_urgent_go_first_where_not_all_can_go() {
    let site = Site::new();
    let mut ids = Vec::new();
    for priority in [0, -4, 6, 0, 6] {
        let demands = Demands {
            priority,
            ..Demands::default()
        };
        ids.push(site.enqueue_with(demands).await);
    }
    let now = nightmail_commit::now();
    let mut order = Vec::new();
    let mut held: Vec<Claim> = Vec::new();
    for _ in 0..3 {
        let mut work = site.queue.claim_due(now, 2).await.unwrap();
        // Within one claim the order does not matter: all of it is worked on at once.
        work.claims.sort_by_key(Claim::id);
        order.extend(work.claims.iter().map(Claim::id));
        held.extend(work.claims);
    }
    assert_eq!(order, [ids[2], ids[4], ids[0], ids[3], ids[1]]);
    // Given back, each is found again, however they were passed over.
    drop(held);
    assert_eq!(site.queue.claim_due(now, 10).await.unwrap().claims.len(), 5);
}

#[tokio::test]
async fn what_is_held_back_is_due_at_its_time_or_when_an_operator_says_so() {
    let site = Site::new();
    let now = nightmail_commit::now();
    let until = now.plus_millis(3_600_000);
    let demands = Demands {
        hold_until: Some(until),
        ..Demands::default()
    };
    let id = site.enqueue_with(demands).await;
    let work = site.queue.claim_due(now, 10).await.unwrap();
    assert!(work.claims.is_empty());
    assert_eq!(work.look_again, Some(until));
    let far = HurryTarget::Domain("far.test".parse().unwrap());
    assert_eq!(
        site.queue.hurry(&far).await.unwrap(),
        0,
        "the receiver cannot have it early"
    );
    assert_eq!(site.queue.retry_all().await.unwrap(), 0, "nor all at once");
    let site = site.after_power_loss(3);
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.demands, demands);
    assert_eq!(message.local_prefix(), "by near.test\r\n");
    site.queue.retry(id).await.unwrap();
    let now = nightmail_commit::now();
    assert_eq!(site.queue.claim_due(now, 10).await.unwrap().claims.len(), 1);
}

#[tokio::test]
async fn hurried_mail_is_due_now_for_the_recipients_meant() {
    let site = Site::new();
    let both = site.enqueue(&["a@far.test", "b@sub.far.test"]).await;
    let other = site.enqueue(&["c@other.test"]).await;
    for (id, count) in [(both, 2), (other, 1)] {
        let later = (0..count).map(|index| outcome(index, deferred(60_000)));
        let outcomes = later.collect();
        let guard = LeaseGuard::none();
        let recorded = site.queue.record_attempt(id, &guard, outcomes);
        recorded.await.unwrap();
    }
    let far = HurryTarget::Domain("far.test".parse().unwrap());
    assert_eq!(site.queue.hurry(&far).await.unwrap(), 1);
    assert_eq!(
        site.queue.hurry(&far).await.unwrap(),
        0,
        "it is due already"
    );
    let now = nightmail_commit::now();
    let message = site.queue.show(both).await.unwrap().unwrap();
    assert!(message.recipients[0].next_attempt().unwrap() <= now);
    assert!(message.recipients[1].next_attempt().unwrap() > now);
    let work = site.queue.claim_due(now, 10).await.unwrap();
    assert_eq!(
        work.claims.iter().map(Claim::id).collect::<Vec<_>>(),
        [both]
    );
    drop(work);
    let below = HurryTarget::Subdomains("far.test".parse().unwrap());
    assert_eq!(site.queue.hurry(&below).await.unwrap(), 1);
    let nobody = HurryTarget::Domain("nobody.test".parse().unwrap());
    assert_eq!(site.queue.hurry(&nobody).await.unwrap(), 0);
}
