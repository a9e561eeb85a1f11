//! Compaction of packs: orphans go, small packs are joined, little is left of dead ones, and nothing live is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod site;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::{CommitLimits, CompactionReport, Compactor, now};
use nightmail_core::BlobId;
use nightmail_heap::MemoryPacks;
use site::{Site, later, noise};

const HOUR: i64 = 3600 * 1000;

/// Messages by UID.
type Mail = BTreeMap<u32, (BlobId, Vec<u8>)>;

async fn deliver(site: &Site, mail: &mut Mail, uid: u32, bytes: Vec<u8>) {
    let blob = site.deliver(uid, &bytes).await.unwrap();
    mail.insert(uid, (blob, bytes));
}

async fn assert_all_there(site: &Site, mail: &Mail) {
    for (uid, (blob, bytes)) in mail {
        assert!(site.read(*blob).await == *bytes, "message {uid}");
    }
}

fn compactor(site: &Site) -> Compactor {
    Compactor::new(site.committer.clone(), HOUR, 70)
}

async fn run(site: &Site) -> CompactionReport {
    compactor(site).run_once(later(), 100).await.unwrap()
}

#[tokio::test]
async fn a_crash_between_put_and_commit_leaves_an_orphan_that_the_sweep_removes_and_nothing_else() {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    for uid in 1..=3 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 9_000)).await;
    }
    let before = site.packs.numbers();
    site.engine.fail_commit(1);
    site.deliver(4, b"never committed").await.unwrap_err();
    site.packs.hide_next_puts(1);
    site.deliver(5, b"never answered").await.unwrap_err();
    assert_eq!(site.packs.numbers().len(), before.len() + 2);

    let young = compactor(&site).run_once(now(), 100).await.unwrap();
    assert_eq!(
        (young.examined, young.removed),
        (0, 0),
        "they are too young"
    );
    let swept = run(&site).await;
    assert_eq!((swept.removed, swept.moved), (2, 0), "{swept:?}");
    assert!(swept.reclaimed_bytes > 0 && swept.complete);
    assert_eq!(site.packs.numbers(), before);
    assert_all_there(&site, &mail).await;
    deliver(&site, &mut mail, 4, b"never committed".to_vec()).await;
    assert_all_there(&site, &mail).await;
}

#[tokio::test]
async fn small_packs_are_joined_once() {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    for uid in 1..=40 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 9_000)).await;
    }
    assert_eq!(site.packs.numbers().len(), 40);
    let joined = run(&site).await;
    assert_eq!((joined.removed, joined.moved), (40, 40));
    assert_eq!(site.packs.numbers().len(), 1);
    assert_all_there(&site, &mail).await;
    let again = run(&site).await;
    assert_eq!((again.examined, again.removed), (1, 0), "one is left alone");
    for uid in 41..=50 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 9_000)).await;
    }
    assert_eq!(run(&site).await.removed, 0, "too few to pay");
    for uid in 51..=53 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 1_500_000)).await;
    }
    assert_eq!(run(&site).await.removed, 14, "enough bytes");
    assert_eq!(site.packs.numbers().len(), 1);
    assert_eq!(run(&site).await.removed, 0, "a pack of a good size stays");
    assert_all_there(&site, &mail).await;
}

#[tokio::test]
async fn packs_that_hold_little_are_rewritten_and_those_that_hold_nothing_go() {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    let texts: Vec<_> = (0..60u32).map(|n| noise(n.into(), 200_000)).collect();
    let sent = texts
        .iter()
        .zip(1..)
        .map(|(text, uid)| site.deliver(uid, text));
    let blobs = futures_util::future::join_all(sent).await;
    for ((blob, text), uid) in blobs.into_iter().zip(texts).zip(1..) {
        mail.insert(uid, (blob.unwrap(), text));
    }
    let before: u64 = pack_bytes(&site.packs);
    let doomed: Vec<u32> = mail.keys().copied().filter(|uid| uid % 6 != 0).collect();
    for uid in doomed {
        let (blob, _) = mail.remove(&uid).unwrap();
        site.remove(uid, blob).await;
    }
    site.reclaim().await;
    let report = run(&site).await;
    assert_eq!(report.moved, 10);
    assert!(report.reclaimed_bytes > before / 2, "{report:?}");
    assert!(pack_bytes(&site.packs) < before / 4);
    assert_all_there(&site, &mail).await;
    for (uid, (blob, _)) in std::mem::take(&mut mail) {
        site.remove(uid, blob).await;
    }
    site.reclaim().await;
    run(&site).await;
    assert!(site.packs.numbers().is_empty(), "nothing is left");
}

fn pack_bytes(packs: &MemoryPacks) -> u64 {
    let bytes = |pack: &u64| packs.bytes(*pack).unwrap().len() as u64;
    packs.numbers().iter().map(bytes).sum()
}

/// A site with orphans, dead records and small packs.
async fn untidy() -> (Site, Mail) {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    for uid in 1..=20 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 3_000)).await;
    }
    for uid in [2, 5, 6] {
        let (blob, _) = mail.remove(&uid).unwrap();
        site.remove(uid, blob).await;
    }
    site.reclaim().await;
    site.engine.fail_commit(1);
    site.deliver(99, b"an orphan").await.unwrap_err();
    (site, mail)
}

#[tokio::test]
async fn compaction_cut_off_at_any_call_of_the_pack_store_loses_nothing_and_ends_tidy() {
    let mut calls = 0;
    loop {
        let (site, mail) = untidy().await;
        site.packs.cut_off_after(calls);
        let cut = compactor(&site).run_once(later(), 100).await;
        site.packs.set_unavailable(false);
        assert_all_there(&site, &mail).await;
        for _ in 0..2 {
            run(&site).await;
        }
        assert_all_there(&site, &mail).await;
        assert!(site.packs.numbers().len() <= 16, "cut at call {calls}");
        if cut.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 40, "{calls} calls");
}

#[tokio::test]
async fn compaction_cut_off_at_any_commit_loses_nothing_and_ends_tidy() {
    for applied in [false, true] {
        for commit in 1..4 {
            let (site, mail) = untidy().await;
            match applied {
                true => site.engine.fail_commit_after_applying(commit),
                false => site.engine.fail_commit(commit),
            }
            let _ = compactor(&site).run_once(later(), 100).await;
            assert_all_there(&site, &mail).await;
            for _ in 0..3 {
                run(&site).await;
            }
            assert_all_there(&site, &mail).await;
            assert!(site.packs.numbers().len() <= 16);
        }
    }
}

#[tokio::test]
async fn power_lost_during_compaction_loses_nothing() {
    for sync in 1..3 {
        for seed in 0..4 {
            let (site, mail) = untidy().await;
            let rows = Arc::clone(&site.engine);
            rows.crash_at_sync(sync);
            let _ = compactor(&site).run_once(later(), 100).await;
            rows.crash();
            rows.restart(seed);
            assert_all_there(&site, &mail).await;
            run(&site).await;
            assert_all_there(&site, &mail).await;
        }
    }
}

#[tokio::test]
async fn two_compactors_at_once_lose_nothing() {
    let (site, mail) = untidy().await;
    for _ in 0..3 {
        let (mut one, mut two) = (compactor(&site), compactor(&site));
        let (one, two) = tokio::join!(one.run_once(later(), 100), two.run_once(later(), 100));
        one.unwrap();
        two.unwrap();
        assert_all_there(&site, &mail).await;
    }
    assert!(site.packs.numbers().len() <= 2);
}

#[tokio::test]
async fn reading_and_delivering_the_same_bytes_go_on_while_packs_are_compacted() {
    let (site, mut mail) = untidy().await;
    let site = Arc::new(site);
    // So that every call of the compactor has deliveries and reads between it and the next.
    site.packs.set_delay(Some(Duration::from_millis(1)));
    let compacting = tokio::spawn({
        let site = Arc::clone(&site);
        async move { run(&site).await }
    });
    let mut uid = 1000;
    while !compacting.is_finished() {
        for (_, (blob, bytes)) in mail.clone() {
            assert_eq!(site.deliver(uid, &bytes).await.unwrap(), blob);
            uid += 1;
            assert!(site.read(blob).await == bytes);
        }
    }
    assert!(compacting.await.unwrap().removed > 0);
    site.packs.set_delay(None);
    // Whoever was delivered a second time is there without the first.
    for (uid, (blob, _)) in &mail {
        site.remove(*uid, *blob).await;
    }
    site.reclaim().await;
    run(&site).await;
    assert_all_there(&site, &mail).await;
    deliver(&site, &mut mail, 1, b"more".to_vec()).await;
    assert_all_there(&site, &mail).await;
}

#[tokio::test]
async fn a_damaged_pack_is_left_as_it_is() {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    for uid in 1..=20 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 3_000)).await;
    }
    let numbers = site.packs.numbers();
    let spoil = |pack: u64, from_end: usize| {
        let mut bytes = site.packs.bytes(pack).unwrap().to_vec();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        site.packs.overwrite(pack, bytes.into());
    };
    // One without an index, one whose record is not what it was, and one that is none of ours.
    spoil(numbers[0], 40);
    spoil(numbers[1], 1000);
    site.packs.overwrite(7, vec![1; 5000].into());
    let mut compactor = compactor(&site);
    let report = compactor.run_once(later(), 100).await.unwrap();
    assert_eq!((report.removed, report.moved), (18, 18));
    assert!(report.complete);
    let left = site.packs.numbers();
    assert_eq!(left[..3], [7, numbers[0], numbers[1]]);
    assert_eq!(left.len(), 4);
    let again = compactor.run_once(later(), 100).await.unwrap();
    assert_eq!(again.examined, 1, "they are not looked at again");
    mail.remove(&2);
    assert_all_there(&site, &mail).await;
}

#[tokio::test]
async fn a_walk_in_small_steps_comes_by_every_pack_and_begins_anew() {
    let site = Site::new(CommitLimits::default());
    let mut mail = Mail::new();
    for uid in 1..=5 {
        deliver(&site, &mut mail, uid, noise(uid.into(), 17 << 20)).await;
    }
    let mut compactor = compactor(&site);
    for walk in 0..2 {
        for step in 1..=5 {
            let report = compactor.run_once(later(), 1).await.unwrap();
            let expected = (1, step == 5);
            assert_eq!((report.examined, report.complete), expected, "{walk}");
        }
        compactor.recount();
    }
    assert_eq!(compactor.reclaimable(), 0);
    let (blob, _) = mail.remove(&3).unwrap();
    site.remove(3, blob).await;
    site.reclaim().await;
    compactor.run_once(later(), 2).await.unwrap();
    let report = compactor.run_once(later(), 2).await.unwrap();
    assert_eq!(report.removed, 1);
    compactor.restart();
    let report = compactor.run_once(later(), 100).await.unwrap();
    assert_eq!((report.examined, report.complete), (4, true));
    assert_all_there(&site, &mail).await;
}
