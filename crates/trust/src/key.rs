//! Public keys in DNS (RFC 6376 §3.6.1, RFC 8463) and what they prove.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_dns::{Dns, Nothing};

use crate::signature::{Reason, SignatureAlgorithm, Signed};
use crate::tag_list::{TagList, packed};

/// Why there is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyError {
    /// Another time there may be one.
    Temporary(Reason),
    /// There is none that can be used.
    Permanent(Reason),
}

/// A key record that serves mail.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    key_type: String,
    key: Vec<u8>,
    /// The domain only tries signing (`t=y`).
    pub(crate) testing: bool,
    /// The identity must be in the domain itself (`t=s`).
    pub(crate) strict: bool,
}

impl PublicKey {
    /// Parses one record.
    pub(crate) fn parse(record: &str) -> Result<Self, Reason> {
        let tags = TagList::parse(record.as_bytes()).map_err(|_| "invalid key record")?;
        match tags.get("v") {
            None => {}
            Some("DKIM1") if tags.first() == Some("v") => {}
            Some(_) => return Err("unknown key version"),
        }
        let lists = |name: &str, wanted: &[&str]| {
            let values = tags.get(name);
            values.is_none_or(|list| list.split(':').any(|item| wanted.contains(&item.trim())))
        };
        if !lists("h", &["sha256"]) {
            return Err("key not for SHA-256");
        }
        if !lists("s", &["*", "email"]) {
            return Err("key not for mail");
        }
        let key = packed(tags.get("p").ok_or("invalid key record")?);
        if key.is_empty() {
            return Err("key revoked");
        }
        let flag = |name| {
            tags.get("t")
                .is_some_and(|t| t.split(':').any(|flag| flag.trim() == name))
        };
        Ok(Self {
            key_type: tags.get("k").unwrap_or("rsa").to_owned(),
            key: STANDARD.decode(key).map_err(|_| "invalid key")?,
            testing: flag("y"),
            strict: flag("s"),
        })
    }

    /// Finds the key of a signer.
    pub(crate) async fn find(dns: &Dns, signed: &Signed) -> Result<Self, KeyError> {
        let name = format!("{}._domainkey.{}", signed.selector, signed.domain);
        let records = dns.txt(&name).await.map_err(|nothing| match nothing {
            Nothing::NoName | Nothing::NoRecord => KeyError::Permanent("no key"),
            Nothing::Failed(_) => KeyError::Temporary("key lookup failed"),
        })?;
        let mut reason = "no key";
        for record in &records {
            match Self::parse(record) {
                Ok(key) if key.key_type == signed.algorithm.key_type() => return Ok(key),
                Ok(_) => reason = "key of another type",
                Err(why) => reason = why,
            }
        }
        Err(KeyError::Permanent(reason))
    }

    /// Whether the owner of the key has signed `input`.
    pub(crate) fn proves(&self, signed: &Signed, input: &[u8]) -> bool {
        match signed.algorithm {
            SignatureAlgorithm::RsaSha256 => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &self.key)
                    .verify(input, &signed.signature)
                    .is_ok()
            }
            SignatureAlgorithm::Ed25519Sha256 => UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(digest(&SHA256, input).as_ref(), &signed.signature)
                .is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_do_not_serve_mail_are_refused() {
        for (record, reason) in [
            ("v=DKIM1; p=", "key revoked"),
            ("v=DKIM2; p=AAAA", "unknown key version"),
            ("p=AAAA; v=DKIM1", "unknown key version"),
            ("v=DKIM1; s=tlsrpt; p=AAAA", "key not for mail"),
            ("v=DKIM1; h=sha1; p=AAAA", "key not for SHA-256"),
            ("v=DKIM1; k=rsa", "invalid key record"),
            ("v=DKIM1; p=!", "invalid key"),
        ] {
            assert_eq!(PublicKey::parse(record).unwrap_err(), reason, "{record}");
        }
        let key = PublicKey::parse("p=AA AA; t=y:s; s=email; h=sha1:sha256; n=x").unwrap();
        assert!(key.testing && key.strict);
        assert_eq!(key.key_type, "rsa");
    }
}
