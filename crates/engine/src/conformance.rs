//! The suite that every engine must pass.
//!
//! [`run`] takes an empty engine and panics at the first promise that does not hold.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a check that fails must panic, as a test does"
)]

use std::sync::Arc;

use crate::{Batch, CommitError, Durability, Engine, Key, KeyRange, Order, RowKey, Space, Value};

/// Runs every check on `engine`, which must be empty; the paged scan goes over `scan_rows` rows.
pub async fn run(engine: Arc<dyn Engine>, scan_rows: u32) {
    let engine_ref = &*engine;
    rows_read_back(engine_ref).await;
    spaces_are_apart(engine_ref).await;
    keys_are_ordered_as_bytes(engine_ref).await;
    ranges_limits_and_order_hold(engine_ref).await;
    checks_hold_or_nothing_happens(engine_ref).await;
    later_writes_of_a_batch_count(engine_ref).await;
    empty_and_large_are_rows_too(engine_ref).await;
    oversized_rows_are_refused(engine_ref).await;
    soon_is_visible_at_once(engine_ref).await;
    scans_see_whole_batches(&engine).await;
    increments_add_up(&engine).await;
    pages_cover_everything_once(engine_ref, scan_rows).await;
    counters_count(engine_ref).await;
}

fn key(space: Space, key: impl Into<Key>) -> RowKey {
    RowKey::new(space, key)
}

async fn put(engine: &dyn Engine, at: RowKey, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(at, value.to_vec());
    commit(engine, batch).await.expect("a put commits");
}

async fn commit(engine: &dyn Engine, batch: Batch) -> Result<(), CommitError> {
    engine.commit(batch, Durability::Synced).await
}

async fn get(engine: &dyn Engine, at: &RowKey) -> Option<Value> {
    let keys = [at.clone()];
    let mut values = engine.get_many(&keys).await.expect("a get succeeds");
    assert_eq!(values.len(), 1, "one value for one key");
    values.remove(0)
}

async fn keys(engine: &dyn Engine, space: Space, range: KeyRange, order: Order) -> Vec<Key> {
    let rows = engine.scan(space, range, order, usize::MAX).await;
    let rows = rows.expect("a scan succeeds");
    rows.into_iter().map(|(key, _)| key).collect()
}

/// What is put is got, in the order asked for; what is deleted is gone and may be put again.
pub async fn rows_read_back(engine: &dyn Engine) {
    let (a, b) = (key(Space::Meta, "a"), key(Space::Meta, "b"));
    put(engine, a.clone(), b"one").await;
    let asked = [b.clone(), a.clone(), a.clone()];
    let values = engine.get_many(&asked).await.expect("a get succeeds");
    let one = Some(Value::from_static(b"one"));
    assert_eq!(values, [None, one.clone(), one]);
    assert_eq!(engine.get_many(&[]).await.expect("no keys, no values"), []);

    let mut batch = Batch::new();
    batch.delete(a.clone()).delete(b.clone());
    commit(engine, batch).await.expect("a delete commits");
    assert_eq!(get(engine, &a).await, None);
    put(engine, a.clone(), b"two").await;
    assert_eq!(get(engine, &a).await.as_deref(), Some(&b"two"[..]));
}

/// The same key in two spaces is two rows, and scans stay in their space; one batch may write to all.
pub async fn spaces_are_apart(engine: &dyn Engine) {
    let mut batch = Batch::new();
    for space in Space::ALL {
        batch.put(key(space, "shared"), space.name());
    }
    commit(engine, batch).await.expect("a wide batch commits");
    for space in Space::ALL {
        let value = get(engine, &key(space, "shared")).await;
        assert_eq!(value.as_deref(), Some(space.name().as_bytes()));
        let rows = engine.scan(
            space,
            KeyRange::prefix(b"shared"),
            Order::Ascending,
            usize::MAX,
        );
        let rows = rows.await.expect("a scan succeeds");
        assert_eq!(rows.len(), 1, "{space}");
    }
}

/// Keys of any bytes and lengths are ordered as byte strings, a prefix before what it begins.
pub async fn keys_are_ordered_as_bytes(engine: &dyn Engine) {
    let mut expected: Vec<Key> = vec![vec![], vec![0], vec![0, 0], vec![0, 255], vec![255, 255]];
    expected.extend((1..=255).map(|byte| vec![byte]));
    expected.extend((0..=255).map(|byte| vec![7, byte, 0]));
    expected.push(vec![0xab; RowKey::KEY_BYTES_MAX]);
    let mut batch = Batch::new();
    for each in expected.iter().rev() {
        batch.put(key(Space::Name, each.clone()), Value::new());
    }
    commit(engine, batch).await.expect("a put commits");
    expected.push(b"shared".to_vec());
    expected.sort();
    let found = keys(engine, Space::Name, KeyRange::all(), Order::Ascending).await;
    assert_eq!(found, expected);
    expected.reverse();
    let found = keys(engine, Space::Name, KeyRange::all(), Order::Descending).await;
    assert_eq!(found, expected);
}

/// Ranges include their start and not their end; limits cut at the end that the order begins from.
pub async fn ranges_limits_and_order_hold(engine: &dyn Engine) {
    let mut batch = Batch::new();
    for index in 0..20u8 {
        batch.put(key(Space::Change, vec![b'r', index]), vec![index]);
    }
    commit(engine, batch).await.expect("a put commits");
    for from in 0..21u8 {
        for to in 0..21u8 {
            let range = KeyRange {
                from: vec![b'r', from],
                to: Some(vec![b'r', to]),
            };
            for limit in [0, 1, 3, 100] {
                let mut expected: Vec<u8> = (from..to.min(20)).collect();
                let found = values(engine, range.clone(), Order::Ascending, limit).await;
                assert_eq!(
                    found,
                    expected.iter().copied().take(limit).collect::<Vec<_>>()
                );
                expected.reverse();
                let found = values(engine, range.clone(), Order::Descending, limit).await;
                assert_eq!(
                    found,
                    expected.iter().copied().take(limit).collect::<Vec<_>>()
                );
            }
        }
    }
}

async fn values(engine: &dyn Engine, range: KeyRange, order: Order, limit: usize) -> Vec<u8> {
    let rows = engine.scan(Space::Change, range, order, limit).await;
    let rows = rows.expect("a scan succeeds");
    rows.into_iter().map(|(_, value)| value[0]).collect()
}

/// A batch whose checks hold is applied; one with any check that does not is not, not even in part.
pub async fn checks_hold_or_nothing_happens(engine: &dyn Engine) {
    let (held, other) = (key(Space::Account, "held"), key(Space::Due, "other"));
    put(engine, held.clone(), b"1").await;
    let attempt = |expected: Option<&'static [u8]>| {
        let mut batch = Batch::new();
        batch
            .put(other.clone(), "written")
            .check(held.clone(), expected.map(Value::from_static))
            .put(held.clone(), "2");
        batch
    };
    for wrong in [None, Some(&b""[..]), Some(&b"2"[..]), Some(&b"11"[..])] {
        let refused = commit(engine, attempt(wrong)).await;
        assert_eq!(refused, Err(CommitError::Conflict { key: held.clone() }));
        assert_eq!(get(engine, &held).await.as_deref(), Some(&b"1"[..]));
        assert_eq!(get(engine, &other).await, None, "nothing of the batch");
    }
    let applied = commit(engine, attempt(Some(b"1"))).await;
    assert_eq!(applied, Ok(()));
    assert_eq!(get(engine, &held).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(get(engine, &other).await.as_deref(), Some(&b"written"[..]));
    absence_is_checked(engine, held).await;
}

async fn absence_is_checked(engine: &dyn Engine, held: RowKey) {
    let create = || {
        let mut batch = Batch::new();
        batch.check(held.clone(), None).put(held.clone(), "new");
        batch
    };
    let refused = commit(engine, create()).await;
    assert_eq!(refused, Err(CommitError::Conflict { key: held.clone() }));
    let mut batch = Batch::new();
    batch.delete(held.clone());
    commit(engine, batch).await.expect("a delete commits");
    let created = commit(engine, create()).await;
    assert_eq!(created, Ok(()), "a deleted row is absent");
    let mut batch = Batch::new();
    batch.check(held.clone(), Some(Value::from_static(b"2")));
    let refused = commit(engine, batch).await;
    assert_eq!(
        refused,
        Err(CommitError::Conflict { key: held }),
        "a batch of checks alone is checked, and an old value does not come back"
    );
}

/// When two writes of a batch name one row, the later counts.
pub async fn later_writes_of_a_batch_count(engine: &dyn Engine) {
    let (kept, gone) = (key(Space::Link, "kept"), key(Space::Link, "gone"));
    let mut batch = Batch::new();
    batch
        .put(kept.clone(), "first")
        .put(gone.clone(), "first")
        .delete(kept.clone())
        .put(kept.clone(), "last")
        .delete(gone.clone());
    commit(engine, batch).await.expect("the batch commits");
    assert_eq!(get(engine, &kept).await.as_deref(), Some(&b"last"[..]));
    assert_eq!(get(engine, &gone).await, None);
}

/// An empty batch commits; an empty value is not an absent one; a value of 1 MiB reads back.
pub async fn empty_and_large_are_rows_too(engine: &dyn Engine) {
    let outcome = commit(engine, Batch::new()).await;
    assert_eq!(outcome, Ok(()));
    let (empty, large) = (key(Space::BlobMeta, "empty"), key(Space::BlobMeta, "large"));
    put(engine, empty.clone(), b"").await;
    assert_eq!(get(engine, &empty).await.as_deref(), Some(&b""[..]));
    let mut batch = Batch::new();
    batch.check(empty.clone(), None);
    let refused = commit(engine, batch).await;
    assert_eq!(refused, Err(CommitError::Conflict { key: empty }));

    let value: Vec<u8> = (0..1_048_576u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    put(engine, large.clone(), &value).await;
    assert!(get(engine, &large).await.as_deref() == Some(&value[..]));
    let mut batch = Batch::new();
    batch.check(large, Some(value.into()));
    assert_eq!(commit(engine, batch).await, Ok(()));
}

/// A key that is too long is refused, and nothing of its batch is written.
pub async fn oversized_rows_are_refused(engine: &dyn Engine) {
    let beside = key(Space::Queue, "beside");
    let mut batch = Batch::new();
    batch
        .put(beside.clone(), "x")
        .put(key(Space::Queue, vec![1; RowKey::KEY_BYTES_MAX + 1]), "x");
    let refused = commit(engine, batch).await;
    assert!(matches!(refused, Err(CommitError::Engine(_))));
    assert_eq!(get(engine, &beside).await, None);
}

/// A batch that may reach the disk later is seen at once, in its order with synced ones.
pub async fn soon_is_visible_at_once(engine: &dyn Engine) {
    let row = key(Space::Message, "soon");
    for round in 0..50u8 {
        let durability = match round % 3 {
            0 => Durability::Synced,
            _ => Durability::Soon,
        };
        let mut batch = Batch::new();
        batch.put(row.clone(), vec![round]);
        let done = engine.commit(batch, durability).await;
        assert_eq!(done, Ok(()));
        assert_eq!(get(engine, &row).await.as_deref(), Some(&[round][..]));
    }
    assert_eq!(engine.sync().await, Ok(()));
    assert_eq!(
        engine.sync().await,
        Ok(()),
        "a second sync has nothing to do"
    );
    assert_eq!(get(engine, &row).await.as_deref(), Some(&[49][..]));
}

/// A scan and a get_many each see all of a batch or nothing of it.
pub async fn scans_see_whole_batches(engine: &Arc<dyn Engine>) {
    let names: Vec<RowKey> = (0..8u8).map(|n| key(Space::Queue, vec![b'w', n])).collect();
    let writer = {
        let (engine, names) = (Arc::clone(engine), names.clone());
        tokio::spawn(async move {
            for round in 0..=255u8 {
                let mut batch = Batch::new();
                for name in &names {
                    batch.put(name.clone(), vec![round]);
                }
                let done = engine.commit(batch, Durability::Soon).await;
                done.expect("a put commits");
                tokio::task::yield_now().await;
            }
        })
    };
    while !writer.is_finished() {
        let range = KeyRange::prefix(b"w");
        let rows = engine
            .scan(Space::Queue, range, Order::Ascending, 100)
            .await;
        let rows = rows.expect("a scan succeeds");
        assert!(rows.is_empty() || rows.len() == names.len());
        assert!(rows.windows(2).all(|pair| pair[0].1 == pair[1].1));
        let values = engine.get_many(&names).await.expect("a get succeeds");
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer does not panic");
}

/// Many tasks that add one to a number by compare-and-swap reach the exact sum.
pub async fn increments_add_up(engine: &Arc<dyn Engine>) {
    const TASKS: u64 = 16;
    const EACH: u64 = 25;
    let row = key(Space::Mailbox, "sum");
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (engine, row) = (Arc::clone(engine), row.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&*engine, &row).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task does not panic");
    }
    assert_eq!(number(get(&**engine, &row).await.as_ref()), TASKS * EACH);
}

async fn increment(engine: &dyn Engine, row: &RowKey) {
    loop {
        let old = get(engine, row).await;
        let new = number(old.as_ref()) + 1;
        let mut batch = Batch::new();
        batch
            .check(row.clone(), old)
            .put(row.clone(), new.to_string());
        match commit(engine, batch).await {
            Ok(()) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn number(value: Option<&Value>) -> u64 {
    value.map_or(0, |value| {
        let text = std::str::from_utf8(value).expect("a number is text");
        text.parse().expect("a number is digits")
    })
}

/// A scan in pages, up and down, meets every row of many exactly once.
pub async fn pages_cover_everything_once(engine: &dyn Engine, rows: u32) {
    let mut next = 0;
    while next < rows {
        let end = rows.min(next + 5000);
        let mut batch = Batch::new();
        for number in next..end {
            let mut name = b"page".to_vec();
            name.extend_from_slice(&number.to_be_bytes());
            batch.put(key(Space::Expunge, name), number.to_be_bytes().to_vec());
        }
        let done = engine.commit(batch, Durability::Soon).await;
        done.expect("a put commits");
        next = end;
    }
    for order in [Order::Ascending, Order::Descending] {
        let mut range = KeyRange::prefix(b"page");
        let mut seen = 0;
        loop {
            let page = engine.scan(Space::Expunge, range.clone(), order, 777).await;
            let page = page.expect("a scan succeeds");
            let Some((last, _)) = page.last() else { break };
            range = range.beyond(last, order);
            for (_, value) in &page {
                let expected = match order {
                    Order::Ascending => seen,
                    Order::Descending => rows - 1 - seen,
                };
                assert_eq!(value[..], expected.to_be_bytes());
                seen += 1;
            }
        }
        assert_eq!(seen, rows);
    }
}

/// The counters move with what they count.
pub async fn counters_count(engine: &dyn Engine) {
    let before = engine.stats();
    let row = key(Space::Directory, "counted");
    put(engine, row.clone(), b"12345").await;
    let mut batch = Batch::new();
    batch.check(row, None);
    assert!(commit(engine, batch).await.is_err());
    let after = engine.stats();
    assert_eq!(after.commits, before.commits + 1);
    assert_eq!(after.conflicts, before.conflicts + 1);
    assert!(after.syncs > before.syncs);
    assert!(after.bytes_written >= before.bytes_written + 5);
}
