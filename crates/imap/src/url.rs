//! URLs of messages and their parts (RFC 5092), and how they are authorized (RFC 4467).
//!
//! Only what names a message is understood: lists and searches are not. A URL may be relative: to the server, or to
//! the selected mailbox.

use nightmail_core::Timestamp;
use thiserror::Error;

use crate::command::section::Section;
use crate::limits::Limits;
use crate::name::MailboxName;
use crate::parse::{Parser, rfc3339};

/// Why text is no URL of a message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("{0}")]
pub struct UrlError(&'static str);

/// A URL of a message or a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImapUrl {
    /// The user, where the URL is absolute and names one.
    pub user: Option<String>,
    /// The mailbox; none: the selected one.
    pub mailbox: Option<MailboxName>,
    /// The UIDVALIDITY that the mailbox must have.
    pub uid_validity: Option<u32>,
    /// The message's UID.
    pub uid: u32,
    /// What of the message; none: all of it.
    pub section: Option<Section>,
    /// The first octet of that, from 0, and how many at most; none: to the end.
    pub partial: Option<(u64, Option<u64>)>,
    /// How it is authorized.
    pub authorization: Option<UrlAuthorization>,
}

/// The authorization of a URL (RFC 4467 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlAuthorization {
    /// Until when it is good.
    pub expires: Option<Timestamp>,
    /// Who may use it.
    pub access: UrlAccess,
    /// The octets that the token vouches for: the URL up to and with the access identifier.
    pub rump: String,
    /// Mechanism and token; none where it is yet to be authorized.
    pub token: Option<(String, String)>,
}

/// Who may use a URL (RFC 4467 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UrlAccess {
    /// `anonymous`: everybody.
    Anyone,
    /// `authuser`: everybody who has logged in.
    LoggedIn,
    /// `user+`: one user.
    User(String),
    /// `submit+`: a submission server on behalf of a user.
    Submission(String),
}

impl ImapUrl {
    /// Reads a URL.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, UrlError> {
        if !text.bytes().all(|b| matches!(b, b'!'..=b'~')) {
            return Err(UrlError("a URL is printable ASCII"));
        }
        let (rest, authorization) = split_authorization(text)?;
        let (user, path) = split_server(rest)?;
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut url = Self {
            user,
            mailbox: None,
            uid_validity: None,
            uid: 0,
            section: None,
            partial: None,
            authorization,
        };
        let mut parts = path.split("/;");
        let first = parts.next().unwrap_or_default();
        match first.strip_prefix(';') {
            Some(parameter) => url.parameter(parameter, limits)?,
            None => url.mailbox(first, limits)?,
        }
        for parameter in parts {
            url.parameter(parameter, limits)?;
        }
        match url.uid {
            0 => Err(UrlError("the URL names no message")),
            _ => Ok(url),
        }
    }

    fn mailbox(&mut self, text: &str, limits: &Limits) -> Result<(), UrlError> {
        let mut name = text;
        if let Some((before, validity)) = split_last(text, ";UIDVALIDITY=") {
            self.uid_validity = Some(number(validity)?);
            name = before;
        }
        if !name.is_empty() {
            let name = decode(name)?;
            let name = MailboxName::from_utf8(name.as_bytes(), limits.mailbox_octets_max);
            self.mailbox = Some(name.map_err(|_| UrlError("not a name of a mailbox"))?);
        }
        Ok(())
    }

    fn parameter(&mut self, text: &str, limits: &Limits) -> Result<(), UrlError> {
        let (name, value) = text
            .split_once('=')
            .ok_or(UrlError("a parameter has no value"))?;
        match name.to_ascii_uppercase().as_str() {
            "UID" if self.uid == 0 => self.uid = number(value)?,
            "SECTION" if self.section.is_none() => {
                let section = decode(value)? + "]";
                let mut parser = Parser::new(section.as_bytes(), limits);
                let read = Section::parse(&mut parser).ok();
                let read = read.filter(|_| parser.is_at_end());
                self.section = Some(read.ok_or(UrlError("no such section"))?);
            }
            "PARTIAL" if self.partial.is_none() => {
                let (start, count) = match value.split_once('.') {
                    Some((start, count)) => (start, Some(number64(count)?)),
                    None => (value, None),
                };
                self.partial = Some((number64(start)?, count));
            }
            _ => return Err(UrlError("an unknown parameter")),
        }
        Ok(())
    }
}

/// `;EXPIRE=time;URLAUTH=access:mechanism:token` at the end, and what stands before it.
fn split_authorization(text: &str) -> Result<(&str, Option<UrlAuthorization>), UrlError> {
    let Some((before, authorization)) = split_last(text, ";URLAUTH=") else {
        return match split_last(text, ";EXPIRE=") {
            Some(_) => Err(UrlError("a URL that expires needs authorization")),
            None => Ok((text, None)),
        };
    };
    let (access, token) = match authorization.split_once(':') {
        Some((access, token)) => (access, Some(token)),
        None => (authorization, None),
    };
    let token = match token.map(|token| token.split_once(':')) {
        None => None,
        Some(Some((mechanism, token))) if !mechanism.is_empty() && !token.is_empty() => {
            Some((mechanism.to_owned(), token.to_owned()))
        }
        Some(_) => return Err(UrlError("the authorization has no token")),
    };
    let rump_len = before.len() + ";URLAUTH=".len() + access.len();
    let (rest, expires) = match split_last(before, ";EXPIRE=") {
        Some((rest, time)) => {
            let time = decode(time)?;
            let time = rfc3339(&time).ok_or(UrlError("not a time"))?;
            (rest, Some(time))
        }
        None => (before, None),
    };
    let authorization = UrlAuthorization {
        expires,
        access: access_of(access)?,
        rump: text.get(..rump_len).unwrap_or(text).to_owned(),
        token,
    };
    Ok((rest, Some(authorization)))
}

fn access_of(text: &str) -> Result<UrlAccess, UrlError> {
    let after = |prefix: &str| {
        let (head, user) = text.split_at_checked(prefix.len())?;
        let is_there = head.eq_ignore_ascii_case(prefix) && !user.is_empty();
        is_there.then(|| decode(user))
    };
    if text.eq_ignore_ascii_case("anonymous") {
        return Ok(UrlAccess::Anyone);
    }
    if text.eq_ignore_ascii_case("authuser") {
        return Ok(UrlAccess::LoggedIn);
    }
    if let Some(user) = after("user+") {
        return user.map(UrlAccess::User);
    }
    if let Some(user) = after("submit+") {
        return user.map(UrlAccess::Submission);
    }
    Err(UrlError("no such access identifier"))
}

/// The user of an absolute URL, and its path. The host is not looked at: clients reach a server by many names.
fn split_server(text: &str) -> Result<(Option<String>, &str), UrlError> {
    const SCHEME: &str = "imap://";
    let Some((_, rest)) = text
        .split_at_checked(SCHEME.len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
    else {
        return match text.starts_with(['/', ';']) {
            true => Ok((None, text)),
            false => Err(UrlError("neither an IMAP URL nor relative to the server")),
        };
    };
    let (server, path) = rest
        .split_once('/')
        .ok_or(UrlError("the URL names no mailbox"))?;
    let user = match server.split_once('@') {
        Some((user, _)) => {
            let name = user.split_once(';').map_or(user, |(name, _)| name);
            Some(decode(name)?).filter(|name| !name.is_empty())
        }
        None => None,
    };
    Ok((user, path))
}

/// What stands before and after the last occurrence of a word, which has no case.
fn split_last<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let at = text.to_ascii_uppercase().rfind(word)?;
    Some((text.get(..at)?, text.get(at + word.len()..)?))
}

fn number(text: &str) -> Result<u32, UrlError> {
    let number = u32::try_from(number64(text)?).unwrap_or(0);
    match number {
        0 => Err(UrlError("not a number of the right size")),
        number => Ok(number),
    }
}

fn number64(text: &str) -> Result<u64, UrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or(UrlError("not a number"))
}

/// Undoes percent-encoding; what comes out is UTF-8.
fn decode(text: &str) -> Result<String, UrlError> {
    const BROKEN: UrlError = UrlError("broken percent-encoding");
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    let digit = |b: Option<u8>| char::from(b?).to_digit(16);
    while let Some(octet) = octets.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let high = digit(octets.next()).ok_or(BROKEN)?;
        let low = digit(octets.next()).ok_or(BROKEN)?;
        out.push(u8::try_from(high * 16 + low).map_err(|_| BROKEN)?);
    }
    String::from_utf8(out).map_err(|_| BROKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<ImapUrl, UrlError> {
        ImapUrl::parse(text, &Limits::default())
    }

    #[test]
    fn a_url_names_mailbox_message_and_part() {
        let found = url("/Drafts/%C3%A9;UIDVALIDITY=38/;UID=20/;section=1.2.MIME").unwrap();
        assert_eq!(found.mailbox.unwrap().as_str(), "Drafts/é");
        assert_eq!((found.uid_validity, found.uid), (Some(38), 20));
        assert_eq!(found.section.unwrap().to_string(), "1.2.MIME");
        let found = url("imap://joe%40a.test;AUTH=*@host:143/INBOX/;uid=7/;PARTIAL=5.10").unwrap();
        assert_eq!(found.user.as_deref(), Some("joe@a.test"));
        assert_eq!(found.partial, Some((5, Some(10))));
    }

    #[test]
    fn a_relative_url_means_the_selected_mailbox() {
        for text in [";UID=3/;SECTION=HEADER", "/;UID=3/;SECTION=HEADER"] {
            let found = url(text).unwrap();
            assert_eq!((found.mailbox, found.uid), (None, 3), "{text}");
        }
    }

    #[test]
    fn the_rump_ends_with_the_access_identifier() {
        let rump =
            "imap://joe@h/INBOX/;uid=20/;section=1.2;expire=2030-01-02T03:04:05Z;urlauth=user+fred";
        let found = url(&format!("{rump}:internal:00ff")).unwrap();
        let authorization = found.authorization.unwrap();
        assert_eq!(authorization.rump, rump);
        assert_eq!(authorization.access, UrlAccess::User("fred".into()));
        assert_eq!(
            authorization.token,
            Some(("internal".into(), "00ff".into()))
        );
        assert_eq!(authorization.expires, rfc3339("2030-01-02T03:04:05Z"));
        assert_eq!(url(rump).unwrap().authorization.unwrap().token, None);
    }

    #[test]
    fn what_names_no_message_is_refused() {
        for text in [
            "",
            "/INBOX",
            "INBOX/;UID=1",
            "/INBOX/;UID=0",
            "/INBOX/;UID=99999999999",
            "/INBOX/;UID=1/;UID=2",
            "/INBOX/;UID=1/;SECTION=WRONG",
            "/INBOX/;UID=1/;SECTION=1]x",
            "/IN%XXBOX/;UID=1",
            "/INBOX/;UID=1/;FOO=1",
            "/INBOX/;UID=1;URLAUTH=nobody",
            "/INBOX/;UID=1;URLAUTH=anonymous:internal",
            "/INBOX/;UID=1;EXPIRE=2030-01-01T00:00:00Z",
            "imap://host",
            "http://host/;UID=1",
            "/IN BOX/;UID=1",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
