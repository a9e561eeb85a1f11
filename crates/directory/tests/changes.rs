//! Adding, changing and removing; logging in; listing; checking.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{add_account, add_domain, address, directory, domain};
use nightmail_commit::Intent;
use nightmail_core::AccountId;
use nightmail_directory::{
    AccountChange, Directory, DirectoryError, DirectoryOptions, DomainChange, NewAccount,
    NewDomain, PasswordHash, Quota, ScramKeys, ScramSecrets, tx,
};
use nightmail_engine::{RowKey, Space};

async fn login(directory: &Directory, name: &str) -> Option<AccountId> {
    directory
        .find_login(name)
        .await
        .unwrap()
        .map(|record| record.id)
}

#[tokio::test]
async fn names_are_taken_once() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let error = directory
        .add_domain(NewDomain::named(domain("X.test")))
        .await
        .unwrap_err();
    assert!(matches!(error, DirectoryError::DomainExists(_)), "{error}");
    let error = directory
        .add_domain(NewDomain::named(domain("[192.0.2.1]")))
        .await
        .unwrap_err();
    assert!(matches!(error, DirectoryError::LiteralDomain(_)), "{error}");
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    let error = directory
        .add_domain(NewDomain::named(domain("alt.test")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, DirectoryError::IsAlternate { .. }),
        "{error}"
    );

    add_account(&directory, "alice@x.test").await;
    let again = directory
        .add_account(NewAccount::at(address("ALICE@alt.test")))
        .await;
    assert!(matches!(
        again,
        Err(DirectoryError::AddressTaken { by: "account", .. })
    ));
    let again = directory
        .add_alias(address("alice@x.test"), vec![address("b@x.test")])
        .await;
    assert!(matches!(
        again,
        Err(DirectoryError::AddressTaken { by: "account", .. })
    ));
    let nowhere = directory
        .add_account(NewAccount::at(address("a@y.test")))
        .await;
    assert!(matches!(nowhere, Err(DirectoryError::NoSuchDomain(_))));
    let logins = vec!["Alice@x.test".to_owned()];
    let taken = NewAccount {
        logins,
        ..NewAccount::at(address("bob@x.test"))
    };
    let error = directory.add_account(taken).await.unwrap_err();
    assert!(matches!(error, DirectoryError::LoginTaken(_)), "{error}");
    assert_eq!(
        directory.account_at(&address("bob@x.test")).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_domain_in_use_is_not_removed() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    let id = add_account(&directory, "alice@x.test").await;
    directory
        .add_alias(address("a@x.test"), vec![address("far@z.test")])
        .await
        .unwrap();
    let error = directory.remove_domain(domain("x.test")).await.unwrap_err();
    assert!(
        error.to_string().contains("1 account(s) and 1 alias(es)"),
        "{error}"
    );
    directory
        .change(move |tx| tx::remove_account(tx, id))
        .await
        .unwrap();
    directory.remove_alias(address("a@x.test")).await.unwrap();
    directory.remove_domain(domain("x.test")).await.unwrap();
    assert_eq!(directory.domain(&domain("alt.test")).await.unwrap(), None);
    assert_eq!(
        directory.check().await.unwrap().problems,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn account_ids_are_never_given_twice() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let first = add_account(&directory, "alice@x.test").await;
    directory
        .change(move |tx| tx::remove_account(tx, first))
        .await
        .unwrap();
    let second = add_account(&directory, "alice@x.test").await;
    assert!(second > first);
}

#[tokio::test]
async fn a_refused_change_leaves_nothing_of_those_before_it() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let refused = directory
        .change(|tx| {
            tx::add_account(tx, &NewAccount::at(address("alice@x.test")))?;
            tx::add_account(tx, &NewAccount::at(address("alice@x.test")))
        })
        .await;
    assert!(matches!(refused, Err(DirectoryError::AddressTaken { .. })));
    assert_eq!(
        directory
            .account_at(&address("alice@x.test"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        directory
            .domain(&domain("x.test"))
            .await
            .unwrap()
            .unwrap()
            .accounts,
        0
    );
}

#[tokio::test]
async fn logging_in_ignores_case_and_completes_the_domain() {
    let options = DirectoryOptions {
        default_domain: Some(domain("x.test")),
        ..DirectoryOptions::default()
    };
    let (directory, _dir) = directory(options);
    add_domain(&directory, "x.test").await;
    let new = NewAccount {
        logins: vec!["Al".to_owned(), "alice@old.test".to_owned()],
        password: Some(PasswordHash::new("$argon2id$x")),
        ..NewAccount::at(address("Alice@x.test"))
    };
    let id = directory.add_account(new).await.unwrap();
    for name in [
        "alice@x.test",
        "ALICE@X.TEST",
        "alice",
        "AL",
        "Alice@OLD.test",
    ] {
        assert_eq!(login(&directory, name).await, Some(id), "{name}");
    }
    for name in [
        "",
        "bob",
        "alice@y.test",
        "al@old.test",
        "alice+t@x.test",
        "a\r\nb",
    ] {
        assert_eq!(login(&directory, name).await, None, "{name}");
    }
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    assert_eq!(login(&directory, "alice@alt.test").await, Some(id));
    let record = directory.find_login("al").await.unwrap().unwrap();
    assert_eq!(record.password.unwrap().as_str(), "$argon2id$x");
}

#[tokio::test]
async fn a_login_name_outlives_its_domain_becoming_an_alternate() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let logins = vec!["bob@old.test".to_owned()];
    let new = NewAccount {
        logins,
        ..NewAccount::at(address("alice@x.test"))
    };
    let alice = directory.add_account(new).await.unwrap();
    let bob = add_account(&directory, "bob@x.test").await;
    directory
        .add_alternate(domain("x.test"), domain("old.test"))
        .await
        .unwrap();
    assert_eq!(login(&directory, "bob@old.test").await, Some(alice));
    directory
        .change(move |tx| tx::remove_login(tx, alice, "Bob@old.test"))
        .await
        .unwrap();
    assert_eq!(login(&directory, "bob@old.test").await, Some(bob));
    assert_eq!(login(&directory, "bob@x.test").await, Some(bob));
}

#[tokio::test]
async fn the_disabled_are_shown_disabled_at_login() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "alice@x.test").await;
    assert!(
        directory
            .find_login("alice@x.test")
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
    let off = DomainChange {
        enabled: Some(false),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), off)
        .await
        .unwrap();
    assert!(
        !directory
            .find_login("alice@x.test")
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
    let on = DomainChange {
        enabled: Some(true),
        ..DomainChange::default()
    };
    directory.update_domain(domain("x.test"), on).await.unwrap();
    let off = AccountChange {
        enabled: Some(false),
        ..AccountChange::default()
    };
    directory.update_account(id, off).await.unwrap();
    assert!(
        !directory
            .find_login("alice@x.test")
            .await
            .unwrap()
            .unwrap()
            .enabled
    );
}

#[tokio::test]
async fn new_accounts_take_the_domains_quota_unless_they_bring_one() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    let default_quota = Quota {
        bytes: Some(5),
        messages: None,
        mailboxes: Some(9),
    };
    let new = NewDomain {
        default_quota,
        ..NewDomain::named(domain("x.test"))
    };
    directory.add_domain(new).await.unwrap();
    let id = add_account(&directory, "alice@x.test").await;
    assert_eq!(
        directory.account(id).await.unwrap().unwrap().quota,
        default_quota
    );
    let own = NewAccount {
        quota: Some(Quota::UNLIMITED),
        ..NewAccount::at(address("b@x.test"))
    };
    let id = directory.add_account(own).await.unwrap();
    assert_eq!(
        directory.account(id).await.unwrap().unwrap().quota,
        Quota::UNLIMITED
    );
}

#[tokio::test]
async fn a_renamed_account_keeps_its_id_and_may_keep_its_old_address() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    add_domain(&directory, "y.test").await;
    let id = add_account(&directory, "alice@x.test").await;
    directory
        .rename_account(id, address("Alice@x.test"), false)
        .await
        .unwrap();
    assert_eq!(
        directory.account(id).await.unwrap().unwrap().address,
        address("Alice@x.test")
    );
    directory
        .rename_account(id, address("al@y.test"), true)
        .await
        .unwrap();
    assert_eq!(login(&directory, "al@y.test").await, Some(id));
    assert_eq!(login(&directory, "alice@x.test").await, None);
    assert!(
        directory
            .may_send_as(id, &address("alice@x.test"))
            .await
            .unwrap()
    );
    let error = directory
        .rename_account(id, address("alice@x.test"), false)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DirectoryError::AddressTaken { by: "alias", .. }),
        "{error}"
    );
    let report = directory.check().await.unwrap();
    assert_eq!((report.domains, report.accounts, report.aliases), (2, 1, 1));
    assert_eq!(report.problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_alias_gains_and_loses_targets_but_never_its_last() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let (alias, a, b) = (
        address("all@x.test"),
        address("a@z.test"),
        address("b@z.test"),
    );
    directory
        .add_alias(alias.clone(), vec![a.clone()])
        .await
        .unwrap();
    let (at, more) = (alias.clone(), vec![a.clone(), b.clone()]);
    directory
        .change(move |tx| tx::add_alias_targets(tx, &at, &more))
        .await
        .unwrap();
    let targets = directory.alias(&alias).await.unwrap().unwrap().targets;
    assert_eq!(targets, [a.clone(), b.clone()]);
    let (at, less) = (alias.clone(), vec![a.clone(), b.clone()]);
    let refused = directory
        .change(move |tx| tx::remove_alias_targets(tx, &at, &less))
        .await;
    assert!(matches!(refused, Err(DirectoryError::NoTarget(_))));
    let (at, less) = (alias.clone(), vec![a]);
    directory
        .change(move |tx| tx::remove_alias_targets(tx, &at, &less))
        .await
        .unwrap();
    assert_eq!(directory.alias(&alias).await.unwrap().unwrap().targets, [b]);
}

#[tokio::test]
async fn lists_come_in_pages_without_gaps_or_repeats() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    add_domain(&directory, "x.test2").await;
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    for number in 0..7 {
        add_account(&directory, &format!("u{number}@x.test")).await;
        let target = vec![address("far@z.test")];
        directory
            .add_alias(address(&format!("z{number}@x.test")), target)
            .await
            .unwrap();
    }
    add_account(&directory, "other@x.test2").await;
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let of = domain("x.test");
        let page = directory
            .list_accounts(Some(&of), after.as_deref(), 3)
            .await
            .unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(
            page.items
                .into_iter()
                .map(|record| record.address.to_string()),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        seen,
        (0..7)
            .map(|number| format!("u{number}@x.test"))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        directory
            .list_accounts(None, None, 100)
            .await
            .unwrap()
            .items
            .len(),
        8
    );
    let aliases = directory.list_aliases(None, None, 5).await.unwrap();
    assert_eq!(
        (aliases.items.len(), aliases.next.as_deref()),
        (5, Some("x.test@z4"))
    );
    let domains = directory.list_domains(None, 100).await.unwrap().items;
    assert_eq!(domains.len(), 2);
    assert_eq!((domains[0].accounts, domains[0].aliases), (7, 7));
}

#[tokio::test]
async fn a_wrong_counter_is_found_and_mended() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    add_account(&directory, "alice@x.test").await;
    let spoil = Intent::synced(|tx| {
        tx.delete(RowKey::new(Space::Directory, b"ax.test@alice".as_slice()));
        Ok::<_, nightmail_commit::Abort<DirectoryError>>(())
    });
    directory.committer().submit(spoil).await.unwrap();
    let report = directory.check().await.unwrap();
    assert_eq!(report.miscounted, [domain("x.test")]);
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert_eq!(directory.repair().await.unwrap(), 1);
    assert_eq!(directory.check().await.unwrap().miscounted, []);
}

#[tokio::test]
async fn secrets_are_added_only_to_the_password_they_were_made_of() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let first = PasswordHash::new("$first");
    let new = NewAccount {
        password: Some(first.clone()),
        ..NewAccount::at(address("ann@x.test"))
    };
    let id = directory.add_account(new).await.unwrap();
    let keys = ScramKeys {
        salt: vec![1],
        iterations: 4096,
        stored_key: vec![2],
        server_key: vec![3],
    };
    let secrets = ScramSecrets {
        sha1: keys.clone(),
        sha256: keys,
    };
    let add = |password: &PasswordHash| directory.add_scram(id, password.clone(), secrets.clone());
    assert!(!add(&PasswordHash::new("$other")).await.unwrap());
    assert!(add(&first).await.unwrap());
    let kept = directory.account(id).await.unwrap().unwrap().password;
    let kept = kept.unwrap();
    assert_eq!(kept.scram(), Some(&secrets));
    assert!(!add(&kept).await.unwrap(), "it has them");

    let change = AccountChange {
        password: Some(Some(PasswordHash::new("$second"))),
        ..AccountChange::default()
    };
    directory.update_account(id, change).await.unwrap();
    let changed = directory.account(id).await.unwrap().unwrap().password;
    assert_eq!(changed.unwrap().scram(), None, "a new password has its own");
    assert!(!add(&first).await.unwrap());
}
