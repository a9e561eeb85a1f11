//! Greylisting: whoever is not known must come back after a while, as mail servers do (RFC 6647).
//!
//! Owns two kinds of row in [`Space::Access`], shared by all nodes: what one client network sends from one sender to one
//! recipient, and how many of these have come back for a network, which after some is not asked any more.
//!
//! A client network is a /24 of IPv4 or a /64 of IPv6, since big sites come back from another machine. Senders are taken
//! in a form in which what changes from message to message is left out (`normal_sender`).

mod row;
mod sender;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{ForwardPath, ReversePath, Timestamp};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, EngineError, Key, KeyRange, Order, RowKey, Space, Value,
};
use parking_lot::Mutex;

use crate::client_net::ClientNet;
use row::{ClientRow, TripletRow};
use sender::normal_sender;

/// First byte of the keys of triplets: client network, sender, recipient.
const TRIPLET: &[u8] = b"t";
/// First byte of the keys of client networks.
const CLIENT: &[u8] = b"c";
/// Octets of a digest.
const DIGEST_OCTETS: usize = 16;
/// Times a change is tried while others change the same rows.
const TRIES_MAX: usize = 10;
/// A row that only says when something was last seen is written again no sooner.
const REFRESH_MILLIS: i64 = 3_600_000;

/// How long greylisting waits and remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreylistOptions {
    /// How long a client must wait before it comes back.
    pub delay: Duration,
    /// How long after its first try it may come back.
    pub window: Duration,
    /// How long whoever has passed is remembered after its last message.
    pub lifetime: Duration,
    /// How often a client network must have come back until it is not greylisted any more.
    pub auto_allow: u32,
}

impl Default for GreylistOptions {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            delay: Duration::from_secs(300),
            window: Duration::from_secs(2 * DAY),
            lifetime: Duration::from_secs(35 * DAY),
            auto_allow: 5,
        }
    }
}

/// What greylisting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has come back in time: let it in, from now on at once.
    Pass,
    /// Never seen, or too long ago: it must come back.
    New {
        /// How long it must wait.
        wait: Duration,
    },
    /// It has come back too early.
    TooEarly {
        /// How long it must still wait.
        wait: Duration,
    },
    /// It has passed before, or its network has passed often.
    Known,
}

/// A row, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GreylistEntry {
    /// Names the row in [`Greylist::list`] and [`Greylist::remove`].
    pub key: Key,
    /// The client network.
    pub client: String,
    /// What is known of it.
    pub state: GreylistState,
}

/// What is known of a client network, or of what it sends from one sender to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistState {
    /// It must come back.
    Waiting {
        /// The sender, as compared; empty is `<>`.
        sender: String,
        /// The recipient, as compared.
        recipient: String,
        /// When it was first seen.
        since: Timestamp,
    },
    /// It has come back.
    Passed {
        /// The sender, as compared; empty is `<>`.
        sender: String,
        /// The recipient, as compared.
        recipient: String,
        /// When it was last seen, give or take an hour.
        last: Timestamp,
    },
    /// What the whole network has done.
    Network {
        /// How many have come back.
        passed: u32,
        /// Whether that is often enough.
        allowed: bool,
        /// When it was last seen, give or take an hour.
        last: Timestamp,
    },
}

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows looked at.
    pub looked_at: usize,
    /// Rows removed.
    pub removed: usize,
}

/// The greylist of a site.
pub struct Greylist {
    engine: Arc<dyn Engine>,
    options: GreylistOptions,
    /// Where the next sweep begins.
    swept_to: Mutex<Key>,
}

impl std::fmt::Debug for Greylist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Greylist").field(&self.options).finish()
    }
}

/// Rows as read, and what they say at this moment.
struct Look {
    keys: [RowKey; 2],
    values: [Option<Value>; 2],
    triplet: Option<TripletRow>,
    client: Option<ClientRow>,
}

impl Greylist {
    /// The greylist whose rows are in `engine`.
    pub fn new(engine: Arc<dyn Engine>, options: GreylistOptions) -> Self {
        Self {
            engine,
            options,
            swept_to: Mutex::default(),
        }
    }

    /// What is to be said to a client that sends from `sender` to `recipient`, which is remembered. Fails when the rows
    /// cannot be read or written.
    pub async fn look(
        &self,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &ForwardPath,
        now: Timestamp,
    ) -> Result<Verdict, EngineError> {
        let named = TripletRow {
            client: ClientNet::site_of(client).to_string(),
            sender: normal_sender(sender),
            recipient: recipient_text(recipient),
            since: now,
            passed: None,
        };
        let mut verdict = Verdict::Known;
        for _ in 0..TRIES_MAX {
            let look = self.read(&named).await?;
            let (found, batch) = self.judge(look, &named, now);
            verdict = found;
            if batch.writes.is_empty() {
                return Ok(verdict);
            }
            match self.engine.commit(batch, Durability::Soon).await {
                Ok(()) => return Ok(verdict),
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Engine(error)) => return Err(error),
            }
        }
        // Others are at the same rows all the time, so what they say is as good as what this one would have written.
        Ok(verdict)
    }

    /// Lets a client network in from now on, for its lifetime after it was last seen. Takes the /24 or /64 around it.
    pub async fn allow(&self, client: IpAddr, now: Timestamp) -> Result<(), EngineError> {
        let net = ClientNet::site_of(client).to_string();
        let row = ClientRow {
            client: net.clone(),
            passed: self.options.auto_allow,
            last: now,
        };
        let mut batch = Batch::new();
        batch.put(client_key(&net), row.encode());
        self.commit(batch).await.map(|_| ())
    }

    /// Rows in the order of their keys, behind `after`, at most `limit`.
    pub async fn list(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<GreylistEntry>, EngineError> {
        let range = match after {
            Some(last) => KeyRange::all().beyond(last, Order::Ascending),
            None => KeyRange::all(),
        };
        let rows = self
            .engine
            .scan(Space::Access, range, Order::Ascending, limit)
            .await?;
        let entries = rows.into_iter();
        Ok(entries
            .filter_map(|(key, value)| self.entry(key, &value))
            .collect())
    }

    /// Forgets a row; whether it was there.
    pub async fn remove(&self, key: &Key) -> Result<bool, EngineError> {
        let key = RowKey::new(Space::Access, key.clone());
        let found = self.engine.get_many(std::slice::from_ref(&key)).await?;
        let Some(value) = found.into_iter().next().flatten() else {
            return Ok(false);
        };
        let mut batch = Batch::new();
        batch.check(key.clone(), Some(value)).delete(key);
        self.commit(batch).await
    }

    /// Forgets everything about a client: its network, and what it sends. How many rows went.
    pub async fn remove_client(&self, client: IpAddr) -> Result<usize, EngineError> {
        const PAGE: usize = 500;
        let net = ClientNet::site_of(client).to_string();
        let mut range = KeyRange::all();
        let mut removed = 0;
        loop {
            let rows = self
                .engine
                .scan(Space::Access, range.clone(), Order::Ascending, PAGE)
                .await?;
            let Some((last, _)) = rows.last() else {
                return Ok(removed);
            };
            range = range.beyond(last, Order::Ascending);
            let entries = rows.into_iter();
            let entries = entries.filter_map(|(key, value)| self.entry(key, &value));
            for entry in entries.filter(|entry| entry.client == net) {
                removed += usize::from(self.remove(&entry.key).await?);
            }
        }
    }

    /// Looks at `limit` rows from where the last sweep of this node ended, and removes those whose time is over.
    pub async fn sweep(&self, now: Timestamp, limit: usize) -> Result<Swept, EngineError> {
        let from = std::mem::take(&mut *self.swept_to.lock());
        let range = KeyRange { from, to: None };
        let rows = self
            .engine
            .scan(Space::Access, range, Order::Ascending, limit)
            .await?;
        let looked_at = rows.len();
        if looked_at == limit
            && let Some((last, _)) = rows.last()
        {
            *self.swept_to.lock() = KeyRange::all().beyond(last, Order::Ascending).from;
        }
        let mut batch = Batch::new();
        for (key, value) in rows {
            if self.is_over(&key, &value, now) {
                let key = RowKey::new(Space::Access, key);
                batch.check(key.clone(), Some(value)).delete(key);
            }
        }
        let removed = self.commit_each(batch).await?;
        Ok(Swept { looked_at, removed })
    }

    async fn read(&self, named: &TripletRow) -> Result<Look, EngineError> {
        let keys = [triplet_key(named), client_key(&named.client)];
        let mut found = self.engine.get_many(&keys).await?.into_iter();
        let values = [found.next().flatten(), found.next().flatten()];
        let [triplet, client] = &values;
        // A row of a newer program is as good as none: the worst that follows is another wait.
        let triplet = triplet
            .as_ref()
            .and_then(|row| TripletRow::decode(row).ok());
        let client = client.as_ref().and_then(|row| ClientRow::decode(row).ok());
        Ok(Look {
            keys,
            triplet,
            client,
            values,
        })
    }

    /// The verdict, and the batch that remembers it; empty when there is nothing new to remember.
    fn judge(&self, look: Look, named: &TripletRow, now: Timestamp) -> (Verdict, Batch) {
        let mut batch = Batch::new();
        let [triplet_key, client_key] = look.keys;
        let [triplet_value, client_value] = look.values;
        let client = look
            .client
            .filter(|row| !is_past(row.last, self.options.lifetime, now));
        if let Some(mut row) = client.clone()
            && row.passed >= self.options.auto_allow
        {
            if is_stale(row.last, now) {
                row.last = now;
                batch.check(client_key.clone(), client_value);
                batch.put(client_key, row.encode());
            }
            return (Verdict::Known, batch);
        }
        let triplet = look.triplet.filter(|row| !self.triplet_over(row, now));
        let (verdict, row) = self.judge_triplet(triplet, named, now);
        if let Some(row) = row {
            batch.check(triplet_key.clone(), triplet_value);
            batch.put(triplet_key, row.encode());
        }
        if verdict == Verdict::Pass {
            let passed = client.map_or(0, |row| row.passed).saturating_add(1);
            let row = ClientRow {
                client: named.client.clone(),
                passed,
                last: now,
            };
            batch.check(client_key.clone(), client_value);
            batch.put(client_key, row.encode());
        }
        (verdict, batch)
    }

    /// The verdict on a triplet, and its row where that changes.
    fn judge_triplet(
        &self,
        known: Option<TripletRow>,
        named: &TripletRow,
        now: Timestamp,
    ) -> (Verdict, Option<TripletRow>) {
        let delay = self.options.delay;
        let Some(row) = known else {
            return (Verdict::New { wait: delay }, Some(named.clone()));
        };
        let seen = TripletRow {
            passed: Some(now),
            ..row.clone()
        };
        if let Some(last) = row.passed {
            return (Verdict::Known, is_stale(last, now).then_some(seen));
        }
        let since = now.millis().saturating_sub(row.since.millis());
        // Clocks of nodes differ: a first try that seems to lie ahead was just now.
        let waited = Duration::from_millis(u64::try_from(since).unwrap_or(0));
        match delay.checked_sub(waited) {
            Some(wait) if !wait.is_zero() => (Verdict::TooEarly { wait }, None),
            _ => (Verdict::Pass, Some(seen)),
        }
    }

    fn triplet_over(&self, row: &TripletRow, now: Timestamp) -> bool {
        match row.passed {
            Some(last) => is_past(last, self.options.lifetime, now),
            None => is_past(row.since, self.options.window, now),
        }
    }

    fn is_over(&self, key: &[u8], value: &[u8], now: Timestamp) -> bool {
        if key.starts_with(TRIPLET) {
            return TripletRow::decode(value).is_ok_and(|row| self.triplet_over(&row, now));
        }
        ClientRow::decode(value).is_ok_and(|row| is_past(row.last, self.options.lifetime, now))
    }

    fn entry(&self, key: Key, value: &[u8]) -> Option<GreylistEntry> {
        let (client, state) = if key.starts_with(TRIPLET) {
            let row = TripletRow::decode(value).ok()?;
            (row.client.clone(), row.into_state())
        } else {
            let row = ClientRow::decode(value).ok()?;
            let state = GreylistState::Network {
                passed: row.passed,
                allowed: row.passed >= self.options.auto_allow,
                last: row.last,
            };
            (row.client, state)
        };
        Some(GreylistEntry { key, client, state })
    }

    /// Commits; whether the checks held.
    async fn commit(&self, batch: Batch) -> Result<bool, EngineError> {
        match self.engine.commit(batch, Durability::Soon).await {
            Ok(()) => Ok(true),
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(CommitError::Engine(error)) => Err(error),
        }
    }

    /// Commits without the rows that others have changed meanwhile; how many were written.
    async fn commit_each(&self, mut batch: Batch) -> Result<usize, EngineError> {
        while !batch.is_empty() {
            match self.engine.commit(batch.clone(), Durability::Soon).await {
                Ok(()) => return Ok(batch.writes.len()),
                Err(CommitError::Conflict { key }) => {
                    batch.checks.retain(|check| check.key != key);
                    batch.writes.retain(|write| write.key != key);
                }
                Err(CommitError::Engine(error)) => return Err(error),
            }
        }
        Ok(0)
    }
}

/// Whether `lifetime` has gone by since `last`.
fn is_past(last: Timestamp, lifetime: Duration, now: Timestamp) -> bool {
    let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    now.millis().saturating_sub(last.millis()) > lifetime
}

fn is_stale(last: Timestamp, now: Timestamp) -> bool {
    now.millis().saturating_sub(last.millis()) >= REFRESH_MILLIS
}

fn recipient_text(recipient: &ForwardPath) -> String {
    match recipient {
        ForwardPath::Postmaster => "postmaster".into(),
        ForwardPath::Address(address) => address.lookup(),
    }
}

fn triplet_key(row: &TripletRow) -> RowKey {
    key(TRIPLET, &[&row.client, &row.sender, &row.recipient])
}

fn client_key(client: &str) -> RowKey {
    key(CLIENT, &[client])
}

fn key(kind: &[u8], parts: &[&str]) -> RowKey {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let mut key = kind.to_vec();
    key.extend(digest.as_bytes().iter().take(DIGEST_OCTETS));
    RowKey::new(Space::Access, key)
}
