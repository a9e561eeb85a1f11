//! Who may do what with whose mailboxes, what is noted about them, and that nothing of it outlives them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{ALICE, World};
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{Engine, KeyRange, Order, Space};
use nightmail_store::{
    Annotation, FolderSettings, Grantee, MailboxName, Quota, Rights, RightsChange, StoreError, tx,
};

const BOB: AccountId = AccountId::new(2);
const CARL: AccountId = AccountId::new(3);
const DOMAIN: &str = "example.org";

fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

fn rights(letters: &str) -> Rights {
    Rights::parse(letters).unwrap()
}

async fn give(world: &World, mailbox: MailboxId, grantee: Grantee, letters: &str) {
    let change = RightsChange::Set(rights(letters));
    let store = &world.store;
    let set = store.set_acl(mailbox, DOMAIN, grantee, false, change);
    set.await.unwrap();
}

/// What an account sees: names and rights.
async fn seen(world: &World, account: AccountId, domain: &str) -> Vec<(String, String)> {
    let shared = world.store.shared_with(account, domain).await.unwrap();
    let shown = shared.iter().map(|shared| {
        let name = format!("{}/{}", shared.owner, shared.name);
        (name, shared.rights.to_string())
    });
    shown.collect()
}

async fn attributes(world: &World) -> usize {
    let all = KeyRange::prefix(&[]);
    let rows = world
        .engine
        .scan(Space::Attribute, all, Order::Ascending, 1000);
    rows.await.unwrap().len()
}

async fn world() -> (World, MailboxId) {
    let world = World::new().await;
    world.create_account(BOB).await.unwrap();
    let made = world.store.create_mailbox(ALICE, name("Work"), None);
    let work = made.await.unwrap();
    (world, work)
}

#[tokio::test]
async fn what_is_shared_is_found_by_whom_it_is_shared_with() {
    let (world, work) = world().await;
    let inbox = world.inbox().await;
    give(&world, work, Grantee::Account(BOB), "lrs").await;
    give(&world, inbox, Grantee::Anyone, "l").await;
    let inbox_name = format!("{ALICE}/INBOX");
    let work_name = format!("{ALICE}/Work");
    assert_eq!(
        seen(&world, BOB, DOMAIN).await,
        [
            (inbox_name.clone(), "l".to_owned()),
            (work_name.clone(), "lrs".to_owned())
        ]
    );
    assert_eq!(
        seen(&world, BOB, "other.test").await,
        [(work_name, "lrs".to_owned())]
    );
    assert_eq!(
        seen(&world, CARL, DOMAIN).await,
        [(inbox_name, "l".to_owned())]
    );
    assert!(seen(&world, ALICE, DOMAIN).await.is_empty());
    give(&world, work, Grantee::Account(BOB), "rs").await;
    assert_eq!(seen(&world, BOB, "other.test").await, []);
}

#[tokio::test]
async fn anyone_follows_the_owner_to_another_domain() {
    let (world, work) = world().await;
    give(&world, work, Grantee::Anyone, "lr").await;
    let moved = world.store.set_acl_domain(ALICE, "new.test");
    moved.await.unwrap();
    assert!(seen(&world, BOB, DOMAIN).await.is_empty());
    assert_eq!(seen(&world, BOB, "new.test").await.len(), 1);
}

#[tokio::test]
async fn a_mailbox_takes_what_is_known_of_it_along_and_away() {
    let (world, work) = world().await;
    let store = &world.store;
    give(&world, work, Grantee::Account(BOB), "lr").await;
    let below = store
        .create_mailbox(ALICE, name("Work/2024/May"), None)
        .await
        .unwrap();
    assert_eq!(
        store.rights_of(below, BOB, false).await.unwrap(),
        rights("lr")
    );
    let note = |entry: &str, value: &'static str| Annotation {
        entry: entry.into(),
        value: Some(value.into()),
    };
    let notes = vec![
        note("/shared/comment", "all"),
        note("/private/comment", "b"),
    ];
    store.set_metadata(Some(work), BOB, notes).await.unwrap();
    let settings = FolderSettings {
        expire_after_days: Some(30),
        keep_at_least: None,
    };
    store.set_folder_settings(work, settings).await.unwrap();
    store
        .rename_mailbox(ALICE, name("Work"), name("Old"))
        .await
        .unwrap();
    assert_eq!(store.metadata(Some(work), BOB).await.unwrap().len(), 2);
    assert_eq!(store.metadata(Some(work), CARL).await.unwrap().len(), 1);
    assert_eq!(store.folder_settings(work).await.unwrap(), settings);
    for gone in ["Old/2024/May", "Old/2024", "Old"] {
        store.delete_mailbox(ALICE, name(gone)).await.unwrap();
    }
    assert_eq!(attributes(&world).await, 0);
    world.assert_consistent().await;
}

#[tokio::test]
async fn an_account_that_is_removed_is_in_no_list() {
    let (world, work) = world().await;
    let store = &world.store;
    give(&world, work, Grantee::Account(BOB), "lr").await;
    give(&world, work, Grantee::Account(CARL), "l").await;
    let note = Annotation {
        entry: "/private/comment".into(),
        value: Some("of bob".into()),
    };
    for subject in [Some(work), None] {
        let set = store.set_metadata(subject, BOB, vec![note.clone()]);
        set.await.unwrap();
    }
    store.forget_grantee(BOB).await.unwrap();
    let acl = store.acl(work).await.unwrap();
    assert_eq!(acl.entries().len(), 1);
    assert_eq!(acl.entries()[0].grantee, Grantee::Account(CARL));
    // The list, and that it is shared with Carl.
    assert_eq!(attributes(&world).await, 2);
}

#[tokio::test]
async fn a_list_has_an_end() {
    let (world, work) = world().await;
    for id in 0..500 {
        give(&world, work, Grantee::Account(AccountId::new(10 + id)), "l").await;
    }
    let one_more = world.store.set_acl(
        work,
        DOMAIN,
        Grantee::Anyone,
        false,
        RightsChange::Add(Rights::LOOKUP),
    );
    assert!(matches!(one_more.await, Err(StoreError::Limit(_))));
    let known = Grantee::Account(AccountId::new(10));
    give(&world, work, known, "lr").await;
}

#[tokio::test]
async fn quota_bounds_mailboxes_with_those_above_them() {
    let (world, _) = world().await;
    let quota = Quota {
        mailboxes: Some(9),
        ..Quota::default()
    };
    let make = |text| {
        let store = world.store.clone();
        let text = name(text);
        async move { store.create_mailbox_within(quota, ALICE, text, None).await }
    };
    assert!(matches!(make("a/b/c").await, Err(StoreError::OverQuota)));
    let looked_up = world.store.lookup(ALICE, &name("a")).await;
    assert!(matches!(looked_up, Err(StoreError::NoSuchMailbox)));
    make("a/b").await.unwrap();
    assert!(matches!(make("c").await, Err(StoreError::OverQuota)));
}

#[tokio::test]
async fn a_list_of_a_mailbox_that_is_not_there_is_refused() {
    let (world, _) = world().await;
    let nowhere = MailboxId::new(999);
    let set = nightmail_commit::Intent::synced(move |t| {
        let change = RightsChange::Add(Rights::LOOKUP);
        tx::set_acl(t, nowhere, DOMAIN, Grantee::Anyone, false, change)
    });
    let refused = world.store.committer().submit(set).await;
    assert!(refused.is_err());
    assert_eq!(attributes(&world).await, 0);
}
