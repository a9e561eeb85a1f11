//! What follows from a reply, as data.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::pattern::Pattern;
use crate::wildcard::Wildcard;

/// What a reply was to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// The connection: the greeting, EHLO, STARTTLS or AUTH, or at any time for the whole session.
    Connection,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, BDAT or the end of data.
    Content,
}

/// A reply code, `.` standing for any digit: `421`, `4..`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CodePattern([u8; 3]);

/// Text that is not a pattern of reply codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("expected a reply code such as \"421\", or \"4..\" with dots for any digit")]
pub struct CodePatternError;

impl CodePattern {
    /// Whether the code fits.
    pub fn fits(self, code: u16) -> bool {
        let digits = [code / 100, code / 10 % 10, code % 10];
        let mut pairs = self.0.into_iter().zip(digits);
        code < 1000
            && pairs.all(|(want, have)| want == b'.' || u16::from(want.wrapping_sub(b'0')) == have)
    }
}

impl FromStr for CodePattern {
    type Err = CodePatternError;

    fn from_str(text: &str) -> Result<Self, CodePatternError> {
        let octets: [u8; 3] = text.as_bytes().try_into().map_err(|_| CodePatternError)?;
        let fits = octets
            .iter()
            .all(|octet| *octet == b'.' || octet.is_ascii_digit());
        fits.then_some(Self(octets)).ok_or(CodePatternError)
    }
}

impl fmt::Display for CodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|octet| write!(f, "{}", char::from(*octet)))
    }
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyAction {
    /// No connection is opened to the site for this long. Those that are open go on.
    Slow(Duration),
    /// The site gets one connection at most for this long.
    OneAtATime(Duration),
    /// Nothing is sent to the site for this long: no connection is opened, and none gets a further message.
    Pause(Duration),
    /// The reply is taken as temporary.
    Defer,
    /// The reply is taken as permanent.
    Fail,
    /// The next host of the site is tried, whatever the reply says.
    NextHost,
    /// The recipients concerned are held until an operator releases them.
    Hold,
    /// What the reply itself says; later rules are not looked at.
    Usual,
}

/// A rule about replies. What is absent or empty is no condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyRule {
    /// Destinations, or by `mx:` the host that replied; one must fit.
    pub of: Vec<Pattern>,
    /// What the reply was to.
    pub stage: Option<Stage>,
    /// Its code.
    pub code: Option<CodePattern>,
    /// Its enhanced status code, such as `4.7.*`.
    pub enhanced: Option<Wildcard>,
    /// Its text, the lines of which are taken as one, with blanks between them.
    pub text: Option<Wildcard>,
    /// What follows.
    pub action: ReplyAction,
}

/// A reply and its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The destination.
    pub domain: &'a str,
    /// The host that replied.
    pub host: &'a str,
    /// What it replied to.
    pub stage: Stage,
    /// The code.
    pub code: u16,
    /// The enhanced status code, such as `4.7.1`.
    pub enhanced: Option<&'a str>,
    /// The text without codes, lines joined by blanks.
    pub text: &'a str,
}

impl ReplyRule {
    fn fits(&self, facts: &Facts<'_>) -> bool {
        self.stage.is_none_or(|stage| stage == facts.stage)
            && self.code.is_none_or(|code| code.fits(facts.code))
            && self.enhanced.as_ref().is_none_or(|pattern| {
                facts
                    .enhanced
                    .is_some_and(|enhanced| pattern.fits(enhanced))
            })
            && self.fits_of(facts)
            && self.text.as_ref().is_none_or(|text| text.fits(facts.text))
    }

    fn fits_of(&self, facts: &Facts<'_>) -> bool {
        if self.of.is_empty() {
            return true;
        }
        let hosts = [facts.host.to_owned()];
        self.of
            .iter()
            .any(|pattern| pattern.fits(facts.domain, &hosts))
    }
}

/// What sites say where they get more than they want: code and text. See [`ReplyRules::new`].
const TOO_MUCH: &[(&str, &str)] = &[
    ("421", "*too many*connection*"),
    ("4..", "*too many concurrent*"),
    ("4..", "*too many simultaneous*"),
    ("4..", "*connection*limit*"),
    ("421", "*too many*message*"),
    ("4..", "*rate limit*"),
    ("4..", "*limit*rate*"),
    ("4..", "*rate*exceeded*"),
    ("4..", "*exceeded*rate*"),
    ("421", "*unusual rate*"),
    ("4..", "*throttl*"),
    ("421", "*temporarily deferred*"),
    ("421", "*try again later*"),
];

/// How long such a site gets no new connections.
const TOO_MUCH_PAUSE: Duration = Duration::from_secs(600);

/// Rules in their order; the first that fits decides.
#[derive(Clone, Debug)]
pub struct ReplyRules {
    rules: Vec<ReplyRule>,
}

impl ReplyRules {
    /// The operator's rules, and behind them the built-in ones: a site that says that it has too many connections or gets
    /// mail too fast is given no new connections for 10 minutes.
    pub fn new(mut rules: Vec<ReplyRule>) -> Self {
        rules.extend(Self::built_in());
        Self { rules }
    }

    /// The built-in rules.
    pub fn built_in() -> impl Iterator<Item = ReplyRule> {
        TOO_MUCH.iter().map(|(code, text)| ReplyRule {
            of: Vec::new(),
            stage: None,
            code: code.parse().ok(),
            enhanced: None,
            text: Some(Wildcard::new(text)),
            action: ReplyAction::Slow(TOO_MUCH_PAUSE),
        })
    }

    /// The rule that decides about a reply.
    pub fn decide(&self, facts: &Facts<'_>) -> Option<&ReplyRule> {
        self.rules.iter().find(|rule| rule.fits(facts))
    }
}

impl Default for ReplyRules {
    /// The built-in rules.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACTS: Facts<'static> = Facts {
        domain: "customer.test",
        host: "mx1.provider.test",
        stage: Stage::Connection,
        code: 421,
        enhanced: Some("4.7.0"),
        text: "Too many connections from you",
    };

    fn rule(action: ReplyAction) -> ReplyRule {
        ReplyRule {
            of: Vec::new(),
            stage: None,
            code: None,
            enhanced: None,
            text: None,
            action,
        }
    }

    fn action(rules: Vec<ReplyRule>, facts: &Facts<'_>) -> Option<ReplyAction> {
        ReplyRules::new(rules).decide(facts).map(|rule| rule.action)
    }

    #[test]
    fn a_site_with_too_many_connections_is_slowed_for_ten_minutes() {
        let slow = Some(ReplyAction::Slow(Duration::from_secs(600)));
        for (code, text) in [
            (421, "Too many connections from you"),
            (
                421,
                "4.7.0 [TSS04] Messages temporarily deferred due to user complaints",
            ),
            (
                450,
                "Requested action not taken: too many concurrent SMTP sessions",
            ),
            (450, "mail rate limit exceeded"),
            (
                421,
                "Our system has detected an unusual rate of unsolicited mail",
            ),
            (421, "Service busy, try again later"),
        ] {
            assert_eq!(
                action(
                    vec![],
                    &Facts {
                        code,
                        text,
                        ..FACTS
                    }
                ),
                slow,
                "{code} {text}"
            );
        }
    }

    #[test]
    fn a_greylisting_host_a_full_mailbox_and_refusals_slow_nothing() {
        for (code, text) in [
            (451, "Greylisted, please try again later"),
            (452, "Mailbox full"),
            (550, "Too many connections from you"),
            (421, "Closing the connection"),
        ] {
            assert_eq!(
                action(
                    vec![],
                    &Facts {
                        code,
                        text,
                        ..FACTS
                    }
                ),
                None,
                "{code} {text}"
            );
        }
    }

    #[test]
    fn the_operator_s_rules_go_first_and_can_switch_off_a_built_in_one() {
        let mut own = rule(ReplyAction::Usual);
        own.of = vec!["mx:.provider.test".parse().unwrap()];
        assert_eq!(action(vec![own.clone()], &FACTS), Some(ReplyAction::Usual));
        let elsewhere = Facts {
            host: "mx.elsewhere.test",
            ..FACTS
        };
        assert!(matches!(
            action(vec![own], &elsewhere),
            Some(ReplyAction::Slow(_))
        ));
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let full = ReplyRule {
            of: vec!["customer.test".parse().unwrap()],
            stage: Some(Stage::Recipient),
            code: Some("55.".parse().unwrap()),
            enhanced: Some(Wildcard::new("5.7.*")),
            text: Some(Wildcard::new("*listed*")),
            action: ReplyAction::Defer,
        };
        let facts = Facts {
            stage: Stage::Recipient,
            code: 554,
            enhanced: Some("5.7.1"),
            text: "You are Listed",
            ..FACTS
        };
        let decide = |facts: &Facts<'_>| action(vec![full.clone()], facts);
        assert_eq!(decide(&facts), Some(ReplyAction::Defer));
        for other in [
            Facts {
                domain: "other.test",
                ..facts
            },
            Facts {
                stage: Stage::Mail,
                ..facts
            },
            Facts { code: 540, ..facts },
            Facts {
                enhanced: None,
                ..facts
            },
            Facts {
                text: "no",
                ..facts
            },
        ] {
            assert_eq!(decide(&other), None, "{other:?}");
        }
    }

    #[test]
    fn codes_are_three_digits_or_dots() {
        let pattern: CodePattern = "4.1".parse().unwrap();
        assert!(pattern.fits(421) && pattern.fits(401));
        assert!(!pattern.fits(422) && !pattern.fits(521) && !pattern.fits(1421));
        for wrong in ["", "42", "4210", "4x1", "4.7.1"] {
            assert_eq!(
                wrong.parse::<CodePattern>(),
                Err(CodePatternError),
                "{wrong}"
            );
        }
    }

    proptest! {
        #[test]
        fn codes_read_back_as_written(text in "[0-9.]{3}", code in 0u16..2000) {
            let pattern: CodePattern = text.parse().unwrap();
            prop_assert_eq!(pattern.to_string(), text.clone());
            let expected = code < 1000
                && format!("{code:03}").bytes().zip(text.bytes()).all(|(c, t)| t == b'.' || t == c);
            prop_assert_eq!(pattern.fits(code), expected);
        }
    }
}
