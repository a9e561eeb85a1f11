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
        let signer = [algorithm, domain, selector];
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
        [algorithm, domain, selector]: [&str; 3],
        mut sign: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<SetFields> {
        let body = inspected.body(Canon::Relaxed, None)?;
        let (instance, now) = (self.instance.to_string(), self.now_secs.to_string());
        let results = format!(
            "ARC-Authentication-Results: i={instance}; {}\r\n",
            self.results
        );

        let mut covered = Vec::new();
        index.signed(Canon::Relaxed, self.names, &mut covered);
        let mut tags = TagWriter::new("ARC-Message-Signature");
        tags.tag("a", algorithm).signature();
        tags.tag("bh", &STANDARD.encode(body.digest))
            .tag("c", "relaxed/relaxed");
        tags.tag("d", domain).list("h", self.names);
        tags.tag("i", &instance).tag("s", selector).tag("t", &now);
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
        tags.tag("a", algorithm).signature();
        tags.tag("cv", self.validation).tag("d", domain);
        tags.tag("i", &instance).tag("s", selector).tag("t", &now);
        let seal = tags.signed(&covered, &mut sign)?;
        Some(SetFields {
            seal,
            message,
            results: results.into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspector::Inspector;
    use crate::key::PublicKey;
    use crate::sign::folded;
    use crate::signature::Signed;
    use crate::tag_list::TagList;
    use nightmail_dns::{Dns, DnsOptions};
    use nightmail_testbed::corpus;
    use nightmail_testbed::dns::NameServer;
    use std::time::Duration;
    use yaml_rust2::{Yaml, YamlLoader};

    use crate::{Spf, SpfQuery, Trust, TrustOptions};

    fn text(value: &Yaml) -> &str {
        value.as_str().unwrap_or_default()
    }

    fn crlf(text: &str) -> String {
        text.replace('\n', "\r\n")
    }

    async fn judge(trust: &Trust, inspected: &Inspected) -> Verdict {
        let context = crate::Context {
            client: "192.0.2.1".parse().unwrap(),
            helo: "client.test",
            reverse_dns: None,
            authenticated: None,
            now: Timestamp::from_secs(20_000),
        };
        let query = SpfQuery {
            client: context.client,
            helo: context.helo,
            sender: None,
        };
        trust.verify(inspected, &Spf::none(&query), &context).await
    }

    /// Whether we sign exactly what the vector signs: RSA signatures of this kind are the same whenever the key and
    /// the octets are, so that the published signatures must hold for our octets.
    async fn check(name: &str, test: &Yaml, trust: &Trust, key: &PublicKey) {
        let mut inspector = Inspector::new(trust).also_to_sign();
        inspector.push(crlf(text(&test["message"])).as_bytes());
        let inspected = inspector.finish();
        let verdict = judge(trust, &inspected).await;
        let (message, seal) = (crlf(text(&test["AMS"])), crlf(text(&test["AS"])));
        if message.trim().is_empty() {
            assert!(verdict.arc.is_closed, "{name}");
            return;
        }
        let names = text(&test["sig-headers"]).split(':').map(str::to_owned);
        let names: Vec<String> = names.collect();
        let results = text(&test["AAR"]).trim_end().replace('\n', "\r\n ");
        let validation = match verdict.arc.outcome {
            ArcOutcome::None => "none",
            ArcOutcome::Pass => "pass",
            ArcOutcome::Fail | ArcOutcome::TempError => "fail",
        };
        let set = Set {
            instance: verdict.arc.sets + 1,
            validation,
            results: results.split_once(';').unwrap().1.trim_start(),
            names: &names,
            now_secs: test["t"].as_i64().unwrap(),
        };
        let mut published = [message.as_str(), seal.as_str()].into_iter();
        let mut last = String::new();
        let index = FieldIndex::new(inspected.header());
        let signer = ["rsa-sha256", "example.org", "dummy"];
        let made = set.make(&inspected, &index, signer, |input| {
            let tags = published.next().unwrap();
            let signed = Signed::parse(&TagList::parse(tags.as_bytes()).unwrap()).unwrap();
            // The vectors were sealed before the new signature was folded.
            let folds = folded(&last).replace("\r\n\t ", " ");
            let input = String::from_utf8(input.to_vec())
                .unwrap()
                .replace(&folds, &last);
            assert!(key.proves(&signed, input.as_bytes()), "{name}: {input}");
            last = STANDARD.encode(&signed.signature);
            Some(signed.signature)
        });
        assert!(made.is_some(), "{name}");
    }

    #[tokio::test]
    async fn sets_are_made_as_published() {
        let Some(source) = corpus::text("arc/arc-draft-sign-tests.yml") else {
            return;
        };
        let mut count = 0;
        for scenario in YamlLoader::load_from_str(&source).unwrap() {
            let server = NameServer::start();
            let record = text(&scenario["txt-records"]["dummy._domainkey.example.org"]);
            server.txt("dummy._domainkey.example.org", record.trim_end());
            let dns = Dns::new(&DnsOptions {
                name_servers: vec![server.address()],
                timeout: Duration::from_secs(5),
                ..DnsOptions::default()
            });
            let trust = Trust::new(dns.unwrap(), TrustOptions::default());
            let key = PublicKey::parse(record).unwrap();
            for (name, test) in scenario["tests"].as_hash().unwrap() {
                check(text(name), test, &trust, &key).await;
                count += 1;
            }
        }
        assert!(count >= 15, "only {count} vectors");
    }
}
