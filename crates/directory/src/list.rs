//! Listing domains, accounts and aliases, a page at a time. Reads the engine, never the cache.

use nightmail_core::Domain;
use nightmail_engine::{Key, KeyRange, Order, Space, Value};

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::record::{AccountRecord, AliasRecord, DomainRecord};
use crate::row::{
    ADDRESS_PREFIX, AddressRow, DOMAIN_PREFIX, DomainRow, account_key, decode_account,
    directory_key,
};

/// Rows read from the engine at once.
const SCAN_ROWS: usize = 1000;

/// Part of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// The entries, ordered by domain and local-part.
    pub items: Vec<T>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

impl Directory {
    /// Domains after the entry `after`, at most `limit`.
    pub async fn list_domains(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<DomainRecord>, DirectoryError> {
        self.page(
            DOMAIN_PREFIX,
            "",
            after,
            limit,
            |row| match DomainRow::decode(row)? {
                DomainRow::Domain(record) => Ok(Some(record)),
                DomainRow::AlternateOf(_) => Ok(None),
            },
        )
        .await
    }

    /// Aliases, of one domain or of all.
    pub async fn list_aliases(
        &self,
        domain: Option<&Domain>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<AliasRecord>, DirectoryError> {
        self.page(
            ADDRESS_PREFIX,
            &within(domain),
            after,
            limit,
            |row| match AddressRow::decode(row)? {
                AddressRow::Alias(alias) => Ok(Some(alias)),
                AddressRow::Account(_) => Ok(None),
            },
        )
        .await
    }

    /// Accounts, of one domain or of all.
    pub async fn list_accounts(
        &self,
        domain: Option<&Domain>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<AccountRecord>, DirectoryError> {
        let Page { items, next } = self
            .page(
                ADDRESS_PREFIX,
                &within(domain),
                after,
                limit,
                |row| match AddressRow::decode(row)? {
                    AddressRow::Account(id) => Ok(Some(account_key(id))),
                    AddressRow::Alias(_) => Ok(None),
                },
            )
            .await?;
        let rows = self.committer().engine().get_many(&items).await?;
        let accounts = rows.iter().flatten().map(|row| decode_account(row));
        Ok(Page {
            items: accounts.collect::<Result<_, _>>()?,
            next,
        })
    }

    /// Entries under `prefix` and `within` for which `pick` gives something.
    async fn page<T>(
        &self,
        prefix: &str,
        within: &str,
        after: Option<&str>,
        limit: usize,
        pick: impl Fn(&[u8]) -> Result<Option<T>, DirectoryError>,
    ) -> Result<Page<T>, DirectoryError> {
        let mut range = KeyRange::prefix(&directory_key(prefix, within.as_bytes()).key);
        if let Some(after) = after {
            let after = directory_key(prefix, after.as_bytes()).key;
            if after >= range.from {
                range = range.beyond(&after, Order::Ascending);
            }
        }
        let limit = limit.max(1);
        let mut items = Vec::new();
        loop {
            let rows = self.scan(range.clone(), SCAN_ROWS).await?;
            let more = rows.len() == SCAN_ROWS;
            for (key, row) in rows {
                if items.len() >= limit {
                    return Ok(Page {
                        items,
                        next: Some(cursor(range.from, prefix)),
                    });
                }
                items.extend(pick(&row)?);
                range = range.beyond(&key, Order::Ascending);
            }
            if !more {
                return Ok(Page { items, next: None });
            }
        }
    }

    pub(crate) async fn scan(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, DirectoryError> {
        let engine = self.committer().engine();
        Ok(engine
            .scan(Space::Directory, range, Order::Ascending, limit)
            .await?)
    }
}

/// How the keys of a domain's addresses begin, after the prefix.
fn within(domain: Option<&Domain>) -> String {
    domain
        .map(|domain| format!("{domain}@"))
        .unwrap_or_default()
}

/// The last key passed, without prefix and without the zero byte that [`KeyRange::beyond`] adds.
fn cursor(from: Key, prefix: &str) -> String {
    let key = from.strip_suffix(&[0]).unwrap_or(&from);
    let rest = key.strip_prefix(prefix.as_bytes()).unwrap_or(key);
    String::from_utf8_lossy(rest).into_owned()
}
