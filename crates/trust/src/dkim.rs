//! DKIM (RFC 6376, 8301, 8463): what the signatures of a message prove.

use std::time::Duration;

use futures_util::future::join_all;
use nightmail_core::Timestamp;
use nightmail_dns::Dns;
use nightmail_mime::header::Field;
use tokio::time::timeout;

use crate::canon::Canon;
use crate::inspector::{FieldIndex, Inspected};
use crate::key::{KeyError, PublicKey};
use crate::signature::{MessageSignature, Reason, SignatureAlgorithm, is_within};
use crate::tag_list::TagList;

/// How far a signature's time may lie ahead of our clock.
const CLOCK_SKEW_SECS: i64 = 300;

/// Why a signature that is right proves too little.
pub(crate) const PARTIAL: Reason = "part of the body is not signed";

/// What is said of a signature (RFC 8601 §2.7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DkimOutcome {
    /// It is right.
    Pass,
    /// It is wrong: the message was changed, or it was never signed by that key.
    Fail,
    /// It may be right, and proves too little: part of the body is not signed.
    Policy,
    /// The domain only tries signing, and it is wrong.
    Neutral,
    /// The key could not be looked up now.
    TempError,
    /// It cannot be verified.
    PermError,
}

impl DkimOutcome {
    /// The keyword of Authentication-Results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// One signature and what is said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DkimResult {
    /// Whether it holds.
    pub outcome: DkimOutcome,
    /// Why it does not.
    pub reason: Option<&'static str>,
    /// The signing domain (`d=`), where it can be read.
    pub domain: Option<String>,
    /// The selector (`s=`), where it can be read.
    pub selector: Option<String>,
    /// The identity (`i=`), where it is given.
    pub identity: Option<String>,
    /// The algorithm, where it is one we know.
    pub algorithm: Option<SignatureAlgorithm>,
    /// The first octets of the signature in Base64, to tell it from others.
    pub signature_start: String,
}

/// A DKIM-Signature field of a message.
pub(crate) struct DkimField {
    index: usize,
    parsed: Result<Box<MessageSignature>, Reason>,
    domain: Option<String>,
    selector: Option<String>,
    start: String,
}

impl DkimField {
    /// The first `max` signatures from the top.
    pub(crate) fn find(fields: &[Field<'_>], max: usize) -> Vec<Self> {
        let all = fields.iter().enumerate();
        all.filter(|(_, field)| field.is("dkim-signature"))
            .take(max)
            .map(|(index, field)| Self::read(index, field))
            .collect()
    }

    fn read(index: usize, field: &Field<'_>) -> Self {
        let tags = TagList::parse(field.value);
        let text = |name| {
            let value = tags.as_ref().ok()?.get(name)?;
            let fits = value.len() <= 255 && value.chars().all(|c| c.is_ascii_graphic());
            fits.then(|| value.to_ascii_lowercase())
        };
        let (domain, selector) = (text("d"), text("s"));
        let b = tags.as_ref().ok().and_then(|tags| tags.get("b"));
        let start = b.unwrap_or_default().chars().filter(char::is_ascii_graphic);
        let start = start.take(8).collect();
        let parsed = tags
            .map_err(|_| "invalid tag list")
            .and_then(|tags| MessageSignature::dkim(&tags).map(Box::new));
        Self {
            index,
            parsed,
            domain,
            selector,
            start,
        }
    }

    /// The body hash that is needed.
    pub(crate) fn body(&self) -> Option<(Canon, Option<u64>)> {
        let parsed = self.parsed.as_ref().ok()?;
        Some((parsed.body_canon, parsed.length))
    }

    /// What is said of a signature that was not looked at to the end in time.
    fn undecided(&self) -> DkimResult {
        DkimResult {
            outcome: DkimOutcome::TempError,
            reason: Some("took too long"),
            domain: self.domain.clone(),
            selector: self.selector.clone(),
            identity: None,
            algorithm: None,
            signature_start: self.start.clone(),
        }
    }

    async fn verify(
        &self,
        dns: &Dns,
        inspected: &Inspected,
        index: &FieldIndex<'_>,
        now: Timestamp,
    ) -> DkimResult {
        let judged = match &self.parsed {
            Ok(signature) => judge(self.index, signature, dns, inspected, index, now).await,
            Err(reason) => (DkimOutcome::PermError, Some(*reason)),
        };
        let parsed = self.parsed.as_ref().ok();
        DkimResult {
            outcome: judged.0,
            reason: judged.1,
            domain: self.domain.clone(),
            selector: self.selector.clone(),
            identity: parsed.and_then(|signature| signature.identity.clone()),
            algorithm: parsed.map(|signature| signature.signed.algorithm),
            signature_start: self.start.clone(),
        }
    }
}

/// Looks at every signature; the results are in the order of the fields. Each has `time_max`: one whose key is slow to
/// come must not leave the others undecided.
pub(crate) async fn verify(
    dns: &Dns,
    inspected: &Inspected,
    index: &FieldIndex<'_>,
    now: Timestamp,
    time_max: Duration,
) -> Vec<DkimResult> {
    let each = inspected.signatures.iter();
    join_all(each.map(|field| async move {
        let verified = field.verify(dns, inspected, index, now);
        let verified = timeout(time_max, verified).await;
        verified.unwrap_or_else(|_| field.undecided())
    }))
    .await
}

async fn judge(
    field: usize,
    signature: &MessageSignature,
    dns: &Dns,
    inspected: &Inspected,
    index: &FieldIndex<'_>,
    now: Timestamp,
) -> (DkimOutcome, Option<Reason>) {
    if let Err(reason) = check_times(signature, now) {
        return (DkimOutcome::PermError, Some(reason));
    }
    if let Err(reason) = check_body(signature, inspected) {
        return (DkimOutcome::Fail, Some(reason));
    }
    let key = match PublicKey::find(dns, &signature.signed).await {
        Ok(key) => key,
        Err(KeyError::Temporary(reason)) => return (DkimOutcome::TempError, Some(reason)),
        Err(KeyError::Permanent(reason)) => return (DkimOutcome::PermError, Some(reason)),
    };
    if key.strict && !is_identity_exact(signature) {
        return (DkimOutcome::PermError, Some("identity below the domain"));
    }
    let mut input = Vec::new();
    index.signed(signature.header_canon, &signature.headers, &mut input);
    index.unsigned(signature.header_canon, field, &mut input);
    if !key.proves(&signature.signed, &input) {
        return match key.testing {
            true => (
                DkimOutcome::Neutral,
                Some("wrong signature by a key under test"),
            ),
            false => (DkimOutcome::Fail, Some("wrong signature")),
        };
    }
    match is_partial(signature, inspected) {
        true => (DkimOutcome::Policy, Some(PARTIAL)),
        false => (DkimOutcome::Pass, None),
    }
}

/// Whether octets of the body follow those that are signed (`l=`).
pub(crate) fn is_partial(signature: &MessageSignature, inspected: &Inspected) -> bool {
    let body = inspected.body(signature.body_canon, signature.length);
    let length = signature.length.zip(body);
    length.is_some_and(|(length, body)| length < body.length)
}

fn check_times(signature: &MessageSignature, now: Timestamp) -> Result<(), Reason> {
    let now = now.secs();
    if signature.expires.is_some_and(|expires| expires < now) {
        return Err("expired");
    }
    let signed = signature.signed.timestamp;
    if signed.is_some_and(|signed| signed > now.saturating_add(CLOCK_SKEW_SECS)) {
        return Err("signed in the future");
    }
    Ok(())
}

/// Whether the hash of the body is what the signature says.
pub(crate) fn check_body(
    signature: &MessageSignature,
    inspected: &Inspected,
) -> Result<(), Reason> {
    let body = inspected
        .body(signature.body_canon, signature.length)
        .ok_or("no body")?;
    if signature.length.is_some_and(|length| length > body.length) {
        return Err("body shorter than what was signed");
    }
    match body.digest.as_slice() == signature.body_hash {
        true => Ok(()),
        false => Err("body changed"),
    }
}

fn is_identity_exact(signature: &MessageSignature) -> bool {
    let domain = signature.signed.domain.as_str();
    signature.identity.as_deref().is_none_or(|identity| {
        let own = identity
            .rsplit_once('@')
            .map(|(_, own)| own.to_ascii_lowercase());
        own.is_some_and(|own| is_within(&own, domain) && own.len() == domain.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{KeyAlgorithm, ReadyKey, SigningKey, TagWriter};
    use crate::{Inspector, Trust, TrustOptions};
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use nightmail_core::Domain;
    use nightmail_dns::DnsOptions;
    use nightmail_testbed::dns::NameServer;

    /// A key of a.test, and those who find it published.
    struct Published {
        server: NameServer,
        ready: ReadyKey,
        dns: Dns,
        trust: Trust,
    }

    fn published() -> Published {
        let domain = Domain::parse("a.test").unwrap();
        let key = SigningKey::generate(domain, "s", KeyAlgorithm::Ed25519).unwrap();
        let server = NameServer::start();
        let (name, text) = key.dns_record().unwrap();
        server.txt(&name, &text);
        let dns = Dns::new(&DnsOptions {
            name_servers: vec![server.address()],
            ..DnsOptions::default()
        });
        let dns = dns.unwrap();
        Published {
            trust: Trust::new(dns.clone(), TrustOptions::default()),
            ready: ReadyKey::new(&key).unwrap(),
            server,
            dns,
        }
    }

    /// The body hash of what is signed of the bodies.
    fn hash_of_one() -> String {
        STANDARD.encode(digest(&SHA256, b"One\r\n"))
    }

    /// Signs the first octets of a body only, which we never do ourselves.
    #[tokio::test]
    async fn a_body_that_is_signed_in_part_proves_too_little() {
        let Published {
            server,
            ready,
            dns,
            trust,
        } = published();
        let mut tags = TagWriter::new("DKIM-Signature");
        tags.tag("v", "1")
            .tag("a", "ed25519-sha256")
            .tag("d", "a.test")
            .tag("s", "s");
        tags.tag("l", "5")
            .tag("h", "From")
            .tag("c", "relaxed/relaxed");
        tags.tag("bh", &hash_of_one()).signature();
        let signature = tags.signed(b"from:a@a.test\r\n", |input| ready.sign(input));
        let signature = signature.unwrap();
        for (body, outcome) in [
            ("One\r\n", DkimOutcome::Pass),
            ("One\r\nTwo\r\n", DkimOutcome::Policy),
            ("Two\r\n", DkimOutcome::Fail),
            ("", DkimOutcome::Fail),
        ] {
            let mut inspector = Inspector::new(&trust);
            inspector.push(&signature);
            inspector.push(format!("From: a@a.test\r\n\r\n{body}").as_bytes());
            let inspected = inspector.finish();
            let index = FieldIndex::new(inspected.header());
            let found = verify(
                &dns,
                &inspected,
                &index,
                Timestamp::from_secs(7),
                Duration::from_secs(20),
            )
            .await;
            assert_eq!(found[0].outcome, outcome, "{body:?}: {:?}", found[0].reason);
        }
        // A key that never comes leaves nothing else open.
        server.timeout("s._domainkey.b.test");
        let slow = String::from_utf8(signature.clone()).unwrap();
        let slow = slow.replace("a.test", "b.test");
        let mut inspector = Inspector::new(&trust);
        inspector.push(slow.as_bytes());
        inspector.push(&signature);
        inspector.push(b"From: a@a.test\r\n\r\nOne\r\n");
        let inspected = inspector.finish();
        let index = FieldIndex::new(inspected.header());
        let time_max = Duration::from_secs(1);
        let found = verify(&dns, &inspected, &index, Timestamp::from_secs(7), time_max).await;
        let outcomes: Vec<DkimOutcome> = found.iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes, [DkimOutcome::TempError, DkimOutcome::Pass]);
    }

    /// A sealer that signs a part of the body vouches for nothing behind it.
    #[tokio::test]
    async fn a_chain_over_a_part_of_the_body_does_not_hold() {
        let Published {
            server: _server,
            ready,
            dns,
            trust,
        } = published();
        let start = |name| {
            let mut tags = TagWriter::new(name);
            tags.tag("i", "1").tag("a", "ed25519-sha256");
            tags.tag("d", "a.test").tag("s", "s");
            tags
        };
        let mut tags = start("ARC-Message-Signature");
        tags.tag("c", "relaxed/relaxed")
            .tag("l", "5")
            .tag("h", "From");
        tags.tag("bh", &hash_of_one()).signature();
        let message = tags.signed(b"from:a@a.test\r\n", |input| ready.sign(input));
        let message = message.unwrap();
        let results = b"ARC-Authentication-Results: i=1; mx.test; dmarc=pass\r\n";
        let mut sealed = Vec::new();
        for field in nightmail_mime::header::fields(&[&results[..], &message].concat()) {
            Canon::Relaxed.field(&field, &mut sealed);
        }
        let mut tags = start("ARC-Seal");
        tags.tag("cv", "none").signature();
        let seal = tags.signed(&sealed, |input| ready.sign(input)).unwrap();
        for (body, outcome) in [
            ("One\r\n", crate::ArcOutcome::Pass),
            ("One\r\nTwo\r\n", crate::ArcOutcome::Fail),
        ] {
            let mut inspector = Inspector::new(&trust);
            inspector.push(&[&seal[..], &message, results].concat());
            inspector.push(format!("From: a@a.test\r\n\r\n{body}").as_bytes());
            let inspected = inspector.finish();
            let index = FieldIndex::new(inspected.header());
            let found = crate::arc::verify(&dns, &inspected, &index).await;
            assert_eq!(found.outcome, outcome, "{body:?}: {:?}", found.reason);
        }
    }
}
