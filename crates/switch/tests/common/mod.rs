//! A place that mail comes to, for all tests.

use std::sync::Arc;

use nightmail_commit::{CommitLimits, Committer};
use nightmail_core::{AccountId, Address};
use nightmail_directory::{Directory, DirectoryOptions, NewAccount, NewDomain, Quota};
use nightmail_engine::MemoryEngine;
use nightmail_heap::{Heap, HeapOptions};
use nightmail_queue::Queue;
use nightmail_store::{Store, StoreOptions};
use nightmail_switch::Switch;

pub struct Site {
    pub store: Store,
    pub directory: Directory,
    pub queue: Arc<Queue>,
    pub switch: Switch,
    _dir: tempfile::TempDir,
}

pub fn address(text: &str) -> Address {
    text.parse().unwrap()
}

impl Site {
    /// x.test without accounts.
    pub async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let committer = Committer::start(engine, heap, CommitLimits::default());
        let store = Store::new(committer.clone(), &StoreOptions::default());
        let directory = Directory::new(committer.clone(), DirectoryOptions::default());
        let queue = Arc::new(Queue::new(committer));
        let switch = Switch::new(store.clone(), directory.clone(), Arc::clone(&queue))
            .reporting_as("mx.x.test".parse().unwrap());
        let site = Self {
            store,
            directory,
            queue,
            switch,
            _dir: dir,
        };
        let domain = NewDomain::named("x.test".parse().unwrap());
        site.directory.add_domain(domain).await.unwrap();
        site
    }

    pub async fn account(&self, at: &str, bytes: Option<u64>) -> AccountId {
        let new = NewAccount {
            quota: bytes.map(|bytes| Quota {
                bytes: Some(bytes),
                ..Quota::UNLIMITED
            }),
            ..NewAccount::at(address(at))
        };
        let change = self.directory.change(move |tx| {
            let id = nightmail_directory::tx::add_account(tx, &new)?;
            nightmail_store::tx::create_account(tx, id)
                .map_err(|abort| abort.map(|error| panic!("no mailboxes: {error}")))?;
            Ok(id)
        });
        change.await.unwrap()
    }
}
