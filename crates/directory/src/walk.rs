//! What following an address has come across: which address leads to which, and where mail for it ends.
//!
//! An account that sends its mail on and keeps none must not lose what arrives nowhere else: where all that it leads to
//! is unknown, disabled, or leads back to itself, it keeps its mail. Of accounts that send their mail round in a circle
//! the last that was come across does, so that there is one delivery.

use std::collections::{HashMap, VecDeque};

use nightmail_core::{AccountId, Address};

use crate::record::{AccountRecord, WhenDisabled};
use crate::resolve::{Resolution, Target};
use crate::services::AccountServices;

/// What one address means by itself.
pub(crate) enum Meaning {
    NotLocal,
    DomainDisabled,
    Unknown,
    Account(Box<AccountRecord>, Option<String>),
    Expand(Vec<Address>),
}

/// An address to be looked at.
pub(crate) struct Step {
    pub address: Address,
    pub depth: usize,
    node: usize,
    /// The account that forwards to it.
    by: Option<usize>,
}

/// What has been found so far.
#[derive(Default)]
pub(crate) struct Walk {
    waiting: VecDeque<Step>,
    nodes: Vec<Node>,
    seen: HashMap<String, usize>,
    accounts: HashMap<AccountId, usize>,
    forwarders: Vec<Forwarder>,
    found: Vec<Target>,
    dead_end: bool,
    rejects: bool,
    defers: bool,
}

/// An address, in whatever case it was written.
#[derive(Default)]
struct Node {
    /// Whether mail for it ends somewhere.
    arrives: bool,
    leads_to: Vec<usize>,
}

/// An account that sends its mail on.
struct Forwarder {
    node: usize,
    account: AccountId,
    sender: Address,
    /// Its place among the targets.
    target: usize,
}

impl Walk {
    /// Begins at `address`.
    pub fn from(address: &Address) -> Self {
        let mut walk = Self::default();
        walk.wait_for(address.clone(), 0, None);
        walk
    }

    /// The next address to look at.
    pub fn step(&mut self) -> Option<Step> {
        self.waiting.pop_front()
    }

    /// Addresses come across.
    pub fn addresses(&self) -> usize {
        self.nodes.len()
    }

    /// Targets found.
    pub fn targets(&self) -> usize {
        self.found.len()
    }

    fn wait_for(&mut self, address: Address, depth: usize, by: Option<usize>) -> usize {
        let lookup = address.lookup();
        if let Some(node) = self.seen.get(&lookup) {
            return *node;
        }
        let node = self.nodes.len();
        self.nodes.push(Node::default());
        self.seen.insert(lookup, node);
        self.waiting.push_back(Step {
            address,
            depth,
            node,
            by,
        });
        node
    }

    /// Takes in what an address means.
    pub fn take(&mut self, step: Step, meaning: Meaning) {
        match meaning {
            Meaning::Unknown => self.dead_end = true,
            Meaning::DomainDisabled => self.defers = true,
            Meaning::NotLocal => {
                let by = step.by.and_then(|by| self.forwarders.get(by));
                let target = match by {
                    None => Target::Remote(step.address),
                    Some(by) => Target::Forwarded {
                        to: step.address,
                        account: by.account,
                        sender: by.sender.clone(),
                    },
                };
                self.found.push(target);
                self.arrive(step.node);
            }
            Meaning::Expand(targets) => self.lead(step.node, targets, step.depth, step.by),
            Meaning::Account(account, _) if !account.enabled => match account.when_disabled {
                WhenDisabled::Reject => self.rejects = true,
                WhenDisabled::Defer => self.defers = true,
            },
            Meaning::Account(account, detail) => self.take_account(step, *account, detail),
        }
    }

    fn take_account(&mut self, step: Step, account: AccountRecord, detail: Option<String>) {
        if let Some(first) = self.accounts.get(&account.id).copied() {
            if let Some(node) = self.nodes.get_mut(step.node) {
                node.leads_to.push(first);
            }
            return;
        }
        self.accounts.insert(account.id, step.node);
        let AccountRecord {
            id,
            quota,
            services,
            address: sender,
            ..
        } = account;
        let (forward, passes_on) = (services.forward.clone(), services.passes_on());
        let services = (services != AccountServices::default()).then(|| Box::new(services));
        let copy = Target::Account {
            id,
            address: step.address,
            detail,
            quota,
            services,
        };
        let target = self.found.len();
        match passes_on {
            true => self.found.push(copy.passed_on()),
            false => {
                self.found.push(copy);
                self.arrive(step.node);
            }
        }
        if !forward.is_empty() {
            self.forwarders.push(Forwarder {
                node: step.node,
                account: id,
                sender,
                target,
            });
            let by = Some(self.forwarders.len() - 1);
            self.lead(step.node, forward, step.depth, by);
        }
    }

    fn arrive(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.arrives = true;
        }
    }

    fn lead(&mut self, node: usize, to: Vec<Address>, depth: usize, by: Option<usize>) {
        let to: Vec<usize> = to
            .into_iter()
            .map(|address| self.wait_for(address, depth + 1, by))
            .collect();
        if let Some(node) = self.nodes.get_mut(node) {
            node.leads_to.extend(to);
        }
    }

    /// What the address that the walk began at means.
    pub fn finish(mut self) -> Resolution {
        self.keep_what_would_be_lost();
        match self {
            Self { defers: true, .. } => Resolution::Disabled { temporary: true },
            Self { found, .. } if !found.is_empty() => Resolution::Recipients(found),
            Self { rejects: true, .. } => Resolution::Disabled { temporary: false },
            Self { dead_end: true, .. } => Resolution::UnknownUser,
            // Every address was expanded and none ended: aliases lead in a circle.
            _ => Resolution::LoopOrTooMany,
        }
    }

    fn keep_what_would_be_lost(&mut self) {
        while let Some(forwarder) = self.forwarders.pop() {
            self.spread();
            let Some(node) = self.nodes.get_mut(forwarder.node) else {
                continue;
            };
            if node.arrives {
                continue;
            }
            node.arrives = true;
            if let Some(target) = self.found.get_mut(forwarder.target) {
                *target = target.clone().kept();
            }
        }
    }

    /// Lets arrive whatever leads to what arrives.
    fn spread(&mut self) {
        let mut changes = true;
        while changes {
            changes = false;
            for place in (0..self.nodes.len()).rev() {
                let arrives = |node: &usize| self.nodes.get(*node).is_some_and(|to| to.arrives);
                let node = self.nodes.get(place);
                if node.is_some_and(|node| !node.arrives && node.leads_to.iter().any(arrives)) {
                    self.arrive(place);
                    changes = true;
                }
            }
        }
    }
}
