//! What the tests share: engines over a server of their own, and rows that count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "tests, each of which uses a part of this"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nightmail_engine::{Batch, CommitError, Durability, Engine, RowKey, Space, Value};
use nightmail_postgres::{PostgresEngine, PostgresOptions, PostgresTls, init};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take that is to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Options for a test: nobody is waited for longer than a second or two.
pub fn options(url: &str) -> PostgresOptions {
    let mut options = PostgresOptions::new(url.parse().unwrap(), PostgresTls::None);
    options.acquire_timeout = Duration::from_secs(2);
    options.statement_timeout = Duration::from_secs(5);
    options
}

/// An engine over the database at `url`, which is made where it is missing.
pub async fn engine(url: &str) -> Arc<PostgresEngine> {
    init(&options(url)).await.unwrap();
    Arc::new(PostgresEngine::open(options(url)).await.unwrap())
}

/// The database at a port of this machine.
pub fn url(port: u16) -> String {
    format!("postgres://nightmail@127.0.0.1:{port}/nightmail")
}

pub fn row(space: Space, name: impl AsRef<str>) -> RowKey {
    RowKey::new(space, name.as_ref().as_bytes())
}

pub async fn get(engine: &PostgresEngine, key: &RowKey) -> Option<Value> {
    let keys = [key.clone()];
    engine.get_many(&keys).await.unwrap().remove(0)
}

pub fn number(value: Option<&Value>) -> u64 {
    value.map_or(0, |value| {
        std::str::from_utf8(value).unwrap().parse().unwrap()
    })
}

pub async fn commit(engine: &PostgresEngine, batch: Batch) -> Result<(), CommitError> {
    let done = timeout(PATIENCE, engine.commit(batch, Durability::Synced)).await;
    done.expect("a commit is answered")
}

pub async fn put(engine: &PostgresEngine, key: &RowKey, value: &str) {
    let mut batch = Batch::new();
    batch.put(key.clone(), value.to_owned());
    commit(engine, batch).await.unwrap();
}

/// A batch that takes a counting row from `old` to one more.
pub fn increment(key: &RowKey, old: u64) -> Batch {
    let mut batch = Batch::new();
    let expected = (old > 0).then(|| Value::from(old.to_string()));
    batch.check(key.clone(), expected);
    batch.put(key.clone(), (old + 1).to_string());
    batch
}

/// Waits until `done`, which is asked again and again.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

/// Tasks that each count a row of their own up, one commit after the other, and know how far they were told it came.
pub struct Load {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Load {
    pub fn start(engine: &Arc<PostgresEngine>, tasks: u64) -> Self {
        let (stop, total) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let tasks = (0..tasks)
            .map(|task| {
                let (engine, stop, total) = (engine.clone(), stop.clone(), total.clone());
                tokio::spawn(async move {
                    let key = load_row(task);
                    let mut count = 0;
                    while !stop.load(Ordering::SeqCst) {
                        match engine
                            .commit(increment(&key, count), Durability::Synced)
                            .await
                        {
                            Ok(()) => {
                                count += 1;
                                total.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(CommitError::Engine(_)) => tokio::task::yield_now().await,
                            Err(conflict) => panic!("nobody else writes the row: {conflict}"),
                        }
                    }
                    count
                })
            })
            .collect();
        Self { stop, total, tasks }
    }

    /// Waits until `more` commits have been answered.
    pub async fn progress(&self, more: u64) {
        let goal = self.total.load(Ordering::SeqCst) + more;
        until("commits go on", async || {
            self.total.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    /// Ends the tasks and compares what they were told with what `engine` holds.
    pub async fn check(self, engine: &PostgresEngine) {
        self.stop.store(true, Ordering::SeqCst);
        for (task, counting) in self.tasks.into_iter().enumerate() {
            let told = timeout(PATIENCE, counting).await.unwrap().unwrap();
            let held = get(engine, &load_row(task as u64)).await;
            assert_eq!(number(held.as_ref()), told, "row {task}");
        }
    }
}

fn load_row(task: u64) -> RowKey {
    row(Space::Mailbox, format!("load {task}"))
}

/// Numbers that are the same in every run.
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
