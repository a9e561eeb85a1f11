//! What several nodes share: an engine and a heap, as each node sees them.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use nightmail_engine::{
    Batch, BoxFuture, CommitError, Durability, EmbeddedEngine, EmbeddedOptions, Engine,
    EngineError, EngineStats, Key, KeyRange, MemoryEngine, Order, RowKey, Space, Value,
};
use nightmail_heap::{Heap, HeapKey, HeapOptions, MemoryPacks, PackOptions, PackStore};
use nightmail_postgres::{PostgresEngine, PostgresOptions, PostgresTls, init};
use nightmail_testbed::postgres::Postgres;
use parking_lot::Mutex;

use super::random::Random;

pub const NODES: usize = 3;

/// Small segments, so that there is something to compact.
const SEGMENT_BYTES: u64 = 24 << 10;

pub struct Ground {
    /// The engine and the heap of each node.
    pub nodes: Vec<(Arc<dyn Engine>, Heap)>,
    /// What can be told to fail.
    pub faults: Option<Faults>,
    /// Directories and servers that end with it.
    _kept: Vec<Box<dyn Any + Send + Sync>>,
}

#[derive(Clone)]
pub struct Faults {
    pub rows: Arc<MemoryEngine>,
    pub packs: Arc<MemoryPacks>,
}

impl Ground {
    /// Rows in memory, with other tasks let in before and after each call, and one heap of segments.
    pub fn memory(random: &mut Random) -> Self {
        let rows = Arc::new(MemoryEngine::new());
        let dir = folder();
        let heap = segments(dir.path());
        let node = || (jittery(&rows, random), heap.clone());
        Self {
            nodes: std::iter::repeat_with(node).take(NODES).collect(),
            faults: None,
            _kept: vec![Box::new(dir)],
        }
    }

    /// The same over packs.
    pub fn packs(random: &mut Random) -> Self {
        Self::over_packs(random).0
    }

    /// The same; some commits fail, of which some took effect, and so do calls for packs.
    pub fn failing(random: &mut Random) -> Self {
        let (mut ground, faults) = Self::over_packs(random);
        ground.faults = Some(faults);
        ground
    }

    fn over_packs(random: &mut Random) -> (Self, Faults) {
        let faults = Faults {
            rows: Arc::new(MemoryEngine::new()),
            packs: Arc::new(MemoryPacks::new()),
        };
        let dir = folder();
        let node = |place| {
            let packs = Arc::clone(&faults.packs) as Arc<dyn PackStore>;
            let heap = packed(packs, HeapKey::new([3; 32]), dir.path(), place);
            (jittery(&faults.rows, random), heap)
        };
        let ground = Self {
            nodes: (0..NODES).map(node).collect(),
            faults: None,
            _kept: vec![Box::new(dir)],
        };
        (ground, faults)
    }

    /// Rows on disk, shared within the process.
    pub fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = dir.path().join("rows");
        let engine: Arc<dyn Engine> =
            Arc::new(EmbeddedEngine::open(rows, EmbeddedOptions::default()).unwrap());
        let heap = segments(&dir.path().join("heap"));
        Self {
            nodes: vec![(engine, heap); NODES],
            faults: None,
            _kept: vec![Box::new(dir)],
        }
    }

    /// Rows and packs in PostgreSQL, over connections of each node's own. `None` where it is not installed.
    pub async fn postgres() -> Option<Self> {
        let server = Postgres::start()?;
        let options = PostgresOptions::new(server.url().parse().unwrap(), PostgresTls::None);
        init(&options).await.unwrap();
        let dir = folder();
        let mut nodes = Vec::new();
        for place in 0..NODES {
            let engine = Arc::new(PostgresEngine::open(options.clone()).await.unwrap());
            let packs = Arc::new(engine.packs());
            let heap = packed(packs, engine.heap_key(), dir.path(), place);
            nodes.push((engine as Arc<dyn Engine>, heap));
        }
        Some(Self {
            nodes,
            faults: None,
            _kept: vec![Box::new(server), Box::new(dir)],
        })
    }
}

fn segments(dir: &Path) -> Heap {
    let options = HeapOptions {
        segment_bytes: SEGMENT_BYTES,
        ..HeapOptions::default()
    };
    Heap::open(dir, options).unwrap()
}

/// The heap of a node; every second one has a cache.
fn packed(packs: Arc<dyn PackStore>, key: HeapKey, dir: &Path, place: usize) -> Heap {
    let mut options = PackOptions::new(dir.join(format!("spill-{place}")));
    if place.is_multiple_of(2) {
        options.cache_dir = Some(dir.join(format!("cache-{place}")));
    }
    Heap::open_packs(packs, key, options).unwrap()
}

/// A folder in memory where there is one.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()),
        false => tempfile::tempdir(),
    }
    .unwrap()
}

fn jittery(rows: &Arc<MemoryEngine>, random: &mut Random) -> Arc<dyn Engine> {
    Arc::new(Jitter {
        rows: Arc::clone(rows),
        random: Mutex::new(random.fork()),
    })
}

/// Lets other tasks in before and after each call, as a network would.
struct Jitter {
    rows: Arc<MemoryEngine>,
    random: Mutex<Random>,
}

impl Jitter {
    async fn pause(&self) {
        let times = self.random.lock().below(4);
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }
}

impl Engine for Jitter {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move {
            self.pause().await;
            let found = self.rows.get_many(keys).await;
            self.pause().await;
            found
        })
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>> {
        Box::pin(async move {
            self.pause().await;
            let found = self.rows.scan(space, range, order, limit).await;
            self.pause().await;
            found
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            self.pause().await;
            let done = self.rows.commit(batch, durability).await;
            self.pause().await;
            done
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        self.rows.sync()
    }

    fn stats(&self) -> EngineStats {
        self.rows.stats()
    }
}
