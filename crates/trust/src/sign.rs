//! Signatures of our own: keys, their DNS records, and DKIM-Signature fields (RFC 6376 §5).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_core::{Domain, Timestamp};
use nightmail_mime::header::{Field, fields};
use thiserror::Error;

use crate::canon::Canon;
use crate::inspector::{FieldIndex, Inspected, unsigned};
use crate::signature::SignatureAlgorithm;
use crate::tag_list::signature_range;

/// The fields that are signed wherever they are present (RFC 6376 §5.4.1), in lower case.
const SIGNED_FIELDS: &[&str] = &[
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-id",
    "content-description",
    "resent-date",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-message-id",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
];
/// Fields of one name that are signed; more are left alone.
const SIGNED_EACH_MAX: usize = 10;
/// Octets in a line, its fold apart.
const LINE_OCTETS: usize = 72;

/// A key that cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KeyProblem {
    /// The random source, or the machine, failed.
    #[error("no key could be made")]
    Generate,
    /// The octets are no private key of that kind.
    #[error("the private key of {selector} at {domain} cannot be read: {reason}")]
    Unreadable {
        /// The domain.
        domain: Domain,
        /// The selector.
        selector: String,
        /// Why.
        reason: String,
    },
}

/// The kinds of keys we make.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyAlgorithm {
    /// RSA of 2048 bits: every verifier knows it.
    Rsa2048,
    /// Ed25519: short and fast; some verifiers do not know it.
    Ed25519,
}

impl KeyAlgorithm {
    /// The number by which it is stored.
    pub const fn number(self) -> u8 {
        match self {
            Self::Rsa2048 => 1,
            Self::Ed25519 => 2,
        }
    }

    /// The algorithm of a stored number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Rsa2048),
            2 => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// `rsa` or `ed25519`.
    pub const fn as_str(self) -> &'static str {
        self.signs().key_type()
    }

    const fn signs(self) -> SignatureAlgorithm {
        match self {
            Self::Rsa2048 => SignatureAlgorithm::RsaSha256,
            Self::Ed25519 => SignatureAlgorithm::Ed25519Sha256,
        }
    }
}

/// A private key and where its public half is published. Debug does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The domain it signs for.
    pub domain: Domain,
    /// Its selector.
    pub selector: String,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// The private key, PKCS #8 in DER.
    pub pkcs8: Vec<u8>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("domain", &self.domain)
            .field("selector", &self.selector)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a new key. RSA takes some tenths of a second of the calling thread.
    pub fn generate(
        domain: Domain,
        selector: &str,
        algorithm: KeyAlgorithm,
    ) -> Result<Self, KeyProblem> {
        let pkcs8 = match algorithm {
            KeyAlgorithm::Rsa2048 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048);
                let der: Result<Pkcs8V1Der<'_>, _> = pair.and_then(|pair| pair.as_der());
                der.map(|der| der.as_ref().to_vec())
            }
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
                .map(|der| der.as_ref().to_vec()),
        };
        Ok(Self {
            domain,
            selector: selector.to_owned(),
            algorithm,
            pkcs8: pkcs8.map_err(|_| KeyProblem::Generate)?,
        })
    }

    /// The name and the text of the TXT record that publishes the key (RFC 6376 §3.6.1). The text may be longer than
    /// one character-string of DNS holds (255 octets).
    pub fn dns_record(&self) -> Result<(String, String), KeyProblem> {
        let public = self.pair()?.public_key(self)?;
        let name = format!("{}._domainkey.{}", self.selector, self.domain);
        let key_type = self.algorithm.as_str();
        Ok((
            name,
            format!("v=DKIM1; k={key_type}; p={}", STANDARD.encode(public)),
        ))
    }

    fn unreadable(&self, reason: &dyn fmt::Display) -> KeyProblem {
        KeyProblem::Unreadable {
            domain: self.domain.clone(),
            selector: self.selector.clone(),
            reason: reason.to_string(),
        }
    }

    fn pair(&self) -> Result<Pair, KeyProblem> {
        let pair = match self.algorithm {
            KeyAlgorithm::Rsa2048 => {
                RsaKeyPair::from_pkcs8(&self.pkcs8).map(|pair| Pair::Rsa(Box::new(pair)))
            }
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.pkcs8)
                .map(|pair| Pair::Ed25519(Box::new(pair))),
        };
        pair.map_err(|rejected| self.unreadable(&rejected))
    }
}

/// A key that is ready.
enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Pair {
    fn public_key(&self, key: &SigningKey) -> Result<Vec<u8>, KeyProblem> {
        match self {
            Self::Rsa(pair) => {
                let der: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                let der = der.map_err(|_| key.unreadable(&"no public half"))?;
                Ok(der.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.public_key().as_ref().to_vec()),
        }
    }
}

/// A key made ready once, to sign many messages.
pub(crate) struct ReadyKey {
    pub(crate) domain: Domain,
    pub(crate) selector: String,
    pub(crate) algorithm: SignatureAlgorithm,
    pair: Pair,
}

impl ReadyKey {
    pub(crate) fn new(key: &SigningKey) -> Result<Self, KeyProblem> {
        Ok(Self {
            domain: key.domain.clone(),
            selector: key.selector.clone(),
            algorithm: key.algorithm.signs(),
            pair: key.pair()?,
        })
    }

    /// The signature of `input`; `None` when the random source fails.
    pub(crate) fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    input,
                    &mut signature,
                )
                .ok()?;
                Some(signature)
            }
            Pair::Ed25519(pair) => {
                let digest = digest(&SHA256, input);
                pair.try_sign(digest.as_ref())
                    .ok()
                    .map(|made| made.as_ref().to_vec())
            }
        }
    }
}

/// Signs messages with the keys of one domain: one DKIM-Signature for each key.
pub struct Signer {
    keys: Vec<ReadyKey>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let selectors: Vec<&str> = self.keys.iter().map(|key| key.selector.as_str()).collect();
        f.debug_struct("Signer")
            .field("selectors", &selectors)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes keys ready. Fails with the first that cannot be read.
    pub fn new(keys: &[SigningKey]) -> Result<Self, KeyProblem> {
        let keys = keys.iter().map(ReadyKey::new).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Whether there is no key.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The DKIM-Signature fields of a message, each with its CRLF, to be put in front of it. `extra_fields` are whole
    /// fields that are put in front, too, and are signed where they are of a kind that is. `inspected` was read
    /// with [`crate::Inspector::also_to_sign`]. Empty where the message has no From field or a header that is too long.
    pub fn sign(&self, inspected: &Inspected, extra_fields: &[u8], now: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(body) = inspected.body(Canon::Relaxed, None) else {
            return out;
        };
        let header = [extra_fields, inspected.header()].concat();
        let index = FieldIndex::new(&header);
        if inspected.is_header_too_long() || index.count("from") == 0 {
            return out;
        }
        let mut names = signed_names(&index);
        // Named once more than it is there: nobody can add another.
        names.push("from".to_owned());
        let body_hash = STANDARD.encode(body.digest);
        let mut covered = Vec::new();
        index.signed(Canon::Relaxed, &names, &mut covered);
        for key in &self.keys {
            let mut tags = TagWriter::new("DKIM-Signature");
            tags.tag("v", "1")
                .tag("a", key.algorithm.as_str())
                .tag("c", "relaxed/relaxed");
            tags.tag("d", key.domain.as_str()).tag("s", &key.selector);
            tags.tag("t", &now.secs().to_string());
            tags.list("h", &names).tag("bh", &body_hash).signature();
            if let Some(field) = tags.signed(&covered, |input| key.sign(input)) {
                out.extend_from_slice(&field);
            }
        }
        out
    }
}

/// The names to sign, once for each field that is there.
pub(crate) fn signed_names(index: &FieldIndex<'_>) -> Vec<String> {
    let present = |name: &&str| index.count(name).min(SIGNED_EACH_MAX);
    let names = SIGNED_FIELDS.iter();
    names
        .flat_map(|name| std::iter::repeat_n((*name).to_owned(), present(name)))
        .collect()
}

/// Writes a field of tags, folded between them.
pub(crate) struct TagWriter {
    field: String,
}

impl TagWriter {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            field: format!("{name}: "),
        }
    }

    /// Octets in the last line.
    fn line(&self) -> usize {
        self.field.rsplit('\n').next().map_or(0, str::len)
    }

    fn separate(&mut self, octets: usize) {
        if self.field.contains('=') {
            let fits = self.line() + 2 + octets <= LINE_OCTETS;
            self.field.push_str(if fits { "; " } else { ";\r\n\t" });
        }
    }

    /// Adds a tag whose value is short.
    pub(crate) fn tag(&mut self, name: &str, value: &str) -> &mut Self {
        self.separate(name.len() + 1 + value.len());
        self.field.push_str(name);
        self.field.push('=');
        self.field.push_str(value);
        self
    }

    /// Adds the place of the signature.
    pub(crate) fn signature(&mut self) -> &mut Self {
        self.field.push_str(";\r\n\tb=");
        self
    }

    /// Adds a list of names, folded where it does not fit into a line.
    pub(crate) fn list(&mut self, name: &str, values: &[String]) -> &mut Self {
        let whole = values.join(":");
        if whole.len() + name.len() < LINE_OCTETS {
            return self.tag(name, &whole);
        }
        self.tag(name, "");
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.field.push(':');
            }
            if self.line() + value.len() > LINE_OCTETS {
                self.field.push_str("\r\n\t ");
            }
            self.field.push_str(value);
        }
        self
    }

    /// The field with its signature and CRLF; `covered` is signed, and the field itself.
    pub(crate) fn signed(
        &self,
        covered: &[u8],
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut text = format!("{}\r\n", self.field).into_bytes();
        let mut input = covered.to_vec();
        let field = first_field(&text)?;
        unsigned(Canon::Relaxed, &field, &mut input);
        let value_start = text.len().checked_sub(field.value.len() + 2)?;
        let place = value_start + signature_range(field.value)?.start;
        let signature = folded(&STANDARD.encode(sign(&input)?));
        text.splice(place..place, signature.into_bytes());
        Some(text)
    }
}

/// Base64 in lines, the first of which has two octets already.
pub(crate) fn folded(base64: &str) -> String {
    let mut out = String::with_capacity(base64.len() + base64.len() / 16);
    for (at, c) in base64.chars().enumerate() {
        if at > 0 && (at + 2) % LINE_OCTETS == 0 {
            out.push_str("\r\n\t ");
        }
        out.push(c);
    }
    out
}

pub(crate) fn first_field(text: &[u8]) -> Option<Field<'_>> {
    fields(text).next()
}
