//! Any sequence of changes leaves the directory meaning what a naive one means.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{address, directory, domain};
use nightmail_core::AccountId;
use nightmail_directory::{
    AccountChange, Directory, DirectoryOptions, DomainChange, NewAccount, NewDomain, Resolution,
    Target, WhenDisabled, tx,
};
use proptest::prelude::*;

const DOMAINS: [&str; 3] = ["x.test", "y.test", "z.test"];
const LOCALS: [&str; 4] = ["a", "b", "a+t", "postmaster"];

#[derive(Clone, Debug)]
enum Change {
    AddDomain(&'static str),
    RemoveDomain(&'static str),
    AddAlternate(&'static str, &'static str),
    RemoveAlternate(&'static str, &'static str),
    CatchAll(&'static str, Option<Name>),
    AddAccount(Name, bool),
    RemoveAccount(Name),
    Rename(Name, Name, bool),
    Disable(Name, bool),
    AddAlias(Name, Vec<Name>),
    RemoveAlias(Name),
}

/// Local-part and domain.
type Name = (&'static str, &'static str);

fn text(name: &Name) -> String {
    format!("{}@{}", name.0, name.1)
}

#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    Account {
        id: AccountId,
        admin: bool,
        off: Option<bool>,
    },
    Alias(Vec<Name>),
}

#[derive(Default)]
struct Model {
    domains: BTreeMap<&'static str, Option<Name>>,
    alternates: BTreeMap<&'static str, &'static str>,
    names: BTreeMap<Name, Meaning>,
    admins: Vec<AccountId>,
}

/// What the model says of an address: nothing of order, address or detail.
#[derive(Debug, PartialEq, Default)]
struct Answer {
    accounts: BTreeSet<AccountId>,
    remotes: BTreeSet<String>,
    rejects: bool,
    defers: bool,
    dead_end: bool,
}

impl Model {
    fn map(&self, name: Name) -> Name {
        (
            name.0,
            self.alternates.get(name.1).copied().unwrap_or(name.1),
        )
    }

    fn known(&self, domain: &str) -> bool {
        self.domains.contains_key(domain)
    }

    fn free(&self, name: Name) -> bool {
        self.known(name.1) && !self.names.contains_key(&name)
    }

    /// Whether the change is possible; makes it if so. A new account gets `id`.
    fn apply(&mut self, change: &Change, id: Option<AccountId>) -> bool {
        match change {
            Change::AddDomain(name) => {
                let possible = !self.known(name) && !self.alternates.contains_key(name);
                if possible {
                    self.domains.insert(name, None);
                }
                possible
            }
            Change::RemoveDomain(name) => {
                let possible = self.known(name) && !self.names.keys().any(|key| key.1 == *name);
                if possible {
                    self.domains.remove(name);
                    self.alternates.retain(|_, of| of != name);
                }
                possible
            }
            Change::AddAlternate(of, name) => {
                let possible =
                    self.known(of) && !self.known(name) && !self.alternates.contains_key(name);
                if possible {
                    self.alternates.insert(name, of);
                }
                possible
            }
            Change::RemoveAlternate(of, name) => {
                let possible = self.known(of) && self.alternates.get(name) == Some(of);
                if possible {
                    self.alternates.remove(name);
                }
                possible
            }
            Change::CatchAll(name, target) => self
                .domains
                .get_mut(name)
                .map(|catch_all| *catch_all = *target)
                .is_some(),
            _ => self.apply_to_names(change, id),
        }
    }

    fn apply_to_names(&mut self, change: &Change, id: Option<AccountId>) -> bool {
        match change {
            Change::AddAccount(name, admin) => {
                let name = self.map(*name);
                let (true, Some(id)) = (self.free(name), id) else {
                    return false;
                };
                if *admin {
                    self.admins.push(id);
                }
                self.names.insert(
                    name,
                    Meaning::Account {
                        id,
                        admin: *admin,
                        off: None,
                    },
                );
                true
            }
            Change::RemoveAccount(name) => {
                let name = self.map(*name);
                let Some(Meaning::Account { id, .. }) = self.names.get(&name).cloned() else {
                    return false;
                };
                self.admins.retain(|admin| *admin != id);
                self.names.remove(&name).is_some()
            }
            Change::Rename(old, new, keep) => {
                let (old, new) = (self.map(*old), self.map(*new));
                let Some(account @ Meaning::Account { .. }) = self.names.get(&old).cloned() else {
                    return false;
                };
                if old == new {
                    return true;
                }
                if !self.free(new) {
                    return false;
                }
                self.names.insert(new, account);
                self.names.remove(&old);
                if *keep {
                    self.names.insert(old, Meaning::Alias(vec![new]));
                }
                true
            }
            Change::Disable(name, defer) => {
                let name = self.map(*name);
                match self.names.get_mut(&name) {
                    Some(Meaning::Account { off, .. }) => {
                        *off = Some(*defer);
                        true
                    }
                    _ => false,
                }
            }
            Change::AddAlias(name, targets) => {
                let name = self.map(*name);
                let possible = self.free(name) && !targets.is_empty();
                if possible {
                    self.names.insert(name, Meaning::Alias(targets.clone()));
                }
                possible
            }
            Change::RemoveAlias(name) => {
                let name = self.map(*name);
                let possible = matches!(self.names.get(&name), Some(Meaning::Alias(_)));
                if possible {
                    self.names.remove(&name);
                }
                possible
            }
            _ => false,
        }
    }

    fn resolve(&self, name: Name) -> Resolved {
        if !self.known(self.map(name).1) {
            return Resolved::NotLocal;
        }
        let mut answer = Answer::default();
        self.walk(name, &mut BTreeSet::new(), &mut answer);
        match answer {
            Answer { defers: true, .. } => Resolved::Deferred,
            Answer {
                accounts, remotes, ..
            } if !accounts.is_empty() || !remotes.is_empty() => Resolved::Found(accounts, remotes),
            Answer { rejects: true, .. } => Resolved::Rejected,
            Answer { dead_end: true, .. } => Resolved::Unknown,
            _ => Resolved::Circle,
        }
    }

    fn walk(&self, name: Name, seen: &mut BTreeSet<Name>, answer: &mut Answer) {
        if !seen.insert(name) {
            return;
        }
        let mapped = self.map(name);
        let Some(catch_all) = self.domains.get(mapped.1) else {
            answer.remotes.insert(text(&name));
            return;
        };
        let user = mapped.0.split('+').next().unwrap();
        let meaning = self
            .names
            .get(&mapped)
            .or_else(|| {
                self.names
                    .iter()
                    .find(|(key, _)| **key == (user, mapped.1))
                    .map(|(_, m)| m)
            })
            .or_else(|| self.postmaster(mapped.0));
        match (meaning, catch_all) {
            (Some(Meaning::Account { id, off: None, .. }), _) => {
                answer.accounts.insert(*id);
            }
            (
                Some(Meaning::Account {
                    off: Some(true), ..
                }),
                _,
            ) => answer.defers = true,
            (
                Some(Meaning::Account {
                    off: Some(false), ..
                }),
                _,
            ) => answer.rejects = true,
            (Some(Meaning::Alias(targets)), _) => {
                targets
                    .iter()
                    .for_each(|target| self.walk(*target, seen, answer));
            }
            (None, Some(target)) => self.walk(*target, seen, answer),
            (None, None) => answer.dead_end = true,
        }
    }

    fn postmaster(&self, local: &str) -> Option<&Meaning> {
        let is = |admin: &AccountId, meaning: &Meaning| matches!(meaning, Meaning::Account { id, off: None, .. } if id == admin);
        (local == "postmaster")
            .then(|| {
                let admin = |admin| self.names.values().find(|meaning| is(admin, meaning));
                self.admins
                    .iter()
                    .find_map(admin)
                    .or_else(|| self.first_account())
            })
            .flatten()
    }

    /// The first account that takes mail, in the order of domain and local-part.
    fn first_account(&self) -> Option<&Meaning> {
        let open = |meaning: &&Meaning| matches!(meaning, Meaning::Account { off: None, .. });
        let named = self.names.iter().filter(|(_, meaning)| open(meaning));
        let first = named.min_by_key(|((local, domain), _)| format!("{domain}@{local}"));
        first.map(|(_, meaning)| meaning)
    }
}

#[derive(Debug, PartialEq)]
enum Resolved {
    Found(BTreeSet<AccountId>, BTreeSet<String>),
    Unknown,
    Rejected,
    Deferred,
    NotLocal,
    Circle,
}

fn resolved(resolution: Resolution) -> Resolved {
    match resolution {
        Resolution::UnknownUser => Resolved::Unknown,
        Resolution::Disabled { temporary: true } => Resolved::Deferred,
        Resolution::Disabled { temporary: false } => Resolved::Rejected,
        Resolution::NotLocal => Resolved::NotLocal,
        Resolution::LoopOrTooMany => Resolved::Circle,
        Resolution::Recipients(targets) => {
            let (mut accounts, mut remotes) = (BTreeSet::new(), BTreeSet::new());
            for target in targets {
                let new = match target {
                    Target::Account { id, .. } => accounts.insert(id),
                    Target::Remote(address) => remotes.insert(address.to_string()),
                    Target::Forwarded { .. } | Target::PassedOn { .. } => {
                        panic!("nobody forwards")
                    }
                };
                assert!(new, "a target twice");
            }
            Resolved::Found(accounts, remotes)
        }
    }
}

/// Makes the change; the id of a new account, or whether it went through.
async fn make(directory: &Directory, change: &Change) -> Result<Option<AccountId>, String> {
    let name = |name: &Name| address(&text(name));
    let at = |account: &Name| {
        let account = name(account);
        async move {
            let found = directory.account_at(&account).await.unwrap();
            found
                .map(|record| record.id)
                .ok_or_else(|| "no account".to_owned())
        }
    };
    let made = match change {
        Change::AddDomain(name) => directory.add_domain(NewDomain::named(domain(name))).await,
        Change::RemoveDomain(name) => directory.remove_domain(domain(name)).await,
        Change::AddAlternate(of, alternate) => {
            directory.add_alternate(domain(of), domain(alternate)).await
        }
        Change::RemoveAlternate(of, alternate) => {
            directory
                .remove_alternate(domain(of), domain(alternate))
                .await
        }
        Change::CatchAll(of, target) => {
            let catch_all = Some(target.iter().map(name).collect());
            let change = DomainChange {
                catch_all,
                ..DomainChange::default()
            };
            directory.update_domain(domain(of), change).await
        }
        Change::AddAccount(account, admin) => {
            let new = NewAccount {
                admin: *admin,
                ..NewAccount::at(name(account))
            };
            let id = directory
                .add_account(new)
                .await
                .map_err(|error| error.to_string())?;
            return Ok(Some(id));
        }
        Change::RemoveAccount(account) => {
            let id = at(account).await?;
            directory
                .change(move |tx| tx::remove_account(tx, id))
                .await
                .map(drop)
        }
        Change::Rename(account, new, keep) => {
            let id = at(account).await?;
            directory.rename_account(id, name(new), *keep).await
        }
        Change::Disable(account, defer) => {
            let id = at(account).await?;
            let when = if *defer {
                WhenDisabled::Defer
            } else {
                WhenDisabled::Reject
            };
            let change = AccountChange {
                enabled: Some(false),
                when_disabled: Some(when),
                ..AccountChange::default()
            };
            directory.update_account(id, change).await
        }
        Change::AddAlias(alias, targets) => {
            directory
                .add_alias(name(alias), targets.iter().map(name).collect())
                .await
        }
        Change::RemoveAlias(alias) => directory.remove_alias(name(alias)).await,
    };
    made.map(|()| None).map_err(|error| error.to_string())
}

fn any_domain() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(DOMAINS[0]), 3 => Just(DOMAINS[1]), 1 => Just(DOMAINS[2])]
}

fn any_name() -> impl Strategy<Value = Name> {
    (prop::sample::select(&LOCALS[..]), any_domain())
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => any_domain().prop_map(Change::AddDomain),
        1 => any_domain().prop_map(Change::RemoveDomain),
        1 => (any_domain(), any_domain()).prop_map(|(of, name)| Change::AddAlternate(of, name)),
        1 => (any_domain(), any_domain()).prop_map(|(of, name)| Change::RemoveAlternate(of, name)),
        1 => (any_domain(), proptest::option::of(any_name()))
            .prop_map(|(of, target)| Change::CatchAll(of, target)),
        5 => (any_name(), any::<bool>()).prop_map(|(name, admin)| Change::AddAccount(name, admin)),
        1 => any_name().prop_map(Change::RemoveAccount),
        1 => (any_name(), any_name(), any::<bool>())
            .prop_map(|(old, new, keep)| Change::Rename(old, new, keep)),
        1 => (any_name(), any::<bool>()).prop_map(|(name, defer)| Change::Disable(name, defer)),
        5 => (any_name(), prop::collection::vec(any_name(), 0..4))
            .prop_map(|(name, targets)| Change::AddAlias(name, targets)),
        1 => any_name().prop_map(Change::RemoveAlias),
    ]
}

async fn agree(changes: Vec<Change>) {
    let (directory, _dir) = directory(DirectoryOptions::default());
    let mut model = Model::default();
    make(&directory, &Change::AddDomain(DOMAINS[0]))
        .await
        .unwrap();
    model.apply(&Change::AddDomain(DOMAINS[0]), None);
    for change in &changes {
        let made = make(&directory, change).await;
        let possible = model.apply(change, made.clone().ok().flatten());
        assert_eq!(made.is_ok(), possible, "{change:?}: {made:?}");
        for local in LOCALS {
            for domain in DOMAINS {
                let found = directory
                    .resolve(&address(&text(&(local, domain))))
                    .await
                    .unwrap();
                let expected = model.resolve((local, domain));
                assert_eq!(
                    resolved(found),
                    expected,
                    "{local}@{domain} after {change:?}"
                );
            }
        }
    }
    assert_eq!(
        directory.check().await.unwrap().problems,
        Vec::<String>::new()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_changes_leave_the_same_meaning(changes in prop::collection::vec(any_change(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(agree(changes));
    }
}
