//! What POP3 keeps of an account: logins and unique ids from elsewhere.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{ALICE, World};
use nightmail_core::Timestamp;
use nightmail_store::{MailboxName, StoreError};

#[tokio::test]
async fn a_login_waits_for_the_delay_of_the_last_one_that_was_let_in() {
    let world = World::new().await;
    let login = |secs| {
        let minute = Duration::from_secs(60);
        let store = world.store.clone();
        async move {
            let at = Timestamp::from_secs(secs);
            store.note_pop3_login(ALICE, at, minute).await.unwrap()
        }
    };
    assert!(login(1000).await);
    assert!(!login(1059).await);
    assert!(login(1060).await, "what was refused does not count");
    assert!(!login(1100).await);
    assert!(login(10).await, "a clock put back locks nobody out");
}

#[tokio::test]
async fn unique_ids_stay_with_their_messages_and_are_never_shared() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let uid = |raw: u32, id: &str| (raw, id.to_owned());
    assert!(world.store.unique_ids(inbox).await.unwrap().is_empty());
    let ids = [uid(1, "old-1"), uid(7, "old-7")];
    world.store.import_unique_ids(inbox, &ids).await.unwrap();
    let again = [uid(1, "renewed"), uid(9, "old-7")];
    let refused = world.store.import_unique_ids(inbox, &again).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists)));
    let known = world.store.unique_ids(inbox).await.unwrap();
    assert_eq!(known, ids.into_iter().collect());
    world.assert_consistent().await;

    // A mailbox that is deleted takes them along.
    let name = MailboxName::parse("Old").unwrap();
    let created = world.store.create_mailbox(ALICE, name.clone(), None);
    let old = created.await.unwrap();
    world
        .store
        .import_unique_ids(old, &[uid(1, "x")])
        .await
        .unwrap();
    world.store.delete_mailbox(ALICE, name).await.unwrap();
    assert!(world.store.unique_ids(old).await.unwrap().is_empty());
}
