//! Tests of the embedded engine: the suite, crashes, full disks and kills.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::conformance;

fn open(dir: &Path) -> EmbeddedEngine {
    EmbeddedEngine::open(dir, EmbeddedOptions::default()).unwrap()
}

/// Buffers so small that tables are written and merged all the time.
fn open_small(dir: &Path) -> EmbeddedEngine {
    let options = EmbeddedOptions {
        memtable_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        ..EmbeddedOptions::default()
    };
    EmbeddedEngine::open(dir, options).unwrap()
}

fn batch(lane: u32, number: u32) -> Batch {
    let mut batch = Batch::new();
    for space in [Space::Mailbox, Space::Message, Space::Change, Space::Blob] {
        let mut key = lane.to_be_bytes().to_vec();
        key.extend_from_slice(&number.to_be_bytes());
        let value = format!("{space} {lane} {number} ").repeat(8);
        batch.put(RowKey::new(space, key), value);
    }
    batch
}

async fn read_back(engine: &EmbeddedEngine, lane: u32, number: u32) -> usize {
    let writes = batch(lane, number).writes;
    let keys: Vec<RowKey> = writes.iter().map(|write| write.key.clone()).collect();
    let values = engine.get_many(&keys).await.unwrap();
    let rows = writes.into_iter().zip(values);
    rows.filter(|(write, value)| {
        assert!(value.is_none() || *value == write.value);
        value.is_some()
    })
    .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(open(dir.path())), 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_while_tables_are_written_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(open_small(dir.path())), 20_000).await;
}

/// A snapshot taken while a batch was being applied saw part of it when a table was written at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_whole_batches_while_tables_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let engine: Arc<dyn Engine> = Arc::new(open_small(dir.path()));
    let filler = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            for number in 0.. {
                let done = engine.commit(batch(9, number), Durability::Soon).await;
                done.unwrap();
            }
        })
    };
    for _ in 0..20 {
        conformance::scans_see_whole_batches(&engine).await;
    }
    filler.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn it_conforms_over_a_million_rows() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(open(dir.path())), 1_000_000).await;
}

#[tokio::test]
async fn rows_are_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5 {
        let engine = open_small(dir.path());
        for before in 0..number {
            assert_eq!(read_back(&engine, 0, before).await, 4);
        }
        let durability = match number % 2 {
            0 => Durability::Synced,
            _ => Durability::Soon,
        };
        engine.commit(batch(0, number), durability).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = EmbeddedEngine::open(dir.path(), EmbeddedOptions::default());
    assert!(matches!(second.err(), Some(EngineError::Locked(_))));
    drop(first);
    open(dir.path());
}

#[tokio::test]
async fn waiting_batches_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(open(dir.path()));
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.commit(batch(0, number), Durability::Synced).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let stats = engine.stats();
    assert_eq!(stats.commits, 200);
    assert!(stats.syncs < 100, "{} syncs for 200 commits", stats.syncs);
}

/// A log whose last batch is there with a wrong byte made the store refuse to open: a power loss can leave one
/// when the disk writes blocks out of order.
#[tokio::test]
async fn a_last_batch_with_wrong_bytes_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    for number in 0..10 {
        let done = engine.commit(batch(0, number), Durability::Synced).await;
        done.unwrap();
    }
    drop(engine);
    let log = dir.path().join("0.jnl");
    let mut bytes = std::fs::read(&log).unwrap();
    let mark = b"blob 0 9 ";
    let at = bytes
        .windows(mark.len())
        .rposition(|window| window == mark)
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let engine = open(dir.path());
    for number in 0..9 {
        assert_eq!(read_back(&engine, 0, number).await, 4);
    }
    assert_eq!(read_back(&engine, 0, 9).await, 0);
    let kept = std::fs::read(log.with_extension("cut")).unwrap();
    assert!(kept.windows(8).any(|window| window == b"lob 0 9 "));
    let done = engine.commit(batch(0, 9), Durability::Synced).await;
    done.unwrap();
    drop(engine);
    assert_eq!(read_back(&open(dir.path()), 0, 9).await, 4);
}

/// What a power loss leaves of a log: its end missing, or a block of it never written.
#[tokio::test]
async fn a_log_torn_anywhere_leaves_the_batches_before_and_half_of_none() {
    const BATCHES: u32 = 40;
    const BLOCK: usize = 4096;
    let whole = tempfile::tempdir().unwrap();
    let engine = open(whole.path());
    for number in 0..BATCHES {
        let mut batch = batch(0, number);
        let large = RowKey::new(Space::BlobMeta, number.to_be_bytes());
        batch.put(large, vec![number as u8; 6000]);
        engine.commit(batch, Durability::Synced).await.unwrap();
    }
    drop(engine);
    let log = std::fs::read(whole.path().join("0.jnl")).unwrap();
    let used = log.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let torn = (0..used).step_by(BLOCK).flat_map(|at| {
        let mut hole = log[..used].to_vec();
        hole[at..used.min(at + BLOCK)].fill(0);
        [log[..at + 1234 % (used - at)].to_vec(), hole]
    });
    for log in torn {
        std::fs::write(whole.path().join("0.jnl"), log).unwrap();
        let engine = open(whole.path());
        let mut present = Vec::new();
        for number in 0..BATCHES {
            let found = read_back(&engine, 0, number).await;
            assert!(found == 0 || found == 4, "batch {number} is torn");
            present.push(found == 4);
        }
        assert!(present.is_sorted_by(|a, b| a >= b), "no gap: {present:?}");
        let last = batch(0, BATCHES);
        engine.commit(last, Durability::Synced).await.unwrap();
    }
}

#[tokio::test]
async fn a_rewritten_log_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    engine
        .commit(batch(0, 0), Durability::Synced)
        .await
        .unwrap();
    drop(engine);
    let before = std::fs::read(dir.path().join("0.jnl")).unwrap();
    redo_log::rewrite(dir.path()).unwrap();
    let after = std::fs::read(dir.path().join("0.jnl")).unwrap();
    assert!(before == after);
    redo_log::probe(dir.path()).unwrap();
    assert_eq!(read_back(&open(dir.path()), 0, 0).await, 4);
}

/// A file system of 24 MiB for one test; `None`, visibly, where mounting is not allowed.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(dir.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: a tmpfs cannot be mounted here");
        None
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_tables_are_written_is_got_over() {
    full_disk(16 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_the_log_is_written_is_got_over() {
    full_disk(24_000_000).await;
}

/// Refuses writes while the disk is full, loses nothing, and takes writes again when there is space.
async fn full_disk(ballast_bytes: usize) {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let store = disk.0.path().join("store");
    let engine = open_small(&store);
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; ballast_bytes]).unwrap();

    let mut acknowledged = 0;
    let refusal = loop {
        match engine
            .commit(batch(0, acknowledged), Durability::Synced)
            .await
        {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100_000, "the disk never fills");
    };
    eprintln!("full after {acknowledged} batches: {refusal}");
    let refused = engine.commit(batch(1, 0), Durability::Synced).await;
    assert!(
        matches!(refused, Err(CommitError::Engine(EngineError::Full(_)))),
        "{refused:?}"
    );
    for number in 0..acknowledged {
        assert_eq!(read_back(&engine, 0, number).await, 4, "still readable");
    }

    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = engine.commit(batch(2, 0), Durability::Synced).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(engine.stats().reopens, 1);
    drop(engine);
    let engine = open_small(&store);
    for number in 0..acknowledged {
        assert_eq!(read_back(&engine, 0, number).await, 4, "never lost");
    }
    assert_eq!(read_back(&engine, 2, 0).await, 4);
}

const CHILD_DIR: &str = "NIGHTMAIL_ENGINE_CHILD_DIR";
const LANES: u32 = 4;

/// The process that is killed: commits batch after batch and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_killed_writer_loses_no_acknowledged_batch"]
async fn killed_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let engine = Arc::new(open_small(Path::new(&dir)));
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let range = KeyRange::prefix(&lane.to_be_bytes());
                let last = engine
                    .scan(Space::Blob, range, Order::Descending, 1)
                    .await
                    .unwrap();
                let next = last.first().map_or(0, |(key, _)| {
                    u32::from_be_bytes(key[4..8].try_into().unwrap()) + 1
                });
                for number in next.. {
                    let done = engine.commit(batch(lane, number), Durability::Synced).await;
                    done.unwrap();
                    let line = format!("\nack {lane} {number}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

/// Runs the child for a while, kills it, and returns the last acknowledged batch of each lane.
fn run_and_kill(dir: &Path, millis: u64) -> BTreeMap<u32, u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::killed_child"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["ack", lane, number] = words[..]
                && let (Ok(lane), Ok(number)) = (lane.parse(), number.parse::<u32>())
            {
                acknowledged.insert(lane, number);
            }
        }
        acknowledged
    });
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test]
async fn a_killed_writer_loses_no_acknowledged_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..10 {
        let acknowledged = run_and_kill(dir.path(), 150 + 37 * round);
        let engine = open_small(dir.path());
        for (&lane, &last) in &acknowledged {
            for number in 0..=last {
                assert_eq!(read_back(&engine, lane, number).await, 4);
            }
            let next = read_back(&engine, lane, last + 1).await;
            assert!(next == 0 || next == 4, "batch {} is torn", last + 1);
        }
        total = acknowledged.values().map(|last| last + 1).sum();
    }
    eprintln!("{total} batches acknowledged over 10 kills");
    assert!(total > 20, "the child got nothing done");
}

/// Figures for the defaults: run with `--ignored --nocapture measure`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_groups_of_64_deliveries() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mebibytes = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let mut options = EmbeddedOptions::default();
    if let Some(size) = mebibytes("MEMTABLE_MIB") {
        options.memtable_bytes = size << 20;
    }
    let engine = EmbeddedEngine::open(dir.path(), options).unwrap();
    let groups = mebibytes("GROUPS").unwrap_or(1000);
    let (mut times, start) = (Vec::new(), Instant::now());
    for group in 0..groups {
        let mut batch = Batch::new();
        for message in group * 64..group * 64 + 64 {
            delivery(&mut batch, message);
        }
        let begin = Instant::now();
        engine.commit(batch, Durability::Synced).await.unwrap();
        times.push(begin.elapsed());
    }
    let total = start.elapsed();
    times.sort_unstable();
    eprintln!(
        "{groups} groups: {:?} each, median {:?}, p99 {:?}, worst {:?}; {:.0} messages/s; {}; disk {} MiB",
        total / groups as u32,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        groups as f64 * 64.0 / total.as_secs_f64(),
        resident(),
        engine.disk_bytes().unwrap() >> 20,
    );
    let start = Instant::now();
    for probe in 0..20_000u64 {
        let message = scatter(probe) % (groups * 64);
        let keys = [RowKey::new(Space::Blob, blob(message))];
        assert!(engine.get_many(&keys).await.unwrap()[0].is_some());
    }
    eprintln!(
        "{:?} a point read; {}",
        start.elapsed() / 20_000,
        resident()
    );
    let start = Instant::now();
    let mut rows = 0;
    for mailbox in 0..100u64 {
        let range = KeyRange::prefix(&mailbox.to_be_bytes());
        let found = engine
            .scan(Space::Message, range, Order::Ascending, 5000)
            .await;
        rows += found.unwrap().len() as u32;
    }
    eprintln!(
        "{:?} a row scanned of {rows}; {}",
        start.elapsed() / rows,
        resident()
    );
    drop(engine);
    let start = Instant::now();
    let engine = open(dir.path());
    eprintln!("{:?} to open again; {}", start.elapsed(), resident());
    drop(engine);
}

fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn blob(message: u64) -> Vec<u8> {
    (0..4)
        .flat_map(|part| scatter(message * 4 + part).to_be_bytes())
        .collect()
}

fn delivery(batch: &mut Batch, message: u64) {
    let mailbox = scatter(message) % 1000;
    let in_mailbox = |number: u64| [mailbox.to_be_bytes(), number.to_be_bytes()].concat();
    batch
        .put(
            RowKey::new(Space::Mailbox, mailbox.to_be_bytes()),
            vec![7; 80],
        )
        .put(
            RowKey::new(Space::Message, in_mailbox(message)),
            [blob(message), vec![9; 120]].concat(),
        )
        .put(RowKey::new(Space::Change, in_mailbox(message)), vec![1; 8])
        .put(RowKey::new(Space::Blob, blob(message)), vec![3; 20])
        .put(
            RowKey::new(Space::BlobMeta, blob(message)),
            format!("{message} from to subject date ").repeat(12),
        )
        .put(
            RowKey::new(Space::Link, [blob(message), in_mailbox(message)].concat()),
            Value::new(),
        );
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    line.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
