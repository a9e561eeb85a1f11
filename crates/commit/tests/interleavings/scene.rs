//! Scenes: what was there before, and what each actor does; and the judgement over what they leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{BlobRow, ReclaimOptions, Reclaimer, now};
use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{Engine, KeyRange, MemoryEngine, Order, Space};
use nightmail_heap::{Heap, HeapKey, HeapOptions};
use tokio::task::JoinHandle;

use super::acts::{Act, Node, blob_of, run};
use super::gate::Gate;

/// A scene with one list of acts for each actor.
pub struct Scene {
    pub name: &'static str,
    /// Done before, one after the other.
    pub before: Vec<Act>,
    pub actors: Vec<Vec<Act>>,
    /// Whether one schedule stands for all that differ in the order of calls that commute. Not where the heap's
    /// state matters: the footprints know of rows only.
    pub reduced: bool,
}

/// One performance of a scene.
pub struct Stage {
    pub gate: Arc<Gate>,
    rows: Arc<MemoryEngine>,
    heap: Heap,
    actors: Vec<JoinHandle<()>>,
    wrong: Arc<parking_lot::Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

/// Runs of the reclaimer at the end until nothing can be left.
const LAST_RUNS: i64 = 6;
const HOUR_MILLIS: i64 = 3_600_000;

impl Stage {
    /// Does what comes before and starts the actors.
    pub async fn new(scene: &Scene) -> Self {
        let dir = folder();
        let options = HeapOptions {
            key: Some(HeapKey::new([7; 32])),
            segment_bytes: 1,
            ..HeapOptions::default()
        };
        let heap = Heap::open(dir.path(), options).unwrap();
        let rows = Arc::new(MemoryEngine::new());
        let node = Node::new(Arc::clone(&rows) as Arc<dyn Engine>, heap.clone(), now());
        for act in &scene.before {
            run(act, &node).await.unwrap();
        }
        let start = last_moment();
        let gate = Gate::new(scene.actors.len());
        let wrong = Arc::default();
        let mut stage = Self {
            gate,
            rows,
            heap,
            actors: Vec::new(),
            wrong,
            _dir: dir,
        };
        for (actor, acts) in scene.actors.iter().enumerate() {
            stage.start(actor, acts.clone(), start);
        }
        stage
    }

    fn start(&mut self, actor: usize, acts: Vec<Act>, start: Timestamp) {
        let engine = self.gate.engine(actor, &self.rows);
        let node = Node::new(engine, self.heap.clone(), start);
        let (gate, wrong) = (Arc::clone(&self.gate), Arc::clone(&self.wrong));
        self.actors.push(tokio::spawn(async move {
            for act in &acts {
                if let Err(error) = run(act, &node).await {
                    wrong.lock().push(format!("{act:?}: {error}"));
                }
            }
            gate.done(actor);
        }));
    }

    /// What is wrong with what the actors left, before and after everything unreferenced is reclaimed.
    pub async fn judge(self) -> Result<(), String> {
        let wrong = std::mem::take(&mut *self.wrong.lock());
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        self.judge_messages("at the end").await?;
        let options = ReclaimOptions {
            grace_millis: 0,
            blobs_max: 100,
        };
        let reclaimer = Reclaimer::new(Arc::clone(&self.rows) as Arc<dyn Engine>, options);
        for run in 1..=LAST_RUNS {
            let later = now().plus_millis(100 * HOUR_MILLIS * run);
            reclaimer.run_once(later).await.unwrap();
        }
        self.judge_messages("after reclaiming").await?;
        self.judge_leaks().await
    }

    /// Every message row has its link, its blob row and its bytes.
    async fn judge_messages(&self, when: &str) -> Result<(), String> {
        let blobs = self.all(Space::Blob).await;
        let links = self.all(Space::Link).await;
        for (uid, blob) in self.messages().await {
            let link = blob_of::link(blob, uid);
            if !links.contains_key(&link) {
                return Err(format!("{when}: message {uid} has no link"));
            }
            let Some(row) = blobs.get(blob.as_bytes().as_slice()) else {
                return Err(format!("{when}: message {uid} has no blob row"));
            };
            let row = BlobRow::decode(row).unwrap();
            let bytes = self.heap.read(&row.location, 0..u64::MAX).await;
            let bytes = bytes.map_err(|error| format!("{when}: message {uid}: {error}"))?;
            if blob_of::id(&self.heap, &bytes) != blob {
                return Err(format!("{when}: message {uid} reads as other bytes"));
            }
        }
        match links.len() == self.messages().await.len() {
            true => Ok(()),
            false => Err(format!("{when}: {} links", links.len())),
        }
    }

    /// No blob is kept that nothing refers to.
    async fn judge_leaks(&self) -> Result<(), String> {
        let linked: BTreeSet<Vec<u8>> = self
            .messages()
            .await
            .values()
            .map(|blob| blob.as_bytes().to_vec())
            .collect();
        for space in [Space::Blob, Space::BlobMeta] {
            let kept: BTreeSet<Vec<u8>> = self.all(space).await.into_keys().collect();
            if kept != linked {
                return Err(format!(
                    "{} rows of {space} for {} blobs referred to",
                    kept.len(),
                    linked.len()
                ));
            }
        }
        match self.all(Space::Condemned).await.len() {
            0 => Ok(()),
            left => Err(format!("{left} blobs stay condemned")),
        }
    }

    async fn messages(&self) -> BTreeMap<u32, BlobId> {
        let rows = self.all(Space::Message).await;
        rows.iter().map(blob_of::message).collect()
    }

    async fn all(&self, space: Space) -> BTreeMap<Vec<u8>, Bytes> {
        let rows = self
            .rows
            .scan(space, KeyRange::all(), Order::Ascending, usize::MAX);
        rows.await.unwrap().into_iter().collect()
    }
}

/// A folder in memory where there is one: thousands of heaps are made.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()),
        false => tempfile::tempdir(),
    }
    .unwrap()
}

/// The last moment before what the actors write: a compaction as of then has a grace period that covers all of it.
fn last_moment() -> Timestamp {
    let start = now();
    while now() <= start {
        std::hint::spin_loop();
    }
    start
}
