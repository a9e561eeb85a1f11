//! OAUTHBEARER (RFC 7628) and XOAUTH2: a token instead of a password.

use crate::scram::Gs2Header;
use crate::{Password, Question};

const SEPARATOR: char = '\u{1}';

/// `gs2-header ^A *(key=value ^A) ^A` (RFC 7628 §3.1). Host and port are not looked at: the token names its audience.
pub(crate) fn bearer(response: &[u8]) -> Option<Question> {
    let text = std::str::from_utf8(response).ok()?;
    let (header, rest) = Gs2Header::parse(text)?;
    let fields = rest.strip_prefix(SEPARATOR)?;
    let token = token(fields)?;
    // No channel binding is defined for it.
    header.is_unbound().then_some(Question::Token {
        token,
        identity: header.authorization,
    })
}

/// `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
pub(crate) fn xoauth2(response: &[u8]) -> Option<Question> {
    let text = std::str::from_utf8(response).ok()?;
    let (user, fields) = text.strip_prefix("user=")?.split_once(SEPARATOR)?;
    Some(Question::Token {
        token: token(fields)?,
        identity: (!user.is_empty()).then(|| user.into()),
    })
}

/// The token in `*(key=value ^A) ^A`; empty where a client only wants to learn what would be asked of it.
fn token(fields: &str) -> Option<Password> {
    let fields = fields.strip_suffix("\u{1}\u{1}")?;
    let mut found = None;
    for field in fields.split(SEPARATOR) {
        let (key, value) = field.split_once('=')?;
        if key == "auth" {
            // Twice is a request that two readers may read differently.
            if found.replace(value).is_some() {
                return None;
            }
        }
    }
    let value = found?;
    if value.is_empty() {
        return Some(Password::new(""));
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    let well_formed = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    well_formed.then(|| Password::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(question: Option<Question>) -> Option<(String, Option<String>)> {
        match question? {
            Question::Token { token, identity } => {
                Some((token.as_str().to_owned(), identity.map(Into::into)))
            }
            other => panic!("{other:?}"),
        }
    }

    /// RFC 7628 §4.1.
    #[test]
    fn a_bearer_token_is_read() {
        let response = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
            auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let (token, identity) = read(bearer(response)).unwrap();
        assert_eq!(token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        assert_eq!(identity.as_deref(), Some("user@example.com"));
        let unnamed = read(bearer(b"n,,\x01auth=bearer t\x01\x01")).unwrap();
        assert_eq!(unnamed, ("t".into(), None));
        let nothing = read(bearer(b"n,,\x01auth=\x01\x01")).unwrap();
        assert_eq!(nothing.0, "", "asks what would be wanted");
    }

    #[test]
    fn xoauth2_is_read() {
        let (token, identity) =
            read(xoauth2(b"user=a@b.test\x01auth=Bearer ya29.x\x01\x01")).unwrap();
        assert_eq!(
            (token.as_str(), identity.as_deref()),
            ("ya29.x", Some("a@b.test"))
        );
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let bearers: [&[u8]; 9] = [
            b"",
            b"n,,",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer t\x01",
            b"n,,\x01auth=Basic t\x01\x01",
            b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"p=tls-exporter,,\x01auth=Bearer t\x01\x01",
            b"n,,\x01auth=Bearer t\xff\x01\x01",
        ];
        for response in bearers {
            assert_eq!(bearer(response), None, "{response:?}");
        }
        for response in [&b"user=a"[..], b"auth=Bearer t\x01\x01", b"user=a\x01\x01"] {
            assert_eq!(xoauth2(response), None, "{response:?}");
        }
    }
}
