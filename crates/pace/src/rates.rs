//! How many messages may leave, by where they come from and who sends them.

use std::time::{Duration, Instant};

use nightmail_core::ReversePath;

use crate::buckets::Buckets;
use crate::precedence::MailSource;
use crate::sender::SenderPattern;
use crate::settings::Rate;

/// What a rate counts by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RateOf {
    /// All messages from one of these sources together; each source has its own bucket. [`MailSource::List`] is not told
    /// apart when mail leaves.
    Source(Vec<MailSource>),
    /// Each sender that fits one of these has a bucket.
    Sender(Vec<SenderPattern>),
    /// Each sender's domain has a bucket, where the sender fits one of these.
    SenderDomain(Vec<SenderPattern>),
}

/// A rule about what leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateRule {
    /// What is counted. An empty list is all.
    pub of: RateOf,
    /// How many messages may leave.
    pub rate: Rate,
}

/// A bucket: the rule, and the name that it counts by.
type Key = (usize, Box<str>);

/// Rules about what leaves, all of which hold, and their buckets.
pub struct Rates {
    rules: Vec<RateRule>,
    buckets: Buckets<Key>,
}

impl Rates {
    /// Keeps at most `entries_max` buckets.
    pub fn new(rules: Vec<RateRule>, entries_max: usize) -> Self {
        Self {
            rules,
            buckets: Buckets::new(entries_max),
        }
    }

    /// Takes one message from the bucket of every rule that fits, or from none and says how long until it could.
    pub fn take(
        &self,
        source: MailSource,
        sender: &ReversePath,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut taken: Vec<(Key, &Rate)> = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(name) = rule.of.key(source, sender) else {
                continue;
            };
            let key = (index, name);
            if let Err(wait) = self.buckets.take(&key, &rule.rate, 1, now) {
                let back = taken.iter();
                back.for_each(|(key, rate)| self.buckets.give_back(key, rate, 1));
                return Err(wait);
            }
            taken.push((key, &rule.rate));
        }
        Ok(())
    }
}

impl RateOf {
    /// The bucket of a message; `None` where it is not counted. The null reverse-path is a sender, but has no domain.
    fn key(&self, source: MailSource, sender: &ReversePath) -> Option<Box<str>> {
        let fits = |patterns: &[SenderPattern]| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(sender))
        };
        match self {
            Self::Source(sources) => {
                (sources.is_empty() || sources.contains(&source)).then(|| source.as_str().into())
            }
            Self::Sender(patterns) => fits(patterns).then(|| {
                let address = sender.address();
                address.map_or_else(Box::default, |address| address.lookup().into())
            }),
            Self::SenderDomain(patterns) => {
                let domain = sender.address()?.domain().as_str();
                fits(patterns).then(|| domain.to_ascii_lowercase().into())
            }
        }
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rates({} rules)", self.rules.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_core::Address;

    fn sender(text: &str) -> ReversePath {
        ReversePath::Address(Address::parse(text).unwrap())
    }

    fn rule(of: RateOf, messages: u32) -> RateRule {
        let per = Duration::from_secs(60);
        RateRule {
            of,
            rate: Rate { messages, per },
        }
    }

    #[test]
    fn each_sender_and_each_domain_has_its_own_bucket() {
        let patterns = vec!["@.us.test".parse().unwrap()];
        let rates = Rates::new(
            vec![
                rule(RateOf::Sender(Vec::new()), 2),
                rule(RateOf::SenderDomain(patterns), 3),
            ],
            100,
        );
        let now = Instant::now();
        let take = |from: &str| rates.take(MailSource::Submission, &sender(from), now);
        assert_eq!(take("ann@us.test"), Ok(()));
        assert_eq!(take("ann@US.test"), Ok(()));
        assert_eq!(take("ann@us.test"), Err(Duration::from_secs(30)));
        assert_eq!(take("bob@us.test"), Ok(()));
        assert_eq!(take("cid@us.test"), Err(Duration::from_secs(20)));
        assert_eq!(take("cid@else.test"), Ok(()));
        assert_eq!(take("cid@else.test"), Ok(()));
    }

    #[test]
    fn what_one_rule_refuses_no_other_counts() {
        let rates = Rates::new(
            vec![
                rule(RateOf::Source(vec![MailSource::Relay]), 2),
                rule(RateOf::Sender(Vec::new()), 1),
            ],
            100,
        );
        let now = Instant::now();
        let take = |from: &str| rates.take(MailSource::Relay, &sender(from), now);
        assert_eq!(take("a@b.test"), Ok(()));
        assert!(take("a@b.test").is_err());
        assert_eq!(take("c@b.test"), Ok(()), "the refused one was given back");
        assert!(take("d@b.test").is_err());
        let null = rates.take(MailSource::Local, &ReversePath::Null, now);
        assert_eq!(null, Ok(()), "another source");
    }
}
