//! Mail addresses: RFC 5321 §4.1.2 `Mailbox`, with RFC 6531 UTF-8 local-parts and domains.
//!
//! A domain is kept in its lookup form (lower-case A-labels); a local-part is kept without its quoting and
//! written back with quotes only where the grammar asks for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// RFC 5321 §4.5.3.1.1 names 64 octets; UTF-8 local-parts and VERP forms need more, and others accept more.
pub const LOCAL_PART_OCTETS_MAX: usize = 255;
/// RFC 5321 §4.5.3.1.2.
pub const DOMAIN_OCTETS_MAX: usize = 255;

/// Why text is not an address.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// No `@` outside quotes.
    #[error("the address has no domain")]
    NoDomain,
    /// The local-part breaks the grammar.
    #[error("the local-part is not valid")]
    LocalPart,
    /// The domain breaks the grammar.
    #[error("the domain is not valid")]
    Domain,
    /// A part is longer than its limit.
    #[error("the address is too long")]
    TooLong,
}

/// A domain in its lookup form, or an address literal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(Box<str>);

impl Domain {
    /// Parses a domain name (LDH labels or IDNA U-labels) or an address literal in brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > DOMAIN_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        if let Some(literal) = text.strip_prefix('[') {
            let ip = literal
                .strip_suffix(']')
                .and_then(parse_literal)
                .ok_or(AddressError::Domain)?;
            return Ok(Self::literal(ip));
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text).map_err(|_| AddressError::Domain)?
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.is_empty() || !name.split('.').all(is_label) {
            return Err(AddressError::Domain);
        }
        Ok(Self(name.into()))
    }

    /// The address literal of an IP address.
    pub fn literal(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(format!("[{ip}]").into()),
            IpAddr::V6(ip) => Self(format!("[IPv6:{ip}]").into()),
        }
    }

    /// The lookup form: lower-case, A-labels, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The IP address, where this is an address literal.
    pub fn as_literal(&self) -> Option<IpAddr> {
        self.0
            .strip_prefix('[')?
            .strip_suffix(']')
            .and_then(parse_literal)
    }
}

fn parse_literal(inner: &str) -> Option<IpAddr> {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            Ipv6Addr::from_str(inner.get(5..)?).ok().map(IpAddr::V6)
        }
        _ => Ipv4Addr::from_str(inner).ok().map(IpAddr::V4),
    }
}

/// Letters, digits, hyphens, and the underscore that real host names carry.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// A local-part without its quoting. Its case is kept; [`LocalPart::lookup`] gives the form to compare.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LocalPart(Box<str>);

impl LocalPart {
    /// Parses a dot-string or a quoted-string.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > LOCAL_PART_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        match text.strip_prefix('"') {
            Some(quoted) => unquote(quoted).map(|inner| Self(inner.into())),
            None if is_dot_string(text) => Ok(Self(text.into())),
            None => Err(AddressError::LocalPart),
        }
    }

    /// The content without quoting.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form by which a directory finds it: lower-case.
    pub fn lookup(&self) -> String {
        self.0.to_lowercase()
    }
}

fn unquote(quoted: &str) -> Result<String, AddressError> {
    let inner = quoted.strip_suffix('"').ok_or(AddressError::LocalPart)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err(AddressError::LocalPart),
            '\\' => match chars.next() {
                Some(escaped @ ' '..='~') => out.push(escaped),
                _ => return Err(AddressError::LocalPart),
            },
            c if c == ' ' || is_visible(c) => out.push(c),
            _ => return Err(AddressError::LocalPart),
        }
    }
    Ok(out)
}

fn is_visible(c: char) -> bool {
    matches!(c, '!'..='~') || (!c.is_ascii() && !c.is_control())
}

fn is_dot_string(text: &str) -> bool {
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

/// A mailbox address: local-part and domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    local_part: LocalPart,
    domain: Domain,
}

impl Address {
    /// Joins two parts.
    pub const fn new(local_part: LocalPart, domain: Domain) -> Self {
        Self { local_part, domain }
    }

    /// Parses `local-part@domain`, without angle brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = at_sign(text).ok_or(AddressError::NoDomain)?;
        let (local, domain) = text.split_at_checked(at).ok_or(AddressError::NoDomain)?;
        let domain = domain.strip_prefix('@').ok_or(AddressError::NoDomain)?;
        Ok(Self {
            local_part: LocalPart::parse(local)?,
            domain: Domain::parse(domain)?,
        })
    }

    /// The local-part.
    pub const fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// The domain.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The form by which a directory finds it: `local-part@domain`, lower-case, without quoting.
    pub fn lookup(&self) -> String {
        format!("{}@{}", self.local_part.lookup(), self.domain)
    }

    /// Whether only ASCII is needed to write it.
    pub fn is_ascii(&self) -> bool {
        self.local_part.0.is_ascii()
    }
}

/// The byte index of the `@` that ends the local-part.
fn at_sign(text: &str) -> Option<usize> {
    if !text.starts_with('"') {
        return text.find('@');
    }
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return (text.as_bytes().get(index + 1) == Some(&b'@')).then_some(index + 1),
            _ => {}
        }
    }
    None
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Where notices about a message go: an address, or nowhere (`<>`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum ReversePath {
    /// `<>`: never answered.
    #[default]
    Null,
    /// The sender.
    Address(Address),
}

impl ReversePath {
    /// The address, unless null.
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

/// Without angle brackets; empty when null.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().map_or(Ok(()), |address| address.fmt(f))
    }
}

/// A recipient as named in RCPT.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain (RFC 5321 §4.5.1).
    Postmaster,
    /// Any other recipient.
    Address(Address),
}

/// Without angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quoting_is_dropped_and_put_back_where_needed() {
        for (text, local, shown) in [
            ("\"a b\"@x.test", "a b", "\"a b\"@x.test"),
            ("\"ab\"@x.test", "ab", "ab@x.test"),
            (r#""a\"b"@X.Test"#, "a\"b", r#""a\"b"@x.test"#),
            ("\"a@b\"@x.test", "a@b", "\"a@b\"@x.test"),
            ("\"\"@x.test", "", "\"\"@x.test"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.local_part().as_str(), local);
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "a",
            "@x.test",
            "a@",
            "a b@x.test",
            ".a@x.test",
            "a..b@x.test",
            "a@-x.test",
            "a@x..test",
            "\"a@x.test",
            "\"a\"b@x.test",
            "a@[300.1.1.1]",
            "a@[1.2.3.4",
            "a\r\n@x.test",
            "a\0@x.test",
            "a@b@c",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn unicode_domains_are_kept_as_a_labels() {
        let address = Address::parse("jörg@Bücher.example").unwrap();
        assert_eq!(address.domain().as_str(), "xn--bcher-kva.example");
        assert_eq!(address.lookup(), "jörg@xn--bcher-kva.example");
        assert!(!address.is_ascii());
    }

    #[test]
    fn address_literals_give_their_ip() {
        let v6 = Domain::parse("[ipv6:::1]").unwrap();
        assert_eq!(v6.as_str(), "[IPv6:::1]");
        assert_eq!(v6.as_literal(), Some("::1".parse().unwrap()));
        assert_eq!(
            Domain::parse("[192.0.2.1]").unwrap().as_literal(),
            Some("192.0.2.1".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn any_local_part_survives_writing_and_parsing(local in "[ -~é]{0,40}") {
            let parsed = LocalPart(local.into());
            let address = Address::new(parsed, Domain::parse("x.test").unwrap());
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = Address::parse(&text);
        }
    }
}
