//! The patterns of rules.

use std::fmt;

use nightmail_core::{Address, Domain, ForwardPath, LocalPart, ReversePath};

/// A domain, or everything below one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DomainPattern {
    Exact(Domain),
    Below(Domain),
}

impl DomainPattern {
    fn parse(text: &str) -> Option<Self> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let domain = Domain::parse(name).ok()?;
        match below {
            true => domain.as_literal().is_none().then_some(Self::Below(domain)),
            false => Some(Self::Exact(domain)),
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(domain) => name.eq_ignore_ascii_case(domain.as_str()),
            Self::Below(domain) => {
                let domain = domain.as_str();
                let above = name.len().checked_sub(domain.len());
                let parts = above.and_then(|at| name.split_at_checked(at));
                parts.is_some_and(|(above, below)| {
                    above.len() > 1 && above.ends_with('.') && below.eq_ignore_ascii_case(domain)
                })
            }
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// The name of a client, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NamePattern {
    Unknown,
    Domain(DomainPattern),
}

impl NamePattern {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "unknown" => Some(Self::Unknown),
            _ if text.starts_with('[') => None,
            _ => DomainPattern::parse(text).map(Self::Domain),
        }
    }

    pub fn fits(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (Self::Unknown, name) => name.is_none(),
            (Self::Domain(pattern), Some(name)) => pattern.fits(name.trim_end_matches('.')),
            (Self::Domain(_), None) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Domain(pattern) => pattern.fmt(f),
        }
    }
}

/// A sender or a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PathPattern {
    Null,
    /// A local-part in its lookup form, at any domain.
    LocalPart(String),
    Domain(DomainPattern),
    /// Local-part and domain in their lookup form.
    Address(String),
}

impl PathPattern {
    pub fn parse(text: &str) -> Option<Self> {
        if text == "<>" {
            return Some(Self::Null);
        }
        if let Some(domain) = text.strip_prefix('@') {
            return DomainPattern::parse(domain).map(Self::Domain);
        }
        // Whoever writes "*@example.org" means "@example.org", not a mailbox of that name.
        if text.contains('*') && !text.starts_with('"') {
            return None;
        }
        if let Some(local_part) = text.strip_suffix('@') {
            let local_part = LocalPart::parse(local_part).ok()?;
            return Some(Self::LocalPart(local_part.lookup()));
        }
        let address = Address::parse(text).ok()?;
        Some(Self::Address(address.lookup()))
    }

    pub fn fits_sender(&self, path: &ReversePath) -> bool {
        match path {
            ReversePath::Null => *self == Self::Null,
            ReversePath::Address(address) => self.fits(address),
        }
    }

    /// `<Postmaster>` without a domain is the local-part alone.
    pub fn fits_recipient(&self, path: &ForwardPath) -> bool {
        match path {
            ForwardPath::Postmaster => *self == Self::LocalPart("postmaster".into()),
            ForwardPath::Address(address) => self.fits(address),
        }
    }

    fn fits(&self, address: &Address) -> bool {
        match self {
            Self::Null => false,
            Self::LocalPart(local_part) => *local_part == address.local_part().lookup(),
            Self::Domain(pattern) => pattern.fits(address.domain().as_str()),
            Self::Address(whole) => *whole == address.lookup(),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::LocalPart(local_part) => write!(f, "{local_part}@"),
            Self::Domain(pattern) => write!(f, "@{pattern}"),
            Self::Address(whole) => f.write_str(whole),
        }
    }
}

/// Text in which `*` stands for any text; letters of ASCII are compared without their case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Glob(Box<str>);

impl Glob {
    pub fn parse(text: &str) -> Option<Self> {
        let usable = !text.is_empty() && !text.contains(char::is_control);
        usable.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// What lies between two stars is searched from left to right, which finds a fit where there is one.
    pub fn fits(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let Some((first, others)) = self.0.split_once('*') else {
            return *self.0 == text;
        };
        let Some(mut rest) = text.strip_prefix(first) else {
            return false;
        };
        let (between, last) = others.rsplit_once('*').unwrap_or(("", others));
        for part in between.split('*').filter(|part| !part.is_empty()) {
            match rest.split_once(part) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_before_a_domain_is_everything_below_it() {
        let pattern = DomainPattern::parse("*.Example.org").unwrap();
        for (name, fits) in [
            ("a.example.org", true),
            ("a.b.EXAMPLE.org", true),
            ("example.org", false),
            (".example.org", false),
            ("badexample.org", false),
            ("a.example.org.test", false),
            ("\u{fc}.example.org", true),
            ("\u{fc}", false),
        ] {
            assert_eq!(pattern.fits(name), fits, "{name}");
        }
    }

    #[test]
    fn paths_fit_by_address_domain_or_local_part() {
        let path = |text: &str| ReversePath::Address(text.parse().unwrap());
        for (pattern, text, fits) in [
            ("Ann@Example.org", "ann@example.org", true),
            ("ann@example.org", "ann+tag@example.org", false),
            ("\"ann b\"@example.org", "\"ann b\"@example.org", true),
            ("@example.org", "bob@EXAMPLE.org", true),
            ("@example.org", "bob@a.example.org", false),
            ("@*.example.org", "bob@a.example.org", true),
            ("@b\u{fc}cher.example", "bob@xn--bcher-kva.example", true),
            ("@[192.0.2.1]", "bob@[192.0.2.1]", true),
            ("postmaster@", "Postmaster@any.test", true),
            ("<>", "ann@example.org", false),
        ] {
            let found = PathPattern::parse(pattern).unwrap();
            assert_eq!(found.fits_sender(&path(text)), fits, "{pattern} {text}");
        }
        let null = PathPattern::parse("<>").unwrap();
        assert!(null.fits_sender(&ReversePath::Null));
        let ann = PathPattern::parse("@example.org").unwrap();
        assert!(!ann.fits_sender(&ReversePath::Null));
        let postmaster = PathPattern::parse("POSTMASTER@").unwrap();
        assert!(postmaster.fits_recipient(&ForwardPath::Postmaster));
        assert!(!ann.fits_recipient(&ForwardPath::Postmaster));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "@",
            "ann",
            "a b@example.org",
            "@*",
            "@*.",
            "*@example.org",
            "@a..b",
            "@*.[192.0.2.1]",
        ] {
            assert_eq!(PathPattern::parse(text), None, "{text}");
        }
        for text in ["", "*", "*.", "[192.0.2.1]", "a*.example.org", "a b"] {
            assert_eq!(NamePattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_star_in_a_glob_is_any_text() {
        for (glob, text, fits) in [
            ("ylmf-pc", "YLMF-PC", true),
            ("ylmf-pc", "ylmf-pc2", false),
            ("*", "", true),
            ("*dsl*", "a.dsl.test", true),
            ("*dsl*", "a.test", false),
            ("*.dyn.*.test", "a.dyn.b.test", true),
            ("*.dyn.*.test", "a.dyn.test", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*b", "ab", false),
            ("*ab*ab", "abab", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().fits(text), fits, "{glob} {text}");
        }
    }

    /// By trying everything.
    fn slowly(glob: &[u8], text: &[u8]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            Some((first, rest)) => text.first() == Some(first) && slowly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_fit_as_trying_everything_finds(glob in "[ab*]{1,8}", text in "[ab]{0,8}") {
            let found = Glob::parse(&glob).unwrap().fits(&text);
            prop_assert_eq!(found, slowly(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_text_makes_a_pattern_panic(pattern: String, text: String) {
            if let Some(pattern) = NamePattern::parse(&pattern) {
                pattern.fits(Some(&text));
            }
            if let Some(glob) = Glob::parse(&pattern) {
                glob.fits(&text);
            }
            if let Some(pattern) = PathPattern::parse(&pattern) {
                prop_assert_eq!(pattern.fits_sender(&ReversePath::Null), pattern == PathPattern::Null);
            }
        }
    }
}
