//! The suite that every pack store must pass.
//!
//! [`run`] takes an empty store and panics at the first promise that does not hold.

#![expect(
    clippy::expect_used,
    reason = "a check that fails must panic, as a test does"
)]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::{PackError, PackInfo, PackStore};

/// Runs every check on `store`, which must be empty; `large_bytes` is the size of the largest pack put.
pub async fn run(store: Arc<dyn PackStore>, large_bytes: usize) {
    run_without_refusals(&store, large_bytes).await;
    a_pack_is_never_written_over(&*store).await;
    one_of_many_writers_wins(&store).await;
}

/// The same for a service that lets a pack be written over; its users must never try.
pub async fn run_without_refusals(store: &Arc<dyn PackStore>, large_bytes: usize) {
    let store_ref = &**store;
    nothing_is_missing_politely(store_ref).await;
    packs_read_back_by_any_range(store_ref).await;
    listings_are_ordered_and_paged(store_ref).await;
    a_large_pack_is_kept_whole(store_ref, large_bytes).await;
    what_is_deleted_is_gone(store_ref).await;
}

async fn put(store: &dyn PackStore, pack: u64, bytes: &[u8]) {
    // In two parts, so that they are seen to be joined.
    let (head, rest) = bytes.split_at(bytes.len() / 3);
    let parts = vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(rest)];
    store.put(pack, parts).await.expect("a put succeeds");
}

async fn read(store: &dyn PackStore, pack: u64, range: Range<u64>) -> Bytes {
    let read = store.read(pack, range).await;
    read.expect("a read succeeds")
}

async fn all(store: &dyn PackStore) -> Vec<PackInfo> {
    let listed = store.list(None, usize::MAX).await;
    listed.expect("a listing succeeds")
}

/// What is not there is said to be missing, and may be deleted.
async fn nothing_is_missing_politely(store: &dyn PackStore) {
    assert_eq!(store.read(1, 0..10).await, Err(PackError::Missing(1)));
    assert_eq!(store.read(1, 0..0).await, Err(PackError::Missing(1)));
    assert_eq!(store.delete(1).await, Ok(()));
    assert_eq!(all(store).await, []);
}

/// A range is cut to what there is.
async fn packs_read_back_by_any_range(store: &dyn PackStore) {
    let bytes: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
    put(store, 10, &bytes).await;
    let ranges = [
        (0, 1000),
        (0, 1),
        (999, 1000),
        (500, 500),
        (10, 700),
        (990, 5000),
        (1000, 1001),
        (5000, 6000),
        (0, u64::MAX),
    ];
    for (from, to) in ranges {
        let expected = bytes
            .get(from as usize..(to as usize).min(bytes.len()))
            .unwrap_or(&[]);
        let found = read(store, 10, from..to).await;
        assert!(found == expected, "{from}..{to}");
    }
}

/// A second pack of the same number is refused, and the first stays as it was.
async fn a_pack_is_never_written_over(store: &dyn PackStore) {
    put(store, 10, b"first").await;
    let again = store.put(10, vec![Bytes::from_static(b"other")]).await;
    assert_eq!(again, Err(PackError::Exists(10)));
    assert_eq!(read(store, 10, 0..9).await, "first");
}

/// Of several writers of one number one wins, whole.
async fn one_of_many_writers_wins(store: &Arc<dyn PackStore>) {
    let writers = (0..8u8).map(|writer| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let bytes = vec![Bytes::from(vec![writer; 20_000])];
            store.put(11, bytes).await
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut won = None;
    for (writer, put) in writers.into_iter().enumerate() {
        match put.await.expect("a writer does not panic") {
            Ok(()) => assert_eq!(won.replace(writer as u8), None, "two writers won"),
            Err(error) => assert_eq!(error, PackError::Exists(11)),
        }
    }
    let won = won.expect("a writer wins");
    assert!(read(&**store, 11, 0..u64::MAX).await == vec![won; 20_000]);
}

/// Listings ascend by number, tell sizes, and go on after any number.
async fn listings_are_ordered_and_paged(store: &dyn PackStore) {
    let numbers = [u64::MAX, 1 << 63, 0, 7, 0x0198_f00d_0000_0001, 255, 256];
    for (size, pack) in numbers.iter().enumerate() {
        put(store, *pack, &vec![1; size]).await;
    }
    let mut expected: Vec<PackInfo> = numbers
        .iter()
        .enumerate()
        .map(|(size, &pack)| PackInfo {
            pack,
            bytes: size as u64,
        })
        .collect();
    expected.push(PackInfo {
        pack: 10,
        bytes: 1000,
    });
    expected.sort_by_key(|info| info.pack);
    assert_eq!(all(store).await, expected);
    for limit in [1, 2, 4, 100] {
        let mut after = None;
        let mut found = Vec::new();
        loop {
            let page = store.list(after, limit).await.expect("a page is listed");
            assert!(page.len() <= limit);
            after = page.last().map(|info| info.pack).or(after);
            let last = page.len() < limit;
            found.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
    let between = store.list(Some(8), 1).await.expect("a page is listed");
    assert_eq!(between.first().map(|info| info.pack), Some(10));
}

/// Many small parts and much in all.
async fn a_large_pack_is_kept_whole(store: &dyn PackStore, large_bytes: usize) {
    let part = Bytes::from((0..65_536u32).map(|n| (n % 253) as u8).collect::<Vec<_>>());
    let parts = vec![part.clone(); large_bytes.div_ceil(part.len())];
    let len = (parts.len() * part.len()) as u64;
    store.put(12, parts).await.expect("a large put succeeds");
    let mut at = 0;
    while at < len {
        let found = read(store, 12, at..at + part.len() as u64).await;
        assert!(found == part, "at {at}");
        at += part.len() as u64;
    }
    assert!(read(store, 12, len..len + 1).await.is_empty());
}

/// After deletion a pack is neither read nor listed.
async fn what_is_deleted_is_gone(store: &dyn PackStore) {
    for info in all(store).await {
        assert_eq!(store.delete(info.pack).await, Ok(()));
        let gone = store.read(info.pack, 0..1).await;
        assert_eq!(gone, Err(PackError::Missing(info.pack)));
    }
    assert_eq!(all(store).await, []);
}
