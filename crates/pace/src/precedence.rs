//! How urgent a message is before anything is known of its way.

use std::fmt;
use std::str::FromStr;

use nightmail_core::ReversePath;

use crate::sender::SenderPattern;

/// How much one step of MT-PRIORITY (RFC 6710) is worth in precedence.
const PRIORITY_STEP: i32 = 30;

/// Where mail comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MailSource {
    /// Handed in by one of our users.
    Submission,
    /// From another site, or forwarded.
    Relay,
    /// Written here: reports.
    Local,
    /// From a mailing list, or other mail in bulk, whoever handed it in: its header has a List-Id field (RFC 2919), a
    /// List-Unsubscribe field (RFC 2369) or a Precedence field.
    List,
}

impl MailSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Submission, Self::Relay, Self::Local, Self::List];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Relay => "relay",
            Self::Local => "local",
            Self::List => "list",
        }
    }
}

impl fmt::Display for MailSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MailSource {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or(())
    }
}

/// What a message's place in the queue begins with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Precedence {
    /// Lower goes sooner, weighed against size and age.
    pub precedence: i32,
    /// Strictly before everything of a higher band.
    pub band: u8,
}

impl Precedence {
    /// The band of mail that nothing is said about.
    pub const BAND: u8 = 4;
}

impl Default for Precedence {
    fn default() -> Self {
        Self {
            precedence: 0,
            band: Self::BAND,
        }
    }
}

/// A rule about messages. What is absent or empty is no condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrecedenceRule {
    /// Where the message comes from.
    pub source: Option<MailSource>,
    /// Who sends it; one must fit.
    pub senders: Vec<SenderPattern>,
    /// What follows.
    pub gives: Precedence,
}

/// Rules in their order; the first that fits decides.
#[derive(Clone, Debug)]
pub struct Precedences {
    rules: Vec<PrecedenceRule>,
}

impl Precedences {
    /// The precedence of mail in bulk where no rule says otherwise; that of all other mail is 0.
    pub const BULK: i32 = 240;

    /// The operator's rules. Where none fits, mail in bulk has [`Self::BULK`].
    pub fn new(rules: Vec<PrecedenceRule>) -> Self {
        Self { rules }
    }

    /// What holds for a message from `sender`. `source` is who handed it in, `in_bulk` what its header says, and
    /// `priority` its MT-PRIORITY from -9 to 9, higher being more urgent: each step counts for 30 of precedence.
    pub fn of(
        &self,
        source: MailSource,
        in_bulk: bool,
        sender: &ReversePath,
        priority: i8,
    ) -> Precedence {
        let from = |wanted| wanted == source || (in_bulk && wanted == MailSource::List);
        let rule = self.rules.iter().find(|rule| {
            rule.source.is_none_or(from)
                && (rule.senders.is_empty() || rule.senders.iter().any(|it| it.fits(sender)))
        });
        let usual = Precedence {
            precedence: if in_bulk { Self::BULK } else { 0 },
            ..Precedence::default()
        };
        let gives = rule.map_or(usual, |rule| rule.gives);
        let urgency = i32::from(priority).saturating_mul(PRIORITY_STEP);
        Precedence {
            precedence: gives.precedence.saturating_sub(urgency),
            band: gives.band,
        }
    }

    /// What holds for reports that are written here.
    pub fn of_reports(&self) -> Precedence {
        self.of(MailSource::Local, false, &ReversePath::Null, 0)
    }
}

impl Default for Precedences {
    /// No rules of an operator.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_core::Address;

    fn rule(
        source: Option<MailSource>,
        senders: &[&str],
        precedence: i32,
        band: u8,
    ) -> PrecedenceRule {
        PrecedenceRule {
            source,
            senders: senders.iter().map(|text| text.parse().unwrap()).collect(),
            gives: Precedence { precedence, band },
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let precedences = Precedences::new(vec![
            rule(None, &["alarm@us.test"], -100, 0),
            rule(Some(MailSource::List), &[], 50, 2),
            rule(Some(MailSource::Submission), &[], -5, 1),
        ]);
        let of = |source, in_bulk, sender: &str| {
            let sender = ReversePath::Address(Address::parse(sender).unwrap());
            let found = precedences.of(source, in_bulk, &sender, 0);
            (found.precedence, found.band)
        };
        assert_eq!(of(MailSource::Submission, true, "alarm@us.test"), (-100, 0));
        assert_eq!(of(MailSource::Submission, true, "ann@us.test"), (50, 2));
        assert_eq!(of(MailSource::Submission, false, "ann@us.test"), (-5, 1));
        assert_eq!(of(MailSource::Relay, false, "ann@us.test"), (0, 4));
    }

    #[test]
    fn bulk_goes_later_and_priority_counts_in_steps_of_thirty() {
        let precedences = Precedences::default();
        let of = |in_bulk, priority| {
            let found = precedences.of(MailSource::Relay, in_bulk, &ReversePath::Null, priority);
            found.precedence
        };
        assert_eq!(of(false, 0), 0);
        assert_eq!(of(true, 0), 240);
        assert_eq!(of(true, 9), -30);
        assert_eq!(of(false, -9), 270);
    }
}
