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
    Alteration, Attempt, Attempted, BodyType, Content, Demands, Destination, HurryTarget,
    NewQueueMessage, NewRecipient, Notify, Queue, QueueError, Rank, Recipient, RecipientOutcome,
    RecipientState, RelayName, Source, Ticket, Unrouted, Verdict, Waiting, Weights, tx,
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
        let intent = intent.with_blob(self.blob(b"Subject: x\r\n\r\nhi\r\n"));
        self.queue.committer().submit(intent).await?;
        Ok(())
    }

    /// Looks at `now` and takes at most `limit` messages; also, when to look again.
    async fn work(&self, now: Timestamp, limit: usize) -> (Vec<Ticket>, Option<Timestamp>) {
        let look = self.queue.look(now).await.unwrap();
        assert!(!look.more);
        let mut tickets = Vec::new();
        for stats in self.queue.destinations(None, 100).await.unwrap() {
            let (to, left) = (&stats.destination, limit - tickets.len());
            let taken = self.queue.take(to, now, left, true, true).await;
            tickets.extend(taken.unwrap());
        }
        (tickets, look.look_again)
    }

    /// Takes what is ready after a change.
    async fn take(&self, now: Timestamp, limit: usize) -> Vec<Ticket> {
        self.queue.note_change(now);
        self.work(now, limit).await.0
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
        band: Rank::NORMAL,
        handicap_millis: 0,
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
        waiting: Waiting::Retry,
    }
}

fn ids(tickets: &[Ticket]) -> Vec<QueueId> {
    tickets.iter().map(Ticket::id).collect()
}

fn to(domain: &str) -> Destination {
    Destination::Domain(domain.parse().unwrap())
}

#[tokio::test]
async fn a_message_is_due_at_once_and_taken_once() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test"]).await;
    let now = nightmail_commit::now();
    let taken = site.take(now, 10).await;
    assert_eq!(ids(&taken), [id]);
    assert!(taken[0].is_pending() && *taken[0].destination() == to("far.test"));
    assert!(site.take(now, 10).await.is_empty());
    assert!(site.queue.is_in_hand(id));
    drop(taken);
    assert_eq!(site.take(now, 10).await.len(), 1);
}

#[tokio::test]
async fn a_message_is_work_for_each_of_its_destinations() {
    let site = Site::new();
    let recipients = ["a@far.test", "b@other.test", "c@far.test"];
    let id = site.enqueue(&recipients).await;
    let now = nightmail_commit::now();
    site.queue.look(now).await.unwrap();
    let far = site.queue.take(&to("far.test"), now, 10, true, true).await;
    let far = far.unwrap();
    assert_eq!(ids(&far), [id]);
    let message = site.queue.show(id).await.unwrap().unwrap();
    let also = |to: &Destination| site.queue.take_also(id, &message, to, now);
    let other = also(&to("other.test")).unwrap();
    assert!(also(&to("other.test")).is_none() && also(&to("nobody.test")).is_none());
    assert_eq!(site.queue.in_hand(), 2);
    let delivered = vec![
        outcome(0, Verdict::Delivered),
        outcome(2, Verdict::Delivered),
    ];
    let guard = LeaseGuard::none();
    let recorded = site.queue.record_attempt(id, &guard, delivered).await;
    assert!(recorded.unwrap().due.is_some());
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert_eq!(Queue::due_for(id, &message, &to("far.test")), None);
    assert!(Queue::due_for(id, &message, &to("other.test")).is_some());
    drop((far, other));
    let left = site.take(now, 10).await;
    let left: Vec<_> = left.iter().map(Ticket::destination).collect();
    // What was given back unsettled is looked at once more and found to be done.
    assert_eq!(left, [&to("other.test")]);
}

#[tokio::test]
async fn the_limit_leaves_the_rest_to_the_next() {
    let site = Site::new();
    for _ in 0..7 {
        site.enqueue(&["a@far.test"]).await;
    }
    let now = nightmail_commit::now();
    let first = site.take(now, 3).await;
    let second = site.take(now, 3).await;
    assert_eq!((first.len(), second.len()), (3, 3));
    assert!(site.queue.has_more(&to("far.test")));
    let third = site.take(now, 3).await;
    assert_eq!(third.len(), 1);
    assert!(!site.queue.has_more(&to("far.test")));
}

#[tokio::test]
async fn what_is_announced_is_there_without_a_look() {
    let site = Site::new();
    let id = site.queue.next_id().await.unwrap();
    let new = message(&["a@far.test"]);
    let intent = Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &new));
    let intent = intent.with_blob(site.blob(b"x"));
    let enqueued = site.queue.committer().submit(intent).await.unwrap();
    site.queue.announce(&enqueued);
    site.queue.announced().await;
    assert_eq!(site.queue.drain_announced(), [to("far.test")]);
    let now = nightmail_commit::now();
    let taken = site.queue.take(&to("far.test"), now, 9, true, true).await;
    assert_eq!(ids(&taken.unwrap()), [id]);
}

/// More than a window has room for: the rest stays in the store and is taken from there, in the same order.
#[tokio::test]
async fn what_does_not_fit_into_memory_comes_from_the_store_in_its_order() {
    let site = Site::new();
    let mut expected = Vec::new();
    for number in 0..2_500 {
        let id = site.queue.next_id().await.unwrap();
        let message = NewQueueMessage {
            // The last are the best.
            handicap_millis: -number * 1_000,
            ..message(&["a@far.test"])
        };
        site.enqueue_message(id, message).await.unwrap();
        expected.insert(0, id);
    }
    let now = nightmail_commit::now();
    site.queue.look(now).await.unwrap();
    assert!(site.queue.in_memory().0 < 2_500);
    let mut order = Vec::new();
    let mut kept = Vec::new();
    loop {
        let taken = site.queue.take(&to("far.test"), now, 100, true, true).await;
        let taken = taken.unwrap();
        if taken.is_empty() {
            break;
        }
        order.extend(ids(&taken));
        kept.extend(taken);
    }
    assert_eq!(order, expected);
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
    let (taken, look_again) = site.work(now, 10).await;
    assert!(taken.is_empty());
    assert_eq!(look_again, Some(due));
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
    assert_eq!(site.take(due, 10).await.len(), 1);
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
    assert!(site.take(nightmail_commit::now(), 10).await.is_empty());
    site.queue.retry(ids[0]).await.unwrap();
    let now = nightmail_commit::now();
    assert_eq!(site.take(now, 10).await[0].id(), ids[0]);
    assert_eq!(site.queue.retry_all().await.unwrap(), 1);
    let now = nightmail_commit::now();
    assert_eq!(site.take(now, 10).await.len(), 2);
    assert!(matches!(
        site.queue.retry(QueueId::new(1)).await,
        Err(QueueError::NoSuchMessage)
    ));
}

#[tokio::test]
async fn what_appears_late_is_found_by_looking_back_after_a_change() {
    let site = Site::new();
    let later = nightmail_commit::now().plus_millis(1_500);
    assert!(site.work(later, 10).await.0.is_empty());
    // Its time lies before the last look, as if its commit had taken long.
    site.enqueue(&["a@far.test"]).await;
    site.queue.note_change(later);
    let (taken, look_again) = site.work(later, 10).await;
    assert!(taken.is_empty());
    assert_eq!(site.take(look_again.unwrap(), 10).await.len(), 1);
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
async fn lower_bands_go_first_and_within_a_band_precedence_and_size_count() {
    let site = Site::new();
    let weights = Weights::default();
    let mut sent = Vec::new();
    for (band, precedence, size) in [
        (Rank::NORMAL, 0, 100),
        (Rank::IDLE, 0, 100),
        (Rank::URGENT, 90, 100),
        (Rank::NORMAL, 60, 100),
        (Rank::NORMAL, 0, 10 << 20),
        (Rank::NORMAL, -5, 100),
    ] {
        let id = site.queue.next_id().await.unwrap();
        let message = NewQueueMessage {
            band,
            handicap_millis: weights.handicap_millis(precedence, size),
            ..message(&["a@far.test"])
        };
        site.enqueue_message(id, message).await.unwrap();
        sent.push(id);
    }
    let now = nightmail_commit::now();
    let taken = site.take(now, 10).await;
    assert_eq!(
        ids(&taken),
        [2, 5, 0, 4, 3, 1].map(|place: usize| sent[place])
    );
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
    let (taken, look_again) = site.work(now, 10).await;
    assert!(taken.is_empty());
    assert_eq!(look_again, Some(until));
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
    let taken = site.take(now, 10).await;
    assert_eq!(*taken[0].destination(), Destination::Unrouted);
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
    let now = nightmail_commit::now();
    let message = site.queue.show(both).await.unwrap().unwrap();
    assert!(message.recipients[0].next_attempt().unwrap() <= now);
    assert!(message.recipients[1].next_attempt().unwrap() > now);
    assert_eq!(message.recipients[0].waiting, Waiting::Hurried);
    let taken = site.take(now, 10).await;
    assert_eq!(ids(&taken), [both]);
    assert_eq!(*taken[0].destination(), to("far.test"));
    drop(taken);
    let below = HurryTarget::Subdomains("far.test".parse().unwrap());
    // The message is hurried for both of its destinations.
    assert_eq!(site.queue.hurry(&below).await.unwrap(), 2);
    let nobody = HurryTarget::Domain("nobody.test".parse().unwrap());
    assert_eq!(site.queue.hurry(&nobody).await.unwrap(), 0);
}

#[tokio::test]
async fn held_recipients_wait_for_their_release() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@far.test"]).await;
    let first = |_: &_, recipient: &Recipient| recipient.address.to_string().starts_with('a');
    let hold = Alteration::Hold("looks odd".into());
    assert_eq!(site.queue.alter(id, hold.clone(), first).await.unwrap(), 1);
    let now = nightmail_commit::now();
    assert_eq!(site.take(now, 10).await.len(), 1, "the other goes");
    assert_eq!(site.queue.alter(id, hold, |_, _| true).await.unwrap(), 2);
    let site = site.after_power_loss(7);
    assert!(site.take(now, 10).await.is_empty());
    assert_eq!(site.queue.retry_all().await.unwrap(), 0);
    let message = site.queue.show(id).await.unwrap().unwrap();
    assert_eq!(message.due(), None);
    assert_eq!(message.recipients[0].hold.as_deref(), Some("looks odd"));
    let released = site.queue.alter(id, Alteration::Release, |_, _| true).await;
    assert_eq!(released.unwrap(), 2);
    let now = nightmail_commit::now();
    assert!(site.take(now, 10).await[0].is_pending());
}

#[tokio::test]
async fn rerouted_recipients_go_to_the_relay_and_back() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@other.test"]).await;
    let hub = RelayName::new("hub").unwrap();
    let whom = |_: &_, recipient: &Recipient| recipient.destination() == to("far.test");
    let reroute = Alteration::Reroute(Some(hub.clone()));
    assert_eq!(site.queue.alter(id, reroute, whom).await.unwrap(), 1);
    let destinations = site.queue.destinations(None, 10).await.unwrap();
    let names: Vec<_> = destinations
        .iter()
        .map(|stats| stats.destination.clone())
        .collect();
    assert_eq!(names, [to("other.test"), Destination::Relay(hub)]);
    let back = Alteration::Reroute(None);
    assert_eq!(site.queue.alter(id, back, |_, _| true).await.unwrap(), 2);
    let destinations = site.queue.destinations(Some(&to("far.test")), 10).await;
    assert_eq!(destinations.unwrap()[0].destination, to("other.test"));
}

#[tokio::test]
async fn the_last_recipient_dropped_takes_the_message_along() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@far.test"]).await;
    let dropped = site.queue.alter(id, Alteration::Drop, |_, _| true).await;
    assert_eq!(dropped.unwrap(), 2);
    assert!(site.queue.show(id).await.unwrap().is_none() && !site.has_link(id).await);
    assert_eq!(
        (
            site.rows(Space::Due).await,
            site.rows(Space::Outbound).await
        ),
        (0, 0)
    );
    let gone = site.queue.alter(id, Alteration::Drop, |_, _| true).await;
    assert_eq!(gone.unwrap(), 0);
}

#[tokio::test]
async fn many_attempts_are_recorded_together_and_one_that_cannot_be_does_not_stop_the_others() {
    let site = Site::new();
    let kept = site.enqueue(&["a@far.test"]).await;
    let gone = site.enqueue(&["b@far.test"]).await;
    site.queue.remove(gone).await.unwrap();
    let attempted = [gone, kept].map(|id| Attempted {
        id,
        guard: LeaseGuard::none(),
        outcomes: vec![outcome(0, Verdict::Delivered)],
    });
    let recorded = site.queue.record_many(attempted.into()).await.unwrap();
    assert!(matches!(recorded[0], Err(QueueError::NoSuchMessage)));
    assert!(recorded[1].is_ok());
    assert_eq!(site.rows(Space::Queue).await, 0);
}

#[tokio::test]
async fn what_waits_is_counted_by_destination() {
    let site = Site::new();
    let first = site.enqueue(&["a@far.test", "b@other.test"]).await;
    site.enqueue(&["c@far.test"]).await;
    let deferred = vec![outcome(0, deferred(60_000))];
    let guard = LeaseGuard::none();
    let recorded = site.queue.record_attempt(first, &guard, deferred).await;
    recorded.unwrap();
    let stats = site.queue.destinations(None, 10).await.unwrap();
    let counts: Vec<_> = stats
        .iter()
        .map(|stats| (stats.pending, stats.deferred))
        .collect();
    assert_eq!(counts, [(1, 1), (1, 0)]);
    assert_eq!(stats[0].oldest, first);
    assert_eq!(site.queue.destinations(None, 1).await.unwrap().len(), 1);
}

/// A store of a program from before there were destinations: a due row by time and id, and nothing else.
#[tokio::test]
async fn the_index_of_an_older_store_is_made_anew_once() {
    let site = Site::new();
    let id = site.enqueue(&["a@far.test", "b@other.test"]).await;
    assert_eq!(site.queue.prepare().await.unwrap(), 1);
    assert_eq!(site.queue.prepare().await.unwrap(), 0);
    let site = Site::new();
    let later = site.enqueue(&["a@far.test", "b@other.test"]).await;
    assert!(later > id);
    let mut batch = nightmail_engine::Batch::default();
    for space in [Space::Due, Space::Outbound] {
        let rows = site
            .engine
            .scan(space, KeyRange::all(), Order::Ascending, 10)
            .await;
        for (key, _) in rows.unwrap() {
            batch.delete(RowKey::new(space, key));
        }
    }
    let mut old = 1_000_i64.to_be_bytes().to_vec();
    old.extend_from_slice(&later.to_be_bytes());
    batch.put(RowKey::new(Space::Due, old), Bytes::from_static(&[1]));
    let committed = site
        .engine
        .commit(batch, nightmail_engine::Durability::Synced)
        .await;
    committed.unwrap();
    let now = nightmail_commit::now();
    assert!(site.take(now, 10).await.is_empty());
    assert_eq!(site.queue.prepare().await.unwrap(), 1);
    assert_eq!(
        (
            site.rows(Space::Due).await,
            site.rows(Space::Outbound).await
        ),
        (2, 2)
    );
    let fresh = queue_over(&site.engine, &site.heap);
    assert_eq!(
        fresh
            .look(now.plus_millis(1_000))
            .await
            .unwrap()
            .ready
            .len(),
        2
    );
}
