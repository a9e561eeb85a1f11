//! The queue against a model: whatever is done in whatever order, the index follows from the messages, no message is
//! in two hands for the same destination, nothing is lost, and what is due is handed out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{QueueId, ReversePath, Timestamp};
use nightmail_engine::{Engine, KeyRange, MemoryEngine, Order, Space};
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_queue::{
    Alteration, BodyType, Content, Destination, HurryTarget, NewQueueMessage, NewRecipient, Queue,
    QueueError, QueueMessage, Rank, Recipient, RecipientOutcome, RelayName, Source, Ticket,
    Verdict, Waiting, WindowLimits, tx,
};

const RUNS: u64 = 24;
const STEPS: usize = 120;
const DOMAINS: u64 = 4;

/// A generator of numbers that are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// A message in hand, as it was read when it was taken.
struct Hand {
    ticket: Ticket,
    message: Option<QueueMessage>,
    taken: Timestamp,
}

struct Model {
    dice: Dice,
    engine: Arc<MemoryEngine>,
    heap: Heap,
    queue: Arc<Queue>,
    hands: Vec<Hand>,
    /// Destinations that the queue has named, and that have not been found without work since.
    active: HashSet<Destination>,
    queued: BTreeSet<QueueId>,
    /// Recipients that were retired.
    retired: HashMap<QueueId, BTreeSet<usize>>,
    _dir: tempfile::TempDir,
}

fn queue_over(engine: &Arc<MemoryEngine>, heap: &Heap) -> Arc<Queue> {
    let engine: Arc<dyn Engine> = Arc::clone(engine) as Arc<dyn Engine>;
    let committer = Committer::start(engine, heap.clone(), CommitLimits::default());
    Arc::new(Queue::new(committer).with_windows(WindowLimits {
        entries_max: 8,
        window_min: 2,
        window_max: 3,
        destinations_max: 50,
    }))
}

fn domain(number: u64) -> String {
    format!("d{number}.test")
}

fn destination_of(message: &QueueMessage, recipient: &Recipient) -> Destination {
    match message.unrouted {
        Some(_) => Destination::Unrouted,
        None => recipient.destination(),
    }
}

fn is_due(recipient: &Recipient, now: Timestamp) -> bool {
    recipient.hold.is_none() && recipient.next_attempt().is_some_and(|at| at <= now)
}

/// What the index is to have for a destination of a message: whether it is fresh, and when it is due.
type Work = BTreeMap<(Destination, QueueId), (bool, Timestamp)>;

fn work_of(messages: &[(QueueId, QueueMessage)]) -> Work {
    let mut work = Work::new();
    for (id, message) in messages {
        for (_, recipient) in message.pending() {
            let (Some(at), None) = (recipient.next_attempt(), &recipient.hold) else {
                continue;
            };
            let fresh = recipient.waiting == Waiting::Fresh;
            let one = work
                .entry((destination_of(message, recipient), *id))
                .or_insert((fresh, at));
            *one = (one.0 || fresh, one.1.min(at));
        }
    }
    work
}

impl Model {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        Self {
            dice: Dice(seed),
            queue: queue_over(&engine, &heap),
            engine,
            heap,
            hands: Vec::new(),
            active: HashSet::new(),
            queued: BTreeSet::new(),
            retired: HashMap::new(),
            _dir: dir,
        }
    }

    async fn messages(&self) -> Vec<(QueueId, QueueMessage)> {
        self.queue.list(None, 10_000).await.unwrap()
    }

    async fn step(&mut self) {
        match self.dice.roll(20) {
            0..4 => self.enqueue().await,
            4..9 => self.take().await,
            9..13 => self.settle().await,
            13 => self.give_back(),
            14 => self.take_along().await,
            15 | 16 => self.alter().await,
            17 => self.hurry().await,
            18 => self.remove_or_lose_power().await,
            _ => tokio::time::sleep(Duration::from_millis(self.dice.roll(12))).await,
        }
        if !self.dice.one_in(3) {
            self.look().await;
        }
        self.hear();
        self.check().await;
    }

    async fn enqueue(&mut self) {
        let id = self.queue.next_id().await.unwrap();
        let count = 1 + self.dice.roll(3);
        let recipients = (0..count).map(|number| {
            let domain = domain(self.dice.roll(DOMAINS));
            NewRecipient::plain(format!("r{number}@{domain}").parse().unwrap())
        });
        let message = NewQueueMessage {
            reverse_path: ReversePath::Null,
            prefix: Bytes::new(),
            blob_size: 18,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: recipients.collect(),
            demands: Default::default(),
            unrouted: None,
            band: Rank::NORMAL,
            handicap_millis: 0,
        };
        let message = NewQueueMessage {
            handicap_millis: self.dice.roll(50) as i64,
            ..message
        };
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(b"Subject: x\r\n\r\nhi\r\n").unwrap();
        let blob = NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: Bytes::new(),
        };
        let intent =
            Intent::synced(move |tx| tx::enqueue::<QueueError>(tx, id, Content::New(0), &message));
        let committer = self.queue.committer();
        let enqueued = committer.submit(intent.with_blob(blob)).await.unwrap();
        self.queued.insert(id);
        // Another node's mail is not announced.
        match self.dice.one_in(4) {
            true => self.queue.note_change(nightmail_commit::now()),
            false => self.queue.announce(&enqueued),
        }
    }

    /// Does what a scheduler does after a change, sometimes with a store that fails.
    async fn look(&mut self) {
        self.queue.note_change(nightmail_commit::now());
        if self.dice.one_in(10) {
            self.engine.fail_next(1);
        }
        self.look_now().await;
        self.engine.fail_next(0);
    }

    async fn look_now(&mut self) {
        while let Ok(look) = self.queue.look(nightmail_commit::now()).await {
            self.active.extend(look.ready);
            if !look.more {
                break;
            }
        }
    }

    fn hear(&mut self) {
        self.active.extend(self.queue.drain_announced());
    }

    fn some_active(&mut self) -> Option<Destination> {
        let mut active: Vec<&Destination> = self.active.iter().collect();
        active.sort();
        let count = active.len() as u64;
        (count > 0).then(|| active[self.dice.roll(count) as usize].clone())
    }

    async fn take(&mut self) {
        let Some(destination) = self.some_active() else {
            return;
        };
        let (pending, deferred) =
            [(true, true), (true, false), (false, true)][self.dice.roll(3) as usize];
        if self.dice.one_in(8) {
            self.engine.fail_next(1);
        }
        let (now, limit) = (nightmail_commit::now(), 1 + self.dice.roll(4) as usize);
        let taken = self
            .queue
            .take(&destination, now, limit, pending, deferred)
            .await;
        self.engine.fail_next(0);
        for ticket in taken.unwrap_or_default() {
            self.hold(ticket).await;
        }
        if !self.queue.has_more(&destination) {
            self.active.remove(&destination);
        }
    }

    async fn hold(&mut self, ticket: Ticket) {
        let is_held = |hand: &Hand| {
            hand.ticket.id() == ticket.id() && hand.ticket.destination() == ticket.destination()
        };
        assert!(!self.hands.iter().any(is_held), "taken twice at a time");
        let message = self
            .queue
            .load(&[ticket.id()])
            .await
            .unwrap()
            .pop()
            .unwrap();
        self.hands.push(Hand {
            ticket,
            message,
            taken: nightmail_commit::now(),
        });
    }

    fn some_hand(&mut self) -> Option<Hand> {
        let count = self.hands.len() as u64;
        (count > 0).then(|| self.hands.swap_remove(self.dice.roll(count) as usize))
    }

    fn give_back(&mut self) {
        drop(self.some_hand());
    }

    async fn take_along(&mut self) {
        let Some(hand) = self.some_hand() else { return };
        let id = hand.ticket.id();
        if let Some(message) = &hand.message {
            let (_, recipient) = message.pending().last().unwrap();
            let (to, now) = (recipient.destination(), nightmail_commit::now());
            let other = self.queue.take_also(id, message, &to, now);
            let is_own = to == *hand.ticket.destination();
            assert!(!(is_own && other.is_some()), "taken twice at a time");
            self.hands.push(hand);
            if let Some(other) = other {
                self.hold(other).await;
            }
        } else {
            self.hands.push(hand);
        }
    }

    fn verdict(&mut self) -> Verdict {
        match self.dice.roll(6) {
            0 | 1 => Verdict::Delivered,
            2 => Verdict::Failed,
            3 => Verdict::Held {
                reason: "wait".into(),
            },
            _ => Verdict::Deferred {
                next_attempt: nightmail_commit::now().plus_millis(self.dice.roll(30) as i64),
                delay_reported: false,
                waiting: [Waiting::Retry, Waiting::Window, Waiting::Request]
                    [self.dice.roll(3) as usize],
            },
        }
    }

    /// Records what became of a message that is in hand, as it was when it was taken.
    async fn settle(&mut self) {
        let Some(mut hand) = self.some_hand() else {
            return;
        };
        let Some(message) = hand.message.take() else {
            return hand.ticket.set_due(None);
        };
        let id = hand.ticket.id();
        let mine = |(_, recipient): &(usize, &Recipient)| {
            destination_of(&message, recipient) == *hand.ticket.destination()
                && is_due(recipient, hand.taken)
        };
        let indexes: Vec<usize> = message
            .pending()
            .filter(mine)
            .map(|(index, _)| index)
            .collect();
        let mut outcomes: Vec<RecipientOutcome> = indexes
            .into_iter()
            .map(|index| RecipientOutcome {
                index,
                verdict: self.verdict(),
                attempt: None,
            })
            .collect();
        let guard = hand.ticket.hold().guard().clone();
        while !outcomes.is_empty() {
            match self
                .queue
                .record_attempt(id, &guard, outcomes.clone())
                .await
            {
                Ok(_) => {
                    self.note_retired(id, &outcomes);
                    break;
                }
                Err(QueueError::NoSuchMessage) => break,
                Err(QueueError::AlreadyRetired) => {
                    let Some(current) = self.queue.show(id).await.unwrap() else {
                        break;
                    };
                    outcomes.retain(|one| current.recipients[one.index].next_attempt().is_some());
                }
                Err(error) => panic!("{error}"),
            }
        }
        hand.ticket.set_due(None);
    }

    fn note_retired(&mut self, id: QueueId, outcomes: &[RecipientOutcome]) {
        let retires = |verdict: &Verdict| matches!(verdict, Verdict::Delivered | Verdict::Failed);
        for outcome in outcomes.iter().filter(|outcome| retires(&outcome.verdict)) {
            let is_new = self.retired.entry(id).or_default().insert(outcome.index);
            assert!(is_new, "retired twice");
        }
    }

    async fn some_message(&mut self) -> Option<(QueueId, QueueMessage)> {
        let mut messages = self.messages().await;
        let count = messages.len() as u64;
        (count > 0).then(|| messages.swap_remove(self.dice.roll(count) as usize))
    }

    async fn alter(&mut self) {
        let Some((id, message)) = self.some_message().await else {
            return;
        };
        let relay = |dice: &mut Dice| RelayName::new(["hub", "hop"][dice.roll(2) as usize]);
        let alteration = match self.dice.roll(7) {
            0 => Alteration::Hold("x".into()),
            1 | 2 => Alteration::Release,
            3 => Alteration::Retry,
            4 => Alteration::Reroute(relay(&mut self.dice)),
            5 => Alteration::Reroute(None),
            _ => Alteration::Drop,
        };
        let index = self.dice.roll(message.recipients.len() as u64) as usize;
        let address = message.recipients[index].address.clone();
        let whom = move |_: &QueueMessage, one: &Recipient| one.address == address;
        let changed = self
            .queue
            .alter(id, alteration.clone(), whom)
            .await
            .unwrap();
        if alteration == Alteration::Drop && changed > 0 {
            let address = &message.recipients[index].address;
            let dropped = message.pending().filter(|(_, one)| one.address == *address);
            let indexes = dropped.map(|(index, _)| index);
            self.retired.entry(id).or_default().extend(indexes);
        }
    }

    async fn hurry(&mut self) {
        let domain = domain(self.dice.roll(DOMAINS)).parse().unwrap();
        let _ = self
            .queue
            .hurry(&HurryTarget::Domain(domain))
            .await
            .unwrap();
    }

    async fn remove_or_lose_power(&mut self) {
        if self.dice.one_in(2) {
            let seed = self.dice.roll(1_000);
            self.hands.clear();
            self.active.clear();
            self.engine = Arc::new(self.engine.after_power_loss(seed));
            self.queue = queue_over(&self.engine, &self.heap);
        } else if let Some((id, _)) = self.some_message().await {
            self.queue.remove(id).await.unwrap();
            self.queued.remove(&id);
        }
    }

    /// The index is what follows from the messages, and those are all there.
    async fn check(&self) {
        let messages = self.messages().await;
        let work = work_of(&messages);
        let mut found = Work::new();
        for (destination, fresh, id, due) in self.index().await {
            found.insert((destination, id), (fresh, due));
        }
        assert_eq!(found, work);
        for space in [Space::Due, Space::Outbound] {
            let rows = self
                .engine
                .scan(space, KeyRange::all(), Order::Ascending, 10_000);
            assert_eq!(rows.await.unwrap().len(), work.len(), "{space:?}");
        }
        let ids: HashMap<QueueId, &QueueMessage> = messages
            .iter()
            .map(|(id, message)| (*id, message))
            .collect();
        for id in &self.queued {
            let retired = self.retired.get(id);
            match ids.get(id) {
                Some(message) => {
                    for (index, recipient) in message.recipients.iter().enumerate() {
                        let is_retired = retired.is_some_and(|retired| retired.contains(&index));
                        assert_eq!(
                            recipient.next_attempt().is_none(),
                            is_retired,
                            "{id} {index}"
                        );
                    }
                }
                None => assert!(
                    retired.is_some_and(|retired| !retired.is_empty()),
                    "{id} is lost"
                ),
            }
        }
    }

    async fn index(&self) -> Vec<(Destination, bool, QueueId, Timestamp)> {
        let mut found = Vec::new();
        for stats in self.queue.destinations(None, 100).await.unwrap() {
            let (ids, _) = self
                .queue
                .list_destination(&stats.destination, None, 1_000)
                .await
                .unwrap();
            assert_eq!(ids.len() as u64, stats.pending + stats.deferred);
            // Fresh mail comes first, so that the numbers tell which is which.
            for (place, id) in ids.into_iter().enumerate() {
                let message = self.queue.show(id).await.unwrap().unwrap();
                let due = Queue::due_for(id, &message, &stats.destination).unwrap();
                found.push((
                    stats.destination.clone(),
                    (place as u64) < stats.pending,
                    id,
                    due,
                ));
            }
        }
        found
    }

    /// Time passes, and everything that is due is handed out: once, without being asked for.
    async fn finish(&mut self) {
        self.hands.clear();
        self.hear();
        tokio::time::sleep(Duration::from_millis(40)).await;
        self.look().await;
        self.look_now().await;
        let work = work_of(&self.messages().await);
        let mut taken = BTreeSet::new();
        let mut tickets = Vec::new();
        while let Some(destination) = self.some_active() {
            let now = nightmail_commit::now();
            for ticket in self
                .queue
                .take(&destination, now, 2, true, true)
                .await
                .unwrap()
            {
                // What is known in memory may be of the past.
                let key = (ticket.destination().clone(), ticket.id());
                assert!(taken.insert(key), "taken twice at a time");
                tickets.push(ticket);
            }
            if !self.queue.has_more(&destination) {
                self.active.remove(&destination);
            }
        }
        let missed: Vec<_> = work.keys().filter(|key| !taken.contains(*key)).collect();
        assert!(missed.is_empty(), "{missed:?} is not handed out");
        // What was taken as it had been before is offered once more as it is; then there is no end left over.
        for _ in 0..2 {
            for ticket in &mut tickets {
                ticket.set_due(None);
            }
            tickets.clear();
            self.hear();
            for destination in std::mem::take(&mut self.active) {
                let now = nightmail_commit::now();
                tickets.extend(
                    self.queue
                        .take(&destination, now, 100, true, true)
                        .await
                        .unwrap(),
                );
            }
        }
        drop(tickets);
        assert_eq!(self.queue.in_memory(), (0, 0));
    }
}

#[tokio::test]
async fn whatever_is_done_nothing_is_lost_or_taken_twice_and_what_is_due_is_handed_out() {
    for seed in 0..RUNS {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        for _ in 0..STEPS {
            Box::pin(model.step()).await;
        }
        model.finish().await;
    }
}

/// Each page made its messages due a moment later than the next page began, and so they were met for ever.
#[tokio::test]
async fn a_request_for_much_mail_that_is_due_already_ends() {
    let mut model = Model::new(1);
    for _ in 0..600 {
        model.enqueue().await;
    }
    let all = HurryTarget::Subdomains("test".parse().unwrap());
    let hurried = tokio::time::timeout(Duration::from_secs(60), model.queue.hurry(&all)).await;
    assert_eq!(hurried.unwrap().unwrap(), 600);
    model.check().await;
}
