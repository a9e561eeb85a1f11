//! What a signature field says (RFC 6376 §3.5, RFC 8617 §4.1): DKIM-Signature, ARC-Message-Signature, ARC-Seal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_core::Domain;

use crate::canon::Canon;
use crate::tag_list::{TagList, packed};

/// Field names that one signature may list.
const HEADERS_MAX: usize = 1024;

/// The algorithms of RFC 8301 and RFC 8463. SHA-1 is not among them: it proves nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignatureAlgorithm {
    /// RSA with SHA-256, keys of 1024 bits or more.
    RsaSha256,
    /// Ed25519 over a SHA-256 digest.
    Ed25519Sha256,
}

impl SignatureAlgorithm {
    /// As in the `a=` tag.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    /// As in the `k=` tag of a key record.
    pub(crate) const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::RsaSha256, Self::Ed25519Sha256]
            .into_iter()
            .find(|known| known.as_str() == text)
    }
}

/// Why a signature cannot be looked at.
pub(crate) type Reason = &'static str;

/// Who signed, with what, and the signature.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) domain: Domain,
    pub(crate) selector: String,
    pub(crate) signature: Vec<u8>,
    pub(crate) timestamp: Option<i64>,
}

/// A signature over header fields and a body.
#[derive(Clone, Debug)]
pub(crate) struct MessageSignature {
    pub(crate) signed: Signed,
    pub(crate) header_canon: Canon,
    pub(crate) body_canon: Canon,
    /// Lower-case.
    pub(crate) headers: Vec<String>,
    pub(crate) body_hash: Vec<u8>,
    pub(crate) length: Option<u64>,
    pub(crate) expires: Option<i64>,
    /// `i=` of a DKIM-Signature.
    pub(crate) identity: Option<String>,
}

fn need<'a>(tags: &TagList<'a>, name: &str, reason: Reason) -> Result<&'a str, Reason> {
    tags.get(name)
        .filter(|value| !value.is_empty())
        .ok_or(reason)
}

fn base64_of(text: &str, reason: Reason) -> Result<Vec<u8>, Reason> {
    STANDARD.decode(packed(text)).map_err(|_| reason)
}

fn number(tags: &TagList<'_>, name: &str, reason: Reason) -> Result<Option<u64>, Reason> {
    let Some(text) = tags.get(name) else {
        return Ok(None);
    };
    let is_number = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match is_number {
        true => text.parse().map(Some).map_err(|_| reason),
        false => Err(reason),
    }
}

fn time(tags: &TagList<'_>, name: &str, reason: Reason) -> Result<Option<i64>, Reason> {
    let number = number(tags, name, reason)?;
    Ok(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
}

/// A domain name, no literal.
pub(crate) fn name_of(text: &str) -> Option<Domain> {
    Domain::parse(text)
        .ok()
        .filter(|domain| domain.as_literal().is_none())
}

impl Signed {
    /// Reads the tags that every kind of signature has.
    pub(crate) fn parse(tags: &TagList<'_>) -> Result<Self, Reason> {
        let algorithm = need(tags, "a", "no algorithm")?;
        let domain = need(tags, "d", "no domain")?;
        let selector = need(tags, "s", "no selector")?;
        Ok(Self {
            algorithm: SignatureAlgorithm::parse(algorithm).ok_or("algorithm not accepted")?,
            domain: name_of(domain).ok_or("invalid domain")?,
            selector: name_of(selector)
                .ok_or("invalid selector")?
                .as_str()
                .to_owned(),
            signature: base64_of(need(tags, "b", "no signature")?, "invalid signature")?,
            timestamp: time(tags, "t", "invalid time")?,
        })
    }
}

impl MessageSignature {
    /// Reads a DKIM-Signature.
    pub(crate) fn dkim(tags: &TagList<'_>) -> Result<Self, Reason> {
        if tags.get("v") != Some("1") {
            return Err("unknown version");
        }
        if tags
            .get("q")
            .is_some_and(|q| !q.split(':').any(|method| method.trim() == "dns/txt"))
        {
            return Err("unknown query method");
        }
        let mut found = Self::parse(tags, "simple/simple")?;
        if !found.headers.iter().any(|name| name == "from") {
            return Err("From is not signed");
        }
        if let (Some(signed), Some(expires)) = (found.signed.timestamp, found.expires)
            && expires <= signed
        {
            return Err("expires before it was made");
        }
        found.identity = found.identity_of(tags.get("i"))?;
        Ok(found)
    }

    /// The `i=` tag: an address in the domain or below it.
    fn identity_of(&self, text: Option<&str>) -> Result<Option<String>, Reason> {
        let Some(text) = text else { return Ok(None) };
        let text = packed(text);
        let within = text
            .rsplit_once('@')
            .and_then(|(_, domain)| name_of(domain))
            .is_some_and(|domain| is_within(domain.as_str(), self.signed.domain.as_str()));
        within
            .then_some(Some(text))
            .ok_or("identity outside the domain")
    }

    /// Reads an ARC-Message-Signature, its instance apart. Without `c=` it is read as its published vectors are signed:
    /// relaxed.
    pub(crate) fn arc(tags: &TagList<'_>) -> Result<Self, Reason> {
        let found = Self::parse(tags, "relaxed/relaxed")?;
        let seals = found.headers.iter().any(|name| name == "arc-seal");
        if seals {
            Err("signs a seal")
        } else {
            Ok(found)
        }
    }

    fn parse(tags: &TagList<'_>, canon: &str) -> Result<Self, Reason> {
        let canon = tags.get("c").unwrap_or(canon);
        let (header, body) = canon.split_once('/').unwrap_or((canon, "simple"));
        let invalid = "unknown canonicalization";
        let headers = tags.get("h").ok_or("no list of fields")?;
        let headers: Vec<String> = headers
            .split(':')
            .map(|name| packed(name).to_ascii_lowercase())
            .take(HEADERS_MAX + 1)
            .collect();
        if headers.len() > HEADERS_MAX {
            return Err("too many fields are signed");
        }
        Ok(Self {
            signed: Signed::parse(tags)?,
            header_canon: Canon::parse(header).ok_or(invalid)?,
            body_canon: Canon::parse(body).ok_or(invalid)?,
            headers,
            body_hash: base64_of(need(tags, "bh", "no body hash")?, "invalid body hash")?,
            length: number(tags, "l", "invalid length")?,
            expires: time(tags, "x", "invalid expiry")?,
            identity: None,
        })
    }
}

/// Whether `name` is `domain` or below it; both in lookup form.
pub(crate) fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "v=1; a=rsa-sha256; d=a.test; s=s1; h=From:To; bh=AAAA; b=AAAA";

    fn dkim(text: &str) -> Result<MessageSignature, Reason> {
        MessageSignature::dkim(&TagList::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_signature_reads_as_written() {
        let text = format!("{GOOD}; c=relaxed; l=10; t=5; x=6; i=bob@x.A.test; q=dns/txt");
        let found = dkim(&text).unwrap();
        assert_eq!(found.header_canon, Canon::Relaxed);
        assert_eq!(found.body_canon, Canon::Simple);
        assert_eq!(found.headers, ["from", "to"]);
        assert_eq!((found.length, found.expires), (Some(10), Some(6)));
        assert_eq!(found.identity.as_deref(), Some("bob@x.A.test"));
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        for (from, to) in [
            ("v=1", "v=2"),
            ("rsa-sha256", "rsa-sha1"),
            ("From:To", "To"),
            ("d=a.test", "d=[1.2.3.4]"),
            ("s=s1", "s="),
            ("bh=AAAA", "bh=A"),
            ("b=AAAA", "b=AAAA; i=bob@b.test"),
            ("b=AAAA", "b=AAAA; i=bob@xa.test"),
            ("b=AAAA", "b=AAAA; t=9; x=9"),
            ("b=AAAA", "b=AAAA; l=-1"),
            ("b=AAAA", "b=AAAA; c=odd/simple"),
            ("b=AAAA", "b=AAAA; q=http"),
        ] {
            assert!(dkim(&GOOD.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
