//! Rules by destination, and what they come to for one.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::pattern::{Name, Pattern, Subject};
use crate::settings::{PartialSettings, Settings};

/// Combinations of rules whose settings are kept; beyond that they are forgotten all at once.
const COMBINATIONS_MAX: usize = 4096;

/// A rule about the destinations that fit one of its patterns.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DestinationRule {
    /// Which.
    pub patterns: Vec<Pattern>,
    /// What holds for them.
    pub settings: PartialSettings,
}

/// What holds for which destination: of all rules that fit, in their order, the first that has a value for a setting
/// decides it. Finding the rules takes time by the labels of a name, not by the number of rules.
pub struct Policies {
    rules: Vec<PartialSettings>,
    domains: Index,
    hosts: Index,
    default: Arc<Settings>,
    /// What each combination of rules comes to.
    known: RwLock<HashMap<Box<[usize]>, Arc<Settings>>>,
}

/// Rules by the names they are about.
#[derive(Default)]
struct Index {
    any: Vec<usize>,
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

impl Index {
    fn insert(&mut self, name: &Name, rule: usize) {
        match name {
            Name::Any => self.any.push(rule),
            Name::Exact(name) => self.exact.entry(name.clone()).or_default().push(rule),
            Name::Below(name) => self.below.entry(name.clone()).or_default().push(rule),
            Name::AndBelow(name) => {
                self.exact.entry(name.clone()).or_default().push(rule);
                self.below.entry(name.clone()).or_default().push(rule);
            }
        }
    }

    /// Adds the rules that fit `name`, in no order.
    fn find(&self, name: &str, found: &mut Vec<usize>) {
        found.extend(&self.any);
        if self.exact.is_empty() && self.below.is_empty() {
            return;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        found.extend(self.exact.get(&name).into_iter().flatten());
        let mut rest = name.as_str();
        while let Some((label, above)) = rest.split_once('.') {
            let is_below = rest.len() < name.len() || !label.is_empty();
            if is_below {
                found.extend(self.below.get(above).into_iter().flatten());
            }
            rest = above;
        }
    }
}

impl Policies {
    /// The rules in their order, and what holds where none has a value.
    pub fn new(rules: Vec<DestinationRule>, default: Settings) -> Self {
        let (mut domains, mut hosts) = (Index::default(), Index::default());
        for (index, rule) in rules.iter().enumerate() {
            for pattern in &rule.patterns {
                match pattern.subject {
                    Subject::Domain => domains.insert(&pattern.name, index),
                    Subject::Hosts => hosts.insert(&pattern.name, index),
                }
            }
        }
        Self {
            rules: rules.into_iter().map(|rule| rule.settings).collect(),
            domains,
            hosts,
            default: Arc::new(default),
            known: RwLock::default(),
        }
    }

    /// What holds where no rule fits.
    pub const fn default_settings(&self) -> &Arc<Settings> {
        &self.default
    }

    /// What holds for a destination: its domain, and the hosts that take its mail as far as they are known. Whoever needs
    /// to know the way before it asks for hosts gives none.
    pub fn of(&self, domain: &str, hosts: &[String]) -> Arc<Settings> {
        if self.rules.is_empty() {
            return Arc::clone(&self.default);
        }
        let mut found = Vec::new();
        self.domains.find(domain, &mut found);
        for host in hosts {
            self.hosts.find(host, &mut found);
        }
        if found.is_empty() {
            return Arc::clone(&self.default);
        }
        found.sort_unstable();
        found.dedup();
        let known = self.known.read().get(found.as_slice()).cloned();
        known.unwrap_or_else(|| self.combine(found))
    }

    fn combine(&self, rules: Vec<usize>) -> Arc<Settings> {
        let partial = rules.iter().filter_map(|index| self.rules.get(*index));
        let settings = Arc::new(self.default.overridden(partial));
        let mut known = self.known.write();
        if known.len() >= COMBINATIONS_MAX {
            known.clear();
        }
        known.insert(rules.into(), Arc::clone(&settings));
        settings
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policies({} rules)", self.rules.len())
    }
}

impl Default for Policies {
    /// No rules, and the default settings.
    fn default() -> Self {
        Self::new(Vec::new(), Settings::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(patterns: &[&str], settings: PartialSettings) -> DestinationRule {
        DestinationRule {
            patterns: patterns.iter().map(|text| text.parse().unwrap()).collect(),
            settings,
        }
    }

    fn connections(connections_max: usize) -> PartialSettings {
        PartialSettings {
            connections_max: Some(connections_max),
            ..PartialSettings::default()
        }
    }

    #[test]
    fn the_first_rule_with_a_value_decides_each_setting() {
        let general = PartialSettings {
            connections_max: Some(2),
            on_request: Some(true),
            ..PartialSettings::default()
        };
        let policies = Policies::new(
            vec![
                rule(&["big.example.com"], connections(50)),
                rule(&[".example.com", "other.test"], general),
            ],
            Settings::default(),
        );
        let big = policies.of("Big.example.com", &[]);
        assert_eq!((big.connections_max, big.on_request), (50, true));
        let other = policies.of("other.test", &[]);
        assert_eq!((other.connections_max, other.on_request), (2, true));
        assert_eq!(*policies.of("else.test", &[]), Settings::default());
    }

    #[test]
    fn a_rule_can_take_back_what_the_default_has() {
        let never = PartialSettings {
            warn_after: Some(None),
            ..PartialSettings::default()
        };
        let policies = Policies::new(vec![rule(&["*"], never)], Settings::default());
        assert_eq!(policies.of("a.test", &[]).warn_after, None);
    }

    #[test]
    fn hosts_of_a_destination_count_as_soon_as_they_are_known() {
        let policies = Policies::new(
            vec![rule(&["mx:*.provider.test"], connections(3))],
            Settings::default(),
        );
        let hosts = ["a.elsewhere.test".to_owned(), "mx.provider.test".to_owned()];
        assert_eq!(policies.of("customer.test", &[]).connections_max, 20);
        assert_eq!(policies.of("customer.test", &hosts).connections_max, 3);
    }

    #[test]
    fn the_same_rules_give_the_same_settings_once() {
        let policies = Policies::new(vec![rule(&["*.test"], connections(3))], Settings::default());
        assert!(Arc::ptr_eq(
            &policies.of("a.test", &[]),
            &policies.of("b.test", &[])
        ));
        assert_eq!(policies.known.read().len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let rules = (0..14).map(|n| rule(&[&format!("mx:h{n}.test")], connections(n)));
        let policies = Policies::new(rules.collect(), Settings::default());
        for bits in 1..(1u32 << 14) {
            let hosts: Vec<String> = (0..14)
                .filter(|n| bits & (1 << n) != 0)
                .map(|n| format!("h{n}.test"))
                .collect();
            let lowest = usize::try_from(bits.trailing_zeros()).unwrap();
            assert_eq!(policies.of("a.test", &hosts).connections_max, lowest);
        }
        assert!(policies.known.read().len() <= COMBINATIONS_MAX);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_the_patterns_fit(
            patterns in proptest::collection::vec("(mx:)?(\\*|(\\*\\.|\\.)?[ab](\\.[ab]){0,2})", 1..8),
            domain in "[abAB](\\.[ab]){0,3}",
            host in "[ab](\\.[ab]){0,3}\\.?",
        ) {
            let rules: Vec<_> = patterns
                .iter()
                .enumerate()
                .map(|(index, pattern)| rule(&[pattern], connections(index)))
                .collect();
            let hosts = [host];
            let first = rules
                .iter()
                .position(|rule| rule.patterns[0].fits(&domain, &hosts))
                .unwrap_or(20);
            let policies = Policies::new(rules, Settings::default());
            prop_assert_eq!(policies.of(&domain, &hosts).connections_max, first);
        }
    }
}
