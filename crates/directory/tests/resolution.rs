//! What addresses mean.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use common::{add_account, add_domain, address, directory, domain};
use nightmail_core::AccountId;
use nightmail_directory::{
    AccountChange, Directory, DirectoryOptions, DomainChange, NewAccount, Quota, Resolution,
    Subaddress, Target, WhenDisabled,
};

async fn resolve(directory: &Directory, text: &str) -> Resolution {
    directory.resolve(&address(text)).await.unwrap()
}

fn account(id: AccountId, text: &str, detail: Option<&str>) -> Target {
    Target::Account {
        id,
        address: address(text),
        detail: detail.map(str::to_owned),
        quota: Quota::UNLIMITED,
        services: None,
    }
}

#[tokio::test]
async fn an_account_is_found_in_any_case_and_with_a_detail() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "Alice@x.test").await;
    for (text, detail) in [
        ("alice@x.test", None),
        ("ALICE@X.TEST", None),
        ("alice+Lists.Rust+b@x.test", Some("Lists.Rust+b")),
    ] {
        let expected = Resolution::Recipients(vec![account(id, text, detail)]);
        assert_eq!(resolve(&directory, text).await, expected, "{text}");
    }
    assert_eq!(
        resolve(&directory, "bob@x.test").await,
        Resolution::UnknownUser
    );
    assert_eq!(
        resolve(&directory, "+tag@x.test").await,
        Resolution::UnknownUser
    );
    assert_eq!(
        resolve(&directory, "alice@y.test").await,
        Resolution::NotLocal
    );
}

#[tokio::test]
async fn what_bounces_from_a_recipient_named_in_the_sender_comes_back_to_the_sender() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "news@x.test").await;
    let returned = "news+bob.b=far.test@x.test";
    let expected = account(id, returned, Some("bob.b=far.test"));
    assert_eq!(
        resolve(&directory, returned).await,
        Resolution::Recipients(vec![expected])
    );
}

#[tokio::test]
async fn an_exact_address_goes_before_its_user() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    add_account(&directory, "alice@x.test").await;
    let exact = add_account(&directory, "alice+work@x.test").await;
    assert_eq!(
        resolve(&directory, "alice+work@x.test").await,
        Resolution::Recipients(vec![account(exact, "alice+work@x.test", None)])
    );
}

#[tokio::test]
async fn a_domain_chooses_its_own_separator_or_none() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "alice@x.test").await;
    let with = |subaddress| DomainChange {
        subaddress: Some(subaddress),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), with(Subaddress::Separator('-')))
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "alice-t@x.test").await,
        Resolution::Recipients(vec![account(id, "alice-t@x.test", Some("t"))])
    );
    assert_eq!(
        resolve(&directory, "alice+t@x.test").await,
        Resolution::UnknownUser
    );
    directory
        .update_domain(domain("x.test"), with(Subaddress::Off))
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "alice-t@x.test").await,
        Resolution::UnknownUser
    );
}

#[tokio::test]
async fn aliases_cross_domains_and_name_nobody_twice() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    add_domain(&directory, "y.test").await;
    let id = add_account(&directory, "alice@y.test").await;
    let targets = |texts: &[&str]| texts.iter().map(|text| address(text)).collect::<Vec<_>>();
    let add = |from, to: &[&str]| directory.add_alias(address(from), targets(to));
    add(
        "team@x.test",
        &["alice@y.test", "sub@x.test", "dead@x.test", "far@z.test"],
    )
    .await
    .unwrap();
    add(
        "sub@x.test",
        &["Alice+t@y.test", "FAR@z.test", "team@x.test"],
    )
    .await
    .unwrap();
    assert_eq!(
        resolve(&directory, "Team+t@x.test").await,
        Resolution::Recipients(vec![
            account(id, "alice@y.test", None),
            Target::Remote(address("far@z.test")),
        ])
    );
}

#[tokio::test]
async fn circles_and_endless_chains_are_told_from_unknown_users() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let add = |from: String, to: String| directory.add_alias(address(&from), vec![address(&to)]);
    add("a@x.test".into(), "b@x.test".into()).await.unwrap();
    add("b@x.test".into(), "a@x.test".into()).await.unwrap();
    assert_eq!(
        resolve(&directory, "a@x.test").await,
        Resolution::LoopOrTooMany
    );
    for step in 0..21 {
        add(format!("c{step}@x.test"), format!("c{}@x.test", step + 1))
            .await
            .unwrap();
    }
    add_account(&directory, "c21@x.test").await;
    assert_eq!(
        resolve(&directory, "c0@x.test").await,
        Resolution::LoopOrTooMany
    );
    assert!(matches!(
        resolve(&directory, "c1@x.test").await,
        Resolution::Recipients(_)
    ));
}

#[tokio::test]
async fn too_many_recipients_are_refused() {
    let options = DirectoryOptions {
        recipients_max: 3,
        ..DirectoryOptions::default()
    };
    let (directory, _dir) = directory(options);
    add_domain(&directory, "x.test").await;
    let remote = |count| {
        (0..count)
            .map(|n| address(&format!("u{n}@far.test")))
            .collect::<Vec<_>>()
    };
    directory
        .add_alias(address("three@x.test"), remote(3))
        .await
        .unwrap();
    directory
        .add_alias(address("four@x.test"), remote(4))
        .await
        .unwrap();
    assert!(matches!(
        resolve(&directory, "three@x.test").await,
        Resolution::Recipients(_)
    ));
    assert_eq!(
        resolve(&directory, "four@x.test").await,
        Resolution::LoopOrTooMany
    );
}

#[tokio::test]
async fn aliases_that_multiply_are_cut_off_before_they_fill_memory() {
    let options = DirectoryOptions {
        lookups_max: 50,
        ..DirectoryOptions::default()
    };
    let (directory, _dir) = directory(options);
    add_domain(&directory, "x.test").await;
    let names = |kind: &str, count| {
        (0..count)
            .map(|n| address(&format!("{kind}{n}@x.test")))
            .collect::<Vec<_>>()
    };
    directory
        .add_alias(address("many@x.test"), names("dead", 51))
        .await
        .unwrap();
    directory
        .add_alias(address("few@x.test"), names("dead", 40))
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "many@x.test").await,
        Resolution::LoopOrTooMany
    );
    assert_eq!(
        resolve(&directory, "few@x.test").await,
        Resolution::UnknownUser
    );
}

#[tokio::test]
async fn an_alternate_domain_means_the_same_people() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "alice@x.test").await;
    assert_eq!(
        resolve(&directory, "alice@alt.test").await,
        Resolution::NotLocal
    );
    directory
        .add_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "alice+t@ALT.test").await,
        Resolution::Recipients(vec![account(id, "alice+t@alt.test", Some("t"))])
    );
    let second = add_account(&directory, "bob@alt.test").await;
    let record = directory.account(second).await.unwrap().unwrap();
    assert_eq!(record.address, address("bob@x.test"));
    directory
        .remove_alternate(domain("x.test"), domain("alt.test"))
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "alice@alt.test").await,
        Resolution::NotLocal
    );
}

#[tokio::test]
async fn the_catch_all_gets_what_nobody_else_does() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let id = add_account(&directory, "alice@x.test").await;
    let change = DomainChange {
        catch_all: Some(vec![address("alice@x.test"), address("far@z.test")]),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), change)
        .await
        .unwrap();
    assert_eq!(
        resolve(&directory, "whoever@x.test").await,
        Resolution::Recipients(vec![
            account(id, "alice@x.test", None),
            Target::Remote(address("far@z.test"))
        ])
    );
}

#[tokio::test]
async fn every_domain_has_a_postmaster() {
    let options = DirectoryOptions {
        default_domain: Some(domain("x.test")),
        ..DirectoryOptions::default()
    };
    let (directory, _dir) = directory(options);
    add_domain(&directory, "x.test").await;
    assert_eq!(
        directory.resolve_postmaster().await.unwrap(),
        Resolution::UnknownUser
    );
    let somebody = NewAccount::at(address("somebody@x.test"));
    directory.add_account(somebody).await.unwrap();
    assert!(matches!(
        directory.resolve_postmaster().await.unwrap(),
        Resolution::Recipients(_)
    ));
    let new = NewAccount {
        admin: true,
        ..NewAccount::at(address("root@x.test"))
    };
    let root = directory.add_account(new).await.unwrap();
    let is_root = |resolution| match resolution {
        Resolution::Recipients(targets) => {
            matches!(targets.as_slice(), [Target::Account { id, .. }] if *id == root)
        }
        _ => false,
    };
    assert!(is_root(resolve(&directory, "Postmaster@x.test").await));
    assert!(is_root(resolve(&directory, "abuse@x.test").await));
    assert!(is_root(directory.resolve_postmaster().await.unwrap()));
    directory
        .add_alias(address("postmaster@x.test"), vec![address("far@z.test")])
        .await
        .unwrap();
    let far = Resolution::Recipients(vec![Target::Remote(address("far@z.test"))]);
    assert_eq!(resolve(&directory, "postmaster@x.test").await, far);
    assert_eq!(directory.resolve_postmaster().await.unwrap(), far);
}

#[tokio::test]
async fn a_configured_postmaster_goes_before_the_administrator() {
    let options = DirectoryOptions {
        postmaster: Some(address("postmaster@x.test")),
        accept_abuse: false,
        ..DirectoryOptions::default()
    };
    let (directory, _dir) = directory(options);
    add_domain(&directory, "x.test").await;
    add_domain(&directory, "y.test").await;
    let new = NewAccount {
        admin: true,
        ..NewAccount::at(address("root@y.test"))
    };
    let root = directory.add_account(new).await.unwrap();
    let at = |text| Resolution::Recipients(vec![account(root, text, None)]);
    assert_eq!(
        resolve(&directory, "postmaster@x.test").await,
        at("postmaster@x.test")
    );
    assert_eq!(
        resolve(&directory, "abuse@x.test").await,
        Resolution::UnknownUser
    );
    let own = add_account(&directory, "postmaster@x.test").await;
    assert_eq!(
        resolve(&directory, "postmaster@y.test").await,
        Resolution::Recipients(vec![account(own, "postmaster@x.test", None)])
    );
}

#[tokio::test]
async fn the_disabled_are_refused_for_good_or_for_now() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let alice = add_account(&directory, "alice@x.test").await;
    let bob = add_account(&directory, "bob@x.test").await;
    let both = vec![address("alice@x.test"), address("bob@x.test")];
    directory
        .add_alias(address("both@x.test"), both)
        .await
        .unwrap();
    let off = |when_disabled| AccountChange {
        enabled: Some(false),
        when_disabled: Some(when_disabled),
        ..AccountChange::default()
    };
    directory
        .update_account(alice, off(WhenDisabled::Reject))
        .await
        .unwrap();
    let disabled = |temporary| Resolution::Disabled { temporary };
    assert_eq!(resolve(&directory, "alice@x.test").await, disabled(false));
    assert_eq!(
        resolve(&directory, "both@x.test").await,
        Resolution::Recipients(vec![account(bob, "bob@x.test", None)])
    );
    directory
        .update_account(alice, off(WhenDisabled::Defer))
        .await
        .unwrap();
    assert_eq!(resolve(&directory, "alice@x.test").await, disabled(true));
    assert_eq!(resolve(&directory, "both@x.test").await, disabled(true));
    let change = DomainChange {
        enabled: Some(false),
        ..DomainChange::default()
    };
    directory
        .update_domain(domain("x.test"), change)
        .await
        .unwrap();
    assert_eq!(resolve(&directory, "bob@x.test").await, disabled(true));
}

async fn forward(directory: &Directory, id: AccountId, to: &[&str], keeps_copy: bool) {
    let to = to.iter().map(|to| address(to)).collect();
    let change = AccountChange {
        forward: Some((to, keeps_copy)),
        ..AccountChange::default()
    };
    directory.update_account(id, change).await.unwrap();
}

/// What the targets of an address are, in words.
async fn targets(directory: &Directory, text: &str) -> Vec<String> {
    let Resolution::Recipients(targets) = resolve(directory, text).await else {
        return Vec::new();
    };
    let mut shown: Vec<String> = targets
        .iter()
        .map(|target| match target {
            Target::Account { address, .. } => format!("copy {address}"),
            Target::PassedOn { address, .. } => format!("passed {address}"),
            Target::Remote(to) => format!("remote {to}"),
            Target::Forwarded { to, sender, .. } => format!("{sender} to {to}"),
        })
        .collect();
    shown.sort();
    shown
}

#[tokio::test]
async fn an_account_that_forwards_keeps_a_copy_only_if_it_wants_one() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let alice = add_account(&directory, "alice@x.test").await;
    add_account(&directory, "bob@x.test").await;
    let to = ["bob@x.test", "far@z.test"];
    forward(&directory, alice, &to, false).await;
    assert_eq!(
        targets(&directory, "Alice+tag@x.test").await,
        [
            "alice@x.test to far@z.test",
            "copy bob@x.test",
            "passed Alice+tag@x.test"
        ]
    );
    forward(&directory, alice, &to, true).await;
    assert_eq!(
        targets(&directory, "alice@x.test").await,
        [
            "alice@x.test to far@z.test",
            "copy alice@x.test",
            "copy bob@x.test"
        ]
    );
}

#[tokio::test]
async fn accounts_that_forward_to_each_other_end_in_one_copy() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let alice = add_account(&directory, "alice@x.test").await;
    let bob = add_account(&directory, "bob@x.test").await;
    forward(&directory, alice, &["bob+a@x.test"], false).await;
    forward(&directory, bob, &["alice@x.test"], false).await;
    assert_eq!(
        targets(&directory, "alice@x.test").await,
        ["copy bob+a@x.test", "passed alice@x.test"]
    );
    forward(&directory, bob, &["bob@x.test", "team@x.test"], false).await;
    let team = vec![address("alice@x.test"), address("bob@x.test")];
    directory
        .add_alias(address("team@x.test"), team)
        .await
        .unwrap();
    let found = targets(&directory, "team@x.test").await;
    assert_eq!(found, ["copy bob@x.test", "passed alice@x.test"]);
}

#[tokio::test]
async fn what_is_forwarded_to_nobody_is_kept() {
    let (directory, _dir) = directory(DirectoryOptions::default());
    add_domain(&directory, "x.test").await;
    let alice = add_account(&directory, "alice@x.test").await;
    let bob = add_account(&directory, "bob@x.test").await;
    forward(&directory, alice, &["nobody@x.test", "bob@x.test"], false).await;
    let disabled = AccountChange {
        enabled: Some(false),
        ..AccountChange::default()
    };
    directory.update_account(bob, disabled).await.unwrap();
    let team = vec![address("alice@x.test"), address("far@z.test")];
    directory
        .add_alias(address("team@x.test"), team)
        .await
        .unwrap();
    assert_eq!(
        targets(&directory, "team@x.test").await,
        ["copy alice@x.test", "remote far@z.test"]
    );
}
