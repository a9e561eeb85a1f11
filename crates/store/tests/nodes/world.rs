//! The nodes, their accounts, and what all sessions know together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nightmail_commit::{
    CommitLimits, Committer, Compactor, Intent, NewBlob, ReclaimOptions, Reclaimer, now,
};
use nightmail_core::{AccountId, Flags, MailboxId, Timestamp};
use nightmail_engine::Engine;
use nightmail_heap::{BlobBuilder, Heap};
use nightmail_store::{MailboxName, NewMessage, Quota, Store, StoreError, StoreOptions, tx};
use parking_lot::Mutex;

use super::ground::{Faults, Ground};
use super::ledger::Ledger;
use super::random::Random;

pub struct Node {
    pub store: Store,
    pub reclaimer: Reclaimer,
    pub compactor: tokio::sync::Mutex<Compactor>,
}

#[derive(Clone, Copy)]
pub struct Account {
    pub id: AccountId,
    pub quota: Quota,
    pub inbox: MailboxId,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub accounts: Vec<Account>,
    pub ledger: Mutex<Ledger>,
    pub flights: Flights,
    pub faults: Option<Faults>,
    pub upkeep: Upkeep,
    ground: Ground,
    operations: AtomicU64,
}

/// What upkeep has done while sessions were at work.
#[derive(Debug, Default)]
pub struct Upkeep {
    pub reclaimed: AtomicU64,
    pub contended: AtomicU64,
    pub moved: AtomicU64,
    pub removed: AtomicU64,
    pub purged: AtomicU64,
    pub undeleted: AtomicU64,
}

/// No mailbox of these names is ever deleted or renamed.
pub const LASTING: [&str; 3] = ["INBOX", "Archive", "Sent"];
/// Mailboxes of these names come and go.
pub const PASSING: [&str; 4] = ["Box-0", "Box-1", "Box-2", "Box-3"];

/// Small enough to be reached, and none.
const QUOTAS: [Quota; 4] = [
    Quota {
        bytes: None,
        messages: None,
        mailboxes: None,
    },
    Quota {
        bytes: None,
        messages: None,
        mailboxes: None,
    },
    Quota {
        bytes: None,
        messages: Some(80),
        mailboxes: None,
    },
    Quota {
        bytes: Some(250_000),
        messages: None,
        mailboxes: None,
    },
];

/// Bytes of snapshots kept by each node: one keeps hardly any, and reads mailboxes anew most of the time.
const CACHED_BYTES: [usize; 3] = [16 << 20, 16 << 20, 1000];

/// Short, so that packs are soon old enough to be joined, and bytes too old to be named.
const APPENDED_AGE_MAX: Duration = Duration::from_millis(30);

/// Every listed blob is due.
const NO_GRACE: ReclaimOptions = ReclaimOptions {
    grace_millis: 0,
    blobs_max: 1000,
};

impl World {
    pub async fn new(ground: Ground) -> Self {
        let nodes: Vec<Node> = ground
            .nodes
            .iter()
            .zip(CACHED_BYTES)
            .map(|((engine, heap), cached)| Node::start(engine, heap, cached))
            .collect();
        let mut accounts = Vec::new();
        for (place, quota) in QUOTAS.into_iter().enumerate() {
            let id = AccountId::new(place as u64 + 1);
            let store = &nodes[place % nodes.len()].store;
            let intent = Intent::synced(move |t| tx::create_account(t, id));
            store
                .committer()
                .submit::<(), StoreError>(intent)
                .await
                .unwrap();
            let inbox = store.inbox(id).await.unwrap();
            accounts.push(Account { id, quota, inbox });
        }
        Self {
            nodes,
            accounts,
            ledger: Mutex::default(),
            flights: Flights::default(),
            faults: ground.faults.clone(),
            upkeep: Upkeep::default(),
            ground,
            operations: AtomicU64::new(1),
        }
    }

    /// A node started anew over the first one's engine: nothing is in its memory.
    pub fn fresh_node(&self) -> Node {
        let (engine, heap) = &self.ground.nodes[0];
        Node::start(engine, heap, 1 << 20)
    }

    pub fn store(&self, random: &mut Random) -> &Store {
        &self.nodes[random.below(self.nodes.len())].store
    }

    /// The number of a new operation; it stands in the prefix of each message that it brings.
    pub fn operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether an operation may have failed for the engine's sake.
    pub fn may_fail(&self, error: &StoreError) -> bool {
        self.faults.is_some() && matches!(error, StoreError::Failed(_))
    }
}

impl Node {
    fn start(engine: &Arc<dyn Engine>, heap: &Heap, cached_bytes_max: usize) -> Self {
        let limits = CommitLimits {
            appended_age_max: APPENDED_AGE_MAX,
            // As nodes over a database have it.
            appended_groups_max: 3,
            unasked_bytes_max: 200,
            ..CommitLimits::default()
        };
        let committer = Committer::start(Arc::clone(engine), heap.clone(), limits);
        let compactor = Compactor::new(committer.clone(), 0, 70);
        Self {
            store: Store::new(committer, &StoreOptions { cached_bytes_max }),
            reclaimer: Reclaimer::new(Arc::clone(engine), NO_GRACE),
            compactor: tokio::sync::Mutex::new(compactor),
        }
    }
}

/// What is under way. It stands for the grace period: whoever would take bytes away leaves alone what is younger than
/// the oldest operation that has not been answered.
#[derive(Default)]
pub struct Flights {
    under_way: Mutex<(u64, BTreeMap<u64, Timestamp>)>,
}

pub struct Flight<'a> {
    flights: &'a Flights,
    number: u64,
}

impl Flights {
    pub fn begin(&self) -> Flight<'_> {
        let mut under_way = self.under_way.lock();
        under_way.0 += 1;
        let number = under_way.0;
        under_way.1.insert(number, now());
        Flight {
            flights: self,
            number,
        }
    }

    /// The moment before everything that is under way.
    pub fn horizon(&self) -> Timestamp {
        let under_way = self.under_way.lock();
        let oldest = under_way.1.values().min().copied();
        oldest.unwrap_or_else(now).plus_millis(-1)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.under_way.lock().1.remove(&self.number);
    }
}

pub fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

/// The bytes that a number stands for: one in sixteen is large.
pub fn content(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let lines = match random.below(16) {
        0 => 400 + random.below(800),
        _ => 1 + random.below(60),
    };
    let mut text = format!("Subject: content {number}\r\n\r\n");
    for _ in 0..lines {
        text.push_str(&format!("{:016x}{:016x}\r\n", random.next(), random.next()));
    }
    text.into_bytes()
}

/// What stands before the bytes: the operation that brought them, and which bytes they are.
pub fn prefix(operation: u64, content: u64) -> String {
    format!("X-Brought-By: {operation} {content}\r\n")
}

/// Reads [`prefix`] back.
pub fn brought_by(prefix: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(prefix).unwrap();
    let mut words = text
        .split_ascii_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

pub fn new_blob(heap: &Heap, bytes: &[u8]) -> NewBlob {
    let mut builder = BlobBuilder::new(heap);
    builder.push(bytes).unwrap();
    let mut scanner = nightmail_mime::Scanner::new(nightmail_mime::Limits::default());
    scanner.push(bytes);
    NewBlob {
        blob: builder.finish().unwrap(),
        envelope: Bytes::new(),
        meta: scanner.finish().encode().into(),
    }
}

pub fn new_message(mailbox: MailboxId, operation: u64, number: u64, size: usize) -> NewMessage {
    NewMessage {
        mailbox,
        flags: Flags::EMPTY,
        keywords: Vec::new(),
        internal_date: Timestamp::from_secs(1),
        prefix: prefix(operation, number).into(),
        blob_size: size as u64,
        missing_line_ends: 0,
    }
}
