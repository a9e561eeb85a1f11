//! Fetches what is due, and shows what was fetched.

use std::pin::{Pin, pin};
use std::time::Duration;

use instant_acme::{Account, AccountCredentials, NewAccount};
use nightmail_cluster::{LeaseGuard, LeaseHold, LeaseName, Leases};
use nightmail_core::Timestamp;
use nightmail_engine::{Batch, CommitError, Durability, EngineError, Value};
use tracing::{error, info, warn};

use super::authority::Https;
use super::challenge::Answers;
use super::order::{self, Issued};
use super::rows::{self, AccountRow, CertificateRow, ChallengeRow, OrderRow};
use super::schedule::{self, millis};
use super::{AcmeError, AcmeOptions, Rows, Wanted};
use crate::leaf::Leaf;
use crate::store::{CertificateStore, FetchedKey};

/// The longest that one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(30 * 60);
/// Times a row is written again because it was changed meanwhile.
const TRIES_MAX: usize = 10;
/// Octets of an error that are kept.
const ERROR_OCTETS_MAX: usize = 2000;
/// The longest address of a directory: it is part of a key.
const DIRECTORY_OCTETS_MAX: usize = 1024;

/// Whether the server goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Going {
    On,
    Stopped,
}

/// The certificates of an authority, kept in the rows and shown by a [`CertificateStore`].
pub struct Acme {
    rows: Rows,
    leases: Leases,
    store: CertificateStore,
    options: AcmeOptions,
    https: Https,
    /// The rows of certificates as they were last looked at.
    seen: Vec<(String, Value)>,
}

impl Acme {
    /// Fails where the options cannot be used; asks nobody yet.
    pub fn new(
        rows: Rows,
        leases: Leases,
        store: CertificateStore,
        options: AcmeOptions,
    ) -> Result<Self, AcmeError> {
        if options.directory.len() > DIRECTORY_OCTETS_MAX {
            let says =
                format!("the directory's address has more than {DIRECTORY_OCTETS_MAX} octets");
            return Err(AcmeError::Settings(says));
        }
        let https = Https::new(&options.authorities)?;
        Ok(Self {
            rows,
            leases,
            store,
            options,
            https,
            seen: Vec::new(),
        })
    }

    /// Fetches, renews and picks up what other nodes fetched, until `stop` is there. An attempt under way is given up
    /// then, and what it put in place is taken away.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            self.pick_up().await;
            if let Some(hold) = self.leases.hold(LeaseName::Maintenance)
                && self.work(&hold, stop.as_mut()).await == Going::Stopped
            {
                return;
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(self.options.interval) => {}
            }
        }
    }

    /// Shows the certificates that are in the rows now. Where they cannot be read those in use stay.
    pub async fn pick_up(&mut self) {
        let found = match rows::all(self.rows.as_ref(), rows::CERTIFICATE).await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "fetched certificates cannot be looked at: those in use stay");
                return;
            }
        };
        let changed = found != self.seen;
        let keys = found.iter().filter_map(|(id, row)| usable(id, row));
        self.store
            .set_fetched(keys.collect(), nightmail_commit::now());
        if changed {
            info!(
                certificates = found.len(),
                "fetched certificates are in use"
            );
            self.seen = found;
        }
    }

    /// Attempts what is due.
    async fn work<S: Future<Output = ()>>(
        &mut self,
        hold: &LeaseHold,
        mut stop: Pin<&mut S>,
    ) -> Going {
        let now = nightmail_commit::now();
        for wanted in self.options.certificates.clone() {
            match self.is_due(&wanted, now).await {
                Ok(true) if hold.is_current() => {}
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "whether certificates are due cannot be looked up");
                    return Going::On;
                }
            }
            let attempt = Box::pin(self.attempt(&wanted, hold.guard(), stop.as_mut()));
            match attempt.await {
                Ok(Going::On) => self.pick_up().await,
                Ok(Going::Stopped) => return Going::Stopped,
                Err(error) => {
                    error!(%error, "an attempt to fetch a certificate cannot be written down")
                }
            }
        }
        if let Err(error) = self.sweep(now, hold.guard()).await {
            warn!(%error, "rows that are over are left for the next sweep");
        }
        Going::On
    }

    async fn is_due(&self, wanted: &Wanted, now: Timestamp) -> Result<bool, EngineError> {
        let keys = [
            rows::order_key(wanted.id()),
            rows::certificate_key(wanted.id()),
        ];
        let mut values = self.rows.get_many(&keys).await?.into_iter();
        let order = values.next().flatten();
        let order = order.and_then(|row| OrderRow::decode(&row).ok());
        let certificate = values.next().flatten();
        let certificate = certificate.and_then(|row| CertificateRow::decode(&row).ok());
        let leaf = certificate
            .filter(|row| row.directory == self.options.directory)
            .and_then(|row| Leaf::read(row.chain.first()?));
        let before = self.options.renew_before;
        Ok(due(wanted.id(), order.as_ref(), leaf.as_ref(), before, now))
    }

    /// One attempt. Fails only where the store does: what comes of the attempt itself is written down.
    async fn attempt<S: Future<Output = ()>>(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        stop: Pin<&mut S>,
    ) -> Result<Going, AcmeError> {
        let before = self.begin(wanted, guard).await?;
        let mut answers = Answers::new(
            self.rows.clone(),
            guard.clone(),
            self.options.challenge.clone(),
        );
        let result = tokio::select! {
            result = tokio::time::timeout(ATTEMPT_MAX, self.fetch(wanted, guard, &mut answers)) => {
                result.unwrap_or(Err(AcmeError::TimedOut))
            }
            () = stop => Err(AcmeError::Stopped),
        };
        answers.withdraw().await;
        let result = match result {
            Ok(issued) => self.keep(wanted, guard, issued).await,
            Err(error) => Err(error),
        };
        self.finish(wanted, guard, before, result).await
    }

    /// Writes down that an attempt begins, as if it had failed already. Returns the row as it was.
    async fn begin(&self, wanted: &Wanted, guard: &LeaseGuard) -> Result<OrderRow, AcmeError> {
        let now = nightmail_commit::now();
        let names = wanted.names().iter().map(ToString::to_string).collect();
        let mut before = OrderRow::default();
        self.change_order(wanted, guard, |row| {
            before = row.clone();
            row.names = names;
            row.failures = row.failures.saturating_add(1);
            row.attempted = Some(now);
            let wait = schedule::retry_after(row.failures);
            row.not_before = Some(now.plus_millis(millis(wait)));
            row.error = "the server ended during the attempt".to_owned();
            row.requested = false;
        })
        .await?;
        Ok(before)
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        answers: &mut Answers,
    ) -> Result<Issued, AcmeError> {
        match self.fetch_by_account(wanted, guard, answers).await {
            Err(error) if is_account_gone(&error) => {
                let mut batch = Batch::new();
                guard.check(&mut batch);
                batch.delete(rows::account_key(&self.options.directory));
                self.rows.commit(batch, Durability::Synced).await?;
                self.fetch_by_account(wanted, guard, answers).await
            }
            result => result,
        }
    }

    async fn fetch_by_account(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        answers: &mut Answers,
    ) -> Result<Issued, AcmeError> {
        let account = Box::pin(self.account(guard)).await?;
        Box::pin(order::fetch(&account, wanted, answers)).await
    }

    /// The account at the authority: the one in the rows, or a new one.
    async fn account(&self, guard: &LeaseGuard) -> Result<Account, AcmeError> {
        let directory = &self.options.directory;
        let key = rows::account_key(directory);
        let contact = self.options.contact.clone().unwrap_or_default();
        let url = format!("mailto:{contact}");
        let contacts: &[&str] = if contact.is_empty() { &[] } else { &[&url] };
        let builder = Account::builder_with_http(Box::new(self.https.clone()));
        let kept = rows::get(self.rows.as_ref(), &key).await?;
        let kept = kept.and_then(|row| AccountRow::decode(&row).ok());
        let (account, credentials) = match kept {
            Some(row) => {
                let read = serde_json::from_str::<AccountCredentials>(&row.credentials);
                let credentials = read.map_err(|_| unreadable())?;
                let account = builder.from_credentials(credentials).await?;
                if row.contact == contact {
                    return Ok(account);
                }
                account.update_contacts(contacts).await?;
                (account, row.credentials)
            }
            None => {
                let new = NewAccount {
                    contact: contacts,
                    terms_of_service_agreed: self.options.terms_agreed,
                    only_return_existing: false,
                };
                let made = builder.create(&new, directory.clone(), None).await?;
                let credentials = serde_json::to_string(&made.1).map_err(|_| unreadable())?;
                info!(directory, "made an account at the certificate authority");
                (made.0, credentials)
            }
        };
        let row = AccountRow {
            credentials,
            contact,
        };
        let mut batch = Batch::new();
        guard.check(&mut batch);
        batch.put(key, row.encode());
        self.rows.commit(batch, Durability::Synced).await?;
        Ok(account)
    }

    /// Puts a certificate where all nodes find it.
    async fn keep(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        issued: Issued,
    ) -> Result<(), AcmeError> {
        let row = CertificateRow {
            names: wanted.names().iter().map(ToString::to_string).collect(),
            chain: issued.chain,
            pkcs8: issued.pkcs8,
            fetched: nightmail_commit::now(),
            directory: self.options.directory.clone(),
        };
        let mut batch = Batch::new();
        guard.check(&mut batch);
        batch.put(rows::certificate_key(wanted.id()), row.encode());
        self.rows.commit(batch, Durability::Synced).await?;
        Ok(())
    }

    async fn finish(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        before: OrderRow,
        result: Result<(), AcmeError>,
    ) -> Result<Going, AcmeError> {
        let name = wanted.names().first().map(ToString::to_string);
        let name = name.unwrap_or_default();
        let counted = |result| {
            metrics::counter!("nightmail_acme_orders_total", "result" => result).increment(1);
        };
        match result {
            Ok(()) => {
                info!(name, "certificate fetched");
                counted("fetched");
                self.change_order(wanted, guard, |row| {
                    row.failures = 0;
                    row.not_before = None;
                    row.error.clear();
                })
                .await?;
                Ok(Going::On)
            }
            // Whoever goes on may begin at once.
            Err(AcmeError::Stopped) => {
                self.change_order(wanted, guard, |row| *row = before)
                    .await?;
                Ok(Going::Stopped)
            }
            Err(error) => {
                let text = shorten(error.to_string());
                warn!(name, error = text, "certificate not fetched");
                counted("failed");
                self.change_order(wanted, guard, |row| row.error = text)
                    .await?;
                Ok(Going::On)
            }
        }
    }

    /// Changes the row of an order, whatever an operator does with it at the same time.
    async fn change_order(
        &self,
        wanted: &Wanted,
        guard: &LeaseGuard,
        change: impl FnOnce(&mut OrderRow),
    ) -> Result<(), AcmeError> {
        let key = rows::order_key(wanted.id());
        let mut seen = rows::get(self.rows.as_ref(), &key).await?;
        let mut row = decoded(seen.as_ref());
        change(&mut row);
        for _ in 0..TRIES_MAX {
            let mut batch = Batch::new();
            guard.check(&mut batch);
            batch.check(key.clone(), seen);
            batch.put(key.clone(), row.encode());
            match self.rows.commit(batch, Durability::Synced).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // Only an operator writes it beside the holder of the lease: to ask for an attempt.
            seen = rows::get(self.rows.as_ref(), &key).await?;
            row.requested |= decoded(seen.as_ref()).requested;
        }
        Err(AcmeError::Store("another node does this now".to_owned()))
    }

    /// Removes answers that nobody took away, certificates that are over and not wanted any more, and their orders.
    async fn sweep(&self, now: Timestamp, guard: &LeaseGuard) -> Result<(), AcmeError> {
        let engine = self.rows.as_ref();
        let mut batch = Batch::new();
        for (rest, row) in rows::all(engine, rows::CHALLENGE).await? {
            if ChallengeRow::decode(&row).map_or(true, |row| row.until < now) {
                batch.delete(rows::challenge_key(&rest));
            }
        }
        let wanted = |id: &str| self.options.certificates.iter().any(|it| it.id() == id);
        let mut kept = Vec::new();
        for (id, row) in rows::all(engine, rows::CERTIFICATE).await? {
            let row = CertificateRow::decode(&row).ok();
            let leaf = row.and_then(|row| Leaf::read(row.chain.first()?));
            if !wanted(&id) && leaf.is_none_or(|leaf| leaf.not_after < now) {
                batch.delete(rows::certificate_key(&id));
            } else {
                kept.push(id);
            }
        }
        for (id, _) in rows::all(engine, rows::ORDER).await? {
            if !wanted(&id) && !kept.contains(&id) {
                batch.delete(rows::order_key(&id));
            }
        }
        if !batch.is_empty() {
            guard.check(&mut batch);
            self.rows.commit(batch, Durability::Soon).await?;
        }
        Ok(())
    }
}

fn unreadable() -> AcmeError {
    AcmeError::Settings("the key of the account cannot be read or written".to_owned())
}

fn decoded(row: Option<&Value>) -> OrderRow {
    row.and_then(|row| OrderRow::decode(row).ok())
        .unwrap_or_default()
}

/// The certificate of a row; `None`, said in the log, where it cannot be used.
fn usable(id: &str, row: &Value) -> Option<FetchedKey> {
    let row = CertificateRow::decode(row).map_err(|error| error.to_string());
    let key = row
        .and_then(|row| FetchedKey::new(&row.chain, &row.pkcs8).map_err(|error| error.to_string()));
    key.map_err(|error| warn!(id, error, "a fetched certificate cannot be used"))
        .ok()
}

/// Whether an attempt is due for a certificate, given what is known of its order and the one in use.
fn due(
    id: &str,
    order: Option<&OrderRow>,
    leaf: Option<&Leaf>,
    renew_before: Duration,
    now: Timestamp,
) -> bool {
    if order.is_some_and(|order| order.requested) {
        return true;
    }
    let waits = order.and_then(|order| order.not_before);
    if waits.is_some_and(|until| until > now) {
        return false;
    }
    leaf.is_none_or(|leaf| {
        schedule::renewal(id, leaf.not_before, leaf.not_after, renew_before) <= now
    })
}

/// Whether the authority has forgotten the account (RFC 8555 §6.7).
fn is_account_gone(error: &AcmeError) -> bool {
    let AcmeError::Authority(instant_acme::Error::Api(problem)) = error else {
        return false;
    };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

fn shorten(mut text: String) -> String {
    let mut end = ERROR_OCTETS_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
