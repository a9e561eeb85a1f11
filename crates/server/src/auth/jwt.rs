//! JSON Web Tokens (RFC 7519) in their compact form, signed (RFC 7515).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet};

/// A token in its parts. Nothing in it is true before [`Token::is_signed_by`].
pub(super) struct Token<'a> {
    /// What is signed.
    message: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: Option<&'a str>,
    pub(super) clock_skew: Duration,
    /// Seconds since 1970.
    pub(super) now: f64,
}

impl<'a> Token<'a> {
    /// Reads a token. None where it is not well formed, or where its header asks for what is not known here.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header = object(header)?;
        // RFC 7515 §4.1.11: what is listed there must be understood.
        if header.contains_key("crit") {
            return None;
        }
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        Some(Self {
            message,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            algorithm: Algorithm::parse(text("alg")?)?,
            key_id: text("kid").map(str::to_owned),
            claims: object(claims)?,
        })
    }

    /// A claim that is a text.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// Whether one of the keys has signed it.
    pub(super) fn is_signed_by(&self, keys: &KeySet) -> bool {
        let by = (self.key_id.as_deref(), self.algorithm);
        keys.verifies(by, self.message.as_bytes(), &self.signature)
    }

    /// Whether it is from the issuer, for the audience, and of this time. One without an end is of no time.
    pub(super) fn fits(&self, expected: &Expected<'_>) -> bool {
        let skew = expected.clock_skew.as_secs_f64();
        let time = |claim: &str| self.claims.get(claim).map(Value::as_f64);
        let lasts = matches!(time("exp"), Some(Some(end)) if expected.now < end + skew);
        let has_begun = match time("nbf") {
            None => true,
            Some(begin) => begin.is_some_and(|begin| begin <= expected.now + skew),
        };
        let issued_here = self.text("iss") == Some(expected.issuer);
        let for_us = expected
            .audience
            .is_none_or(|audience| self.lists("aud", audience));
        lasts && has_begun && issued_here && for_us
    }

    /// Whether it has a scope (RFC 8693 §4.2; `scp` is the same elsewhere).
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        let spaced = |claim: &str| {
            let text = self.text(claim).unwrap_or_default();
            text.split(' ').any(|one| one == scope)
        };
        ["scope", "scp"]
            .into_iter()
            .any(|claim| spaced(claim) || self.lists(claim, scope))
    }

    /// Whether a claim is a text, or a list that holds it.
    fn lists(&self, claim: &str, text: &str) -> bool {
        match self.claims.get(claim) {
            Some(Value::String(one)) => one == text,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(text)),
            _ => false,
        }
    }

    /// Whether the issuer says of an address that it has not verified it.
    pub(super) fn has_unverified_address(&self) -> bool {
        self.claims.get("email_verified") == Some(&Value::Bool(false))
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let octets = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    };
    use serde_json::json;

    fn unsigned(algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "kid": "k", "typ": "JWT"});
        [header.to_string(), claims.to_string()]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".")
    }

    fn signed(message: String, signature: &[u8]) -> String {
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn ed25519() -> (Ed25519KeyPair, KeySet) {
        let key = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let jwks = json!({"keys": [
            {"kty": "oct", "k": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "alg": "EdDSA", "use": "sig"},
        ]});
        (key, KeySet::parse(jwks.to_string().as_bytes()).unwrap())
    }

    fn expected() -> Expected<'static> {
        Expected {
            issuer: "https://id.test",
            audience: Some("mail"),
            clock_skew: Duration::from_secs(60),
            now: 1000.0,
        }
    }

    #[test]
    fn a_token_is_believed_only_with_its_signature() {
        let (key, keys) = ed25519();
        let claims = json!({"iss": "https://id.test", "aud": ["x", "mail"], "exp": 1500});
        let message = unsigned("EdDSA", &claims);
        let text = signed(message.clone(), key.sign(message.as_bytes()).as_ref());
        let token = Token::parse(&text).unwrap();
        assert!(token.is_signed_by(&keys) && token.fits(&expected()));

        let forged = unsigned("EdDSA", &json!({"iss": "https://id.test", "exp": 9e9}));
        let forged = signed(forged, key.sign(message.as_bytes()).as_ref());
        assert!(!Token::parse(&forged).unwrap().is_signed_by(&keys));
        let (_, others) = ed25519();
        assert!(!token.is_signed_by(&others));
        for algorithm in ["none", "HS256", "eddsa"] {
            let unsigned = signed(unsigned(algorithm, &claims), b"");
            assert!(Token::parse(&unsigned).is_none(), "{algorithm}");
        }
    }

    #[test]
    fn p256_and_rsa_keys_verify_as_jwk_and_as_pem() {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let message = unsigned("ES256", &json!({}));
        let signature = key.sign(&random, message.as_bytes()).unwrap();
        let text = signed(message, signature.as_ref());
        let token = Token::parse(&text).unwrap();
        assert!(token.is_signed_by(&KeySet::parse(jwk.to_string().as_bytes()).unwrap()));

        let rcgen_key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen_key.public_key_pem();
        assert!(!token.is_signed_by(&KeySet::parse(pem.as_bytes()).unwrap()));
        let pkcs8 = rcgen_key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
        let message = unsigned("ES256", &json!({}));
        let signature = key.sign(&random, message.as_bytes()).unwrap();
        let text = signed(message, signature.as_ref());
        let token = Token::parse(&text).unwrap();
        assert!(token.is_signed_by(&KeySet::parse(pem.as_bytes()).unwrap()));

        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let public = key.public_key();
        let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        let keys = KeySet::parse(json!({"kty": "RSA", "n": n, "e": e}).to_string().as_bytes());
        let message = unsigned("RS256", &json!({}));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(
            &RSA_PKCS1_SHA256,
            &random,
            message.as_bytes(),
            &mut signature,
        )
        .unwrap();
        let text = signed(message, &signature);
        assert!(Token::parse(&text).unwrap().is_signed_by(&keys.unwrap()));
    }

    #[test]
    fn issuer_audience_and_time_must_fit() {
        let fits = |claims: Value| {
            let text = signed(unsigned("EdDSA", &claims), b"");
            Token::parse(&text).unwrap().fits(&expected())
        };
        let good = json!({"iss": "https://id.test", "aud": "mail", "exp": 941, "nbf": 1060});
        assert!(fits(good.clone()), "within the clocks' difference");
        for (claim, value) in [
            ("iss", json!("https://id.test/")),
            ("iss", json!(null)),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
            ("exp", json!(940)),
            ("exp", json!("5000")),
            ("exp", json!(null)),
            ("nbf", json!(1061)),
            ("nbf", json!("0")),
        ] {
            let mut claims = good.clone();
            claims[claim] = value.clone();
            assert!(!fits(claims), "{claim}: {value}");
        }
    }

    #[test]
    fn scopes_are_words_or_lists() {
        let has = |claims: Value| {
            let text = signed(unsigned("EdDSA", &claims), b"");
            Token::parse(&text).unwrap().has_scope("mail")
        };
        assert!(has(json!({"scope": "openid mail"})));
        assert!(has(json!({"scp": ["x", "mail"]})));
        assert!(!has(json!({"scope": "mailbox"})));
        assert!(!has(json!({})));
    }

    #[test]
    fn what_is_no_token_is_none() {
        let crit = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","crit":["b64"]}"#);
        for text in ["", "a", "a.b", "..", "a.b.c", &format!("{crit}.e30.AA")] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }
}
