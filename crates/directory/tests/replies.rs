//! Whom an account has answered, and of what it has been told, is remembered for as long as it matters.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{add_account, add_domain, address, directory};
use nightmail_core::AccountId;
use nightmail_directory::{Directory, DirectoryOptions, tx};

async fn reply(directory: &Directory, id: AccountId, to: &str) -> bool {
    let to = address(to);
    let change = directory.change(move |tx| tx::note_reply(tx, id, &to, 7));
    change.await.unwrap()
}

#[tokio::test]
async fn a_sender_is_answered_once_until_that_is_forgotten() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    let (ann, bob) = (AccountId::new(1), AccountId::new(2));
    assert!(reply(&directory, ann, "S@far.test").await);
    assert!(!reply(&directory, ann, "s@FAR.test").await);
    assert!(reply(&directory, bob, "s@far.test").await);
    assert!(reply(&directory, ann, "t@far.test").await);
    let now = nightmail_commit::now();
    let sender = address("s@far.test");
    assert!(directory.has_replied(ann, &sender, now).await.unwrap());
    let later = now.plus_millis(8 * 86_400_000);
    assert!(!directory.has_replied(ann, &sender, later).await.unwrap());

    let rest = directory.forget_replies(now, None, 2).await.unwrap();
    assert_eq!(directory.forget_replies(now, rest, 2).await.unwrap(), None);
    assert!(!reply(&directory, ann, "s@far.test").await);
    let rest = directory.forget_replies(later, None, 2).await.unwrap();
    assert!(rest.is_some());
    assert_eq!(
        directory.forget_replies(later, rest, 2).await.unwrap(),
        None
    );
    assert!(reply(&directory, ann, "s@far.test").await);
    assert!(reply(&directory, bob, "s@far.test").await);
}

#[tokio::test]
async fn an_account_is_told_of_each_figure_once_until_it_falls_below() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "ann@x.test").await;
    let mut told = Vec::new();
    for percent in [0, 80, 80, 95, 95, 80, 95, 0, 0, 80] {
        let change = directory.change(move |tx| tx::note_fullness(tx, id, percent));
        told.push(change.await.unwrap());
    }
    assert_eq!(
        told,
        [
            false, true, false, true, false, false, true, false, false, true
        ]
    );
    let gone = AccountId::new(99);
    let change = directory.change(move |tx| tx::note_fullness(tx, gone, 80));
    assert!(change.await.is_err());
}
