//! Logging in with a token (RFC 7628): which issuer's it is, and of which account it speaks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::AuthError;
use super::jwt::{Expected, Token};
use super::keys::KeyFile;
use crate::config::TokenIssuer;

/// Everybody whose tokens are taken.
pub(super) struct Issuers(Vec<Issuer>);

struct Issuer {
    settings: TokenIssuer,
    keys: KeyFile,
}

/// Why a token is not taken, as clients are told (RFC 6750 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TokenFault {
    /// There is none.
    Missing,
    /// It is expired, forged, or not for us.
    Invalid,
    /// It is good, but not for mail.
    Scope,
}

impl TokenFault {
    const fn status(self) -> &'static str {
        match self {
            Self::Missing => "invalid_request",
            Self::Invalid => "invalid_token",
            Self::Scope => "insufficient_scope",
        }
    }
}

impl Issuers {
    /// Reads the keys of all issuers.
    pub(super) fn load(settings: &[TokenIssuer]) -> Result<Self, AuthError> {
        let issuers = settings.iter().filter_map(|settings| {
            let path = settings.keys.as_deref()?;
            Some(KeyFile::load(path).map(|keys| Issuer {
                settings: settings.clone(),
                keys,
            }))
        });
        Ok(Self(issuers.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the account that a token speaks of.
    pub(super) fn account_of(&self, text: &str) -> Result<String, TokenFault> {
        if text.is_empty() {
            return Err(TokenFault::Missing);
        }
        let token = Token::parse(text).ok_or(TokenFault::Invalid)?;
        let named = token.text("iss").ok_or(TokenFault::Invalid)?;
        let candidates = self.0.iter();
        let mut result = Err(TokenFault::Invalid);
        for issuer in candidates.filter(|issuer| issuer.settings.issuer == named) {
            result = issuer.account_of(&token);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// What a client is told (RFC 7628 §3.2.2).
    pub(super) fn explain(&self, fault: TokenFault) -> Vec<u8> {
        let mut json = json!({"status": fault.status(), "schemes": "bearer"});
        let scope = self
            .0
            .iter()
            .find_map(|issuer| issuer.settings.scope.as_ref());
        if let (Some(scope), Some(fields)) = (scope, json.as_object_mut()) {
            fields.insert("scope".to_owned(), scope.as_str().into());
        }
        json.to_string().into_bytes()
    }
}

impl Issuer {
    fn account_of(&self, token: &Token<'_>) -> Result<String, TokenFault> {
        let settings = &self.settings;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let expected = Expected {
            issuer: &settings.issuer,
            audience: settings.audience.as_deref(),
            clock_skew: settings.clock_skew,
            now: since.unwrap_or_default().as_secs_f64(),
        };
        if !token.is_signed_by(&self.keys.keys()) || !token.fits(&expected) {
            return Err(TokenFault::Invalid);
        }
        if let Some(scope) = &settings.scope
            && !token.has_scope(scope)
        {
            return Err(TokenFault::Scope);
        }
        let claim = settings.account_claim.as_str();
        if claim == "email" && token.has_unverified_address() {
            return Err(TokenFault::Invalid);
        }
        let account = token.text(claim).filter(|name| !name.is_empty());
        account.map(str::to_owned).ok_or(TokenFault::Invalid)
    }
}
