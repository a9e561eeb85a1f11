//! The answers to the challenges of one attempt: put where the authority looks, and taken away again.

use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{ChallengeHandle, ChallengeType};
use nightmail_cluster::LeaseGuard;
use nightmail_engine::{Batch, Durability, RowKey};
use tracing::warn;

use super::hook::{self, Record};
use super::rows::{Asked, ChallengeRow};
use super::schedule::millis;
use super::{AcmeError, Challenge, Rows};

/// How long an answer that nobody has taken away is kept.
const ANSWER_LIFE: Duration = Duration::from_secs(3600);

/// What one attempt has put in place.
pub(super) struct Answers {
    rows: Rows,
    guard: LeaseGuard,
    challenge: Challenge,
    keys: Vec<RowKey>,
    records: Vec<(PathBuf, String, String)>,
}

impl Answers {
    pub(super) const fn new(rows: Rows, guard: LeaseGuard, challenge: Challenge) -> Self {
        Self {
            rows,
            guard,
            challenge,
            keys: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The challenge that is answered.
    pub(super) const fn kind(&self) -> ChallengeType {
        match self.challenge {
            Challenge::Http => ChallengeType::Http01,
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Dns { .. } => ChallengeType::Dns01,
        }
    }

    /// The error of an authority that does not offer it.
    pub(super) const fn not_offered(&self, name: String) -> AcmeError {
        AcmeError::NotOffered {
            name,
            kind: self.challenge.name(),
        }
    }

    /// Puts the answer for `name` where the authority looks; all nodes can give it when this returns.
    pub(super) async fn put(
        &mut self,
        name: &str,
        challenge: &ChallengeHandle<'_>,
    ) -> Result<(), AcmeError> {
        let authorization = challenge.key_authorization();
        match &self.challenge {
            Challenge::Http => {
                let answer = authorization.as_str().as_bytes().to_vec();
                self.put_row(Asked::Token(&challenge.token), answer).await
            }
            Challenge::TlsAlpn => {
                let answer = authorization.digest().as_ref().to_vec();
                self.put_row(Asked::Name(name), answer).await
            }
            Challenge::Dns { hook } => {
                let record = format!("_acme-challenge.{name}");
                let text = authorization.dns_value();
                // Noted first: a command that fails may have done a part of it.
                self.records
                    .push((hook.clone(), record.clone(), text.clone()));
                hook::call(hook, Record::Set, &record, &text).await
            }
        }
    }

    async fn put_row(&mut self, asked: Asked<'_>, answer: Vec<u8>) -> Result<(), AcmeError> {
        let key = asked.key().ok_or_else(|| {
            AcmeError::NotProven("the authority's token is not one of RFC 8555".to_owned())
        })?;
        let until = nightmail_commit::now().plus_millis(millis(ANSWER_LIFE));
        let row = ChallengeRow { answer, until };
        let mut batch = Batch::new();
        self.guard.check(&mut batch);
        batch.put(key.clone(), row.encode());
        self.keys.push(key);
        self.rows.commit(batch, Durability::Synced).await?;
        Ok(())
    }

    /// Takes everything away again. What fails is left: rows go with the next sweep, records do no harm.
    pub(super) async fn withdraw(self) {
        let mut batch = Batch::new();
        for key in self.keys {
            batch.delete(key);
        }
        if !batch.is_empty()
            && let Err(error) = self.rows.commit(batch, Durability::Soon).await
        {
            warn!(%error, "answers to challenges are left for the next sweep");
        }
        for (hook, record, text) in self.records {
            if let Err(error) = hook::call(&hook, Record::Remove, &record, &text).await {
                warn!(%error, "a record is left in the DNS");
            }
        }
    }
}
