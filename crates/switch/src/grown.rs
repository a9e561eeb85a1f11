//! Accounts whose mail has grown, for whoever warns them before they are full.

use std::collections::HashSet;
use std::sync::Arc;

use nightmail_core::AccountId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Accounts remembered; of more, a later look at all accounts finds out.
const ACCOUNTS_MAX: usize = 100_000;

/// A set of accounts that somebody waits for. Cheap to clone; clones are one set.
#[derive(Clone, Default)]
pub struct Grown(Arc<Inner>);

#[derive(Default)]
struct Inner {
    accounts: Mutex<HashSet<AccountId>>,
    wake: Notify,
}

impl Grown {
    /// An account has got mail.
    pub fn note(&self, account: AccountId) {
        let mut accounts = self.0.accounts.lock();
        if accounts.len() < ACCOUNTS_MAX && accounts.insert(account) && accounts.len() == 1 {
            self.0.wake.notify_one();
        }
    }

    /// Waits until there are some, and takes them out. Cancelled, it takes none.
    pub async fn take(&self) -> HashSet<AccountId> {
        loop {
            let taken = std::mem::take(&mut *self.0.accounts.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.0.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accounts_are_taken_out_once_each() {
        let grown = Grown::default();
        let waiting = tokio::spawn({
            let grown = grown.clone();
            async move { grown.take().await }
        });
        tokio::task::yield_now().await;
        grown.note(AccountId::new(1));
        assert_eq!(waiting.await.unwrap(), [AccountId::new(1)].into());
        for id in [2, 3, 2] {
            grown.note(AccountId::new(id));
        }
        let both = [AccountId::new(2), AccountId::new(3)];
        assert_eq!(grown.take().await, both.into());
    }
}
