//! Power is lost at every sync point of a busy store: what was answered is there once, and everything agrees.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{ALICE, World, update};
use nightmail_commit::now;
use nightmail_core::Flags;
use nightmail_store::{FlagOperation, MailboxName, Quota};

/// What the writers were told.
#[derive(Default)]
struct Told {
    delivered: Vec<String>,
    sent: Vec<String>,
    moved: Vec<String>,
    expunged: Vec<String>,
}

/// Deliveries from several tasks at once, with flag changes, a move and an expunge among them.
async fn busy(world: &World, told: &mut Told) {
    let inbox = world.inbox().await;
    let archive = world
        .store
        .lookup(ALICE, &MailboxName::parse("Archive").unwrap())
        .await
        .unwrap()
        .mailbox;
    for round in 0..6 {
        let texts: Vec<String> = (0..5)
            .map(|i| format!("Subject: {round}-{i}\r\n\r\nbody {round} {i}\r\n"))
            .collect();
        told.sent.extend(texts.iter().cloned());
        let (a, b, c, d, e) = tokio::join!(
            world.append(inbox, &texts[0]),
            world.append(inbox, &texts[1]),
            world.append(inbox, &texts[2]),
            world.append(archive, &texts[3]),
            world.append(inbox, &texts[4]),
        );
        let results = [a, b, c, d, e];
        for (text, result) in texts.iter().zip(&results) {
            if result.is_ok() {
                told.delivered.push(text.clone());
            }
        }
        let Ok(first) = results[0] else { continue };
        let flags = world.store.store_flags(
            ALICE,
            inbox,
            vec![first],
            update(FlagOperation::Add, Flags::SEEN, &["Tag"]),
        );
        let _ = flags.await;
        if round % 2 == 0 {
            if world
                .store
                .move_messages(ALICE, Quota::default(), inbox, archive, vec![first])
                .await
                .is_ok()
            {
                told.moved.push(texts[0].clone());
            }
        } else if world.store.remove(ALICE, inbox, &[first]).await.is_ok() {
            told.expunged.push(texts[0].clone());
        }
        if round == 3 {
            let purged = world.store.purge_expunged(now(), Duration::ZERO, 100);
            let _ = purged.await;
        }
    }
}

async fn crash_at(point: u64, seed: u64) -> bool {
    let mut world = World::new().await;
    world.engine.crash_at_sync(point);
    let mut told = Told::default();
    busy(&world, &mut told).await;
    let crashed = world.engine.is_crashed();
    world.engine.restart(seed);
    world.reopen();
    verify(&world, &told, point, seed).await;
    crashed
}

async fn verify(world: &World, told: &Told, point: u64, seed: u64) {
    world.assert_consistent().await;
    let inbox = world.inbox().await;
    let archive = world
        .store
        .lookup(ALICE, &MailboxName::parse("Archive").unwrap())
        .await
        .unwrap()
        .mailbox;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for mailbox in [inbox, archive] {
        let content = world.content(mailbox).await;
        assert!(
            content.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "UIDs ascend"
        );
        for (_, _, text) in content {
            *found.entry(text).or_default() += 1;
        }
    }
    for text in &told.delivered {
        let count = found.get(text).copied().unwrap_or(0);
        let expunged = told.expunged.contains(text);
        // An expunge that was cut off may or may not have happened; one that was answered has.
        let was_first = text.contains("-0\r\n");
        assert!(count <= 1, "twice: {text:?} at sync {point}, seed {seed}");
        assert!(
            count == 1 || was_first,
            "lost: {text:?} at sync {point}, seed {seed}"
        );
        assert!(
            !(expunged && count == 1),
            "came back: {text:?} at sync {point}, seed {seed}"
        );
    }
    let in_archive: Vec<String> = world
        .content(archive)
        .await
        .into_iter()
        .map(|(_, _, text)| text)
        .collect();
    for text in &told.moved {
        assert!(
            in_archive.contains(text),
            "the move of {text:?} was lost at sync {point}, seed {seed}"
        );
    }
    for text in found.keys() {
        assert!(told.sent.contains(text), "nothing unaccepted appears");
    }
}

#[tokio::test]
async fn power_loss_at_every_sync_point_loses_nothing_answered() {
    let mut point = 1;
    while crash_at(point, point * 7).await {
        assert!(point < 200, "the work has fewer syncs than this");
        point += 1;
    }
    assert!(
        point > 10,
        "the work was to have many sync points, had {point}"
    );
}

#[tokio::test]
async fn a_full_engine_refuses_and_recovers_without_a_restart() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    world.append(inbox, "before").await.unwrap();
    world.engine.set_full(true);
    assert!(world.append(inbox, "during").await.is_err());
    world.engine.set_full(false);
    world.append(inbox, "after").await.unwrap();
    let texts: Vec<String> = world
        .content(inbox)
        .await
        .into_iter()
        .map(|(_, _, text)| text)
        .collect();
    assert_eq!(texts, ["before", "after"]);
    world.assert_consistent().await;
}
