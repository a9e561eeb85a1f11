//! Packs in the database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use bytes::Bytes;
use common::engine;
use nightmail_heap::{PackError, PackInfo, PackStore};
use nightmail_testbed::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_read_by_range_and_never_overwritten() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let packs = engine.packs();
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(n) >> 9) as u8)
        .collect();
    let parts = [&bytes[..10], &bytes[10..1_000_000], &bytes[1_000_000..]];
    let parts = parts.map(Bytes::copy_from_slice).to_vec();
    packs.put(7, parts.clone()).await.unwrap();
    assert_eq!(packs.put(7, parts).await, Err(PackError::Exists(7)));
    let end = bytes.len() as u64;
    for range in [0..end, 0..0, 5..15, 1_999..1_000_001, end - 1..end] {
        let read = packs.read(7, range.clone()).await.unwrap();
        assert!(read[..] == bytes[range.start as usize..range.end as usize]);
    }
    let read = packs.read(7, end - 3..u64::MAX).await.unwrap();
    assert_eq!(read[..], bytes[bytes.len() - 3..]);
    assert_eq!(packs.read(7, end..end + 5).await.unwrap().len(), 0);
    assert_eq!(
        packs.read(7, u64::MAX - 1..u64::MAX).await.unwrap().len(),
        0
    );
    assert_eq!(packs.read(8, 0..1).await, Err(PackError::Missing(8)));
    let storage = "SELECT attstorage FROM pg_attribute \
                   WHERE attrelid = 'nm_pack'::regclass AND attname = 'data'";
    assert_eq!(server.psql(storage), "e");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_are_listed_in_the_order_of_their_numbers() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let packs = engine.packs();
    let numbers = [0, 1, 5, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX];
    for (size, pack) in numbers.into_iter().enumerate().rev() {
        packs
            .put(pack, vec![Bytes::from(vec![1; size])])
            .await
            .unwrap();
    }
    let all: Vec<PackInfo> = numbers
        .into_iter()
        .zip(0..)
        .map(|(pack, bytes)| PackInfo { pack, bytes })
        .collect();
    assert_eq!(packs.list(None, 100).await.unwrap(), all);
    assert_eq!(packs.list(Some(1), 2).await.unwrap(), all[2..4]);
    assert_eq!(packs.list(Some(u64::MAX), 2).await.unwrap(), []);
    packs.delete(0).await.unwrap();
    packs.delete(0).await.unwrap();
    assert_eq!(packs.list(None, 1).await.unwrap(), all[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_outlives_a_crash_once_it_is_answered() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let packs = engine.packs();
    for pack in 0..10 {
        packs
            .put(pack, vec![Bytes::from_static(b"mail")])
            .await
            .unwrap();
    }
    server.kill();
    server.restart();
    assert_eq!(packs.list(None, 100).await.unwrap().len(), 10);
    assert_eq!(packs.read(9, 1..3).await.unwrap(), "ai");
}
