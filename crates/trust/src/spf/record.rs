//! SPF records (RFC 7208 §4.6, §5, §6).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::SpfResult;
use super::macros::{MacroString, Malformed};

/// How many bits of an address count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Prefix {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

/// What is compared with the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    A(Option<MacroString>, Prefix),
    Mx(Option<MacroString>, Prefix),
    Ptr(Option<MacroString>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(MacroString),
}

/// A parsed record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Record {
    pub(super) directives: Vec<(SpfResult, Mechanism)>,
    pub(super) redirect: Option<MacroString>,
    pub(super) explanation: Option<MacroString>,
}

/// Whether a TXT record is an SPF record.
pub(super) fn is_spf(text: &str) -> bool {
    let (version, rest) = text.split_at_checked(6).unwrap_or((text, ""));
    version.eq_ignore_ascii_case("v=spf1") && (rest.is_empty() || rest.starts_with(' '))
}

impl Record {
    /// Parses a record for which [`is_spf`] holds.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut record = Self::default();
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            let end = term.find([':', '/', '=']).unwrap_or(term.len());
            let (name, rest) = term.split_at_checked(end).ok_or(Malformed)?;
            match rest.strip_prefix('=') {
                Some(value) => record.modifier(name, value)?,
                None => record.directives.push(directive(name, rest)?),
            }
        }
        Ok(record)
    }

    fn modifier(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        let place = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.explanation,
            name => {
                let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                let is_name =
                    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(inner);
                MacroString::parse(value, false)?;
                return is_name.then_some(()).ok_or(Malformed);
            }
        };
        match place.replace(MacroString::parse_domain(value)?) {
            None => Ok(()),
            Some(_) => Err(Malformed),
        }
    }
}

fn directive(name: &str, rest: &str) -> Result<(SpfResult, Mechanism), Malformed> {
    let result = match name.chars().next() {
        Some('-') => SpfResult::Fail,
        Some('~') => SpfResult::SoftFail,
        Some('?') => SpfResult::Neutral,
        _ => SpfResult::Pass,
    };
    let name = name.strip_prefix(['+', '-', '~', '?']).unwrap_or(name);
    Ok((result, mechanism(name, rest)?))
}

fn mechanism(name: &str, rest: &str) -> Result<Mechanism, Malformed> {
    let argument = rest.strip_prefix(':');
    let needed = || {
        argument
            .ok_or(Malformed)
            .and_then(MacroString::parse_domain)
    };
    match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Ok(Mechanism::All),
        "include" => needed().map(Mechanism::Include),
        "exists" => needed().map(Mechanism::Exists),
        "a" => target(rest).map(|(domain, prefix)| Mechanism::A(domain, prefix)),
        "mx" => target(rest).map(|(domain, prefix)| Mechanism::Mx(domain, prefix)),
        "ptr" if rest.is_empty() => Ok(Mechanism::Ptr(None)),
        "ptr" => needed().map(|domain| Mechanism::Ptr(Some(domain))),
        "ip4" => {
            let (ip, bits) = network(argument, 32)?;
            Ok(Mechanism::Ip4(ip.parse().map_err(|_| Malformed)?, bits))
        }
        "ip6" => {
            let (ip, bits) = network(argument, 128)?;
            Ok(Mechanism::Ip6(ip.parse().map_err(|_| Malformed)?, bits))
        }
        _ => Err(Malformed),
    }
}

/// `[ ":" domain-spec ] [ "/" bits ] [ "//" bits ]`
fn target(rest: &str) -> Result<(Option<MacroString>, Prefix), Malformed> {
    let mut prefix = Prefix { v4: 32, v6: 128 };
    let mut rest = rest;
    if let Some((before, digits)) = rest.rsplit_once("//")
        && is_digits(digits)
    {
        prefix.v6 = bits(digits, 128)?;
        rest = before;
    }
    if let Some((before, digits)) = rest.rsplit_once('/')
        && is_digits(digits)
    {
        prefix.v4 = bits(digits, 32)?;
        rest = before;
    }
    match rest.strip_prefix(':') {
        Some(domain) => Ok((Some(MacroString::parse_domain(domain)?), prefix)),
        None if rest.is_empty() => Ok((None, prefix)),
        None => Err(Malformed),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn bits(text: &str, max: u8) -> Result<u8, Malformed> {
    let plain = is_digits(text) && (text == "0" || !text.starts_with('0'));
    let value: Option<u8> = plain.then(|| text.parse().ok()).flatten();
    value.filter(|bits| *bits <= max).ok_or(Malformed)
}

fn network(argument: Option<&str>, max: u8) -> Result<(&str, u8), Malformed> {
    let argument = argument.ok_or(Malformed)?;
    match argument.split_once('/') {
        Some((ip, length)) => Ok((ip, bits(length, max)?)),
        None => Ok((argument, max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_spf_records_are_read() {
        for text in ["v=spf1", "V=SPF1 -all", "v=spf1  a"] {
            assert!(is_spf(text), "{text}");
        }
        for text in ["v=spf10", "v=spf1-all", " v=spf1", "spf1", "v=spf1\u{e9}"] {
            assert!(!is_spf(text), "{text}");
        }
    }

    #[test]
    fn slashes_may_be_part_of_a_name_or_begin_a_length() {
        let parse = |text: &str| Record::parse(text).map(|record| record.directives);
        let both = parse("v=spf1 a:x.test/24//64").unwrap();
        assert!(matches!(
            both[0].1,
            Mechanism::A(Some(_), Prefix { v4: 24, v6: 64 })
        ));
        assert!(parse("v=spf1 a:foo:bar/baz.example.com").is_ok());
        for text in [
            "a/33",
            "a//129",
            "a/01",
            "a/",
            "a:",
            "ip4:1.2.3",
            "ip4",
            "ip6:::1/0x",
            "all/8",
            "all:x.test",
            "include",
            "moo",
            "-",
        ] {
            assert!(parse(&format!("v=spf1 {text}")).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "v=spf1( [-+~?]?(a|mx|ip4|exp|x)[:/=%{}d0-9.é]{0,12}){0,4}") {
            let _ = Record::parse(&text);
        }
    }
}
