//! ARC sets of our own (RFC 8617 §5.1): what we found, signed, for whoever the message is forwarded to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_core::Timestamp;

use crate::arc::{ARC_SETS_MAX, ArcOutcome};
use crate::canon::Canon;
use crate::inspector::{FieldIndex, Inspected};
use crate::sign::{KeyProblem, ReadyKey, SigningKey, TagWriter, first_field, signed_names};
use crate::verdict::Verdict;

/// Seals messages with one key.
pub struct Sealer {
    key: ReadyKey,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("domain", &self.key.domain)
            .finish_non_exhaustive()
    }
}

/// What one set is made of.
pub(crate) struct Set<'a> {
    pub(crate) instance: usize,
    /// `none`, `pass` or `fail`.
    pub(crate) validation: &'static str,
    /// What follows `i=N;` in ARC-Authentication-Results.
    pub(crate) results: &'a str,
    /// The fields that are signed.
    pub(crate) names: &'a [String],
    pub(crate) now_secs: i64,
}

/// The fields of a set, in the order in which they stand in front of the message.
pub(crate) struct SetFields {
    pub(crate) seal: Vec<u8>,
    pub(crate) message: Vec<u8>,
    pub(crate) results: Vec<u8>,
}

impl Sealer {
    /// Makes a key ready. Fails where it cannot be read.
    pub fn new(key: &SigningKey) -> Result<Self, KeyProblem> {
        ReadyKey::new(key).map(|key| Self { key })
    }

    /// The set for a message that is forwarded, to be put in front of it: ARC-Seal, ARC-Message-Signature,
    /// ARC-Authentication-Results. `inspected` was read with [`crate::Inspector::also_to_sign`]. Empty where a set
    /// must not be added: the chain has failed before, is full, or could not be looked at now.
    pub fn seal(&self, inspected: &Inspected, verdict: &Verdict, now: Timestamp) -> Vec<u8> {
        let arc = &verdict.arc;
        let validation = match arc.outcome {
            ArcOutcome::None => "none",
            ArcOutcome::Pass => "pass",
            ArcOutcome::Fail => "fail",
            ArcOutcome::TempError => return Vec::new(),
        };
        if arc.is_closed || arc.sets >= ARC_SETS_MAX || inspected.is_header_too_long() {
            return Vec::new();
        }
        let index = FieldIndex::new(inspected.header());
        let set = Set {
            instance: arc.sets + 1,
            validation,
            results: &verdict.results(),
            names: &signed_names(&index),
            now_secs: now.secs(),
        };
        let (domain, selector) = (self.key.domain.as_str(), self.key.selector.as_str());
        let algorithm = self.key.algorithm.as_str();
        let signer = [("a", algorithm), ("d", domain), ("s", selector)];
        let made = set.make(inspected, &index, signer, |input| self.key.sign(input));
        made.map_or_else(Vec::new, |made| {
            [made.seal, made.message, made.results].concat()
        })
    }
}

impl Set<'_> {
    /// Makes the fields; `sign` gives the signature of what it is given.
    pub(crate) fn make(
        &self,
        inspected: &Inspected,
        index: &FieldIndex<'_>,
        signer: [(&str, &str); 3],
        mut sign: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<SetFields> {
        let [(_, algorithm), (_, domain), (_, selector)] = signer;
        let body = inspected.body(Canon::Relaxed, None)?;
        let (instance, now) = (self.instance.to_string(), self.now_secs.to_string());
        let results = format!(
            "ARC-Authentication-Results: i={instance}; {}\r\n",
            self.results
        );

        let mut covered = Vec::new();
        index.signed(Canon::Relaxed, self.names, &mut covered);
        let mut tags = TagWriter::new("ARC-Message-Signature");
        tags.tag("i", &instance)
            .tag("a", algorithm)
            .tag("c", "relaxed/relaxed");
        tags.tag("d", domain).tag("s", selector).tag("t", &now);
        tags.list("h", self.names)
            .tag("bh", &STANDARD.encode(body.digest));
        let message = tags.signed(&covered, &mut sign)?;

        let mut covered = Vec::new();
        // A chain that failed is not vouched for: its seal covers its own set alone (RFC 8617 §5.1.2).
        if self.validation != "fail" {
            for field in inspected
                .chain
                .fields()
                .filter_map(|field| index.get(field))
            {
                Canon::Relaxed.field(field, &mut covered);
            }
        }
        for field in [results.as_bytes(), &message] {
            Canon::Relaxed.field(&first_field(field)?, &mut covered);
        }
        let mut tags = TagWriter::new("ARC-Seal");
        tags.tag("i", &instance)
            .tag("a", algorithm)
            .tag("cv", self.validation);
        tags.tag("d", domain).tag("s", selector).tag("t", &now);
        let seal = tags.signed(&covered, &mut sign)?;
        Some(SetFields {
            seal,
            message,
            results: results.into_bytes(),
        })
    }
}
