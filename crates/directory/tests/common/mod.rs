//! A directory over the memory engine.

use std::sync::Arc;

use nightmail_commit::{CommitLimits, Committer};
use nightmail_core::{AccountId, Address, Domain};
use nightmail_directory::{Directory, DirectoryOptions, NewAccount, NewDomain};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{Heap, HeapOptions};

/// An empty directory. The heap's directory goes with the second value.
pub fn directory(options: DirectoryOptions) -> (Directory, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
    let engine = Arc::new(MemoryEngine::new());
    let committer = Committer::start(engine, heap, CommitLimits::default());
    (Directory::new(committer, options), dir)
}

pub fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

#[allow(dead_code, reason = "not every test file adds domains by itself")]
pub async fn add_domain(directory: &Directory, name: &str) {
    directory
        .add_domain(NewDomain::named(domain(name)))
        .await
        .unwrap();
}

#[allow(dead_code, reason = "not every test file adds accounts by itself")]
pub async fn add_account(directory: &Directory, text: &str) -> AccountId {
    directory
        .add_account(NewAccount::at(address(text)))
        .await
        .unwrap()
}
