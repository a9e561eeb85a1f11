//! Whether the directory's rows agree with one another, and mending counters that do not.

use std::collections::{HashMap, HashSet};

use nightmail_core::{AccountId, Domain};
use nightmail_engine::{Key, KeyRange, Order, Value};

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::record::DomainRecord;
use crate::row::{
    ACCOUNT_PREFIX, ADDRESS_PREFIX, AddressRow, DOMAIN_PREFIX, DomainRow, LOGIN_PREFIX,
    address_key, decode_account, decode_id, domain_key,
};
use crate::sender::{SENDERS_PREFIX, decode_senders, senders_key};
use crate::signing::{SIGNING_PREFIX, decode_dkim_keys};

const SCAN_ROWS: usize = 1000;

/// What a check of the directory found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DirectoryReport {
    /// Domains, without alternate names.
    pub domains: u64,
    /// Accounts.
    pub accounts: u64,
    /// Aliases.
    pub aliases: u64,
    /// Disagreements, in words; empty when all is well.
    pub problems: Vec<String>,
    /// Domains whose counters were wrong; [`Directory::repair`] sets them right.
    pub miscounted: Vec<Domain>,
}

#[derive(Default)]
struct Rows {
    domains: HashMap<Domain, DomainRecord>,
    alternates: Vec<(Key, Domain)>,
    addresses: HashMap<Key, AddressRow>,
    accounts: HashMap<AccountId, Key>,
    logins: Vec<(Key, AccountId)>,
    signing: Vec<(Key, Domain)>,
    senders: Vec<Key>,
}

impl Directory {
    /// Reads every row and compares. Changes made meanwhile may show as disagreements.
    pub async fn check(&self) -> Result<DirectoryReport, DirectoryError> {
        let mut report = DirectoryReport::default();
        let rows = self.all_rows(&mut report.problems).await?;
        report.domains = rows.domains.len() as u64;
        report.accounts = rows.accounts.len() as u64;
        report.check_addresses(&rows);
        report.check_names(&rows);
        report.check_sending(&rows);
        report.check_counters(&rows);
        report.problems.sort();
        Ok(report)
    }

    /// Sets counters right that [`Directory::check`] found wrong. Returns how many domains it mended.
    pub async fn repair(&self) -> Result<usize, DirectoryError> {
        let miscounted = self.check().await?.miscounted;
        for name in &miscounted {
            let (accounts, aliases) = self.count(name).await?;
            let key = domain_key(name);
            self.change(move |tx| {
                let row = tx.get(&key)?.map(|row| DomainRow::decode(&row)).transpose();
                if let Some(DomainRow::Domain(record)) = row.map_err(DirectoryError::from)? {
                    let record = DomainRecord {
                        accounts,
                        aliases,
                        ..record
                    };
                    tx.put(key.clone(), DomainRow::Domain(record).encode());
                    tx.publish(nightmail_commit::Topic::Directory);
                }
                Ok(())
            })
            .await?;
        }
        Ok(miscounted.len())
    }

    async fn count(&self, domain: &Domain) -> Result<(u64, u64), DirectoryError> {
        let (mut accounts, mut aliases) = (0, 0);
        let range = KeyRange::prefix(&address_key("", domain).key);
        self.each(range, |_, row| {
            match AddressRow::decode(&row)? {
                AddressRow::Account(_) => accounts += 1,
                AddressRow::Alias(_) => aliases += 1,
            }
            Ok(())
        })
        .await?;
        Ok((accounts, aliases))
    }

    async fn all_rows(&self, problems: &mut Vec<String>) -> Result<Rows, DirectoryError> {
        let mut rows = Rows::default();
        for prefix in [
            DOMAIN_PREFIX,
            ADDRESS_PREFIX,
            ACCOUNT_PREFIX,
            LOGIN_PREFIX,
            SIGNING_PREFIX,
            SENDERS_PREFIX,
        ] {
            let range = KeyRange::prefix(prefix.as_bytes());
            self.each(range, |key, row| {
                let name = key.escape_ascii().to_string();
                if let Err(error) = rows.take(prefix, key, &row) {
                    problems.push(format!("row {name}: {error}"));
                }
                Ok(())
            })
            .await?;
        }
        Ok(rows)
    }

    async fn each(
        &self,
        mut range: KeyRange,
        mut visit: impl FnMut(Key, Value) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        loop {
            let page = self.scan(range.clone(), SCAN_ROWS).await?;
            let more = page.len() == SCAN_ROWS;
            if let Some((last, _)) = page.last() {
                range = range.beyond(last, Order::Ascending);
            }
            for (key, row) in page {
                visit(key, row)?;
            }
            if !more {
                return Ok(());
            }
        }
    }
}

impl Rows {
    fn take(&mut self, prefix: &str, key: Key, row: &[u8]) -> Result<(), DirectoryError> {
        match prefix {
            DOMAIN_PREFIX => match DomainRow::decode(row)? {
                DomainRow::Domain(record) => {
                    self.domains.insert(record.name.clone(), record);
                }
                DomainRow::AlternateOf(of) => self.alternates.push((key, of)),
            },
            ADDRESS_PREFIX => {
                self.addresses.insert(key, AddressRow::decode(row)?);
            }
            ACCOUNT_PREFIX => {
                let record = decode_account(row)?;
                let local = record.address.local_part().lookup();
                let address = address_key(&local, record.address.domain());
                self.accounts.insert(record.id, address.key);
            }
            SIGNING_PREFIX => {
                let domains = decode_dkim_keys(row)?.into_iter().map(|key| key.domain);
                self.signing
                    .extend(domains.map(|domain| (key.clone(), domain)));
            }
            SENDERS_PREFIX => {
                decode_senders(row)?;
                self.senders.push(key);
            }
            _ => self.logins.push((key, decode_id(row)?)),
        }
        Ok(())
    }
}

impl DirectoryReport {
    fn check_addresses(&mut self, rows: &Rows) {
        for (key, row) in &rows.addresses {
            match row {
                AddressRow::Alias(_) => self.aliases += 1,
                AddressRow::Account(id) if rows.accounts.get(id) == Some(key) => {}
                AddressRow::Account(id) => self.problem(key, &format!("is not {id}'s address")),
            }
        }
        for (id, key) in &rows.accounts {
            if rows.addresses.get(key) != Some(&AddressRow::Account(*id)) {
                self.problem(key, &format!("does not lead to {id}, whose address it is"));
            }
        }
    }

    fn check_names(&mut self, rows: &Rows) {
        for (key, id) in &rows.logins {
            if !rows.accounts.contains_key(id) {
                self.problem(key, &format!("logs in to {id}, which does not exist"));
            }
        }
        for (key, of) in &rows.alternates {
            let known = rows.domains.get(of).is_some_and(|domain| {
                domain
                    .alternates
                    .iter()
                    .any(|alternate| domain_key(alternate).key == *key)
            });
            if !known {
                self.problem(key, &format!("is not known as an alternate name to {of}"));
            }
        }
    }

    fn check_sending(&mut self, rows: &Rows) {
        for (key, domain) in &rows.signing {
            let name = domain_key(domain).key;
            let mut alternates = rows.alternates.iter();
            if !rows.domains.contains_key(domain) && !alternates.any(|(key, _)| *key == name) {
                self.problem(key, &format!("signs for {domain}, which does not exist"));
            }
        }
        let accounts = rows.accounts.keys();
        let known: HashSet<Key> = accounts.map(|id| senders_key(*id).key).collect();
        for key in rows.senders.iter().filter(|key| !known.contains(*key)) {
            self.problem(key, "is of an account that does not exist");
        }
    }

    fn check_counters(&mut self, rows: &Rows) {
        let mut counted: HashMap<Key, (u64, u64)> = HashMap::new();
        for (key, row) in &rows.addresses {
            let domain = key
                .iter()
                .position(|byte| *byte == b'@')
                .and_then(|at| key.get(..=at));
            let counts = counted
                .entry(domain.unwrap_or_default().to_vec())
                .or_default();
            match row {
                AddressRow::Account(_) => counts.0 += 1,
                AddressRow::Alias(_) => counts.1 += 1,
            }
        }
        for (name, record) in &rows.domains {
            let (accounts, aliases) = counted
                .remove(&address_key("", name).key)
                .unwrap_or_default();
            if (accounts, aliases) != (record.accounts, record.aliases) {
                self.problems.push(format!(
                    "{name} counts {} account(s) and {} alias(es), and has {accounts} and {aliases}",
                    record.accounts, record.aliases
                ));
                self.miscounted.push(name.clone());
            }
        }
        for domain in counted.into_keys() {
            self.problem(&domain, "begins addresses of a domain that does not exist");
        }
    }

    fn problem(&mut self, key: &[u8], what: &str) {
        self.problems
            .push(format!("row {} {what}", key.escape_ascii()));
    }
}
