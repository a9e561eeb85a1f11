//! Mailboxes over packs that many nodes share: reading goes on while packs are compacted and the store is away.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::World;
use nightmail_commit::{CommitFailure, Compactor, now};
use nightmail_core::BlobId;
use nightmail_heap::{Heap, HeapKey, MemoryPacks, PackOptions};
use nightmail_store::{MessageReader, StoreError};

/// A world over packs, and what is in it.
async fn world() -> (World, MemoryPacks, Vec<(BlobId, String)>) {
    let mut world = World::new().await;
    let packs = MemoryPacks::new();
    let options = PackOptions::new(std::env::temp_dir());
    let key = HeapKey::new([3; 32]);
    world.heap = Heap::open_packs(Arc::new(packs.clone()), key, options).unwrap();
    world.reopen();
    let inbox = world.inbox().await;
    let mut texts = Vec::new();
    for n in 0..20u64 {
        let text = dense(n, if n == 7 { 3 << 20 } else { 5000 });
        world.append(inbox, &text).await.unwrap();
        let id = world.blob(text.as_bytes()).blob.id();
        texts.push((id, text));
    }
    (world, packs, texts)
}

/// Letters that hardly compress.
fn dense(seed: u64, len: usize) -> String {
    let mut state = seed + 1;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + ((state >> 33) % 64) as u8)
    };
    (0..len).map(|_| letter()).collect()
}

async fn compact(world: &World) {
    let mut compactor = Compactor::new(world.store.committer().clone(), 0, 70);
    let later = now().plus_millis(24 * 3600 * 1000);
    let report = compactor.run_once(later, 1000).await.unwrap();
    assert_eq!(report.removed, 20);
}

#[tokio::test]
async fn a_message_is_read_on_while_its_pack_is_moved() {
    let (world, packs, texts) = world().await;
    let (blob, text) = &texts[7];
    let mut reader = MessageReader::new(world.store.clone(), &Bytes::new(), *blob, 1..u64::MAX);
    let mut read = reader.next_chunk().await.unwrap().unwrap().to_vec();
    compact(&world).await;
    assert_eq!(packs.numbers().len(), 1);
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == text.as_bytes()[1..]);
}

#[tokio::test]
async fn places_known_from_before_a_compaction_are_looked_up_again() {
    let (world, _packs, texts) = world().await;
    let blobs: Vec<_> = texts.iter().map(|(blob, _)| *blob).collect();
    world.store.find_places(&blobs).await.unwrap();
    compact(&world).await;
    let read = world.store.read_blobs(&blobs).await.unwrap();
    for (read, (_, text)) in read.iter().zip(&texts) {
        assert!(read == text);
    }
    for (blob, text) in &texts {
        assert!(world.store.read_blob(*blob).await.unwrap() == *text);
    }
    world.assert_consistent().await;
}

#[tokio::test]
async fn a_store_of_packs_that_is_away_is_local_trouble() {
    let (world, packs, texts) = world().await;
    let inbox = world.inbox().await;
    packs.set_unavailable(true);
    let away = |error: StoreError| {
        assert!(error.is_temporary());
        let unavailable = matches!(error, StoreError::Failed(CommitFailure::Unavailable(_)));
        assert!(unavailable, "{error}");
    };
    away(world.store.read_blob(texts[0].0).await.unwrap_err());
    away(world.append(inbox, "new").await.unwrap_err());
    packs.set_unavailable(false);
    assert!(world.store.read_blob(texts[0].0).await.unwrap() == texts[0].1);
    world.append(inbox, "new").await.unwrap();
    world.assert_consistent().await;
}
