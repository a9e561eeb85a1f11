//! Which senders something holds for.

use std::fmt;
use std::str::FromStr;

use nightmail_core::{Address, LocalPart, ReversePath};
use thiserror::Error;

use crate::pattern::{Name, Pattern, Subject};

/// A pattern of senders.
///
/// | written | fits |
/// |---|---|
/// | `*` | every sender, also none |
/// | `<>` | the null reverse-path |
/// | `ann@example.org` | that address |
/// | `ann@` | that local-part at any domain |
/// | `@` and a [`Pattern`] of domains | every address there |
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SenderPattern(Form);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Form {
    Any,
    Null,
    /// In its lookup form.
    LocalPart(String),
    Domain(Pattern),
    /// In its lookup form.
    Address(String),
}

/// Text that is not a pattern of senders.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "\"{0}\" is no pattern of senders such as \"ann@example.org\", \"@example.org\", \"@.example.org\", \"ann@\", \"<>\" or \"*\""
)]
pub struct SenderPatternError(String);

impl SenderPattern {
    /// Whether the sender fits.
    pub fn fits(&self, sender: &ReversePath) -> bool {
        match (&self.0, sender.address()) {
            (Form::Any, _) | (Form::Null, None) => true,
            (Form::Null, Some(_)) | (_, None) => false,
            (Form::LocalPart(local_part), Some(address)) => {
                *local_part == address.local_part().lookup()
            }
            (Form::Domain(pattern), Some(address)) => pattern.fits(address.domain().as_str(), &[]),
            (Form::Address(whole), Some(address)) => *whole == address.lookup(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let form = match text {
            "*" => Form::Any,
            "<>" => Form::Null,
            _ => match (text.strip_prefix('@'), text.strip_suffix('@')) {
                (Some(domain), _) => {
                    let pattern: Pattern = domain.parse().ok()?;
                    // "@*" would fit every sender but none, which nobody expects of it.
                    let of_domains =
                        pattern.subject == Subject::Domain && pattern.name != Name::Any;
                    of_domains.then_some(Form::Domain(pattern))?
                }
                // Whoever writes "*@example.org" means "@example.org", not a mailbox of that name.
                _ if text.contains('*') && !text.starts_with('"') => return None,
                (None, Some(local)) => Form::LocalPart(LocalPart::parse(local).ok()?.lookup()),
                (None, None) => Form::Address(Address::parse(text).ok()?.lookup()),
            },
        };
        Some(Self(form))
    }
}

impl FromStr for SenderPattern {
    type Err = SenderPatternError;

    fn from_str(text: &str) -> Result<Self, SenderPatternError> {
        Self::parse(text).ok_or_else(|| SenderPatternError(text.to_owned()))
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Any => f.write_str("*"),
            Form::Null => f.write_str("<>"),
            Form::LocalPart(local_part) => write!(f, "{local_part}@"),
            Form::Domain(pattern) => write!(f, "@{pattern}"),
            Form::Address(whole) => f.write_str(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(text: &str) -> ReversePath {
        match text {
            "" => ReversePath::Null,
            _ => ReversePath::Address(Address::parse(text).unwrap()),
        }
    }

    #[test]
    fn each_form_fits_what_it_says() {
        for (pattern, inside, outside) in [
            ("<>", "", "ann@example.org"),
            ("ann@example.org", "ann@EXAMPLE.org", "bob@example.org"),
            ("ann@", "ann@other.test", "bob@other.test"),
            ("@example.org", "bob@example.org", "bob@a.example.org"),
            ("@.example.org", "bob@a.example.org", "bob@other.test"),
            ("@*.example.org", "bob@a.example.org", ""),
        ] {
            let parsed: SenderPattern = pattern.parse().unwrap();
            assert!(parsed.fits(&sender(inside)), "{pattern} {inside}");
            assert!(!parsed.fits(&sender(outside)), "{pattern} {outside}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        let any: SenderPattern = "*".parse().unwrap();
        assert!(any.fits(&sender("")) && any.fits(&sender("a@b.test")));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in [
            "",
            "@",
            "ann",
            "*@example.org",
            "@*",
            "@mx:a.test",
            "a b@c.test",
        ] {
            assert!(wrong.parse::<SenderPattern>().is_err(), "{wrong}");
        }
    }
}
