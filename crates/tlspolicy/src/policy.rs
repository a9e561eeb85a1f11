//! MTA-STS policies (RFC 8461 §3.2): their text, and which hosts they allow.

use std::time::Duration;

use nightmail_core::Domain;
use thiserror::Error;

use crate::record::is_name;

/// Octets of a policy's text.
pub(crate) const TEXT_OCTETS_MAX: usize = 64 * 1024;
/// The longest lifetime, about a year; a longer one is cut to it.
const MAX_AGE_SECS_MAX: u64 = 31_557_600;
/// Digits of a lifetime.
const MAX_AGE_DIGITS_MAX: usize = 10;
/// Patterns of hosts in one policy.
const PATTERNS_MAX: usize = 256;

/// What follows when a host does not meet a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Mail must not go there.
    Enforce,
    /// It goes there, and the failure is reported.
    Testing,
    /// Nothing: the domain has no policy any more.
    None,
}

impl Mode {
    /// The word in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// Text that is no policy.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PolicyError {
    /// It has too many octets.
    #[error("the policy has more than {TEXT_OCTETS_MAX} octets")]
    TooLong,
    /// It is not UTF-8.
    #[error("the policy is not UTF-8")]
    NotText,
    /// A line is not of the form `name: value`.
    #[error("line {0} of the policy is not of the form \"name: value\"")]
    Line(usize),
    /// A field is missing.
    #[error("the policy has no \"{0}\"")]
    Missing(&'static str),
    /// A field has a value that it cannot have.
    #[error("the policy's \"{0}\" cannot be \"{1}\"")]
    Value(&'static str, String),
    /// More hosts than are kept.
    #[error("the policy names more than {PATTERNS_MAX} hosts")]
    TooMany,
}

/// How a domain wants its hosts to be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(crate) mode: Mode,
    /// Names, lower-case; `*.` in front stands for one label.
    pub(crate) mx: Vec<String>,
    pub(crate) max_age_secs: u64,
    pub(crate) id: String,
}

impl Policy {
    /// Reads the text of a policy that was announced under `id`. Lines end with LF or CRLF, further ends at the end of
    /// the text do not matter; unknown fields are ignored, and of those that stand once the first counts.
    pub fn parse(text: &[u8], id: &str) -> Result<Self, PolicyError> {
        if text.len() > TEXT_OCTETS_MAX {
            return Err(PolicyError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::NotText)?;
        let fields = fields(text)?;
        let first = |name: &'static str| {
            let found = fields.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| *value)
                .ok_or(PolicyError::Missing(name))
        };
        match first("version")? {
            "STSv1" => {}
            other => return Err(wrong("version", other)),
        }
        let mode = match first("mode")? {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            other => return Err(wrong("mode", other)),
        };
        let max_age_secs = max_age(first("max_age")?)?;
        let patterns = fields.iter().filter(|(name, _)| *name == "mx");
        let mx: Vec<String> = patterns
            .map(|(_, value)| pattern(value))
            .collect::<Result<_, _>>()?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::Missing("mx"));
        }
        if mx.len() > PATTERNS_MAX {
            return Err(PolicyError::TooMany);
        }
        Ok(Self {
            mode,
            mx,
            max_age_secs,
            id: id.to_owned(),
        })
    }

    /// Whether mail for the domain may go to this host, by its name in the MX record (RFC 8461 §4.1).
    pub fn allows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let above = host.split_once('.').filter(|(label, _)| !label.is_empty());
        self.mx
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(domain) => above.is_some_and(|(_, above)| above == domain),
                None => *pattern == host,
            })
    }

    /// What follows when a host does not meet it.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The hosts it allows, lower-case; `*.` in front stands for one label.
    pub fn mx(&self) -> &[String] {
        &self.mx
    }

    /// How long it holds after it was fetched.
    pub const fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_secs)
    }

    /// The id under which it was announced.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its lines, as reports show it (RFC 8460 §4.4).
    pub fn strings(&self) -> Vec<String> {
        let mut lines = vec![
            "version: STSv1".to_owned(),
            format!("mode: {}", self.mode.as_str()),
        ];
        lines.extend(self.mx.iter().map(|mx| format!("mx: {mx}")));
        lines.push(format!("max_age: {}", self.max_age_secs));
        lines
    }
}

fn wrong(field: &'static str, value: &str) -> PolicyError {
    PolicyError::Value(field, value.chars().take(64).collect())
}

fn fields(text: &str) -> Result<Vec<(&str, &str)>, PolicyError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        field(line.trim_end_matches([' ', '\t'])).ok_or(PolicyError::Line(index + 1))
    });
    lines.collect()
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim_start_matches([' ', '\t']);
    let is_field = is_name(name) && !value.is_empty() && !value.contains(|c: char| c.is_control());
    is_field.then_some((name, value))
}

fn max_age(value: &str) -> Result<u64, PolicyError> {
    let is_number =
        value.len() <= MAX_AGE_DIGITS_MAX && value.bytes().all(|octet| octet.is_ascii_digit());
    let secs = value.parse::<u64>().ok().filter(|_| is_number);
    let secs = secs.ok_or_else(|| wrong("max_age", value))?;
    Ok(secs.min(MAX_AGE_SECS_MAX))
}

fn pattern(value: &str) -> Result<String, PolicyError> {
    let domain = value.strip_prefix("*.").unwrap_or(value);
    let is_name = domain.is_ascii()
        && !domain.starts_with('[')
        && !domain.ends_with('.')
        && Domain::parse(domain).is_ok();
    match is_name {
        true => Ok(value.to_ascii_lowercase()),
        false => Err(wrong("mx", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8461 §3.2.
    const EXAMPLE: &str = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n";

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text.as_bytes(), "1")
    }

    #[test]
    fn the_example_of_rfc_8461_reads() {
        let policy = parse(EXAMPLE).unwrap();
        assert_eq!(policy.mode(), Mode::Enforce);
        assert_eq!(
            policy.mx(),
            ["mail.example.com", "*.example.net", "backupmx.example.com"]
        );
        assert_eq!(policy.max_age(), Duration::from_secs(604_800));
        assert_eq!(parse(&EXAMPLE.replace('\n', "\r\n")).unwrap(), policy);
        assert_eq!(parse(EXAMPLE.trim_end()).unwrap(), policy);
        assert_eq!(parse(&format!("{EXAMPLE}\r\n\n")).unwrap(), policy);
        assert_eq!(policy.strings().join("\n"), EXAMPLE.trim_end());
    }

    #[test]
    fn a_star_stands_for_exactly_one_label() {
        let policy = parse(EXAMPLE).unwrap();
        for host in [
            "mail.example.com",
            "MAIL.Example.COM.",
            "a.example.net",
            "xn--a.example.net",
        ] {
            assert!(policy.allows(host), "{host}");
        }
        for host in [
            "example.net",
            "a.b.example.net",
            ".example.net",
            "a.mail.example.com",
            "example.com",
            "",
            "*.example.com",
        ] {
            assert!(!policy.allows(host), "{host}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_first_of_the_known_counts() {
        let text = format!(
            "x-new: ünknown values: all\nMode: none\n{EXAMPLE}mode: none\nversion: STSv2\nmax_age: 1\n"
        );
        assert_eq!(parse(&text).unwrap(), parse(EXAMPLE).unwrap());
        let spaced = "version:STSv1  \nmode:\t testing\nmx:   A.Example.COM\t\nmax_age:1\n";
        let policy = parse(spaced).unwrap();
        assert_eq!(
            (policy.mode(), policy.mx()),
            (Mode::Testing, &["a.example.com".to_owned()][..])
        );
    }

    #[test]
    fn only_a_policy_of_mode_none_may_name_no_host() {
        let text = |mode: &str| format!("version: STSv1\nmode: {mode}\nmax_age: 86400\n");
        assert_eq!(parse(&text("none")).unwrap().mode(), Mode::None);
        assert_eq!(parse(&text("testing")), Err(PolicyError::Missing("mx")));
    }

    #[test]
    fn a_lifetime_is_at_most_a_year() {
        let text = |age: &str| EXAMPLE.replace("604800", age);
        assert_eq!(
            parse(&text("9999999999")).unwrap().max_age_secs,
            MAX_AGE_SECS_MAX
        );
        assert_eq!(parse(&text("0")).unwrap().max_age_secs, 0);
        for age in ["", "-1", "+1", "1.5", "1 day", "00000000001"] {
            assert!(parse(&text(age)).is_err(), "{age}");
        }
    }

    #[test]
    fn what_is_not_a_policy_is_refused() {
        for (from, to) in [
            ("version: STSv1\n", ""),
            ("mode: enforce\n", ""),
            ("max_age: 604800\n", ""),
            ("STSv1", "STSv2"),
            ("STSv1", "stsv1"),
            ("enforce", "Enforce"),
            ("enforce", "strict"),
            ("mode: enforce", "mode enforce"),
            ("mode: enforce", "mode : enforce"),
            ("mode: enforce", " mode: enforce"),
            ("mode: enforce", ": enforce"),
            ("mode: enforce\n", "mode: enforce\n\n"),
            ("mode: enforce\n", "mode: enforce\r"),
            ("*.example.net", "*example.net"),
            ("*.example.net", "*.*.example.net"),
            ("*.example.net", "a.*.net"),
            ("*.example.net", "*."),
            ("*.example.net", "[192.0.2.1]"),
            ("*.example.net", "büro.example"),
            ("*.example.net", "a..example.net"),
            ("*.example.net", "a.example.net."),
        ] {
            assert!(EXAMPLE.contains(from));
            let text = EXAMPLE.replacen(from, to, 1);
            assert!(parse(&text).is_err(), "{text}");
        }
        assert!(parse("").is_err());
        assert!(parse("<html></html>").is_err());
        assert_eq!(
            Policy::parse(b"version: \xff", "1"),
            Err(PolicyError::NotText)
        );
        let long = vec![b'a'; TEXT_OCTETS_MAX + 1];
        assert_eq!(Policy::parse(&long, "1"), Err(PolicyError::TooLong));
        let many = EXAMPLE.to_owned() + &"mx: a.test\n".repeat(PATTERNS_MAX);
        assert_eq!(parse(&many), Err(PolicyError::TooMany));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(text: Vec<u8>, host: String) {
            if let Ok(policy) = Policy::parse(&text, "1") {
                policy.allows(&host);
            }
        }

        #[test]
        fn a_policy_reads_back_from_its_lines(
            mode in prop_oneof![Just(Mode::Enforce), Just(Mode::Testing), Just(Mode::None)],
            mx in proptest::collection::vec("(\\*\\.)?[a-z0-9]{1,9}\\.[a-z]{2,5}", 1..5),
            max_age_secs in 0..=MAX_AGE_SECS_MAX,
            end in "\r?\n",
        ) {
            let policy = Policy { mode, mx, max_age_secs, id: "7".to_owned() };
            let text = policy.strings().join(&end);
            prop_assert_eq!(Policy::parse(text.as_bytes(), "7"), Ok(policy));
        }

        #[test]
        fn a_pattern_allows_what_it_names(label in "[a-z0-9]{1,9}", domain in "[a-z0-9]{1,9}\\.test") {
            let text = format!("version: STSv1\nmode: enforce\nmx: *.{domain}\nmx: {domain}\nmax_age: 1");
            let policy = Policy::parse(text.as_bytes(), "1").unwrap();
            let below = format!("{}.{domain}", label);
            let deeper = format!("x.{below}");
            prop_assert!(policy.allows(&domain));
            prop_assert!(policy.allows(&below));
            prop_assert!(!policy.allows(&deeper));
        }
    }
}
