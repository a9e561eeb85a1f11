//! Macro strings (RFC 7208 §7).

use std::fmt::Write as _;
use std::net::IpAddr;

/// The longest name that is looked up.
const NAME_OCTETS_MAX: usize = 253;

/// One part of a macro string.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Macro(Macro),
}

/// `%{…}`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Macro {
    /// Lower-case.
    letter: char,
    /// The letter was upper-case: what it stands for is written as in a URL.
    escaped: bool,
    /// How many parts are kept, from the right.
    keep: Option<usize>,
    reversed: bool,
    delimiters: String,
}

/// A parsed macro string.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct MacroString(Vec<Piece>);

/// The text breaks the grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// What macros stand for.
pub(super) struct Values<'a> {
    pub(super) client: IpAddr,
    pub(super) helo: &'a str,
    pub(super) local_part: &'a str,
    pub(super) sender_domain: &'a str,
    /// The domain whose record is looked at.
    pub(super) domain: &'a str,
    /// The name of the client that leads back to it, or `unknown`.
    pub(super) client_name: &'a str,
    /// Our own name.
    pub(super) receiver: &'a str,
    /// Seconds since the epoch.
    pub(super) now_secs: i64,
}

impl MacroString {
    /// Parses text without white space, or an explanation, which may have spaces and more macros.
    pub(super) fn parse(text: &str, is_explanation: bool) -> Result<Self, Malformed> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '%' => match rest.next().ok_or(Malformed)? {
                    '%' => literal.push('%'),
                    '_' => literal.push(' '),
                    '-' => literal.push_str("%20"),
                    '{' => {
                        let (body, after) = rest.as_str().split_once('}').ok_or(Malformed)?;
                        if !literal.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut literal)));
                        }
                        pieces.push(Piece::Macro(Macro::parse(body, is_explanation)?));
                        rest = after.chars();
                    }
                    _ => return Err(Malformed),
                },
                ' ' if is_explanation => literal.push(c),
                '!'..='~' => literal.push(c),
                _ => return Err(Malformed),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// Parses a `domain-spec`: a macro string that ends in a macro or in a label that can be a top level.
    pub(super) fn parse_domain(text: &str) -> Result<Self, Malformed> {
        let parsed = Self::parse(text, false)?;
        let ends_well = match parsed.0.last() {
            Some(Piece::Macro(_)) => true,
            Some(Piece::Text(_)) => ends_in_top_label(text),
            None => false,
        };
        ends_well.then_some(parsed).ok_or(Malformed)
    }

    /// Whether `%{p}` is in it: the client's name must be known to expand it.
    pub(super) fn needs_client_name(&self) -> bool {
        let names = |piece: &Piece| matches!(piece, Piece::Macro(found) if found.letter == 'p');
        self.0.iter().any(names)
    }

    /// What it stands for.
    pub(super) fn expand(&self, values: &Values<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Macro(found) => found.expand(values, &mut out),
            }
        }
        out
    }

    /// What it stands for as a name, labels dropped from the left until it can be one.
    pub(super) fn expand_name(&self, values: &Values<'_>) -> String {
        let whole = self.expand(values);
        let mut name = whole.strip_suffix('.').unwrap_or(&whole);
        while name.len() > NAME_OCTETS_MAX {
            match name.split_once('.') {
                Some((_, rest)) => name = rest,
                None => break,
            }
        }
        name.to_owned()
    }
}

/// Whether text ends in `"." toplabel [ "." ]`.
fn ends_in_top_label(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let Some((_, label)) = text.rsplit_once('.') else {
        return false;
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !label.is_empty()
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.chars().all(|c| c.is_ascii_digit())
}

impl Macro {
    fn parse(body: &str, is_explanation: bool) -> Result<Self, Malformed> {
        let mut rest = body.chars();
        let letter = rest.next().ok_or(Malformed)?;
        let lower = letter.to_ascii_lowercase();
        let known = match is_explanation {
            true => "slodiphcrtv",
            false => "slodiphv",
        };
        if !known.contains(lower) {
            return Err(Malformed);
        }
        let rest = rest.as_str();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = rest.split_at_checked(digits).ok_or(Malformed)?;
        let keep = match digits {
            "" => None,
            digits => Some(digits.parse::<usize>().unwrap_or(usize::MAX)),
        };
        let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if keep == Some(0) || !delimiters.chars().all(|c| ".-+,/_=".contains(c)) {
            return Err(Malformed);
        }
        Ok(Self {
            letter: lower,
            escaped: letter.is_ascii_uppercase(),
            keep,
            reversed,
            delimiters: delimiters.to_owned(),
        })
    }

    fn expand(&self, values: &Values<'_>, out: &mut String) {
        let value = self.value(values);
        let is_delimiter = |c: char| match self.delimiters.as_str() {
            "" => c == '.',
            delimiters => delimiters.contains(c),
        };
        let mut parts: Vec<&str> = value.split(is_delimiter).collect();
        if self.reversed {
            parts.reverse();
        }
        let drop = self.keep.map_or(0, |keep| parts.len().saturating_sub(keep));
        let kept = parts.get(drop..).unwrap_or_default().join(".");
        match self.escaped {
            true => escape(&kept, out),
            false => out.push_str(&kept),
        }
    }

    fn value(&self, values: &Values<'_>) -> String {
        match self.letter {
            's' => format!("{}@{}", values.local_part, values.sender_domain),
            'l' => values.local_part.to_owned(),
            'o' => values.sender_domain.to_owned(),
            'd' => values.domain.to_owned(),
            'i' => dotted(values.client),
            'p' => values.client_name.to_owned(),
            'v' => match values.client {
                IpAddr::V4(_) => "in-addr".to_owned(),
                IpAddr::V6(_) => "ip6".to_owned(),
            },
            'h' => values.helo.to_owned(),
            'c' => values.client.to_string(),
            'r' => values.receiver.to_owned(),
            _ => values.now_secs.to_string(),
        }
    }
}

/// An address as labels: bytes of IPv4, nibbles of IPv6.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let nibbles = ip
                .octets()
                .into_iter()
                .flat_map(|octet| [octet >> 4, octet & 15]);
            let nibbles: Vec<String> = nibbles.map(|nibble| format!("{nibble:X}")).collect();
            nibbles.join(".")
        }
    }
}

/// RFC 3986 §2.3: all but unreserved characters as `%XX`.
fn escape(text: &str, out: &mut String) {
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(octet));
            }
            octet => {
                let _ = write!(out, "%{octet:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values<'static> {
        Values {
            client: "192.0.2.3".parse().unwrap(),
            helo: "mx.example.org",
            local_part: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            client_name: "unknown",
            receiver: "receiver.example.com",
            now_secs: 7,
        }
    }

    /// RFC 7208 §7.4.
    #[test]
    fn the_examples_of_the_rfc_come_out() {
        for (text, expanded) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l-}", "strong.bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "3.2.0.192.in-addr._spf.example.com",
            ),
            ("%{S}", "strong-bad%40email.example.com"),
            ("a%%b%_c%-d", "a%b c%20d"),
        ] {
            let parsed = MacroString::parse(text, false).unwrap();
            assert_eq!(parsed.expand(&values()), expanded, "{text}");
        }
        let mut values = values();
        values.client = "2001:db8::cb01".parse().unwrap();
        let parsed = MacroString::parse("%{ir}", false).unwrap();
        assert!(parsed.expand(&values).starts_with("1.0.B.C.0.0."));
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for text in [
            "%", "%a", "%{", "%{}", "%{x}", "%{d0}", "%{d!}", "%{c}", "a b", "é",
        ] {
            assert_eq!(MacroString::parse(text, false), Err(Malformed), "{text}");
        }
        assert!(MacroString::parse("%{c} %{r} %{t}", true).is_ok());
        for text in ["", "museum", "a.123", "a.b-", "a.example.com:80", "a.%{d}x"] {
            assert!(MacroString::parse_domain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_too_long_loses_labels_from_the_left() {
        let text = format!("{}example.com", "a.".repeat(150));
        let name = MacroString::parse(&text, false)
            .unwrap()
            .expand_name(&values());
        assert!(name.len() <= NAME_OCTETS_MAX && name.ends_with("a.example.com"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[%{}dslr0-9.a é-]{0,30}") {
            if let Ok(parsed) = MacroString::parse(&text, true) {
                parsed.expand_name(&values());
            }
        }
    }
}
