//! DKIM signatures of the load (RFC 6376, RFC 8463), so that a server's verifier has work to do: Ed25519,
//! simple/simple, under a key that is known to everybody.

use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::BenchError;

/// The private key, no secret at all.
const SEED: [u8; 32] = [7; 32];
/// The fields signed, as the corpus writes them.
const FIELDS: [&str; 5] = ["From: ", "To: ", "Subject: ", "Date: ", "Message-ID: "];

/// Whose signature messages bear: `SELECTOR@DOMAIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignAs {
    selector: String,
    domain: String,
}

impl FromStr for SignAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let usable = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !part.is_empty() && part.bytes().all(fits)
        };
        match text.split_once('@') {
            Some((selector, domain)) if usable(selector) && usable(domain) => Ok(Self {
                selector: selector.to_owned(),
                domain: domain.to_owned(),
            }),
            _ => Err("SELECTOR@DOMAIN is wanted".to_owned()),
        }
    }
}

/// Signs the messages of a run.
pub(crate) struct Signer {
    key: Ed25519KeyPair,
    who: SignAs,
}

impl Signer {
    pub(crate) fn new(who: SignAs) -> Result<Self, BenchError> {
        let key = Ed25519KeyPair::from_seed_unchecked(&SEED);
        let key = key.map_err(|error| BenchError::Unexpected(error.to_string()))?;
        Ok(Self { key, who })
    }

    /// The text of the DNS record at `SELECTOR._domainkey.DOMAIN` that vouches for the signatures.
    pub(crate) fn record(&self) -> String {
        let public = STANDARD.encode(self.key.public_key().as_ref());
        format!("v=DKIM1; k=ed25519; p={public}")
    }

    /// Puts a signature in front of a message with CRLF line ends that ends in one line end.
    pub(crate) fn sign(&self, message: &mut Vec<u8>) {
        let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2);
        let (header, body) = message.split_at_checked(end).unwrap_or((message, b""));
        let body = body.strip_prefix(b"\r\n").unwrap_or(body);
        let body_hash = STANDARD.encode(digest(&SHA256, body));
        let mut signed = Vec::with_capacity(1024);
        let mut names = Vec::with_capacity(FIELDS.len());
        for line in header.split_inclusive(|octet| *octet == b'\n') {
            if let Some(name) = FIELDS.iter().find(|name| line.starts_with(name.as_bytes())) {
                names.push(name.trim_end_matches(": "));
                signed.extend_from_slice(line);
            }
        }
        let field = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=simple/simple; d={}; s={};\r\n\th={};\r\n\tbh={body_hash};\r\n\tb=",
            self.who.domain,
            self.who.selector,
            names.join(":")
        );
        signed.extend_from_slice(field.as_bytes());
        let signature = self.key.sign(digest(&SHA256, &signed).as_ref());
        let field = format!("{field}{}\r\n", STANDARD.encode(signature));
        message.splice(0..0, field.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn the_signature_holds_for_the_fields_and_the_body() {
        let signer = Signer::new("s1@sender.test".parse().unwrap()).unwrap();
        assert_eq!(
            signer.record(),
            "v=DKIM1; k=ed25519; p=6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="
        );
        let text = "From: <a@x>\r\nX: y\r\nDate: d\r\n\r\nbody\r\n";
        let mut message = text.as_bytes().to_vec();
        signer.sign(&mut message);
        let message = String::from_utf8(message).unwrap();
        let (field, rest) = message.split_at(message.find("From: <").unwrap());
        assert_eq!(rest, text);
        let (unsigned, signature) = field.trim_end().rsplit_once("b=").unwrap();
        assert!(unsigned.contains("h=From:Date;"), "{unsigned}");
        let body_hash = STANDARD.encode(digest(&SHA256, b"body\r\n"));
        assert!(unsigned.contains(&format!("bh={body_hash};")));
        let signed = format!("From: <a@x>\r\nDate: d\r\n{unsigned}b=");
        let key = UnparsedPublicKey::new(&ED25519, signer.key.public_key().as_ref());
        let hash = digest(&SHA256, signed.as_bytes());
        key.verify(hash.as_ref(), &STANDARD.decode(signature).unwrap())
            .unwrap();
    }

    #[test]
    fn a_signer_is_a_selector_at_a_domain() {
        for wrong in ["", "x", "@x", "x@", "a b@x", "a@x;y"] {
            assert!(wrong.parse::<SignAs>().is_err(), "{wrong:?}");
        }
    }
}
