//! As whom accounts may send, and the keys that sign a domain's mail.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{add_account, add_domain, address, directory, domain};
use nightmail_core::{AccountId, Timestamp};
use nightmail_directory::{
    Directory, DirectoryError, DirectoryOptions, DkimKeyRecord, DkimKeyState, DomainChange, Sender,
    tx,
};
use nightmail_engine::{RowKey, Space};

async fn may(directory: &Directory, id: AccountId, text: &str) -> bool {
    directory.may_send_as(id, &address(text)).await.unwrap()
}

fn sender(text: &str) -> Sender {
    Sender::parse(text).unwrap()
}

fn key(name: &str, selector: &str) -> DkimKeyRecord {
    DkimKeyRecord {
        domain: domain(name),
        selector: selector.to_owned(),
        algorithm: DkimKeyRecord::ED25519,
        pkcs8: b"private".to_vec(),
        state: DkimKeyState::Pending,
        created: Timestamp::from_millis(1),
        changed: Timestamp::from_millis(1),
    }
}

async fn selectors(directory: &Directory, name: Option<&str>) -> Vec<String> {
    let name = name.map(domain);
    let keys = directory.dkim_keys(name.as_ref()).await.unwrap();
    keys.into_iter().map(|key| key.selector).collect()
}

/// Ann and Bob at x.test, which is also alt.test.
async fn ann_and_bob() -> (Directory, tempfile::TempDir, AccountId, AccountId) {
    let (directory, dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    let ann = add_account(&directory, "ann@x.test").await;
    let bob = add_account(&directory, "bob@x.test").await;
    (directory, dir, ann, bob)
}

#[tokio::test]
async fn an_account_sends_as_its_own_address_in_every_form() {
    let (directory, _dir, ann, bob) = ann_and_bob().await;
    for text in [
        "ann@x.test",
        "ANN@X.test",
        "ann@alt.test",
        "ann+news@alt.test",
    ] {
        assert!(may(&directory, ann, text).await, "{text}");
        assert!(!may(&directory, bob, text).await, "{text}");
    }
    for text in ["nobody@x.test", "ann@far.test", "postmaster@x.test"] {
        assert!(!may(&directory, ann, text).await, "{text}");
    }
    let exact = add_account(&directory, "ann+work@x.test").await;
    assert!(may(&directory, exact, "ann+work@x.test").await);
    assert!(!may(&directory, ann, "ann+work@x.test").await);
}

#[tokio::test]
async fn an_alias_is_the_accounts_own_only_where_it_leads_nowhere_else() {
    let (directory, _dir, ann, bob) = ann_and_bob().await;
    for (alias, targets) in [
        ("sales@x.test", &["ann@alt.test"][..]),
        ("shop@x.test", &["sales@x.test"]),
        ("store@x.test", &["shop@x.test"]),
        ("team@x.test", &["ann@x.test", "bob@x.test"]),
        ("copy@x.test", &["ann@x.test", "ann@far.test"]),
        ("tagged@x.test", &["ann+tagged@x.test"]),
        ("circle@x.test", &["circle@x.test"]),
    ] {
        let targets = targets.iter().map(|text| address(text)).collect();
        directory.add_alias(address(alias), targets).await.unwrap();
    }
    for (text, allowed) in [
        ("sales@alt.test", true),
        ("sales+2026@x.test", true),
        ("shop@x.test", true),
        ("tagged@x.test", true),
        ("store@x.test", false),
        ("team@x.test", false),
        ("copy@x.test", false),
        ("circle@x.test", false),
    ] {
        assert_eq!(may(&directory, ann, text).await, allowed, "{text}");
        assert!(!may(&directory, bob, text).await, "{text}");
    }
}

#[tokio::test]
async fn a_catch_all_gives_no_address_away_and_a_disabled_domain_none_either() {
    let (directory, _dir, ann, _) = ann_and_bob().await;
    let catch_all = DomainChange {
        catch_all: Some(vec![address("ann@x.test")]),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), catch_all)
        .await
        .unwrap();
    assert!(!may(&directory, ann, "anybody@x.test").await);
    let disabled = DomainChange {
        enabled: Some(false),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), disabled)
        .await
        .unwrap();
    assert!(!may(&directory, ann, "ann@x.test").await);
}

#[tokio::test]
async fn a_login_that_is_an_address_is_one_to_send_as() {
    let (directory, _dir, ann, bob) = ann_and_bob().await;
    for login in ["annie@alt.test", "ann@far.test", "annie"] {
        directory
            .change(move |tx| tx::add_login(tx, ann, login))
            .await
            .unwrap();
    }
    for text in ["annie@x.test", "Annie@alt.test", "ann@far.test"] {
        assert!(may(&directory, ann, text).await, "{text}");
        assert!(!may(&directory, bob, text).await, "{text}");
    }
    assert!(!may(&directory, ann, "other@far.test").await);
}

#[tokio::test]
async fn an_address_or_a_domain_is_given_and_taken() {
    let (directory, _dir, ann, bob) = ann_and_bob().await;
    for text in ["bob@alt.test", "Bob@X.test", "@far.test", "@far.test"] {
        directory.add_sender(ann, sender(text)).await.unwrap();
    }
    assert_eq!(
        directory.senders(ann).await.unwrap(),
        [sender("bob@x.test"), sender("@far.test")]
    );
    for text in ["bob@x.test", "bob@alt.test", "who@far.test"] {
        assert!(may(&directory, ann, text).await, "{text}");
    }
    assert!(!may(&directory, ann, "who@sub.far.test").await);
    assert!(!may(&directory, ann, "bob+tag@x.test").await);
    assert!(!may(&directory, bob, "who@far.test").await);
    directory
        .remove_sender(ann, sender("BOB@alt.test"))
        .await
        .unwrap();
    assert!(!may(&directory, ann, "bob@x.test").await);
    let again = directory.remove_sender(ann, sender("bob@x.test")).await;
    assert!(matches!(again, Err(DirectoryError::NoSuchSender(_))));
    let nobody = directory.add_sender(AccountId::new(99), sender("@x.test"));
    assert!(matches!(
        nobody.await,
        Err(DirectoryError::NoSuchAccount(_))
    ));
}

#[tokio::test]
async fn what_an_account_was_given_goes_with_it() {
    let (directory, _dir, ann, _) = ann_and_bob().await;
    directory
        .add_sender(ann, sender("@far.test"))
        .await
        .unwrap();
    directory
        .change(move |tx| tx::remove_account(tx, ann))
        .await
        .unwrap();
    assert!(directory.senders(ann).await.unwrap().is_empty());
    assert!(!may(&directory, ann, "who@far.test").await);
    assert_eq!(
        directory.check().await.unwrap().problems,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn the_alternate_name_alone_is_given_as_a_domain() {
    let (directory, _dir, _, bob) = ann_and_bob().await;
    directory
        .add_sender(bob, sender("@alt.test"))
        .await
        .unwrap();
    assert!(may(&directory, bob, "ann@alt.test").await);
    assert!(!may(&directory, bob, "ann@x.test").await);
    directory.add_sender(bob, sender("@x.test")).await.unwrap();
    assert!(may(&directory, bob, "ann@x.test").await);
}

#[tokio::test]
async fn keys_are_found_by_their_domain_and_change_state() {
    let (directory, _dir, ..) = ann_and_bob().await;
    for (name, selector) in [("x.test", "S2"), ("x.test", "s1"), ("alt.test", "s1")] {
        directory.add_dkim_key(key(name, selector)).await.unwrap();
    }
    assert_eq!(selectors(&directory, Some("x.test")).await, ["s2", "s1"]);
    assert_eq!(selectors(&directory, Some("alt.test")).await, ["s1"]);
    assert_eq!(selectors(&directory, None).await.len(), 3);
    directory
        .set_dkim_key_state(domain("x.test"), "S2".into(), DkimKeyState::Active)
        .await
        .unwrap();
    let keys = directory.dkim_keys(Some(&domain("x.test"))).await.unwrap();
    assert_eq!(
        (keys[0].state, keys[1].state),
        (DkimKeyState::Active, DkimKeyState::Pending)
    );
    assert!(keys[0].changed > keys[0].created);
    directory
        .remove_dkim_key(domain("x.test"), "s2".into())
        .await
        .unwrap();
    assert_eq!(selectors(&directory, Some("x.test")).await, ["s1"]);
}

#[tokio::test]
async fn a_key_needs_a_domain_of_ours_and_a_selector_of_its_own() {
    let (directory, _dir, ..) = ann_and_bob().await;
    directory.add_dkim_key(key("x.test", "s1")).await.unwrap();
    let refused = async |key| directory.add_dkim_key(key).await.unwrap_err();
    assert!(matches!(
        refused(key("far.test", "s1")).await,
        DirectoryError::NoSuchDomain(_)
    ));
    assert!(matches!(
        refused(key("x.test", "S1")).await,
        DirectoryError::DkimKeyExists { .. }
    ));
    for selector in ["", "a b", "a..b", "[192.0.2.1]", "-a"] {
        assert!(
            matches!(
                refused(key("x.test", selector)).await,
                DirectoryError::InvalidSelector(_)
            ),
            "{selector}"
        );
    }
    for number in 1..tx::DKIM_KEYS_MAX {
        let further = key("x.test", &format!("n{number}"));
        directory.add_dkim_key(further).await.unwrap();
    }
    assert!(matches!(
        refused(key("x.test", "last")).await,
        DirectoryError::TooMany { .. }
    ));
    let missing = directory.remove_dkim_key(domain("x.test"), "none".into());
    assert!(matches!(
        missing.await,
        Err(DirectoryError::NoSuchDkimKey { .. })
    ));
}

#[tokio::test]
async fn keys_go_with_their_domain() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    for alternate in ["one.test", "two.test"] {
        directory
            .add_alternate(domain("x.test"), domain(alternate))
            .await
            .unwrap();
    }
    for name in ["x.test", "one.test", "two.test"] {
        directory.add_dkim_key(key(name, "s1")).await.unwrap();
    }
    directory
        .remove_alternate(domain("x.test"), domain("one.test"))
        .await
        .unwrap();
    assert_eq!(selectors(&directory, None).await.len(), 2);
    directory.remove_domain(domain("x.test")).await.unwrap();
    assert!(selectors(&directory, None).await.is_empty());
}

#[tokio::test]
async fn rows_without_their_domain_or_account_are_a_problem() {
    let (directory, _dir, ann, _) = ann_and_bob().await;
    directory.add_dkim_key(key("alt.test", "s1")).await.unwrap();
    directory
        .add_sender(ann, sender("@far.test"))
        .await
        .unwrap();
    assert!(directory.check().await.unwrap().problems.is_empty());
    let mut account = b"u".to_vec();
    account.extend_from_slice(&ann.to_be_bytes());
    directory
        .change(move |tx| {
            tx.delete(RowKey::new(Space::Directory, account.clone()));
            tx.delete(RowKey::new(Space::Directory, b"dalt.test".to_vec()));
            Ok(())
        })
        .await
        .unwrap();
    let problems = directory.check().await.unwrap().problems.join("\n");
    assert!(problems.contains("signs for alt.test"), "{problems}");
    assert!(
        problems.contains("account that does not exist"),
        "{problems}"
    );
}
